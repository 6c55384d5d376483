"""The threshold at which a probability becomes a call: chosen on validation, judged on test."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import clustered, intervals, rates
from medkeras.evaluation import predictions as tables

NAMES = ("sensitivity", "specificity", "ppv", "npv", "lr_positive", "lr_negative")
_SHARE = re.compile(r"(sensitivity|specificity):(\d*\.?\d+)")
_COST = re.compile(r"cost:(\d*\.?\d+)/(\d*\.?\d+)")
_UNDECIDED = 0.5
_EQUAL = 1e-12


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """From where on a case is called.

    Attributes:
        class_name: The class, against all others.
        rule: How the threshold was chosen, as `choose` takes it.
        threshold: The case is called when the probability of the class is at least this, 0…1 (or just above 1:
            never).
        sensitivity: Reached on validation, 0…1; None where it held no case of the class.
        specificity: The same; None where every case is of the class.
        note: What a reader must know of the choice; empty when there is nothing.
    """

    class_name: str
    rule: str
    threshold: float
    sensitivity: float | None
    specificity: float | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the point ready for `json.dumps`."""
        return {
            "class": self.class_name,
            "rule": self.rule,
            "threshold": self.threshold,
            "validation": {"sensitivity": self.sensitivity, "specificity": self.specificity},
            "note": self.note,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> OperatingPoint:
        """Returns the point that `to_json` described."""
        reached = found["validation"]
        return cls(
            found["class"],
            found["rule"],
            float(found["threshold"]),
            reached["sensitivity"],
            reached["specificity"],
            found.get("note", ""),
        )


def check_rule(rule: str) -> None:
    """Refuses a rule that `choose` does not know.

    Raises:
        ConfigError: The rule has no known form, or its number is out of range.
    """
    _parsed(rule)


def choose(validation: tables.Predictions, rule: str) -> tuple[OperatingPoint, ...]:
    """Chooses thresholds: of two classes for the second, of more for each against all others.

    Args:
        validation: Labelled cases that are not the test split's.
        rule: `none`; `youden`, the largest sensitivity + specificity; `sensitivity:S`, the largest specificity with a
            sensitivity of at least S; `specificity:S`, the reverse; `cost:FN/FP`, the least cost where a missed case
            costs FN and a false alarm FP.

    Raises:
        ConfigError: The rule is unknown.
        DataError: The cases have no labels.

    Reference:
        Youden (1950), Cancer 3: 32-35.
    """
    if _parsed(rule)[0] == "none":
        return ()
    if validation.target is None or not len(validation):
        raise errors.DataError(
            f"An operating point is chosen on labelled cases. Received: {len(validation)} cases"
            + (" without labels" if len(validation) else "")
        )
    return tuple(
        _point(validation.target[:, k] > 0, validation.probabilities[:, k], class_name=validation.classes[k], rule=rule)
        for k in judged_classes(validation)
    )


def judged_classes(table: tables.Predictions) -> Sequence[int]:
    """Returns the classes that have an operating point: the second of two, else all."""
    return (1,) if len(table.classes) == 2 and not table.multilabel else range(len(table.classes))


def report(
    points: Sequence[OperatingPoint],
    test: tables.Predictions,
    *,
    prevalence: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
    interval: str = "percentile",
) -> list[dict[str, Any]]:
    """Returns what each point reaches on cases that had no part in choosing it, ready for `json.dumps`.

    Args:
        points: What `choose` returned.
        test: Labelled cases.
        prevalence: What the predictive values are stated for, 0…1; 0: the prevalence of `test`.
        resamples: Bootstrap resamples of patients.
        seed: Root of their random numbers.
        interval: `percentile` or `bca`.

    Returns:
        For each point what `to_json` gives, `test` (`{name: {value, low, high}}` of `NAMES`; None: undefined, or
        without end), `counts` (`tp`, `fn`, `fp`, `tn`) and `prevalence`.

    Raises:
        ConfigError: The prevalence is out of range.
        DataError: The cases have no labels, or a point's class is none of the table's.
    """
    check_prevalence(prevalence)
    if test.target is None:
        raise errors.DataError(f"An operating point is judged on labelled cases. Received: {len(test)} without labels")
    for point in points:
        if point.class_name not in test.classes:
            raise errors.DataError(errors.unknown("class", point.class_name, test.classes))
    drawing = clustered.Drawing(resamples=resamples, seed=seed, kind=interval)
    judged = _judged(points, test, prevalence, drawing) if points else []
    return [point.to_json() | found for point, found in zip(points, judged, strict=True)]


def check_prevalence(prevalence: float) -> None:
    """Refuses a prevalence outside 0…1.

    Raises:
        ConfigError: It lies outside.
    """
    if not 0 <= prevalence <= 1:
        raise errors.ConfigError(f"A prevalence lies between 0 and 1. Received: prevalence={prevalence}")


def _parsed(rule: str) -> tuple[str, tuple[float, ...]]:
    if rule in ("none", "youden"):
        return rule, ()
    share, cost = _SHARE.fullmatch(rule), _COST.fullmatch(rule)
    if share and 0 < float(share[2]) <= 1:
        return share[1], (float(share[2]),)
    if cost and float(cost[1]) > 0 and float(cost[2]) > 0:
        return "cost", (float(cost[1]), float(cost[2]))
    raise errors.ConfigError(
        "An operating point is none, youden, sensitivity:SHARE or specificity:SHARE with a share above 0 and at most "
        f"1, or cost:FN/FP with costs above 0. Received: {rule!r}"
    )


def _point(present: np.ndarray, score: np.ndarray, *, class_name: str, rule: str) -> OperatingPoint:
    if present.all() or not present.any():
        lacking = "without" if present.all() else "of"
        threshold = _UNDECIDED
        note = f"validation has no case {lacking} the class, so that no threshold could be chosen: {threshold} is used"
        counts = rates.Counts.of(present, score >= threshold)
    else:
        threshold = _best(present, score.astype(np.float64), rule)
        counts = rates.Counts.of(present, score >= threshold)
        note = _reservation(counts)
    reached = [_or_none(rate(counts)) for rate in (rates.sensitivity, rates.specificity)]
    return OperatingPoint(class_name, rule, threshold, reached[0], reached[1], note)


def _best(present: np.ndarray, score: np.ndarray, rule: str) -> float:
    """Returns the threshold that a rule likes most; of equals the one with most room between two scores."""
    edges, counts = _every_threshold(present, score)
    liked = _worth(counts, *_parsed(rule))
    room = np.where(liked >= liked.max() - _EQUAL, np.diff(edges), -1.0)
    best = int(room.argmax())
    return float((edges[best] + edges[best + 1]) / 2)


def _every_threshold(present: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, rates.Counts]:
    """Returns edges `[m + 2]`, 0, the m distinct scores, and 1 or just above; and counts `[m + 1]`.

    The i-th of the counts is that of a threshold between the i-th edge and the next.
    """
    values, which = np.unique(score, return_inverse=True)
    hits, alarms = (np.bincount(which, weights, len(values)) for weights in (present, ~present))
    called = [np.concatenate([np.cumsum(part[::-1])[::-1], [0.0]]) for part in (hits, alarms)]
    above = 1.0 if values[-1] < 1 else 1.0 + 2 * np.finfo(np.float32).eps
    counts = rates.Counts(called[0], called[0][0] - called[0], called[1], called[1][0] - called[1])
    return np.concatenate([[0.0], values, [above]]), counts


def _worth(c: rates.Counts, kind: str, numbers: Sequence[float]) -> np.ndarray:
    found, cleared = rates.sensitivity(c), rates.specificity(c)
    if kind == "youden":
        return found + cleared
    if kind == "cost":
        return -(numbers[0] * c.misses + numbers[1] * c.alarms)
    wanted, other = (found, cleared) if kind == "sensitivity" else (cleared, found)
    reached = np.where(wanted >= numbers[0] - _EQUAL, other, -1.0)
    return np.where(reached == reached.max(), wanted, -1.0)


def _reservation(counts: rates.Counts) -> str:
    if not counts.misses + counts.clears:
        return "the rule is met only by calling every case of validation"
    if not counts.hits + counts.alarms:
        return "the rule is met only by calling no case of validation"
    return ""


def _judged(
    points: Sequence[OperatingPoint], test: tables.Predictions, prevalence: float, drawing: clustered.Drawing
) -> list[dict[str, Any]]:
    columns = [test.classes.index(point.class_name) for point in points]
    present = np.asarray(test.target)[:, columns] > 0
    called = test.probabilities[:, columns] >= np.array([point.threshold for point in points], np.float32)
    counts = rates.Counts.of(present, called)
    values = _rates(counts, prevalence)
    limits = _limits(present, called, values, test, prevalence=prevalence, drawing=drawing)
    return [
        {
            "test": {name: clustered.entry(values[name][j], (low[j], high[j])) for name, (low, high) in limits.items()},
            "counts": {
                "tp": int(counts.hits[j]),
                "fn": int(counts.misses[j]),
                "fp": int(counts.alarms[j]),
                "tn": int(counts.clears[j]),
            },
            "prevalence": prevalence or float(present[:, j].mean()),
        }
        for j in range(len(points))
    ]


def _limits(
    present: np.ndarray,
    called: np.ndarray,
    values: Mapping[str, np.ndarray],
    test: tables.Predictions,
    *,
    prevalence: float,
    drawing: clustered.Drawing,
) -> dict[str, clustered.Limits]:
    """Returns the limits of each name of `NAMES` for J points, each `[J]`, all from the same resamples."""
    patients = test.patients
    by_patient = rates.Counts.by_patient(present, called, patients)
    found = clustered.limits(
        lambda drawn: _rates(by_patient.weighted(drawn), prevalence),
        values,
        clustered.strata(test),
        drawing,
        width=4 * present.shape[1],
    )
    sides = by_patient.hits + by_patient.misses, by_patient.alarms + by_patient.clears
    lone = np.any([np.count_nonzero(side, axis=0) < 2 for side in sides], axis=0)
    found = {name: (np.where(lone, np.nan, low), np.where(lone, np.nan, high)) for name, (low, high) in found.items()}
    pairs = [_proportions(*pair, patients, prevalence) for pair in zip(present.T, called.T, strict=True)]
    return found | {name: tuple(np.array([each[name] for each in pairs]).T) for name in pairs[0]}


def _rates(counts: rates.Counts, prevalence: float) -> dict[str, np.ndarray]:
    found = (
        rates.sensitivity(counts),
        rates.specificity(counts),
        *rates.predictive_values(counts, prevalence),
        *rates.likelihood_ratios(counts),
    )
    return dict(zip(NAMES, found, strict=True))


def _proportions(
    present: np.ndarray, called: np.ndarray, patients: np.ndarray, prevalence: float
) -> dict[str, tuple[float, float]]:
    counted = {"sensitivity": (called, present), "specificity": (~called, ~present)}
    if not prevalence:
        counted |= {"ppv": (present, called), "npv": (~present, ~called)}
    return {name: intervals.proportion(*pair, patients) for name, pair in counted.items()}


def _or_none(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
