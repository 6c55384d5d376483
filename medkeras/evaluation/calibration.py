"""Whether a probability of 0.8 is right eight times in ten."""

from __future__ import annotations

import dataclasses

import numpy as np

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

    Reference:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, ICML.
    """
    table = reliability(stated, observed)
    return float(np.nansum(table.count * np.abs(table.stated - table.observed)) / table.count.sum())
