"""The metrics of `scores`, on many resamples at once.

A resample is how often each patient was drawn. What is a sum over cases is a sum over patients, and so a product of
two matrices; what depends on an order is a running sum over cases that were sorted once. Tests hold every metric to
scikit-learn with `sample_weight`.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy import sparse

from medkeras.evaluation import calibration, ranking, rates, scores
from medkeras.evaluation import predictions as tables

_SMALLEST = np.finfo(np.float64).eps
"""Where scikit-learn clips a probability before it takes the logarithm."""


class Resampled:
    """Everything about a table that no resample changes.

    Args:
        table: N cases, K classes, labelled.
        patients: int `[N]`, the patient of each case, counted from zero.
        count: How many patients are drawn, P, where not all have a case in the table.
        prevalence: What predictive values are stated for; 0: that of the resample.
        names: What is wanted of `scores.NAMES`; areas are computed only where they are.

    Attributes:
        width: Numbers held for each resample.
    """

    def __init__(
        self,
        table: tables.Predictions,
        patients: np.ndarray,
        *,
        count: int | None = None,
        prevalence: float = 0.0,
        names: Collection[str] = scores.NAMES,
    ) -> None:
        target = np.asarray(table.target)
        self._names, self._prevalence = tuple(names), scores.prevalences(table, prevalence)[:, None]
        self._classes, self._multilabel = len(table.classes), table.multilabel
        count = count or int(patients.max()) + 1
        of_patient = sparse.csr_array(
            (np.ones(len(table)), (np.arange(len(table)), patients)), shape=(len(table), count)
        )
        gaps = _calibration_matrix(*calibration.statements(table, target))
        parts = (_outcomes(table, target), sparse.csr_array(np.stack(_summed(table, target))), gaps)
        self._ends = np.cumsum([part.shape[0] for part in parts])
        self._linear = sparse.csr_array(sparse.vstack(parts, format="csr") @ of_patient)
        self._rankings: list[ranking.Ranking] = []
        self._micro: ranking.Ranking | None = None
        if self._wants("auroc_macro", "average_precision_macro", "class:auroc", "class:average_precision"):
            pairs = zip(target.T > 0, table.probabilities.T, strict=True)
            self._rankings = [ranking.Ranking.of(present, p, patients) for present, p in pairs]
        if self._wants("auroc_micro", "average_precision_micro"):
            everyone = np.repeat(patients, self._classes)
            self._micro = ranking.Ranking.of(target.ravel() > 0, table.probabilities.ravel(), everyone)
        self.width = max(count, self._ends[-1])

    def __call__(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `[R]` for each overall metric that is wanted and `[K, R]` for each of the classes.

        Args:
            drawn: `[R, P]`, how often each patient counts.
        """
        sums = self._linear @ drawn.T.astype(np.float64, order="C")
        outcomes, summed, gaps = np.split(sums, self._ends[:-1])
        counts = _counts(outcomes, self._classes, self._multilabel)
        means = self._means(summed, gaps)
        by_class = _class_rates(counts, self._prevalence) | self._areas(drawn)
        by_class |= {name: means[scores.of_class(name)] for name in ("brier_score_loss", "log_loss")}
        values = scores.averages(by_class, counts, two=self._classes == 2 and not self._multilabel)
        values |= self._micro_areas(drawn)
        values |= _multilabel_agreement(by_class) if self._multilabel else _agreement(outcomes, counts)
        values |= means | {scores.of_class(name): by_class[name] for name in scores.PER_CLASS}
        return {name: values[name] for name in self._names}

    def _wants(self, *names: str) -> bool:
        return not set(names).isdisjoint(self._names)

    def _means(self, summed: np.ndarray, gaps: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is a mean over cases, `[R]` or `[K, R]`."""
        means = rates.ratio(summed[1:], summed[0])
        error = rates.ratio(np.abs(gaps).sum(axis=0), summed[0])
        return {
            "accuracy": means[0],
            "log_loss": means[1],
            "brier_score_loss": means[2],
            "expected_calibration_error": error,
            scores.of_class("log_loss"): means[3 : 3 + self._classes],
            scores.of_class("brier_score_loss"): means[3 + self._classes :],
        }

    def _areas(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        precision = self._wants("average_precision_macro", "class:average_precision")
        pairs = [each.areas(drawn, precision=precision) for each in self._rankings]
        if not pairs:
            unknown = np.full((self._classes, len(drawn)), np.nan)
            return {"auroc": unknown, "average_precision": unknown}
        return {
            "auroc": np.stack([auroc for auroc, _ in pairs]),
            "average_precision": np.stack([average for _, average in pairs]),
        }

    def _micro_areas(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        if self._micro is None:
            return {}
        auroc, average = self._micro.areas(drawn, precision=self._wants("average_precision_micro"))
        return {"auroc_micro": auroc, "average_precision_micro": average}


def _outcomes(table: tables.Predictions, target: np.ndarray) -> sparse.csr_array:
    """Returns `[S, N]`, a one where a case is: S is K x K, true by named; multi-label: K x 2 x 2."""
    n, k = target.shape
    if table.multilabel:
        where = (4 * np.arange(k) + 2 * target + table.decisions).ravel()
        return sparse.csr_array((np.ones(n * k), (where, np.repeat(np.arange(n), k))), shape=(4 * k, n))
    where = target.argmax(axis=1) * k + table.decisions.argmax(axis=1)
    return sparse.csr_array((np.ones(n), (where, np.arange(n))), shape=(k * k, n))


def _counts(outcomes: np.ndarray, classes: int, multilabel: bool) -> rates.Counts:
    """Returns the counts `[K, R]` of each class against all others from the outcomes `[S, R]`."""
    if multilabel:
        cells = outcomes.reshape(classes, 2, 2, -1)
        return rates.Counts(hits=cells[:, 1, 1], misses=cells[:, 1, 0], alarms=cells[:, 0, 1], clears=cells[:, 0, 0])
    matrix = outcomes.reshape(classes, classes, -1)
    hits = np.einsum("kkr->kr", matrix)
    misses, alarms = matrix.sum(axis=1) - hits, matrix.sum(axis=0) - hits
    return rates.Counts(hits, misses, alarms, outcomes.sum(axis=0) - hits - misses - alarms)


def _class_rates(counts: rates.Counts, prevalence: np.ndarray) -> dict[str, np.ndarray]:
    positive, negative = rates.predictive_values(counts, prevalence)
    more, less = rates.likelihood_ratios(counts)
    return {
        "precision": rates.precision(counts),
        "recall": rates.sensitivity(counts),
        "specificity": rates.specificity(counts),
        "f1": rates.f1(counts),
        "accuracy": rates.accuracy(counts),
        "balanced_accuracy": rates.balanced_accuracy(counts),
        "positive_predictive_value": positive,
        "negative_predictive_value": negative,
        "positive_likelihood_ratio": more,
        "negative_likelihood_ratio": less,
        "cohen_kappa": rates.kappa(counts),
        "matthews_corrcoef": rates.matthews(counts),
    }


def _agreement(outcomes: np.ndarray, counts: rates.Counts) -> dict[str, np.ndarray]:
    k = len(counts.hits)
    matrix = outcomes.reshape(k, k, -1)
    true, named, total = matrix.sum(axis=1), matrix.sum(axis=0), outcomes.sum(axis=0)
    observed, by_chance = counts.hits.sum(axis=0), (true * named).sum(axis=0)
    spread = (total**2 - (true**2).sum(axis=0)) * (total**2 - (named**2).sum(axis=0))
    apart = np.abs(np.arange(k)[:, None] - np.arange(k)).astype(np.float64)
    return {
        "balanced_accuracy": scores.mean_defined(rates.sensitivity(counts)),
        "cohen_kappa": rates.ratio(observed * total - by_chance, total**2 - by_chance),
        "cohen_kappa_linear": _weighted_kappa(matrix, apart),
        "cohen_kappa_quadratic": _weighted_kappa(matrix, apart**2),
        "matthews_corrcoef": rates.ratio(observed * total - by_chance, np.sqrt(spread)),
    }


def _weighted_kappa(matrix: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Returns one minus the disagreement `[K, K, R]`, weighted by `[K, K]`, over that of chance."""
    total = matrix.sum(axis=(0, 1))
    observed = np.tensordot(apart, matrix, axes=2)
    by_chance = np.einsum("ir,ir->r", matrix.sum(axis=1), apart @ matrix.sum(axis=0))
    return 1 - rates.ratio(observed * total, by_chance)


def _multilabel_agreement(by_class: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kappa = scores.mean_defined(by_class["cohen_kappa"])
    return {
        "balanced_accuracy": scores.mean_defined(by_class["balanced_accuracy"]),
        "cohen_kappa": kappa,
        "cohen_kappa_linear": kappa,
        "cohen_kappa_quadratic": kappa,
        "matthews_corrcoef": scores.mean_defined(by_class["matthews_corrcoef"]),
    }


def _summed(table: tables.Predictions, target: np.ndarray) -> list[np.ndarray]:
    """Returns what is summed over cases, each `[N]`: one, right, log loss, Brier score, and both of each class."""
    p = table.probabilities.astype(np.float64) if table.multilabel else scores.normalised(table.probabilities)
    squares, logs = (target - p) ** 2, _minus_log(np.where(target > 0, p, 1 - p))
    right = (target == table.decisions).all(axis=1)
    if table.multilabel:
        brier, log_loss = squares.mean(axis=1), logs.mean(axis=1)
    else:
        brier = squares.sum(axis=1) / (2 if len(table.classes) == 2 else 1)
        log_loss = logs[target > 0]
    return [np.ones(len(table)), right.astype(np.float64), log_loss, brier, *logs.T, *squares.T]


def _minus_log(probability: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(probability, _SMALLEST, 1 - _SMALLEST))


def _calibration_matrix(stated: np.ndarray, observed: np.ndarray) -> sparse.csr_array:
    """Returns `[BINS, N]`: what each case adds to its bin's sum of observed minus stated, over S."""
    n, each = stated.shape
    cells = (calibration.bins(stated).ravel(), np.repeat(np.arange(n), each))
    return sparse.csr_array(((observed - stated).ravel() / each, cells), shape=(calibration.BINS, n))
