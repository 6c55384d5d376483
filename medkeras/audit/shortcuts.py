"""Can the class be told without a look at the anatomy? A tiny model tries, from one property at a time and from all."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats
from sklearn import ensemble, tree

from medkeras.audit import survey

WARN_FROM, WARN_FROM_CLASS = 0.75, 0.9
JOINT = "all_together"
CONTENT = frozenset({"mean", "std", "border"})
"""Properties of the picture itself, which a disease may well change: high areas need not be shortcuts."""

_FOLDS = 5
_FEWEST = 10
_MOST_CATEGORIES = 20
_TREES = 40
_CASES_A_TREE = 2000
_MISSING = -1.0

Features = Mapping[str, Sequence[float | str | None]]


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """How well one property tells the classes apart.

    Attributes:
        feature: Its name.
        auroc: Area under the ROC curve on cases held out, mean of the classes against all others, 0..1; None: n/a.
        low: Lower limit of the 95% interval.
        high: Upper limit.
        told: The class that it tells best from all others.
        told_auroc: Area under that class's curve.
        reason: Why there is no value; empty where there is one.
    """

    feature: str
    auroc: float | None = None
    low: float | None = None
    high: float | None = None
    told: str = ""
    told_auroc: float | None = None
    reason: str = ""

    @property
    def content(self) -> bool:
        """Whether the property belongs to what the picture shows, and not only to how it was stored."""
        return self.feature in CONTENT

    @property
    def warns(self) -> bool:
        """Whether how the pictures are stored gives the class away."""
        if self.auroc is None or self.told_auroc is None or self.content or self.feature == JOINT:
            return False
        return self.auroc >= WARN_FROM or self.told_auroc >= WARN_FROM_CLASS


def features(records: Sequence[survey.Record], facts: Mapping[str, Mapping[str, str]]) -> dict[str, list]:
    """Returns a column a property, a value a record: numbers, texts, or None where it is not known.

    Args:
        records: The cases that were read.
        facts: Case id to what its header says of the machine: `modality`, `manufacturer` and the like.
    """
    columns: dict[str, list] = {
        "height": [float(each.header.height) for each in records],
        "width": [float(each.header.width) for each in records],
        "depth": [float(each.header.depth) for each in records],
        "aspect": [each.header.width / each.header.height for each in records],
        "channels": [str(each.header.channels) for each in records],
        "bit_depth": [each.header.dtype for each in records],
        "file_format": [each.file_format or None for each in records],
        "file_bytes": [float(each.file_bytes) or None for each in records],
        "border": [each.border for each in records],
        "mean": [each.mean for each in records],
        "std": [each.std for each in records],
    }
    for name in sorted({name for known in facts.values() for name in known}):
        columns[name] = [facts.get(each.case.case_id, {}).get(name) or None for each in records]
    return columns


def find(columns: Features, labels: Sequence[tuple[str, ...]], patients: Sequence[str], *, seed: int) -> list[Shortcut]:
    """Measures each property, and all of them together.

    A tree of four levels is fitted on four fifths of the patients and scored on the fifth, five times over.

    Args:
        columns: Property to its values, one a case; None is a value of its own.
        labels: The classes of each case: one, several or none.
        patients: Whose each case is: a patient's cases stay on one side.
        seed: Root of the folds and of the trees.

    Returns:
        A result a property, the strongest first, `all_together` before them.
    """
    kept, classes = _usable(labels, patients)
    if len(classes) < 2:
        reason = f"this takes two classes with {_FEWEST} patients each"
        return [Shortcut(name, reason=reason) for name in (JOINT, *columns)]
    target = np.array([[name in labels[row] for name in classes] for row in kept], np.float64)
    groups = _numbered([patients[row] for row in kept])
    blocks = {name: _encoded([values[row] for row in kept]) for name, values in columns.items()}
    told = {name: block for name, block in blocks.items() if np.ptp(block, axis=0).any()}
    plan = _Plan(tuple(classes), target, groups, _folds(target, groups, seed), seed)
    results = [_measured(name, block, plan) for name, block in told.items()]
    results += [Shortcut(name, reason="the same for every case") for name in blocks if name not in told]
    results.sort(key=lambda each: (-(each.auroc or 0.0), each.feature))
    if not told:
        return [Shortcut(JOINT, reason="no property differs between cases"), *results]
    return [_measured(JOINT, np.hstack(list(told.values())), plan), *results]


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What every measurement shares: targets `[N, K]`, the patient and the fold of each case."""

    classes: tuple[str, ...]
    target: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    seed: int


def _usable(labels: Sequence[tuple[str, ...]], patients: Sequence[str]) -> tuple[list[int], list[str]]:
    """Returns the rows that have a class, and the classes of enough patients."""
    owners = collections.defaultdict(set)
    for names, patient in zip(labels, patients, strict=True):
        for name in names:
            owners[name].add(patient)
    classes = sorted(name for name, members in owners.items() if name and len(members) >= _FEWEST)
    rows = [row for row, names in enumerate(labels) if set(names) & set(classes) or not names]
    return rows, [name for name in classes if any(name not in labels[row] for row in rows)]


def _numbered(patients: Sequence[str]) -> np.ndarray:
    """Returns int `[N]`, patients counted in order of appearance: what they are called depends on the key."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(patient, len(numbers)) for patient in patients])


def _folds(target: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Returns the fold of each case: patients of each class are shuffled and dealt out in turn."""
    count = int(groups.max()) + 1
    leading = np.full(count, target.shape[1])
    np.minimum.at(leading, groups, np.argmax(target, axis=1))
    order = np.lexsort((np.random.default_rng(seed).random(count), leading))
    fold_of = np.empty(count, int)
    fold_of[order] = np.arange(count) % _FOLDS
    return fold_of[groups]


def _encoded(values: Sequence[float | str | None]) -> np.ndarray:
    """Returns float `[N, M]`: a number as it is, a text as one column a frequent value."""
    if not any(isinstance(value, str) for value in values):
        numbers = [_MISSING if value is None else float(value) for value in values]
        return np.array(numbers)[:, np.newaxis]
    frequent = collections.Counter(value for value in values if value is not None).most_common(_MOST_CATEGORIES)
    return np.array([[value == name for name, _ in frequent] for value in values], np.float64)


def _measured(name: str, block: np.ndarray, plan: _Plan) -> Shortcut:
    target = plan.target
    scores = np.zeros_like(target)
    for fold in range(_FOLDS):
        learned, held = plan.folds != fold, plan.folds == fold
        if held.any() and learned.any():
            model = _model(name, int(learned.sum()), plan.seed).fit(block[learned], target[learned])
            scores[held] = model.predict(block[held]).reshape(-1, target.shape[1])
    areas, influences = areas_within(scores, target, plan.folds)
    auroc, low, high = (round(value, 4) for value in mean_area(areas, influences, plan.groups))
    told = int(np.argmax(areas))
    return Shortcut(name, auroc, low, high, plan.classes[told], round(float(areas[told]), 4))


def _model(name: str, count: int, seed: int) -> tree.DecisionTreeRegressor | ensemble.RandomForestRegressor:
    leaf = max(5, count // 200)
    if name != JOINT:
        return tree.DecisionTreeRegressor(max_depth=4, min_samples_leaf=leaf, random_state=seed)
    return ensemble.RandomForestRegressor(
        _TREES,
        max_depth=8,
        min_samples_leaf=min(5, leaf),
        max_features=0.5,
        max_samples=min(_CASES_A_TREE, count),
        random_state=seed,
    )


def areas_within(scores: np.ndarray, target: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the area under the ROC curve of each class, and what each case moves it by.

    Only cases of one fold are compared, for two folds are scored by two models; a class's area is the mean of its
    folds, those aside where it has no case or no other.

    Args:
        scores: Float `[N, K]`; ties count a half.
        target: `[N, K]` in {0, 1}.
        folds: int `[N]`.

    Returns:
        Float `[K]`, and float `[N, K]`.
    """
    areas, influences = np.zeros(target.shape[1]), np.zeros(target.shape)
    for k in range(target.shape[1]):
        truth = target[:, k] > 0
        parts = [folds == fold for fold in np.unique(folds)]
        parts = [part for part in parts if 0 < truth[part].sum() < part.sum()]
        for part in parts:
            each, influence = area(scores[part, k], truth[part])
            areas[k] += each / len(parts)
            influences[part, k] = influence / len(parts)
    return areas, influences


def mean_area(areas: np.ndarray, influences: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean area of the classes and its 95% limits, patients being the unit.

    Args:
        areas: Float `[K]`.
        influences: Float `[N, K]`, what each case moves each area by.
        groups: int `[N]`, the patient of each case, counted from zero.

    Reference:
        DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44: 837-845; for clusters, Obuchowski (1997), Biometrics
        53: 567-578.
    """
    by_patient = np.bincount(groups, influences.mean(axis=1))
    count = len(by_patient)
    error = math.sqrt(count / max(1, count - 1) * float(np.sum(by_patient**2)))
    mean, reach = float(areas.mean()), float(stats.norm.ppf(0.975)) * error
    return mean, max(0.0, mean - reach), min(1.0, mean + reach)


def area(scores: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the area under the ROC curve of `[N]`, and what each case moves it by, `[N]`.

    Args:
        scores: Float `[N]`; ties count a half.
        truth: Bool `[N]`, both values present.
    """
    placement = stats.rankdata(scores)
    for side in (truth, ~truth):
        placement[side] -= stats.rankdata(scores[side])
    positives, negatives = int(truth.sum()), int((~truth).sum())
    placement[truth] /= negatives
    placement[~truth] = 1 - placement[~truth] / positives
    mean = float(placement[truth].mean())
    return mean, (placement - mean) / np.where(truth, positives, negatives)
