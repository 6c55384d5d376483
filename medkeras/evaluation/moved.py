"""What moved between two tables of the same cases: each metric of both, with limits, and the difference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import clustered, comparison, intervals, operating, paired, resampled, scores
from medkeras.evaluation import predictions as tables

_CALIBRATION, _AREA, _AREAS = "expected_calibration_error", "auroc_macro", scores.of_class("auroc")


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two tables of the same labelled cases in the same order.

    Attributes:
        before, after: The tables.
        called: bool `[N, K]` of each, the classes that it calls at their operating points.
    """

    before: tables.Predictions
    after: tables.Predictions
    called: tuple[np.ndarray, np.ndarray]

    @property
    def target(self) -> np.ndarray:
        """bool `[N, K]`, the classes that are there."""
        return np.asarray(self.before.target) > 0

    @property
    def decided(self) -> tuple[np.ndarray, np.ndarray]:
        """bool `[N, K]` of each, the classes that it names where nobody chose an operating point."""
        return self.before.decisions > 0, self.after.decisions > 0

    @property
    def two(self) -> bool:
        """Whether there are two classes of which each case has one."""
        return _two(self.before)

    @property
    def right(self) -> tuple[np.ndarray, np.ndarray]:
        """bool `[N]` of each, the cases of which it decides every class rightly."""
        before, after = ((self.target == decided).all(axis=1) for decided in self.decided)
        return before, after


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of both tables: value and 95% limits of each, and how far it moved."""

    before: tuple[float, clustered.Limits]
    after: tuple[float, clustered.Limits]
    gap: paired.Difference

    def to_json(self) -> dict[str, dict[str, float | None]]:
        """Returns `before`, `after` and `difference`, each with `value`, `low` and `high`; None: undefined."""
        return {
            "before": clustered.entry(*self.before),
            "after": clustered.entry(*self.after),
            "difference": clustered.entry(self.gap.value, (self.gap.low, self.gap.high)),
        }


def pair(before: tables.Predictions, after: tables.Predictions, fitted: Mapping[str, Any]) -> Pair:
    """Puts two tables side by side.

    Args:
        before, after: The same labelled cases, in any order.
        fitted: What a card says was fitted; `operating_points` of it are used, and the table's decisions without one.

    Raises:
        DataError: The tables are not of the same labelled cases, or an operating point's class is none of theirs.
    """
    aligned = comparison.aligned({"before": before, "after": after})
    points = [operating.OperatingPoint.from_json(point) for point in fitted.get("operating_points") or ()]
    for point in points:
        if point.class_name not in before.classes:
            raise errors.DataError(errors.unknown("class", point.class_name, before.classes))
    called = _called(aligned["before"], points), _called(aligned["after"], points)
    return Pair(aligned["before"], aligned["after"], called)


def _called(table: tables.Predictions, points: list[operating.OperatingPoint]) -> np.ndarray:
    """Returns which classes are called, bool `[N, K]`: of two classes the first wherever the second is not."""
    called = table.decisions > 0
    for point in points:
        k = table.classes.index(point.class_name)
        called[:, k] = table.probabilities[:, k] >= np.float32(point.threshold)
        if _two(table):
            called[:, 1 - k] = ~called[:, k]
    return called


def _two(table: tables.Predictions) -> bool:
    return len(table.classes) == 2 and not table.multilabel


def measured(pair: Pair, drawing: clustered.Drawing) -> dict[str, Metric]:
    """Returns `accuracy`, `auroc`, `ece`, and for classes `sensitivity:CLASS`, `specificity:CLASS`, `auroc:CLASS`.

    Of two classes, specificity is the second's, and the area is that of `auroc`.
    """
    target, patients, judged = pair.target, pair.before.patients, operating.judged_classes(pair.before)
    classes = pair.before.classes
    found = {"accuracy": _share(*pair.right, np.ones(len(target), bool), patients)} | _resampled(pair, drawing)
    before, after = pair.called
    for k, name in enumerate(classes):
        found[f"sensitivity:{name}"] = _share(before[:, k], after[:, k], target[:, k], patients)
    for k in judged:
        found[f"specificity:{classes[k]}"] = _share(~before[:, k], ~after[:, k], ~target[:, k], patients)
    return found


def _share(before: np.ndarray, after: np.ndarray, counted: np.ndarray, patients: np.ndarray) -> Metric:
    def of(hits: np.ndarray) -> tuple[float, clustered.Limits]:
        value = float(hits[counted].mean()) if counted.any() else math.nan
        return value, intervals.proportion(hits, counted, patients)

    return Metric(of(before), of(after), paired.of_shares(before, after, counted, patients))


def _resampled(pair: Pair, drawing: clustered.Drawing) -> dict[str, Metric]:
    """Returns what no share is: areas and the calibration error, both tables on the same resamples of patients."""
    patients, judged = pair.before.patients, list(operating.judged_classes(pair.before))
    sides = [_drawn(side, drawing) for side in (pair.before, pair.after)]
    scored = pair.before.probabilities, pair.after.probabilities

    def area(key: str, row: int | None, columns: list[int]) -> Metric:
        before, after = (side[key] if row is None else side[key][row] for side in sides)
        of_before, of_after = (probabilities[:, columns] for probabilities in scored)
        gap = paired.of_areas(pair.target[:, columns], of_before, of_after, patients)
        return Metric(_limited(before), _limited(after), gap)

    found = {"auroc": area(_AREA, None, judged), "ece": _calibration(*(side[_CALIBRATION] for side in sides))}
    if len(judged) > 1:
        found |= {f"auroc:{pair.before.classes[k]}": area(_AREAS, k, [k]) for k in judged}
    return found


def _drawn(table: tables.Predictions, drawing: clustered.Drawing) -> dict[str, np.ndarray]:
    """Returns each metric `[..., 1 + R]`: of the table itself, then of its resamples."""
    statistics = resampled.Resampled(table, table.patients, names=(_CALIBRATION, _AREA, _AREAS))
    strata = clustered.strata(table)
    itself = statistics(np.ones((1, len(strata)), np.int32))
    found = intervals.resample(
        statistics, strata, resamples=drawing.resamples, seed=drawing.seed, width=statistics.width
    )
    # A calibration error grows whenever a case is drawn twice.
    found[_CALIBRATION] = found[_CALIBRATION] - found[_CALIBRATION].mean() + itself[_CALIBRATION]
    return {name: np.concatenate([itself[name], found[name]], axis=-1) for name in found}


def _limited(drawn: np.ndarray) -> tuple[float, clustered.Limits]:
    low, high = (float(limit) for limit in intervals.percentile(drawn[1:]))
    return float(drawn[0]), (max(low, 0.0), min(high, 1.0))


def _calibration(before: np.ndarray, after: np.ndarray) -> Metric:
    gaps = after - before
    low, high = (float(limit) for limit in intervals.percentile(gaps[1:]))
    return Metric(_limited(before), _limited(after), paired.Difference(float(gaps[0]), low, high))
