"""Makes probabilities honest: what is fitted to the validation split and becomes part of the exported graph.

Every case counts the same, as in the report, but together they weigh as much as there are patients: copies
of a patient's images are no new evidence against the doubt that each method starts with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import optimize, special
from sklearn import isotonic

from medkeras import errors

METHODS = ("none", "temperature", "platt", "isotonic")
ROUNDING = 1e-5
"""How far the graph's float32 may set a probability apart from that of `Scaling.apply`.

Isotonic calibration gives many cases one and the same probability, and a sure model gives 1.0 to most. A threshold
that was fitted to such a probability is met from this far below, or rounding would decide for all of them at once.
"""
_DECIMALS = 6
"""Probabilities closer than 1e-6 count as equal in the isotonic fit."""
_APART = 1e-4
_STEEPEST = 30.0
"""Knots lie at least `_APART` apart and their line rises at most `_STEEPEST` / x, or the graph would leave `ROUNDING`.

A probability x of its float32 is off by about 1e-7 x, and the line multiplies that by its slope.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Scaling:
    """How logits become probabilities: linear, softmax or sigmoid, and for isotonic a table for each class.

    Attributes:
        method: One of `METHODS`; "temperature" too where the method asked for could not be fitted.
        multilabel: Sigmoid for each class; else softmax over the classes.
        slope: float64 `[K]`, above 0.
        offset: float64 `[K]`.
        knots: Isotonic: for each class the probabilities that slope and offset give, rising strictly from 0 to 1,
            and the calibrated ones, above 0 and never falling; each float64 `[M]`. Else empty.
        notes: Why something else than the method asked for was fitted, one sentence each.
    """

    method: str
    multilabel: bool
    slope: np.ndarray
    offset: np.ndarray
    knots: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by, or None where each class has its own numbers."""
        return float(1 / self.slope[0]) if self.method in ("none", "temperature") else None

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities, float64 `[N, K]`, of logits `[N, K]`; rows sum to 1 unless multi-label."""
        stated = _stated(np.asarray(logits, np.float64) * self.slope + self.offset, self.multilabel)
        if not self.knots:
            return stated
        columns = [np.interp(column, x, y) for column, (x, y) in zip(stated.T, self.knots, strict=True)]
        calibrated = np.stack(columns, axis=1)
        return calibrated if self.multilabel else calibrated / calibrated.sum(axis=1, keepdims=True)

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` can write and `from_json` reads, equal to the last bit."""
        return {
            "method": self.method,
            "multilabel": self.multilabel,
            "slope": self.slope.tolist(),
            "offset": self.offset.tolist(),
            "knots": [[x.tolist(), y.tolist()] for x, y in self.knots],
            "notes": list(self.notes),
        }


def from_json(content: Mapping[str, Any]) -> Scaling:
    """Returns the scaling that `Scaling.to_json` wrote."""
    return Scaling(
        method=content["method"],
        multilabel=content["multilabel"],
        slope=np.array(content["slope"], np.float64),
        offset=np.array(content["offset"], np.float64),
        knots=tuple((np.array(x, np.float64), np.array(y, np.float64)) for x, y in content["knots"]),
        notes=tuple(content["notes"]),
    )


def fit(logits: np.ndarray, target: np.ndarray, *, method: str, multilabel: bool, patients: np.ndarray) -> Scaling:
    """Fits what makes probabilities honest.

    `temperature` divides all logits by one number, so no decision changes (multi-label: none at 0.5). `platt` fits a
    slope and an offset for each class (two classes: one of each, for the difference of the logits), `isotonic` a
    rising table for each class, after the temperature. These two need cases with and without every class; where they
    lack them, or where the fit would turn a class round, the temperature alone is fitted and a note says so.

    Args:
        logits: float `[N, K]`, N cases of the validation split.
        target: `[N, K]` in {0, 1}, one-hot or multi-hot.
        method: One of `METHODS`.
        multilabel: Whether a case may have any number of classes.
        patients: int `[N]`, the patient of each case.

    Raises:
        ConfigError: The method is unknown.
        DataError: There is no case, or a logit is not finite.

    Reference:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, ICML (temperature, vector
        scaling). Platt (1999), Probabilistic Outputs for Support Vector Machines (targets short of 0 and 1). Oron and
        Flournoy (2017), Statistics in Biopharmaceutical Research 9: 258-267 (knots at the centres of the blocks).
    """
    if method not in METHODS:
        raise errors.ConfigError(errors.unknown("calibration method", method, METHODS))
    logits, target = np.asarray(logits, np.float64), np.asarray(target, np.float64)
    if not len(logits) or not np.isfinite(logits).all():
        received = f"{np.sum(~np.isfinite(logits))} that are not" if len(logits) else "0 cases"
        raise errors.DataError(f"A calibration is fitted to finite logits of at least one case. Received: {received}")
    weight = len(np.unique(patients)) / len(logits)
    fitted = _FITS[method](logits, target, weight, multilabel)
    if isinstance(fitted, Scaling):
        return fitted
    note = f"{method} calibration was not fitted, one temperature was: {fitted}"
    return dataclasses.replace(_temperature(logits, target, weight, multilabel), notes=(note,))


def _none(logits: np.ndarray, target: np.ndarray, weight: float, multilabel: bool) -> Scaling:
    k = logits.shape[1]
    return Scaling("none", multilabel, np.ones(k), np.zeros(k))


def _temperature(logits: np.ndarray, target: np.ndarray, weight: float, multilabel: bool) -> Scaling:
    """Minimises the negative log likelihood plus b - 1 - ln b over the inverse temperature b.

    The second part is the doubt of one patient that b is 1. The sum is convex with one minimum above 0, also
    where every case is right (b would grow forever) or every one is wrong (b would vanish).
    """

    def slope_of_loss(log_b: float) -> float:
        b = np.exp(log_b)
        excess = _stated(b * logits, multilabel) - target
        return float(weight * np.sum(excess * logits) + 1 - 1 / b)

    logits = logits if multilabel else logits - logits.max(axis=1, keepdims=True)
    low, high = -1.0, 1.0
    while slope_of_loss(low) > 0:
        low *= 2
    while slope_of_loss(high) < 0:
        high *= 2
    b = float(np.exp(optimize.brentq(slope_of_loss, low, high, xtol=1e-14, rtol=1e-14)))
    k = logits.shape[1]
    return Scaling("temperature", multilabel, np.full(k, b), np.zeros(k))


def _platt(logits: np.ndarray, target: np.ndarray, weight: float, multilabel: bool) -> Scaling | str:
    lacking = _lacking(target)
    if lacking:
        return lacking
    if multilabel:
        pairs = [_platt_of_two(z, y, weight) for z, y in zip(logits.T, target.T, strict=True)]
        slope, offset = np.array(pairs).T
    elif logits.shape[1] == 2:
        a, b = _platt_of_two(logits[:, 1] - logits[:, 0], target[:, 1], weight)
        slope, offset = np.array([a, a]), np.array([0.0, b])
    else:
        slope, offset = _vector(logits, target, weight)
    if (slope <= 0).any():
        return f"a higher logit would have meant a lower probability of {np.sum(slope <= 0)} class(es)"
    return Scaling("platt", multilabel, slope, offset)


def _platt_of_two(logit: np.ndarray, present: np.ndarray, weight: float) -> tuple[float, float]:
    pair, target = np.stack([0 * logit, logit], axis=1), np.stack([1 - present, present], axis=1)
    slope, offset = _vector(pair, target, weight)
    return float(slope[1]), float(offset[1] - offset[0])


def _vector(logits: np.ndarray, target: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns slope and offset, each `[K]`, that minimise the cross-entropy of softmax to Platt's targets.

    The targets keep the minimum finite. Logits are standardised for the search; a constant one keeps slope 1.
    """
    n, k = logits.shape
    centre, spread = logits.mean(axis=0), logits.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    z, aim = (logits - centre) / spread, _short_of_certain(target, weight)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = parameters.reshape(2, k)
        stated = special.log_softmax(z * a + b, axis=1)
        excess = (np.exp(stated) - aim) / n
        return -float(np.sum(aim * stated)) / n, np.concatenate([np.sum(excess * z, axis=0), excess.sum(axis=0)])

    found = optimize.minimize(
        loss,
        np.concatenate([np.ones(k), np.zeros(k)]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 10_000, "maxfun": 50_000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 20},
    )
    a, b = found.x.reshape(2, k)
    return a / spread, b - a * centre / spread


def _isotonic(logits: np.ndarray, target: np.ndarray, weight: float, multilabel: bool) -> Scaling | str:
    lacking = _lacking(target)
    if lacking:
        return lacking
    first = _temperature(logits, target, weight, multilabel)
    columns = zip(first.apply(logits).T, target.T, strict=True)
    knots = tuple(_table(stated, present, weight) for stated, present in columns)
    return dataclasses.replace(first, method="isotonic", knots=knots)


def _table(stated: np.ndarray, present: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the knots of one class: the centre of each block of equal values, and the ends 0 and 1."""
    aim = _short_of_certain(np.stack([1 - present, present], axis=1), weight)[:, 1]
    x = np.round(stated, _DECIMALS)
    y = isotonic.IsotonicRegression().fit(x, aim).predict(x)
    values, block = np.unique(np.round(y, 2 * _DECIMALS), return_inverse=True)
    count = np.bincount(block)
    centres, values = _pooled(np.round(np.bincount(block, x) / count, _DECIMALS), values, count)
    centres = np.where(centres < _APART, 0.0, np.where(centres > 1 - _APART, 1.0, centres))
    first = [(0.0, aim.min())] if centres[0] > 0 else []
    last = [(1.0, min(aim.max(), values[-1] + _STEEPEST * (1 - centres[-1])))] if centres[-1] < 1 else []
    knots = np.maximum.accumulate([*first, *zip(centres, values, strict=True), *last])
    return knots[:, 0], knots[:, 1]


def _pooled(x: np.ndarray, y: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rising points as x and y with those at one place that are too close, or too steep, for float32."""
    kept: list[np.ndarray] = []
    for point in np.stack([x, y, count], axis=1):
        kept.append(point)
        while len(kept) > 1 and _too_close(*kept[-2:]):
            pair = np.array([kept.pop(), kept.pop()])
            kept.append(np.append(pair[:, 2] @ pair[:, :2] / pair[:, 2].sum(), pair[:, 2].sum()))
    return np.array(kept)[:, 0], np.array(kept)[:, 1]


def _too_close(below: np.ndarray, above: np.ndarray) -> bool:
    gap, rise = above[:2] - below[:2]
    return bool(gap < max(_APART, rise * above[0] / _STEEPEST))


def _short_of_certain(target: np.ndarray, weight: float) -> np.ndarray:
    """Returns Platt's targets `[N, K]`: (n + 1) / (n + K) for a class with cases worth n patients, the rest shared."""
    worth = weight * target.sum(axis=0)
    own = target @ worth
    return (target * own[:, None] + 1) / (own[:, None] + target.shape[1])


def _lacking(target: np.ndarray) -> str:
    count = target.sum(axis=0)
    few = {"no case of": np.sum(count == 0), "no case without": np.sum(count == len(target))}
    lacking = [f"{side} {classes} of the classes" for side, classes in few.items() if classes]
    return f"validation has {' and '.join(lacking)}" if lacking else ""


def _stated(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    return special.expit(logits) if multilabel else special.softmax(logits, axis=1)


_FITS: dict[str, Callable[[np.ndarray, np.ndarray, float, bool], Scaling | str]] = {
    "none": _none,
    "temperature": _temperature,
    "platt": _platt,
    "isotonic": _isotonic,
}
