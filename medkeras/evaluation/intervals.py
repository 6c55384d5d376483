"""How sure a number is: patients are resampled, proportions get Wilson's interval.

Images of one patient resemble each other, so the unit of every interval is the patient, never the image.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import special, stats

LEVEL = 0.95
KINDS = ("percentile", "bca")
_CELLS_AT_ONCE = 2_000_000
# Resamples share a generator by sixteens: fast to draw, and still a function of their number alone.
_TOGETHER = 16
# More patients than this are drawn one resample at a time, which then stays in a core's cache.
_LARGE = 4096
_MOST_LEFT_OUT = 1000
_ENDLESS = 1e300

Statistics = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def bootstrap(
    statistics: Statistics, patients: np.ndarray, *, strata: np.ndarray, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Computes statistics of cases on resamples of patients, drawn with replacement within strata.

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
    return resample(
        lambda drawn: statistics(drawn.T[patients].astype(np.float64)),
        strata,
        resamples=resamples,
        seed=seed,
        width=len(patients),
    )


def resample(
    statistics: Statistics, strata: np.ndarray, *, resamples: int, seed: int, width: int = 0
) -> dict[str, np.ndarray]:
    """Computes statistics of patients on resamples of them, a few at a time on every core.

    Args:
        statistics: Takes how often each patient was drawn, int32 `[R, P]`, and returns arrays `[..., R]`.
        strata: int `[P]`, the stratum of each patient.
        resamples: How many resamples are drawn.
        seed: Root of the random numbers.
        width: Numbers that `statistics` holds for each resample, where that is more than P: with it, a core holds
            about 2 million at a time, and no fewer than 16 resamples.

    Returns:
        The arrays `[..., resamples]` of every statistic. How many are drawn at a time does not change them.
    """
    at_once = _TOGETHER * max(1, _CELLS_AT_ONCE // max(width, len(strata)) // _TOGETHER)
    starts = range(0, resamples, at_once)

    def of_block(start: int) -> Mapping[str, np.ndarray]:
        return statistics(draw_patients(strata, range(start, min(start + at_once, resamples)), seed))

    with concurrent.futures.ThreadPoolExecutor(_cores()) as pool:
        parts = list(pool.map(of_block, starts))
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_patients(strata: np.ndarray, numbers: range, seed: int) -> np.ndarray:
    """Returns how often each patient is drawn, int32 `[R, P]`; each stratum keeps its size.

    Args:
        strata: int `[P]`, the stratum of each patient.
        numbers: Which resamples: each is a function of its number and the seed alone.
        seed: Root of the random numbers, 0 or above.
    """
    first, last = numbers.start // _TOGETHER, -(-numbers.stop // _TOGETHER)
    drawn = np.empty(((last - first) * _TOGETHER, len(strata)), np.int32)
    generators = [np.random.default_rng((seed, together)) for together in range(first, last)]
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        for i, generator in enumerate(generators):
            rows = slice(i * _TOGETHER, (i + 1) * _TOGETHER)
            drawn[rows, members] = _counts(generator, len(members))
    return drawn[numbers.start - first * _TOGETHER :][: len(numbers)]


def _counts(generator: np.random.Generator, size: int) -> np.ndarray:
    """Returns how often each of `size` is drawn in as many draws, int `[_TOGETHER, size]`."""
    if size > _LARGE:
        rows = (np.bincount(generator.integers(size, size=size), minlength=size) for _ in range(_TOGETHER))
        return np.stack([row.astype(np.int32) for row in rows])
    picks = generator.integers(size, size=(_TOGETHER, size))
    picks += np.arange(_TOGETHER)[:, None] * size
    return np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape)


def percentile(replicates: np.ndarray, *, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Returns the limits `[...]` between which the central share `level` of replicates `[..., R]` lies.

    Replicates that are NaN (the statistic was undefined on that resample) are left out; when they
    are more than half, the limits are NaN.
    """
    tail = (1 - level) / 2
    shape = replicates.shape[:-1]
    return _quantiles(replicates, np.full(shape, tail), np.full(shape, 1 - tail))


def bca(
    replicates: np.ndarray,
    value: np.ndarray,
    left_out: np.ndarray,
    strata: np.ndarray,
    *,
    level: float = LEVEL,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns limits `[...]` that are corrected for bias and acceleration.

    Args:
        replicates: `[..., R]`, the statistic on every resample.
        value: `[...]`, the statistic itself.
        left_out: `[..., M]`, the statistic without each group of patients, as `jackknife` returns it.
        strata: int `[M]`, the stratum of each of these groups.
        level: The share of such intervals that hold the true value.

    Returns:
        The limits; those of `percentile` where every replicate is on one side of the value, or where leaving
        patients out changes nothing or leaves nothing.

    Reference:
        Efron (1987), Journal of the American Statistical Association 82: 171-185; for strata Davison and
        Hinkley (1997), section 5.3.2.
    """
    tail = (1 - level) / 2
    value = np.asarray(value)[..., None]
    known = ~np.isnan(replicates)
    below = np.sum((replicates < value) & known, axis=-1) + np.sum((replicates == value) & known, axis=-1) / 2
    share = below / np.maximum(known.sum(axis=-1), 1)
    bias = special.ndtri(np.where((share > 0) & (share < 1), share, 0.5))
    acceleration = np.where((share > 0) & (share < 1), _acceleration(left_out, strata), 0.0)

    def moved(quantile: float) -> np.ndarray:
        z = bias + stats.norm.ppf(quantile)
        return special.ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-9))

    return _quantiles(replicates, moved(tail), moved(1 - tail))


def jackknife(
    statistics: Statistics, strata: np.ndarray, *, width: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Computes statistics without one patient, for each; of more than 1,000, without one of about 1,000 groups.

    Args:
        statistics: Takes how often each patient counts, int32 `[R, P]`, and returns arrays `[..., R]`.
        strata: int `[P]`, the stratum of each patient.
        width: As for `resample`.

    Returns:
        The arrays `[..., M]` of every statistic, and the stratum int `[M]` of each group.
    """
    groups = _groups(strata)
    at_once = max(1, _CELLS_AT_ONCE // max(width, len(strata)))
    parts = []
    for start in range(0, len(groups), at_once):
        counts = np.ones((min(at_once, len(groups) - start), len(strata)), np.int32)
        for row, group in enumerate(groups[start : start + at_once]):
            counts[row, group] = 0
        parts.append(statistics(counts))
    found = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    return found, np.array([strata[group[0]] for group in groups])


def _groups(strata: np.ndarray) -> list[np.ndarray]:
    """Splits the patients into groups of one stratum: each alone, or about `_MOST_LEFT_OUT` at random."""
    generator = np.random.default_rng(0)

    def of_stratum(members: np.ndarray) -> Iterator[np.ndarray]:
        if len(strata) <= _MOST_LEFT_OUT:
            return iter(members[:, None])
        parts = max(2, round(_MOST_LEFT_OUT * len(members) / len(strata)))
        return iter(np.array_split(generator.permutation(members), min(parts, len(members))))

    return [group for k in np.unique(strata) for group in of_stratum(np.flatnonzero(strata == k))]


def _acceleration(left_out: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Returns the acceleration `[...]`, a sixth of the skewness of the patients' influence; 0 where it is undefined."""
    cubes, squares = np.zeros(left_out.shape[:-1]), np.zeros(left_out.shape[:-1])
    for stratum in np.unique(strata):
        theta = left_out[..., strata == stratum]
        known = np.isfinite(theta)
        count = np.maximum(known.sum(axis=-1), 1)
        theta = np.where(known, theta, 0.0)
        centre = theta.sum(axis=-1) / count
        influence = np.where(known, centre[..., None] - theta, 0.0) * ((count - 1) / count)[..., None]
        cubes += np.sum(influence**3, axis=-1)
        squares += np.sum(influence**2, axis=-1)
    return np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares > 1e-30)


def _quantiles(replicates: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quantiles `[...]` of replicates `[..., R]` without those that are NaN, linear between neighbours."""
    resamples = replicates.shape[-1]
    missing = np.isnan(replicates).sum(axis=-1)
    ordered = np.sort(np.nan_to_num(replicates, nan=np.inf, posinf=_ENDLESS, neginf=-_ENDLESS), axis=-1)
    enough = missing <= resamples / 2

    def at(quantile: np.ndarray) -> np.ndarray:
        place = np.clip(quantile, 0, 1) * np.maximum(resamples - missing - 1, 0)
        left = np.floor(place).astype(np.int64)
        right = np.minimum(left + 1, np.maximum(resamples - missing - 1, 0))
        lower, upper = (np.take_along_axis(ordered, i[..., None], axis=-1)[..., 0] for i in (left, right))
        lower, upper = np.where(enough, lower, 0.0), np.where(enough, upper, 0.0)
        found = lower + (place - left) * (upper - lower)
        return np.where(enough, np.where(found >= _ENDLESS / 1e9, np.inf, found), np.nan)

    return at(low), at(high)


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
