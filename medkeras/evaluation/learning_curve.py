"""What more training cases would bring: an inverse power law through the accuracies that fewer cases reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from medkeras import errors
from medkeras.evaluation import intervals

SIZES = 4
"""A curve of three numbers needs one size more."""
_EXPONENTS = np.geomspace(0.05, 2, 150)
_DRAWS = 1000
_STEPS = 40
_LEAST_ERROR = 1e-4
_STRANGE = 0.001


def fit(points: Sequence[Mapping[str, float]], *, seed: int = 0) -> dict[str, Any]:
    """Fits error = floor + scale * n^-exponent, each point weighted by its interval, and looks as far as twice n.

    The floor lies in 0…1, the scale is not negative and the exponent in 0.05…2; the best exponent of a grid is taken,
    with the best floor and scale for it. The uncertainty is that of 1,000 curves, each fitted to points drawn anew
    about the fitted one. It holds if the law does, and knows nothing of what another kind of data would bring.

    Args:
        points: `n` (training cases), `value` (accuracy, 0…1), `low` and `high` (95%) of each model trained.
        seed: Root of the draws.

    Returns:
        `floor`, `scale`, `exponent`; `curve`: `n`, `value`, `low`, `high` from the smallest n to twice the largest;
        `doubling`: `n`, `accuracy` and `gain` (each `value`, `low`, `high`); and `summary`, a sentence. Where the
        points say nothing about more data, all but the summary are None, and it says why.

    Raises:
        DataError: There is no point, or a number is out of its range.

    Reference:
        Figueroa, Zeng-Treitler, Kandula and Ngo (2012), BMC Medical Informatics and Decision Making 12: 8. Cortes et
        al. (1993), Learning curves: asymptotic values and rate of convergence, NIPS 6.
    """
    n, wrong, spread = _checked(points)
    unit = float(np.exp(np.log(n).mean()))
    silent = _silence(n, wrong, spread, unit)
    if silent:
        nothing: dict[str, Any] = dict.fromkeys(("floor", "scale", "exponent", "curve", "doubling"))
        return nothing | {"summary": silent}
    best = _best(n / unit, wrong[:, None], spread)
    noise = np.random.default_rng(seed).normal(size=(len(n), _DRAWS)) * spread[:, None]
    drawn = _best(n / unit, _at(best, n / unit) + noise, spread)
    reach = np.geomspace(n.min(), 2 * n.max(), _STEPS)
    doubling = _doubling(best, drawn, float(n.max()), unit)
    floor, scale, exponent = (float(each[0]) for each in best)
    return {
        "floor": floor,
        "scale": scale * unit**exponent,
        "exponent": exponent,
        "curve": [
            {"n": float(size)} | entry
            for size, entry in zip(
                reach, _limits(_accuracy(best, reach / unit), _accuracy(drawn, reach / unit)), strict=True
            )
        ],
        "doubling": doubling,
        "summary": _sentence(doubling, float(n.max())),
    }


def _checked(points: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns training cases, error rates and their standard errors, each `[M]`."""
    table = np.array([[point[name] for name in ("n", "value", "low", "high")] for point in points], np.float64)
    if not len(table):
        raise errors.DataError("A learning curve has points. Received: none")
    n, value, low, high = table.T
    good = (n >= 1) & (low <= high) & (table[:, 1:] >= 0).all(axis=1) & (table[:, 1:] <= 1).all(axis=1)
    if not good.all():
        raise errors.DataError(
            "A point of a learning curve has n of 1 or more, and an accuracy with limits between 0 and 1. "
            f"Received: {dict(points[int(np.flatnonzero(~good)[0])])}"
        )
    return n, 1 - value, np.maximum((high - low) / (2 * stats.norm.ppf(0.5 + intervals.LEVEL / 2)), _LEAST_ERROR)


def _silence(n: np.ndarray, wrong: np.ndarray, spread: np.ndarray, unit: float) -> str:
    """Returns why the points say nothing about more data, or an empty text."""
    sizes = len(np.unique(n))
    if sizes < SIZES:
        return f"A learning curve needs models trained on {SIZES} numbers of cases. There are {sizes}."
    weight = spread**-2
    level = np.sum(weight * wrong) / weight.sum()
    flat = float(np.sum(weight * (wrong - level) ** 2))
    curved = float(
        np.sum(weight[:, None] * (wrong[:, None] - _at(_best(n / unit, wrong[:, None], spread), n / unit)) ** 2)
    )
    if flat - curved < stats.chi2.ppf(intervals.LEVEL, 2):
        return "The accuracy does not rise with the number of training cases by more than chance: nothing is foretold."
    if stats.chi2.sf(curved, len(n) - 3) < _STRANGE:
        return "The accuracies scatter about any smooth curve by more than chance: nothing is foretold."
    return ""


def _best(n: np.ndarray, wrong: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns floor, scale and exponent, each `[R]`, that fit errors `[M, R]` at n `[M]` best."""
    weight = spread**-2 / np.sum(spread**-2)
    least = np.full(wrong.shape[1], np.inf)
    best = np.zeros((3, wrong.shape[1]))
    for exponent in _EXPONENTS:
        floor, scale = _line(n**-exponent, wrong, weight)
        missed = weight @ (wrong - floor - scale * (n**-exponent)[:, None]) ** 2
        better = missed < least
        least = np.where(better, missed, least)
        best[:, better] = np.stack([floor, scale, np.full_like(floor, exponent)])[:, better]
    return best[0], best[1], best[2]


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the floor and scale `[R]`, neither negative, whose line through x `[M]` and y `[M, R]` misses least."""
    x_mean, y_mean = weight @ x, weight @ y
    scale = np.maximum((weight * (x - x_mean)) @ y / (weight @ (x - x_mean) ** 2), 0.0)
    floor = y_mean - scale * x_mean
    through_zero = np.maximum((weight * x) @ y / (weight @ x**2), 0.0)
    return np.maximum(floor, 0.0), np.where(floor < 0, through_zero, scale)


def _at(curve: tuple[np.ndarray, np.ndarray, np.ndarray], n: np.ndarray) -> np.ndarray:
    """Returns the errors `[M, R]` of R curves at n `[M]`."""
    floor, scale, exponent = curve
    return floor + scale * n[:, None] ** -exponent


def _accuracy(curve: tuple[np.ndarray, np.ndarray, np.ndarray], n: np.ndarray) -> np.ndarray:
    return np.clip(1 - _at(curve, n), 0.0, 1.0)


def _limits(value: np.ndarray, drawn: np.ndarray) -> list[dict[str, float]]:
    low, high = intervals.percentile(drawn)
    return [
        {"value": float(v), "low": float(lower), "high": float(upper)}
        for v, lower, upper in zip(value[:, 0], low, high, strict=True)
    ]


def _doubling(best: Any, drawn: Any, largest: float, unit: float) -> dict[str, Any]:
    sizes = np.array([largest, 2 * largest]) / unit
    now, then = (_accuracy(curve, sizes) for curve in (best, drawn))
    return {
        "n": 2 * largest,
        "accuracy": _limits(now, then)[1],
        "gain": _limits(np.diff(now, axis=0), np.diff(then, axis=0))[0],
    }


def _sentence(doubling: Mapping[str, Any], largest: float) -> str:
    gain, accuracy = doubling["gain"], doubling["accuracy"]
    return (
        f"Twice the training cases ({largest:,.0f} to {doubling['n']:,.0f}) would bring about "
        f"{100 * gain['value']:.1f} points of accuracy ({100 * gain['low']:.1f} to {100 * gain['high']:.1f}): "
        f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})."
    )
