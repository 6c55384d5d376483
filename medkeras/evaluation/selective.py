"""A model that may refuse: how wrong it is on the cases that it answers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import special, stats

from medkeras import errors
from medkeras.evaluation import intervals, scaling

POINTS = 100
SHARES = 10


@dataclasses.dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What answering fewer cases brings; one entry a threshold, the fewest answered first.

    Attributes:
        threshold: float32 `[M]`, cases at least so confident are answered; M is at most `POINTS`.
        coverage: float64 `[M]`, share of cases answered.
        risk: float64 `[M]`, share of the answered cases that are wrong.
        low, high: float64 `[M]`, interval of the risk, by patient.
        area: Mean of the risk over all numbers of answered cases (AURC); 0 is best.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: float


def risk_coverage(confidence: np.ndarray, correct: np.ndarray, patients: np.ndarray) -> RiskCoverage:
    """Returns the curve of N cases.

    Equal confidences are answered together; in the area they count as if in random order.

    Args:
        confidence: `[N]`, higher is surer; compared as float32.
        correct: bool `[N]`.
        patients: int `[N]`, the patient of each case.

    Raises:
        DataError: There is no case, or a confidence is NaN.

    Reference:
        Geifman, Uziel and El-Yaniv (2019), Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR.
    """
    confidence, wrong = _checked(confidence), ~np.asarray(correct, bool)
    owner = np.unique(patients, return_inverse=True)[1]
    order = np.argsort(-confidence, kind="stable")
    ends = _ends(confidence[order])
    errors_at = np.cumsum(wrong[order])[ends - 1]
    ranks = np.arange(1, len(order) + 1)
    area = float(np.mean(np.interp(ranks, np.concatenate([[0], ends]), np.concatenate([[0], errors_at])) / ranks))
    shown = _spread(len(ends), POINTS)
    ends, risk = ends[shown], (errors_at / ends)[shown]
    limits = [intervals.proportion(wrong[order[:end]], np.ones(end), owner[order[:end]]) for end in ends]
    low, high = np.array(limits).T
    return RiskCoverage(confidence[order][ends - 1], ends / len(order), risk, low, high, area)


def abstain_threshold(
    confidence: np.ndarray, correct: np.ndarray, patients: np.ndarray, *, risk: float, level: float = 0.95
) -> float:
    """Returns the lowest confidence at which the model may answer; infinite when no threshold keeps the promise.

    A risk of 1 allows every error, so that all is answered: the least of 0 and the confidences.
    A confidence below it by no more than `scaling.ROUNDING` counts as equal, here and when the model answers.

    The promise: with probability `level` over validation splits, a case that is answered, drawn at random from
    those of a random patient who has one, is wrong with a probability of at most `risk`. Up to `SHARES` shares of
    the cases, those that could pass at all, are tested from the surest on by an exact tail of the binomial (several
    answered cases a patient: Hoeffding and Bentkus's bound for his share of wrong ones). The fallback procedure keeps
    the chance of any wrong promise below 1 - level: each has an equal part of it, and a test that passes hands its
    part on to the next.

    Args:
        confidence: `[N]` of the validation split, higher is surer; compared as float32.
        correct: bool `[N]`.
        patients: int `[N]`, the patient of each case.
        risk: Above 0, at most 1.
        level: Between 0 and 1.

    Raises:
        ConfigError: `risk` or `level` is out of its range.
        DataError: There is no case, or a confidence is NaN.

    Reference:
        Angelopoulos, Bates, Candès, Jordan and Lei (2025), Learn then Test, Annals of Applied Statistics 19: 1641-1662.
        Wiens and Dmitrienko (2005), Journal of Biopharmaceutical Statistics 15: 929-942 (fallback).
    """
    if not 0 < risk <= 1 or not 0 < level < 1:
        raise errors.ConfigError(f"A risk lies above 0 and a level within 0 and 1. Received: {risk=}, {level=}")
    confidence, wrong = _checked(confidence), ~np.asarray(correct, bool)
    if risk == 1:
        return min(0.0, float(confidence.min()))
    owner = np.unique(patients, return_inverse=True)[1]
    order = np.argsort(-confidence, kind="stable")
    ends = _ends(confidence[order])
    ends = ends[_spread(len(ends), SHARES)]
    lowest = confidence[order][ends - 1]
    ends = np.searchsorted(-confidence[order], np.float32(scaling.ROUNDING) - lowest, side="right")
    shares = [_shares(wrong[order[:end]], owner[order[:end]]) for end in ends]
    feasible = [
        (low, share) for low, share in zip(lowest, shares, strict=True) if (1 - risk) ** len(share) <= 1 - level
    ]
    part = (1 - level) / max(1, len(feasible))
    threshold, passed_on = math.inf, 0.0
    for low, share in feasible:
        passes = _chance(share, risk) <= part + passed_on
        passed_on = part + passed_on if passes else 0.0
        threshold = float(low) if passes else threshold
    return threshold


def _checked(confidence: np.ndarray) -> np.ndarray:
    values = np.asarray(confidence, np.float32)
    if not len(values) or np.isnan(values).any():
        received = f"{np.isnan(values).sum()} NaN" if len(values) else "0 cases"
        raise errors.DataError(f"Refusal is judged by the confidence of at least one case. Received: {received}")
    return values


def _ends(falling: np.ndarray) -> np.ndarray:
    """Returns the numbers of answered cases, int `[M]` rising, at which no equal confidence is left out."""
    return np.append(np.flatnonzero(np.diff(falling)) + 1, len(falling))


def _spread(n: int, most: int) -> np.ndarray:
    """Returns at most `most` of the positions 0…n-1, evenly, the last always."""
    return np.unique(np.linspace(0, n, min(n, most) + 1)[1:].astype(np.int64)) - 1


def _shares(wrong: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Returns each patient's share of wrong cases, of those who have a case."""
    counts = np.bincount(owner)
    return np.bincount(owner, wrong)[counts > 0] / counts[counts > 0]


def _chance(shares: np.ndarray, risk: float) -> float:
    """Returns a bound of the chance of shares `[m]` with so low a mean, if their expectation were `risk`."""
    m, total = len(shares), float(shares.sum())
    if np.isin(shares, (0.0, 1.0)).all():
        return float(stats.binom.cdf(total, m, risk))
    mean = min(total / m, risk)
    hoeffding = math.exp(-m * float(special.rel_entr(mean, risk) + special.rel_entr(1 - mean, 1 - risk)))
    return min(hoeffding, math.e * float(stats.binom.cdf(math.ceil(total), m, risk)))
