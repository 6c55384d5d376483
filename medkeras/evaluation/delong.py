"""Areas under ROC curves that are measured on the same patients: how they vary together."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True, eq=False)
class Placements:
    """What each patient adds to the areas of M scores.

    Attributes:
        areas: float64 `[M]`, NaN without cases of both kinds.
        positive: float64 `[P, M]`, sums over a patient's positive cases of (placement - area) / number of positives.
        negative: float64 `[P, M]`, the same over his negative cases.
        positives, negatives: How many patients have a positive case, and a negative one.
    """

    areas: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positives: int
    negatives: int

    def covariance(self) -> np.ndarray:
        """Returns the covariance `[M, M]` of the areas; NaN with fewer than two patients of either kind."""
        if min(self.positives, self.negatives) < 2:
            return np.full((len(self.areas),) * 2, np.nan)
        crossed = self.positive.T @ self.negative
        return (
            _unbiased(self.positives) * self.positive.T @ self.positive
            + _unbiased(self.negatives) * self.negative.T @ self.negative
            + _unbiased(len(self.positive)) * (crossed + crossed.T)
        )


def placements(positive: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> Placements:
    """Returns the areas of scores `[N, M]` and what each patient adds to them.

    With one case a patient the covariance is DeLong's; with several, Obuchowski's. Time grows as N log N.

    Args:
        positive: bool `[N]`.
        scores: `[N, M]`, higher where a case is more likely to be positive; equal scores count half.
        patients: int `[N]`, the patient of each case, counted from zero.

    Reference:
        DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44: 837-845. Sun and Xu (2014), IEEE Signal Processing
        Letters 21: 1389-1393 (by ranks). Obuchowski (1997), Biometrics 53: 567-578 (several cases a patient).
    """
    positive = np.asarray(positive, bool)
    m, n = int(positive.sum()), int((~positive).sum())
    count = int(patients.max()) + 1
    if not m or not n:
        empty = np.zeros((count, scores.shape[1]))
        return Placements(np.full(scores.shape[1], np.nan), empty, empty, min(m, 1), min(n, 1))
    ranks = stats.rankdata(scores, axis=0)
    above = (ranks[positive] - stats.rankdata(scores[positive], axis=0)) / n
    below = 1 - (ranks[~positive] - stats.rankdata(scores[~positive], axis=0)) / m
    areas = above.mean(axis=0)
    return Placements(
        areas,
        _summed((above - areas) / m, patients[positive], count),
        _summed((below - areas) / n, patients[~positive], count),
        len(np.unique(patients[positive])),
        len(np.unique(patients[~positive])),
    )


def difference(positive: np.ndarray, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """Returns how much larger the mean area of scores `a` is than that of `b`, and the standard error.

    Args:
        positive: bool `[N, L]`, L kinds of positive, each against all others; those without cases of both are left out.
        a, b: `[N, L]`, the scores of each kind.
        patients: int `[N]`, the patient of each case, counted from zero.

    Returns:
        NaN for a difference that no kind defines, and for an error where a kind has fewer than two patients with a
        case of it or without.
    """
    pairs = [
        placements(kind, np.stack([ours, theirs], axis=1), patients)
        for kind, ours, theirs in zip(positive.T, a.T, b.T, strict=True)
        if kind.any() and not kind.all()
    ]
    if not pairs:
        return float("nan"), float("nan")
    gap = float(np.mean([pair.areas[0] - pair.areas[1] for pair in pairs]))
    if min(min(pair.positives, pair.negatives) for pair in pairs) < 2:
        return gap, float("nan")
    raised = [(pair.positive @ (1, -1), pair.negative @ (1, -1)) for pair in pairs]
    scaled = [(_unbiased(pair.positives) ** 0.5, _unbiased(pair.negatives) ** 0.5) for pair in pairs]
    up = np.mean([p * s for (p, _), (s, _) in zip(raised, scaled, strict=True)], axis=0)
    down = np.mean([q * s for (_, q), (_, s) in zip(raised, scaled, strict=True)], axis=0)
    crossed = np.mean([p for p, _ in raised], axis=0) @ np.mean([q for _, q in raised], axis=0)
    variance = up @ up + down @ down + 2 * _unbiased(len(up)) * crossed
    return gap, float(np.sqrt(max(variance, 0.0)))


def _unbiased(n: int) -> float:
    return n / (n - 1)


def _summed(values: np.ndarray, patients: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(patients, column, count) for column in values.T], axis=1)
