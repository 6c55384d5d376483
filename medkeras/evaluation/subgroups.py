"""The same metrics for the young and the old, for one scanner and another: with intervals, or not at all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.evaluation import clustered, intervals, resampled, scores
from medkeras.evaluation import predictions as tables

FEWEST_PATIENTS, FEWEST_OF_A_CLASS = 10, 5
UNKNOWN = "not known"
_MOST_VALUES, _MOST_GROUPS = 8, 12
_AGES = (0, 18, 40, 65, 80)
_AGE = re.compile(r"(?:.*[\W_]|patient)?age(?:[\W_].*)?", re.IGNORECASE)
_DICOM_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_OF_EVERYONE = ("accuracy", "balanced_accuracy", "auroc_macro")
_OF_TWO = ("sensitivity", "specificity")


def evaluate(
    table: tables.Predictions, *, resamples: int = 1000, seed: int = 0, interval: str = "percentile"
) -> dict[str, Any]:
    """Returns metrics by the value of each column of metadata, ready for `json.dumps`.

    Args:
        table: Labelled cases.
        resamples: Bootstrap resamples of patients.
        seed: Root of their random numbers.
        interval: `percentile` or `bca`.

    Returns:
        `{column: {"bands": bool, "groups": [...]}}`; a group has `name`, `n`, `n_patients`, `metrics`
        (`{name: {value, low, high}}`), `gaps` (the same of the difference to all other cases) and `suppressed`,
        a sentence on what is left out since too few cases could tell, or None.
    """
    drawing = clustered.Drawing(resamples=resamples, seed=seed, kind=interval)
    patients, strata = table.patients, clustered.strata(table)
    found = {}
    for column, values in table.metadata.items():
        names, banded = grouped(column, values)
        found[column] = {
            "bands": banded,
            "groups": [
                {"name": name} | _group(table, patients, np.array([n == name for n in names]), strata, drawing)
                for name in _ordered(names)
            ],
        }
    return found


def grouped(column: str, values: Sequence[str]) -> tuple[list[str], bool]:
    """Returns the group of each case, and whether groups are bands of a number.

    A column of numbers with more than 8 values has bands: an age the bands 0-17, 18-39, 40-64, 65-79 and 80 years and
    over; any other its quarters. Of more than 12 values that are no numbers, all but the 11 most frequent are one
    group. An empty value is a group of its own.

    >>> grouped("age", ["004Y", "17", "", "18", "39.5", "70", "81", "90", "91", "92"])[0][:5]
    ['0-17', '0-17', 'not known', '18-39', '18-39']
    """
    known = [value for value in values if value]
    numbers = {value: _number(column, value) for value in known}
    if len(numbers) > _MOST_VALUES and None not in numbers.values():
        return _banded(column, values, {value: x for value, x in numbers.items() if x is not None}), True
    frequent = sorted(set(known), key=lambda value: (-known.count(value), value))
    kept = set(frequent if len(frequent) <= _MOST_GROUPS else frequent[: _MOST_GROUPS - 1])
    other = f"{len(frequent) - len(kept)} other values"
    return [UNKNOWN if not value else value if value in kept else other for value in values], False


def _number(column: str, value: str) -> float | None:
    age = _DICOM_AGE.fullmatch(value)
    if age and _AGE.fullmatch(column):
        return int(age[1]) * _YEARS[age[2]]
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _banded(column: str, values: Sequence[str], numbers: Mapping[str, float]) -> list[str]:
    if _AGE.fullmatch(column) and min(numbers.values()) >= 0 and max(numbers.values()) <= 130:
        edges: list[float] = list(_AGES)
        names = [f"{low}-{high - 1}" for low, high in zip(_AGES[:-1], _AGES[1:], strict=True)] + [f"{_AGES[-1]}+"]
    else:
        all_numbers = np.array([numbers[value] for value in values if value])
        edges = sorted(set(np.quantile(all_numbers, [0, 0.25, 0.5, 0.75], method="higher").tolist()))
        ends = [*edges[1:], all_numbers.max()]
        names = [f"{low:g} to under {high:g}" for low, high in zip(edges, ends, strict=True)]
        names[-1] = f"{edges[-1]:g} to {ends[-1]:g}"
    return [names[int(np.searchsorted(edges, numbers[v], side="right")) - 1] if v else UNKNOWN for v in values]


def _ordered(names: Sequence[str]) -> list[str]:
    """Returns each group once: numbers and bands by size, words by name, what is not known last."""

    def key(name: str) -> tuple[bool, bool, float, str]:
        start = re.match(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", name)
        rest = name == UNKNOWN, name.endswith(" other values")
        return any(rest), start is None, float(start[0]) if start else 0.0, name

    return sorted(set(names), key=key)


def _group(
    table: tables.Predictions, patients: np.ndarray, inside: np.ndarray, strata: np.ndarray, drawing: clustered.Drawing
) -> dict[str, Any]:
    names = _OF_EVERYONE + (_OF_TWO if _is_binary(table) else ())
    own, rest = (_allowed(table, patients, part, names) for part in (inside, ~inside))
    found: dict[str, Any] = {
        "n": int(inside.sum()),
        "n_patients": len(np.unique(patients[inside])),
        "metrics": {},
        "gaps": {},
        "suppressed": _why(names, own, _scarce(table, inside)),
    }
    if not own:
        return found
    statistics = _Contrast(table, patients, inside, rest=bool(rest))
    values = {name: value[0] for name, value in statistics(np.ones((1, len(strata)), np.int32)).items()}
    limits = clustered.limits(statistics, values, strata, drawing, width=statistics.width)
    limits |= _proportions(table, patients, inside)
    found["metrics"] = {name: clustered.entry(values[name], limits[name]) for name in own}
    gaps = [name for name in own if name in rest]
    found["gaps"] = {name: clustered.entry(values[_gap(name)], limits[_gap(name)]) for name in gaps}
    return found


class _Contrast:
    """The metrics of some cases, and what sets them apart from those of all others, on the same resamples."""

    def __init__(self, table: tables.Predictions, patients: np.ndarray, inside: np.ndarray, *, rest: bool) -> None:
        self._binary = _is_binary(table)
        wanted = [*_OF_EVERYONE, *(map(scores.of_class, ("recall", "specificity")) if self._binary else ())]
        self._parts = [
            resampled.Resampled(table.take(part), patients[part], count=int(patients.max()) + 1, names=wanted)
            for part in ((inside, ~inside) if rest else (inside,))
        ]
        self.width = self._parts[0].width

    def __call__(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `[R]` of each metric, and of each gap where there is a rest."""
        own, *rest = (self._named(part(drawn)) for part in self._parts)
        gaps = {_gap(name): own[name] - rest[0][name] for name in own} if rest else {}
        return own | gaps

    def _named(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        named = {name: found[name] for name in _OF_EVERYONE}
        if self._binary:
            named["sensitivity"] = found[scores.of_class("recall")][1]
            named["specificity"] = found[scores.of_class("specificity")][1]
        return named


def _gap(name: str) -> str:
    return f"gap:{name}"


def _is_binary(table: tables.Predictions) -> bool:
    return len(table.classes) == 2 and not table.multilabel


def _allowed(
    table: tables.Predictions, patients: np.ndarray, part: np.ndarray, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Returns the metrics that the cases of a part are enough for."""
    if len(np.unique(patients[part])) < FEWEST_PATIENTS:
        return ()
    return names[:1] if _scarce(table, part) else names


def _scarce(table: tables.Predictions, part: np.ndarray) -> str:
    """Returns which cases of a part are too few to judge a class by: those of one, or without it; empty: none."""
    target = np.asarray(table.target)
    support = target[part].sum(axis=0)[target.any(axis=0)]
    if (support < FEWEST_OF_A_CLASS).any():
        return "of a class"
    return "without a class" if table.multilabel and (part.sum() - support < FEWEST_OF_A_CLASS).any() else ""


def _why(names: tuple[str, ...], allowed: tuple[str, ...], scarce: str) -> str | None:
    if not allowed:
        return f"fewer than {FEWEST_PATIENTS} patients: too few to say anything"
    if allowed != names:
        return f"fewer than {FEWEST_OF_A_CLASS} cases {scarce}: the accuracy alone is stated"
    return None


def _proportions(table: tables.Predictions, patients: np.ndarray, inside: np.ndarray) -> dict[str, tuple[float, float]]:
    right = (np.asarray(table.target) == table.decisions).all(axis=1)
    found = {"accuracy": intervals.proportion(right, inside, patients)}
    if _is_binary(table):
        positive = np.asarray(table.target)[:, 1] > 0
        found["sensitivity"] = intervals.proportion(right, inside & positive, patients)
        found["specificity"] = intervals.proportion(right, inside & ~positive, patients)
    return found
