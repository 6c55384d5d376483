"""How sure a number is: patients are resampled, proportions get Wilson's interval.

Images of one patient resemble each other, so the unit of every interval is the patient, never the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

LEVEL = 0.95
_CELLS_AT_ONCE = 4_000_000


def bootstrap(
    statistics: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    patients: np.ndarray,
    *,
    strata: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Computes statistics on resamples of patients, drawn with replacement within strata.

    Args:
        statistics: Takes how often each case was drawn, float64 `[N, R]`, and returns arrays `[..., R]`.
        patients: int `[N]`, the patient of each case, counted from zero.
        strata: int `[P]`, the stratum of each patient.
        resamples: How many resamples are drawn.
        seed: Root of the random numbers.

    Returns:
        The arrays `[..., resamples]` of every statistic.

    Reference:
        Davison and Hinkley (1997), Bootstrap Methods and their Application, sections 3.2 and 3.8.
    """
    generator = np.random.default_rng(seed)
    parts = []
    at_once = max(1, _CELLS_AT_ONCE // len(patients))
    for start in range(0, resamples, at_once):
        drawn = draw_patients(strata, min(at_once, resamples - start), generator)
        parts.append(statistics(drawn[patients]))
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def draw_patients(strata: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Returns how often each patient is drawn, float64 `[P, R]`; each stratum keeps its size."""
    drawn = np.empty((len(strata), resamples))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        picks = generator.integers(len(members), size=(len(members), resamples))
        cells = picks * resamples + np.arange(resamples)
        drawn[members] = np.bincount(cells.ravel(), minlength=picks.size).reshape(picks.shape)
    return drawn


def percentile(replicates: np.ndarray, *, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Returns the limits `[...]` between which the central share `level` of replicates `[..., R]` lies.

    Replicates that are NaN (the statistic was undefined on that resample) are left out; when they
    are more than half, the limits are NaN.
    """
    tail = 50 * (1 - level)
    enough = np.mean(np.isnan(replicates), axis=-1) <= 0.5
    usable = np.where(enough[..., None], replicates, 0.0)
    low, high = np.nanpercentile(usable, [tail, 100 - tail], axis=-1)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def wilson(successes: float, trials: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Returns Wilson's score interval of a proportion; trials need not be whole.

    Reference:
        Wilson (1927), Journal of the American Statistical Association 22: 209-212.

    >>> [round(limit, 4) for limit in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if trials <= 0:
        return float("nan"), float("nan")
    z = stats.norm.ppf(0.5 + level / 2)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    spread = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = (centre - spread) / (1 + z**2 / trials), (centre + spread) / (1 + z**2 / trials)
    return float(max(low, 0.0)), float(min(high, 1.0))


def proportion(
    hits: np.ndarray, counted: np.ndarray, patients: np.ndarray, *, level: float = LEVEL
) -> tuple[float, float]:
    """Returns the interval of a proportion whose cases come in patients.

    Args:
        hits: `[N]` in {0, 1}, the successes.
        counted: `[N]` in {0, 1}, the cases the proportion is about.
        patients: int `[N]`, the patient of each case, counted from zero.
        level: The share of such intervals that hold the true proportion.

    Returns:
        Wilson's interval for the number of independent cases that the counted ones are worth.
    """
    n = float(np.sum(counted))
    if n == 0:
        return float("nan"), float("nan")
    share = float(np.sum(hits * counted)) / n
    worth = effective_size(hits, counted, patients)
    return wilson(share * worth, worth, level=level)


def effective_size(hits: np.ndarray, counted: np.ndarray, patients: np.ndarray) -> float:
    """Returns how many independent cases the counted ones are worth: their number over the design effect.

    The design effect is the variance of the proportion as a ratio of sums over patients, over the
    variance it would have with independent cases, and is at least 1. Where every case succeeds or every
    one fails it cannot be seen, and each patient counts as one.

    Reference:
        Rao and Scott (1992), Biometrics 48: 577-585.
    """
    sizes = np.bincount(patients, counted)
    sums = np.bincount(patients, hits * counted)[sizes > 0]
    sizes = sizes[sizes > 0]
    n, m = sizes.sum(), len(sizes)
    share = sums.sum() / n
    if sizes.max() == 1 or m == 1 or share in (0.0, 1.0):
        return float(m)
    variance = m / (m - 1) * np.sum((sums - share * sizes) ** 2) / n**2
    return float(n / max(1.0, variance * n / (share * (1 - share))))
