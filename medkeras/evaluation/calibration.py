"""Whether a probability of 0.8 is right eight times in ten."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import optimize, special

from medkeras.evaluation import predictions as tables

BINS = 15


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Stated against observed, one entry a bin of equal width.

    Attributes:
        count: int `[BINS]`, the statements in each bin.
        stated: float64 `[BINS]`, mean stated probability, NaN in an empty bin.
        observed: float64 `[BINS]`, share that came true, NaN in an empty bin.
    """

    count: np.ndarray
    stated: np.ndarray
    observed: np.ndarray


@dataclasses.dataclass(frozen=True)
class Brier:
    """A Brier score in three parts: score = reliability - resolution + uncertainty.

    Attributes:
        reliability: What honest probabilities of the same ranks would have saved, 0 or more; lower is better.
        resolution: What the ranks are worth, 0 or more; higher is better.
        uncertainty: The score of always stating the share of the class.
    """

    reliability: float
    resolution: float
    uncertainty: float

    @property
    def score(self) -> float:
        """The Brier score."""
        return self.reliability - self.resolution + self.uncertainty


def statements(table: tables.Predictions, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what was stated and what came true, each float64 `[N, S]`.

    One statement a case (S = 1): the probability of the class that was named, and whether it was
    right. Multi-label: every class of every case (S = K), and whether it was present.
    """
    probabilities = table.probabilities.astype(np.float64)
    if table.multilabel:
        return probabilities, target.astype(np.float64)
    named = table.decisions.astype(bool)
    return probabilities[named][:, None], target[named].astype(np.float64)[:, None]


def bins(stated: np.ndarray) -> np.ndarray:
    """Returns the bin of each stated probability, int with the same shape; the last bin holds 1."""
    return np.minimum((stated * BINS).astype(np.int64), BINS - 1)


def reliability(stated: np.ndarray, observed: np.ndarray) -> Reliability:
    """Groups statements `[...]` of any shape into bins."""
    where = bins(stated).ravel()
    count = np.bincount(where, minlength=BINS)
    empty = np.where(count > 0, 1.0, np.nan)
    per_bin = np.maximum(count, 1)
    return Reliability(
        count=count,
        stated=np.bincount(where, stated.ravel(), BINS) / per_bin * empty,
        observed=np.bincount(where, observed.ravel(), BINS) / per_bin * empty,
    )


def expected_calibration_error(stated: np.ndarray, observed: np.ndarray) -> float:
    """Returns the mean distance between stated and observed, weighted by the statements in each bin.

    It is biased upwards: chance alone sets a bin's share apart from what was stated, by about
    sqrt(2 p (1 - p) / (pi n)) in a bin of n statements.

    Reference:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, ICML.
    """
    table = reliability(stated, observed)
    return float(np.nansum(table.count * np.abs(table.stated - table.observed)) / table.count.sum())


def debiased_calibration_error(stated: np.ndarray, observed: np.ndarray, patients: np.ndarray) -> float:
    """Returns the calibration error over bins of equal mass, less what chance adds to it; never below 0.

    A bin's distance is about normal, with a variance taken over patients. Its absolute value is too large by what the
    mean of a folded normal has over its centre; the square of that centre is estimated by the square of the distance
    less the variance. Of a well calibrated model about a quarter of the bias remains, upwards.

    Args:
        stated: float64 `[N, S]`, what was stated, 0…1.
        observed: float64 `[N, S]`, what came true, 0 or 1.
        patients: int `[N]`, the patient of each case, counted from zero.

    Reference:
        After Kumar, Liang and Ma (2019), Verified Uncertainty Calibration, NeurIPS; for the equal mass Roelofs,
        Cain, Shlens and Mozer (2022), Mitigating Bias in Calibration Error Estimation, AISTATS.
    """
    where = _equal_mass(stated).ravel()
    apart = (observed - stated).ravel()
    whose = np.repeat(patients, stated.shape[1])
    error = 0.0
    for b in np.unique(where):
        inside = where == b
        distance, spread = _distance(apart[inside], whose[inside])
        error += inside.mean() * (distance - _excess(distance, spread))
    return max(0.0, float(error))


def brier(stated: np.ndarray, observed: np.ndarray) -> Brier:
    """Splits the Brier score of statements `[N]` about one event; nothing is binned, and the parts sum up exactly.

    What honest probabilities of the same ranks are is the isotonic regression of the outcomes on the statements.
    Fitted on the same cases, it takes some chance for structure: reliability and resolution are both biased upwards.

    Reference:
        Dimitriadis, Gneiting and Jordan (2021), Stable reliability diagrams for probabilistic classifiers, PNAS 118.
    """
    _, which, count = np.unique(stated, return_inverse=True, return_counts=True)
    shares = np.bincount(which, observed) / count
    honest = np.clip(optimize.isotonic_regression(shares, weights=count).x, 0.0, 1.0)[which]
    uncertainty = np.mean((observed - observed.mean()) ** 2)
    recalibrated = np.mean((observed - honest) ** 2)
    return Brier(
        reliability=max(0.0, float(np.mean((observed - stated) ** 2) - recalibrated)),
        resolution=max(0.0, float(uncertainty - recalibrated)),
        uncertainty=float(uncertainty),
    )


def _equal_mass(stated: np.ndarray) -> np.ndarray:
    """Returns the bin of each statement, int of the same shape: by its mean rank, so that equals stay together."""
    values, which, count = np.unique(stated, return_inverse=True, return_counts=True)
    below = np.cumsum(count) - count
    return np.minimum((BINS * (below + count / 2) / stated.size).astype(np.int64), BINS - 1)[which].reshape(
        stated.shape
    )


def _distance(apart: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """Returns the absolute mean of numbers `[n]`, and its standard error over patients; 0 for a single patient."""
    _, whose, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    mean, m = apart.mean(), len(sizes)
    if m == 1:
        return abs(float(mean)), 0.0
    residuals = np.bincount(whose, apart) - mean * sizes
    variance = m / (m - 1) * np.sum(residuals**2) / len(apart) ** 2
    return abs(float(mean)), float(np.sqrt(variance))


def _excess(distance: float, spread: float) -> float:
    """Returns what chance adds to the absolute value of a normal number, once it came out at `distance`."""
    if spread == 0:
        return 0.0
    centre = np.sqrt(max(0.0, distance**2 - spread**2))
    z = centre / spread
    folded = spread * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + centre * (1 - 2 * special.ndtr(-z))
    return float(folded - centre)
