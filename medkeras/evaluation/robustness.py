"""How models fare on corrupted pictures of the same cases, and what a second one loses beside the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import clustered, comparison, intervals, operating, paired, resampled
from medkeras.evaluation import predictions as tables

Condition = tuple[str, int]
"""A corruption and its severity, 1 or above."""

CLEAN: Condition = ("clean", 0)
"""The pictures as they are."""

MEAN: Condition = ("mean", 0)
"""All conditions but that."""

METRICS = ("accuracy", "auroc")
WORDS = {"accuracy": "accuracy", "auroc": "AUROC"}

_DRAWN = {"accuracy": "accuracy", "auroc": "auroc_macro"}

Entries = Mapping[str, Mapping[str, float | None]]
"""By metric: `value`, `low`, `high` (95%); None where there is none."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one condition.

    Attributes:
        corruption: Its name; `clean`, or `mean` over all conditions but that.
        severity: 1 or above; 0 of `clean` and `mean`.
        models: Each model's metrics.
        changes: Each model's metrics less those on clean pictures; nothing for `clean`.
        differences: The metrics of each model but the first, less the first's.
    """

    corruption: str
    severity: int
    models: Mapping[str, Entries]
    changes: Mapping[str, Entries]
    differences: Mapping[str, Entries]


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What `measure` found.

    Attributes:
        models: Their names.
        cases, patients: How many there were.
        rows: Clean pictures first, then the corruptions in the order given, each by severity.
        mean: The means over all corruptions and severities.
    """

    models: tuple[str, ...]
    cases: int
    patients: int
    rows: tuple[Row, ...]
    mean: Row

    def to_json(self) -> dict[str, Any]:
        """Returns everything, ready for `json.dumps(..., allow_nan=False)`."""
        return dataclasses.asdict(self) | {
            "models": list(self.models),
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }


@dataclasses.dataclass(frozen=True, eq=False)
class _Answers:
    """One model's answers under one condition.

    Attributes:
        table: The answers.
        drawn: Each metric `[1 + R]`: of the table itself, then of resamples of patients, the same ones everywhere.
    """

    table: tables.Predictions
    drawn: Mapping[str, np.ndarray]

    @property
    def right(self) -> np.ndarray:
        """bool `[N]`, the cases of which every class is decided rightly."""
        return (np.asarray(self.table.target) == self.table.decisions).all(axis=1)


def measure(
    models: Mapping[str, Mapping[Condition, tables.Predictions]], *, seed: int, resamples: int = 1000
) -> Robustness:
    """Measures models under corruptions.

    An accuracy has Wilson's interval, a macro AUROC that of resampled patients. Differences are paired by case; their
    intervals are those of `paired`, and of the means those of patients resampled for all conditions together: the
    conditions show the same patients, so that their number makes no mean surer than the patients do.

    Args:
        models: Each model's answers by condition, `CLEAN` among them, of the same labelled cases in any order.
        seed: Root of the resamples' random numbers.
        resamples: Bootstrap resamples of patients.

    Raises:
        DataError: A condition is missing, or the tables are not of the same labelled cases.
        ConfigError: `resamples` is below 1, or `seed` below 0.
    """
    names, conditions = tuple(models), _conditions(models)
    drawing = clustered.Drawing(resamples=resamples, seed=seed)
    given = {_title(name, each): models[name][each] for name in names for each in conditions}
    same = {title: _Answers(table, _drawn(table, drawing)) for title, table in comparison.aligned(given).items()}
    answers = {name: {each: same[_title(name, each)] for each in conditions} for name in names}
    first = answers[names[0]][CLEAN].table
    return Robustness(
        models=names,
        cases=len(first),
        patients=len(set(first.patient_id)),
        rows=tuple(_row(answers, condition) for condition in conditions),
        mean=_mean(answers, [condition for condition in conditions if condition != CLEAN]),
    )


def table(found: Robustness) -> str:
    """Returns a Markdown table, its columns aligned for a terminal: a row a condition, 95% intervals in brackets."""
    header = ["corruption", "severity"]
    for metric in METRICS:
        header += [f"{_plain(name)}: {WORDS[metric]}" for name in found.models]
        header += [f"{_plain(name)}: difference" for name in found.models[1:]]
    lines = [header, *(_cells(found, row) for row in (*found.rows, found.mean))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def spoken(corruption: str) -> str:
    """Returns the name of a corruption as people write it.

    >>> spoken("motion_blur"), spoken("jpeg")
    ('motion blur', 'JPEG')
    """
    return corruption.replace("_", " ").replace("jpeg", "JPEG")


def _conditions(models: Mapping[str, Mapping[Condition, tables.Predictions]]) -> list[Condition]:
    """Returns the conditions, `CLEAN` first and each corruption's severities together."""
    if not models:
        raise errors.DataError("Robustness is a model's. Received: no model")
    name, first = next(iter(models.items()))
    for other, answers in models.items():
        if set(answers) != set(first):
            odd = ", ".join(_words(each) for each in sorted(set(answers) ^ set(first)))
            raise errors.DataError(f"Models are measured alike. Received: {odd} of only one of {name!r} and {other!r}")
    if CLEAN not in first or len(first) < 2:
        shown = ", ".join(map(_words, first)) or "nothing"
        raise errors.DataError(f"Robustness is measured from clean to corrupted pictures. Received: {shown}")
    order = list(dict.fromkeys(corruption for corruption, _ in first if corruption != CLEAN[0]))
    return [CLEAN, *sorted(set(first) - {CLEAN}, key=lambda each: (order.index(each[0]), each[1]))]


def _title(name: str, condition: Condition) -> str:
    return f"{name}, {_words(condition)}"


def _words(condition: Condition) -> str:
    return condition[0] if condition == CLEAN else f"{condition[0]} {condition[1]}"


def _drawn(table: tables.Predictions, drawing: clustered.Drawing) -> dict[str, np.ndarray]:
    statistics = resampled.Resampled(table, table.patients, names=tuple(_DRAWN.values()))
    strata = clustered.strata(table)
    itself = statistics(np.ones((1, len(strata)), np.int32))
    found = intervals.resample(
        statistics, strata, resamples=drawing.resamples, seed=drawing.seed, width=statistics.width
    )
    return {metric: np.concatenate([itself[key], found[key]], axis=-1) for metric, key in _DRAWN.items()}


def _row(answers: Mapping[str, Mapping[Condition, _Answers]], condition: Condition) -> Row:
    first, *others = answers
    here = {name: of_model[condition] for name, of_model in answers.items()}
    changes = {name: _gaps(of_model[CLEAN], here[name]) for name, of_model in answers.items()}
    return Row(
        *condition,
        models={name: _levels(one) for name, one in here.items()},
        changes={} if condition == CLEAN else changes,
        differences={name: _gaps(here[first], here[name]) for name in others},
    )


def _levels(answers: _Answers) -> Entries:
    right, drawn = answers.right, answers.drawn["auroc"]
    wilson = intervals.proportion(right, np.ones(len(right)), answers.table.patients)
    return {
        "accuracy": clustered.entry(float(right.mean()), wilson),
        "auroc": clustered.entry(float(drawn[0]), intervals.percentile(drawn[1:])),
    }


def _gaps(before: _Answers, after: _Answers) -> Entries:
    table = before.table
    patients, judged = table.patients, list(operating.judged_classes(table))
    positive = np.asarray(table.target)[:, judged] > 0
    scores = [answers.table.probabilities[:, judged] for answers in (before, after)]
    found = {
        "accuracy": paired.of_shares(before.right, after.right, np.ones(len(table), bool), patients),
        "auroc": paired.of_areas(positive, scores[0], scores[1], patients),
    }
    return {metric: clustered.entry(gap.value, (gap.low, gap.high)) for metric, gap in found.items()}


def _mean(answers: Mapping[str, Mapping[Condition, _Answers]], conditions: Sequence[Condition]) -> Row:
    clean = {name: of_model[CLEAN].drawn for name, of_model in answers.items()}
    mean = {
        name: {metric: np.mean([of_model[each].drawn[metric] for each in conditions], axis=0) for metric in METRICS}
        for name, of_model in answers.items()
    }

    def less(of: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray | float]) -> Entries:
        return {metric: _percentiles(of[metric] - other[metric]) for metric in METRICS}

    first, *others = answers
    return Row(
        *MEAN,
        models={name: less(mean[name], dict.fromkeys(METRICS, 0.0)) for name in answers},
        changes={name: less(mean[name], clean[name]) for name in answers},
        differences={name: less(mean[name], mean[first]) for name in others},
    )


def _percentiles(drawn: np.ndarray) -> Mapping[str, float | None]:
    return clustered.entry(float(drawn[0]), intervals.percentile(drawn[1:]))


def _cells(found: Robustness, row: Row) -> list[str]:
    cells = [_plain(spoken(row.corruption)), str(row.severity) if row.severity else ""]
    for metric in METRICS:
        cells += [_cell(row.models[name][metric]) for name in found.models]
        cells += [_cell(row.differences[name][metric], sign="+") for name in found.models[1:]]
    return cells


def _cell(entry: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (entry[key] for key in ("value", "low", "high"))
    if value is None:
        return "undefined"
    limits = "" if low is None or high is None else f" [{low:{sign}z.3f}, {high:{sign}z.3f}]"
    return f"{value:{sign}z.3f}{limits}"


def _plain(name: str) -> str:
    """Returns a name that breaks neither a line nor a Markdown table."""
    return "".join(letter if letter.isprintable() else " " for letter in name).replace("|", "\\|")
