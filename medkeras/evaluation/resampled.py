"""The metrics of `scores`, on many resamples at once.

A resample is how often each case was drawn, so each metric is its weighted form, computed for R
columns of weights together. Tests hold every one to scikit-learn with `sample_weight`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from medkeras.evaluation import calibration, scores
from medkeras.evaluation import predictions as tables

_SMALLEST = np.finfo(np.float64).eps
"""Where scikit-learn clips a probability before it takes the logarithm."""


class Resampled:
    """Everything about a table that no resample changes.

    Args:
        table: N cases, K classes.
        target: int8 `[N, K]`, their known labels.
    """

    def __init__(self, table: tables.Predictions, target: np.ndarray) -> None:
        decisions = table.decisions
        self._multilabel = table.multilabel
        self._true = target.T.astype(np.float64)
        self._decided = decisions.T.astype(np.float64)
        self._right = (target == decisions).all(axis=1).astype(np.float64)
        self._log_loss, self._brier = _losses(table, target)
        self._calibration = _calibration_matrix(*calibration.statements(table, target))
        self._rankings = [_Ranking.of(t > 0, p) for t, p in zip(target.T, table.probabilities.T, strict=True)]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `[R]` for each overall metric and `[K, R]` for each metric of a class.

        Args:
            weights: float64 `[N, R]`, how often each case counts.
        """
        total = weights.sum(axis=0)
        counts = _Counts(
            hits=(self._true * self._decided) @ weights,
            true=self._true @ weights,
            decided=self._decided @ weights,
            total=total,
        )
        by_class = _rates(counts) | _ranked(self._rankings, weights)
        values = {f"{name}_macro": scores.mean_defined(by_class[name]) for name in scores.PER_CLASS}
        if len(self._true) == 2 and not self._multilabel:
            values["auroc_macro"] = by_class["auroc"][1]
        values["accuracy"] = self._right @ weights / total
        values["log_loss"] = self._log_loss @ weights / total
        values["brier_score_loss"] = self._brier @ weights / total
        values["expected_calibration_error"] = _calibration_error(self._calibration, weights)
        values |= _multilabel_agreement(counts) if self._multilabel else _agreement(counts)
        return {name: values[name] for name in scores.OVERALL} | by_class


@dataclasses.dataclass(frozen=True)
class _Counts:
    """Weighted counts: `[K, R]` hits, truly and by decision in the class; `[R]` total."""

    hits: np.ndarray
    true: np.ndarray
    decided: np.ndarray
    total: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Ranking:
    """One class' cases from the highest score down.

    Attributes:
        order: int `[N]`, the cases.
        positives: int `[P]`, where in `order` the P positives are.
        start, end: int `[P]`, where in `order` each positive's group of equal scores starts, and ends (exclusive).
        positive_start, positive_end: int `[P]`, the same among the positives alone.
    """

    order: np.ndarray
    positives: np.ndarray
    start: np.ndarray
    end: np.ndarray
    positive_start: np.ndarray
    positive_end: np.ndarray

    @classmethod
    def of(cls, positive: np.ndarray, score: np.ndarray) -> _Ranking:
        """Ranks scores float32 `[N]` of cases, of which bool `[N]` are positive."""
        order = np.argsort(-score, kind="stable")
        falling = -score[order]
        positives = np.flatnonzero(positive[order])
        start = np.searchsorted(falling, falling[positives], side="left")
        end = np.searchsorted(falling, falling[positives], side="right")
        return cls(order, positives, start, end, np.searchsorted(positives, start), np.searchsorted(positives, end))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole > 0)


def _rates(c: _Counts) -> dict[str, np.ndarray]:
    negatives = c.total - c.true
    return {
        "precision": _ratio(c.hits, c.decided),
        "recall": _ratio(c.hits, c.true),
        "specificity": _ratio(negatives - c.decided + c.hits, negatives),
        "f1": _ratio(2 * c.hits, c.true + c.decided),
    }


def _ranked(rankings: list[_Ranking], weights: np.ndarray) -> dict[str, np.ndarray]:
    pairs = [_areas(ranking, weights) for ranking in rankings]
    return {
        "auroc": np.stack([auroc for auroc, _ in pairs]),
        "average_precision": np.stack([precision for _, precision in pairs]),
    }


def _areas(ranking: _Ranking, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns AUROC and average precision, each `[R]`.

    AUROC: the share of pairs in which the positive scores higher, half for equals. Average precision:
    the mean, over the positives, of the precision when all that score at least as high are called.
    """
    ranked = weights[ranking.order]
    everyone = _running(ranked)
    drawn = ranked[ranking.positives]
    positives = _running(drawn)
    n_positive, n_negative = positives[-1], everyone[-1] - positives[-1]
    positive_at, everyone_at = positives[ranking.positive_end], everyone[ranking.end]
    above = everyone_at - positive_at + everyone[ranking.start] - positives[ranking.positive_start]
    won = np.einsum("pr,pr->r", drawn, n_negative - above / 2)
    precision = np.divide(positive_at, everyone_at, out=np.zeros_like(drawn), where=everyone_at > 0)
    return (
        _ratio(won, n_positive * n_negative),
        _ratio(np.einsum("pr,pr->r", drawn, precision), n_positive),
    )


def _running(weights: np.ndarray) -> np.ndarray:
    """Returns `[N + 1, R]`: the sum of the first 0, 1, … N rows."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _agreement(c: _Counts) -> dict[str, np.ndarray]:
    observed, total = c.hits.sum(axis=0), c.total
    by_chance = (c.true * c.decided).sum(axis=0)
    spread = (total**2 - (c.true**2).sum(axis=0)) * (total**2 - (c.decided**2).sum(axis=0))
    return {
        "balanced_accuracy": scores.mean_defined(_ratio(c.hits, c.true)),
        "cohen_kappa": _ratio(observed * total - by_chance, total**2 - by_chance),
        "matthews_corrcoef": _ratio(observed * total - by_chance, np.sqrt(spread)),
    }


def _multilabel_agreement(c: _Counts) -> dict[str, np.ndarray]:
    absent, undecided = c.total - c.true, c.total - c.decided
    correct_absent = absent - c.decided + c.hits
    by_chance = c.true * c.decided + absent * undecided
    spread = c.true * c.decided * absent * undecided
    kappa = _ratio((c.hits + correct_absent) * c.total - by_chance, c.total**2 - by_chance)
    matthews = _ratio(c.hits * c.total - c.true * c.decided, np.sqrt(spread))
    balanced = (_ratio(c.hits, c.true) + _ratio(correct_absent, absent)) / 2
    return {
        "balanced_accuracy": scores.mean_defined(balanced),
        "cohen_kappa": scores.mean_defined(kappa),
        "matthews_corrcoef": scores.mean_defined(matthews),
    }


def _losses(table: tables.Predictions, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each case's log loss and Brier score, float64 `[N]`; multi-label: their means over classes."""
    if table.multilabel:
        p = table.probabilities.astype(np.float64)
        of_truth = np.where(target > 0, p, 1 - p)
        return _minus_log(of_truth).mean(axis=1), ((target - p) ** 2).mean(axis=1)
    p = scores.normalised(table.probabilities)
    squares = ((target - p) ** 2).sum(axis=1)
    return _minus_log(p[target > 0]), squares / 2 if len(table.classes) == 2 else squares


def _minus_log(probability: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(probability, _SMALLEST, 1 - _SMALLEST))


def _calibration_matrix(stated: np.ndarray, observed: np.ndarray) -> sparse.csr_array:
    """Returns `[BINS, N]`: what each case adds to its bin's sum of observed minus stated, over S."""
    n, each = stated.shape
    cells = (calibration.bins(stated).ravel(), np.repeat(np.arange(n), each))
    return sparse.csr_array(((observed - stated).ravel() / each, cells), shape=(calibration.BINS, n))


def _calibration_error(matrix: sparse.csr_array, weights: np.ndarray) -> np.ndarray:
    return np.abs(matrix @ weights).sum(axis=0) / weights.sum(axis=0)
