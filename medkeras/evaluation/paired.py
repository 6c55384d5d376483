"""How far a number moved between two answers to the same cases, and how much of a loss such cases can show."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import optimize, stats

from medkeras.evaluation import delong, intervals


@dataclasses.dataclass(frozen=True)
class Difference:
    """After less before; a loss is the same with the other sign.

    Attributes:
        value: After less before; NaN where either is undefined.
        low, high: Limits between which the true difference lies with 95% confidence; NaN where they are not known.
        least_loss: What is lost at least, with 95% confidence; below 0: maybe nothing.
        most_loss: What is lost at most, with 95% confidence.
        smallest_seen: About the smallest loss that such cases tell from none: its interval leaves 0 out. Infinite where
            they tell none.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    least_loss: float = math.nan
    most_loss: float = math.nan
    smallest_seen: float = math.inf

    @property
    def loss(self) -> float:
        """Before less after."""
        return -self.value


def of_shares(before: np.ndarray, after: np.ndarray, counted: np.ndarray, patients: np.ndarray) -> Difference:
    """Compares two shares of the same cases.

    The limits are Tango's, of the score test of paired shares, with a correction for continuity: they leave 0 out where
    McNemar's exact test does. With several cases a patient, all counts are divided by the design effect.

    Args:
        before, after: bool `[N]`, the successes.
        counted: bool `[N]`, the cases that the shares are about.
        patients: int `[N]`, the patient of each case, counted from zero.

    Reference:
        Tango (1998), Statistics in Medicine 17: 891-908. Edwards (1948), Psychometrika 13: 185-187. Rao and Scott
        (1992), Biometrics 48: 577-585.
    """
    counted = counted.astype(bool)
    if not counted.any():
        return Difference(math.nan)
    moved = before[counted].astype(np.int64) - after[counted]
    effect = _design_effect(moved, patients[counted])
    lost, gained, n = (float(count) / effect for count in (np.sum(moved > 0), np.sum(moved < 0), len(moved)))
    both, one = _normal(intervals.LEVEL / 2 + 0.5), _normal(intervals.LEVEL)
    smallest = math.ceil(_least_visible(both)) / n
    return Difference(
        value=(gained - lost) / n,
        low=-_most(lost, gained, n, both),
        high=-_least(lost, gained, n, both),
        least_loss=_least(lost, gained, n, one),
        most_loss=_most(lost, gained, n, one),
        smallest_seen=smallest if smallest <= 1 else math.inf,
    )


def of_areas(positive: np.ndarray, before: np.ndarray, after: np.ndarray, patients: np.ndarray) -> Difference:
    """Compares the mean areas under the ROC curves of two scores of the same cases.

    The error is DeLong's, with several cases a patient Obuchowski's. As it is measured on the few patients of the rarer
    side, the limits are those of Student's t with one degree of freedom less than these.

    Args:
        positive: bool `[N, L]`, L kinds of positive, each against all others; those without cases of both are left out.
        before, after: `[N, L]`, the scores of each kind.
        patients: int `[N]`, the patient of each case, counted from zero.
    """
    gap, error = delong.difference(positive, after, before, patients)
    if math.isnan(error):
        return Difference(gap)
    freedom = min(_patients_of_rarer_side(kind, patients) for kind in positive.T if kind.any() and not kind.all()) - 1
    both, one = (float(stats.t.ppf(share, freedom)) * error for share in (intervals.LEVEL / 2 + 0.5, intervals.LEVEL))
    return Difference(
        value=gap,
        low=max(gap - both, -1.0),
        high=min(gap + both, 1.0),
        least_loss=max(-gap - one, -1.0),
        most_loss=min(-gap + one, 1.0),
        smallest_seen=both,
    )


def _normal(share: float) -> float:
    return float(stats.norm.ppf(share))


def _least_visible(z: float) -> float:
    """Returns how many cases must be lost, and none gained, until (lost - 1) / sqrt(lost) reaches z."""
    return ((z + math.sqrt(z**2 + 4)) / 2) ** 2


def _least(lost: float, gained: float, n: float, z: float) -> float:
    """Returns the smallest loss of which the counts are less than z errors away."""

    def beyond(loss: float) -> float:
        return lost - gained - n * loss - 1 - z * math.sqrt(_variance(lost, gained, n, loss))

    nearest = (lost - gained - 1) / n
    return -1.0 if nearest <= -1 or beyond(-1.0) <= 0 else float(optimize.brentq(beyond, -1.0, nearest))


def _most(lost: float, gained: float, n: float, z: float) -> float:
    return -_least(gained, lost, n, z)


def _variance(lost: float, gained: float, n: float, loss: float) -> float:
    """Returns the variance of lost - gained if the true loss were `loss`, with the likeliest share of gains."""
    linear = -lost - gained + (2 * n - lost + gained) * loss
    root = math.sqrt(max(linear**2 + 8 * n * gained * loss * (1 - loss), 0.0))
    gains = (root - linear) / (4 * n)
    return max(n * (2 * gains + loss * (1 - loss)), 0.0)


def _design_effect(moved: np.ndarray, patients: np.ndarray) -> float:
    """Returns by how much patients with several cases widen the variance of a mean, 1 or more.

    Where all cases moved alike, or none did, it cannot be seen, and each patient counts as one.
    """
    _, whose, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    n, m, residuals = len(moved), len(sizes), moved - moved.mean()
    if m == n:
        return 1.0
    if m == 1 or not residuals.any():
        return n / m
    return max(1.0, float(m / (m - 1) * np.sum(np.bincount(whose, residuals) ** 2) / np.sum(residuals**2)))


def _patients_of_rarer_side(positive: np.ndarray, patients: np.ndarray) -> int:
    return min(len(np.unique(patients[side])) for side in (positive, ~positive))
