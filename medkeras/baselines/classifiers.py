"""Classifiers over features, tuned on the training cases alone."""

from __future__ import annotations

import dataclasses
import pickle
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import decomposition, ensemble, exceptions, linear_model, metrics, model_selection, pipeline, preprocessing
from sklearn import svm as support_vectors
from sklearn.utils import class_weight

from medkeras import errors

FOLDS = 3
"""Parts of the training patients, each of which judges settings that were fitted on the others."""
COMPONENTS = 128
"""Principal components that an SVM sees, at most."""
TREES = 300
BINS = 63
"""Bins of a feature that boosting looks for cuts between: on 1,400 features a quarter of the time that 255 take."""

Setting = Mapping[str, float]
Track = Callable[[Iterable, int, str], Iterable]


@dataclasses.dataclass(frozen=True)
class Method:
    """A kind of classifier.

    Attributes:
        title: What a reader calls it.
        grid: The settings that are tried.
        build: Returns it unfitted, from a setting, `rows` and `columns` of its training, `seed` and `balanced`.
        linked: Whether its scores become probabilities by a logistic regression on scores out of fold (Platt).
    """

    title: str
    grid: tuple[Setting, ...]
    build: Callable[..., Any]
    linked: bool = False


def _logistic_regression(setting: Setting, *, shape: tuple[int, int], seed: int, balanced: bool) -> Any:
    model = linear_model.LogisticRegression(C=setting["C"], max_iter=500, class_weight=_weights(balanced))
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


def _svm(setting: Setting, *, shape: tuple[int, int], seed: int, balanced: bool) -> Any:
    return pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        decomposition.PCA(min(COMPONENTS, *shape), random_state=seed),
        support_vectors.SVC(C=setting["C"], class_weight=_weights(balanced), cache_size=500),
    )


def _random_forest(setting: Setting, *, shape: tuple[int, int], seed: int, balanced: bool) -> Any:
    return ensemble.RandomForestClassifier(
        TREES, min_samples_leaf=int(setting["min_samples_leaf"]), random_state=seed, class_weight=_weights(balanced)
    )


def _gradient_boosting(setting: Setting, *, shape: tuple[int, int], seed: int, balanced: bool) -> Any:
    return ensemble.HistGradientBoostingClassifier(
        max_leaf_nodes=int(setting["max_leaf_nodes"]),
        max_bins=BINS,
        early_stopping=False,
        random_state=seed,
        class_weight=_weights(balanced),
    )


def _weights(balanced: bool) -> str | None:
    return "balanced" if balanced else None


METHODS: Mapping[str, Method] = types.MappingProxyType(
    {
        "logistic_regression": Method(
            "Logistic regression", tuple({"C": c} for c in (1e-4, 1e-3, 1e-2, 0.1, 1.0)), _logistic_regression
        ),
        "svm": Method("SVM (RBF)", tuple({"C": c} for c in (0.3, 1.0, 3.0, 10.0)), _svm, linked=True),
        "random_forest": Method("Random forest", tuple({"min_samples_leaf": n} for n in (1, 3)), _random_forest),
        "gradient_boosting": Method(
            "Gradient boosting", tuple({"max_leaf_nodes": n} for n in (7, 15)), _gradient_boosting
        ),
    }
)


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """A classifier that was tuned and fitted.

    Attributes:
        classes: How many classes there are.
        multilabel: Whether a case may have any number of them.
        machines: The classifier, or of several labels one a label.
    """

    classes: int
    multilabel: bool
    machines: tuple[_Machine, ...]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 `[N, K]` for features `[N, D]`; rows sum to 1 unless `multilabel`."""
        if self.multilabel:
            return np.stack([each.probabilities(features)[:, 1] for each in self.machines], axis=1)
        (machine,) = self.machines
        found = np.zeros((len(features), self.classes), np.float32)
        found[:, machine.labels] = machine.probabilities(features)
        return found

    @property
    def chosen(self) -> list[Setting]:
        """The setting that was chosen, of several labels one a label."""
        return [dict(each.setting) for each in self.machines]

    @property
    def nbytes(self) -> int:
        """Bytes of it, stored."""
        return len(pickle.dumps(self))


@dataclasses.dataclass(frozen=True)
class Tuner:
    """Tunes one method by cross-validation within the training cases.

    Each setting of the grid is fitted on all but one part of the patients, part by part; the one whose
    probabilities for the parts left out have the lowest log loss is fitted once more, on all. Neither the order of the
    cases nor the names of the patients change anything.

    Attributes:
        method: A name of `METHODS`.
        seed: Root of the parts and of the method's own random numbers.
        multilabel: Whether a case may have any number of classes: then every label has a classifier of its own.
        balanced: Whether every class weighs the same, in the fit and in the log loss.
        track: Shows progress.
    """

    method: str
    seed: int
    multilabel: bool = False
    balanced: bool = False
    track: Track = lambda items, total, description: items

    def fit(self, features: np.ndarray, target: np.ndarray, *, names: Sequence[str], patients: Sequence[str]) -> Tuned:
        """Returns the tuned classifier.

        Args:
            features: `[N, D]`.
            target: One-hot or multi-hot `[N, K]`.
            names: Name of each case, each once.
            patients: Patient of each case; the case's own name where no patients are known.

        Raises:
            DataError: A class has fewer than two patients, so that nothing is left to tune on.
        """
        rows = np.argsort(np.array(names, object))
        x, hot = np.ascontiguousarray(features[rows], np.float32), target[rows]
        groups = _numbered([patients[row] for row in rows.tolist()])
        labels = list(hot.T.astype(np.int64)) if self.multilabel else [hot.argmax(axis=1)]
        machines = tuple(self._tuned(x, each, groups) for each in labels)
        return Tuned(target.shape[1], self.multilabel, machines)

    def _tuned(self, x: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> _Machine:
        folds = _folds(labels, groups, self.seed)
        grid = METHODS[self.method].grid
        tried = [
            self._tried(setting, x, labels, folds)
            for setting in self.track(grid, len(grid), f"Tuning {METHODS[self.method].title}")
        ]
        _, best = min(enumerate(tried), key=lambda pair: (pair[1].loss, pair[0]))
        return _Machine(
            self._fitted(best.setting, x, labels), best.link, labels=np.unique(labels), setting=best.setting
        )

    def _tried(self, setting: Setting, x: np.ndarray, labels: np.ndarray, folds: list) -> _Tried:
        """Judges a setting by the cases that its fits did not see."""
        parts = [(held, _scores(self._fitted(setting, x[fit], labels[fit]), x[held])) for fit, held in folds]
        scores = np.empty((len(labels), parts[0][1].shape[1]))
        for held, found in parts:
            scores[held] = found
        link = None
        if METHODS[self.method].linked:
            link = linear_model.LogisticRegression(max_iter=500, class_weight=_weights(self.balanced))
            scores = _quietly(link, scores, labels).predict_proba(scores)
        weight = class_weight.compute_sample_weight("balanced", labels) if self.balanced else None
        return _Tried(setting, float(metrics.log_loss(labels, scores, sample_weight=weight)), link)

    def _fitted(self, setting: Setting, x: np.ndarray, labels: np.ndarray) -> Any:
        model = METHODS[self.method].build(setting, shape=x.shape, seed=self.seed, balanced=self.balanced)
        return _quietly(model, x, labels)


@dataclasses.dataclass(frozen=True)
class _Tried:
    setting: Setting
    loss: float
    link: Any


@dataclasses.dataclass(frozen=True, eq=False)
class _Machine:
    """A fitted classifier, and where its scores are no probabilities, what makes them so."""

    model: Any
    link: Any
    labels: np.ndarray
    setting: Setting

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        scores = _scores(self.model, np.asarray(x, np.float32))
        found = scores if self.link is None else self.link.predict_proba(scores)
        return found.astype(np.float32)


def check(names: Iterable[str]) -> None:
    """Raises `ConfigError` for a name that is not one of `METHODS`."""
    for name in names:
        if name not in METHODS:
            raise errors.ConfigError(errors.unknown("classifier", name, METHODS))


def _scores(model: Any, x: np.ndarray) -> np.ndarray:
    """Returns `[N, K]`: probabilities, or of an SVM its decision values, one column where classes are two."""
    if hasattr(model, "predict_proba"):
        found = model.predict_proba(x).astype(np.float64)
        return found / found.sum(axis=1, keepdims=True)
    found = model.decision_function(x)
    return found[:, np.newaxis] if found.ndim == 1 else found


def _quietly(model: Any, x: np.ndarray, labels: np.ndarray) -> Any:
    """Fits a model; one that stops before it has converged is judged as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return model.fit(x, labels)


def _numbered(patients: Sequence[str]) -> np.ndarray:
    """Returns each patient's number in the order of first appearance, so that their names change nothing."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(patient, len(numbers)) for patient in patients])


def _folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns rows to fit on and rows held out: no patient on both sides, every class in every fit."""
    present = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == label])) for label in present)
    if fewest > 1 and len(present) > 1:
        cut = model_selection.StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
        parts = list(cut.split(labels, labels, groups))
        if all(np.isin(present, labels[fit]).all() and len(held) for fit, held in parts):
            return parts
    raise errors.DataError(
        "Classifiers are tuned within training, on parts that each leave every class in the rest, which needs two "
        f"classes and two patients of each or more. Received: {len(present)} classes, one with {fewest} patients"
    )
