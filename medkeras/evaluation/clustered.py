"""Limits of whole sets of metrics: one set of resamples of patients for all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import intervals
from medkeras.evaluation import predictions as tables

Limits = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How resamples are drawn and read.

    Attributes:
        resamples: How many, 1 or more.
        seed: Root of their random numbers, 0 or above.
        kind: `percentile` or `bca`.

    Raises:
        ConfigError: A number or the kind is out of its range.
    """

    resamples: int = 1000
    seed: int = 0
    kind: str = "percentile"

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise errors.ConfigError(f"An interval needs at least 1 resample. Received: resamples={self.resamples}")
        if self.seed < 0:
            raise errors.ConfigError(f"A seed is 0 or above. Received: seed={self.seed}")
        if self.kind not in intervals.KINDS:
            raise errors.ConfigError(errors.unknown("interval", self.kind, intervals.KINDS))


def strata(table: tables.Predictions) -> np.ndarray:
    """Returns each patient's stratum int `[P]`: the most frequent class; multi-label: one for all."""
    patients, target = table.patients, np.asarray(table.target)
    if table.multilabel:
        return np.zeros(patients.max() + 1, np.int64)
    counts = np.zeros((patients.max() + 1, len(table.classes)), np.int64)
    np.add.at(counts, patients, target)
    return counts.argmax(axis=1)


def limits(
    statistics: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    values: Mapping[str, np.ndarray],
    strata: np.ndarray,
    drawing: Drawing,
    *,
    width: int = 0,
    centred: tuple[str, ...] = (),
) -> dict[str, Limits]:
    """Returns the low and the high limit, each `[...]`, of every statistic.

    Args:
        statistics: Takes how often each patient counts, int32 `[R, P]`, and returns arrays `[..., R]`.
        values: The statistics themselves, `[...]`.
        strata: int `[P]`, the stratum of each patient.
        drawing: How many resamples, and what is made of them.
        width: As for `intervals.resample`.
        centred: Names whose resamples are first moved to have the value as their mean, and cut to 0…1.
    """
    drawn = intervals.resample(statistics, strata, resamples=drawing.resamples, seed=drawing.seed, width=width)
    drawn |= {name: _centred(drawn[name], values[name]) for name in centred}
    if drawing.kind == "percentile":
        return {name: intervals.percentile(replicates) for name, replicates in drawn.items()}
    left_out, of_group = intervals.jackknife(statistics, strata, width=width)
    return {
        name: intervals.bca(replicates, values[name], left_out[name], of_group) for name, replicates in drawn.items()
    }


def entry(value: Any, limits: Limits) -> dict[str, float | None]:
    """Returns a value and its limits ready for `json.dumps`: None where there is no finite number."""
    known = not math.isnan(value)
    low, high = (float(x) if known and math.isfinite(x) else None for x in limits)
    return {"value": float(value) if math.isfinite(value) else None, "low": low, "high": high}


def _centred(replicates: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Returns replicates moved so that their mean is the value, cut at 0 and 1.

    A calibration error grows whenever cases are drawn twice, so its plain percentiles lie too high.
    """
    shift = np.asarray(value) - replicates.mean(axis=-1)
    return np.clip(replicates + shift[..., None], 0.0, 1.0)
