"""The table that separates a model from its evaluation: one row a case, on disk as CSV."""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import cells, foreign

FIXED_COLUMNS = ("case_id", "patient_id", "split", "path")
PROBABILITY, METADATA, IN_SET, ABSTAIN, FAMILIARITY = "probability:", "meta:", "in_set:", "abstain", "familiarity"
SUM_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about every case of a split.

    Attributes:
        case_id: Unique name of each case.
        patient_id: Groups cases of one patient; equals `case_id` where the data name no patient.
        path: The file of each case.
        split: The split of each case, or empty.
        classes: Class names, not empty, each once.
        target: int8 `[N, K]`, one-hot or multi-hot; None when the labels are unknown.
        probabilities: float32 `[N, K]` in 0…1; rows sum to 1 unless `multilabel`.
        multilabel: Whether a case may have any number of classes.
        metadata: What else is known of each case (sex, age, site …), by name; empty text where it is not.
        sets: bool `[N, K]`, whether the class is in the case's prediction set; None: no sets were made.
        abstain: bool `[N]`, whether the model declined to answer; None: it was not asked.
        familiarity: float32 `[N]` in 0…1, how like the training data the case is; None: not measured.

    Raises:
        DataError: Names repeat, or a number is out of its range.
        InternalError: The columns have different lengths.
    """

    case_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    path: tuple[str, ...]
    split: tuple[str, ...]
    classes: tuple[str, ...]
    target: np.ndarray | None
    probabilities: np.ndarray
    multilabel: bool = False
    metadata: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    sets: np.ndarray | None = None
    abstain: np.ndarray | None = None
    familiarity: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_lengths(self)
        _check_names(self)
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, np.float32))
        _check_probabilities(self)
        if self.target is not None:
            object.__setattr__(self, "target", _checked_target(self))
        for name in ("sets", "abstain"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), bool))
        if self.familiarity is not None:
            object.__setattr__(self, "familiarity", _checked_familiarity(self))

    def __len__(self) -> int:
        return len(self.case_id)

    @property
    def patients(self) -> np.ndarray:
        """int64 `[N]`: each case's patient, counted from zero in the order of the patients' first case names.

        Neither the order of the rows nor what the patients are called changes who belongs together and who is drawn.
        """
        numbers: dict[str, int] = {}
        for _, patient in sorted(zip(self.case_id, self.patient_id, strict=True)):
            numbers.setdefault(patient, len(numbers))
        return np.array([numbers[patient] for patient in self.patient_id], np.int64)

    @property
    def decisions(self) -> np.ndarray:
        """int8 `[N, K]`: the most probable class (the first of equals), or every class at 0.5 and above."""
        if self.multilabel:
            return (self.probabilities >= 0.5).astype(np.int8)
        decided = np.zeros(self.probabilities.shape, np.int8)
        decided[np.arange(len(self)), self.probabilities.argmax(axis=1)] = 1
        return decided

    @property
    def confidence(self) -> np.ndarray:
        """float32 `[N]`: the probability of the likeliest class; multi-label: the least sure label's likelier state."""
        if self.multilabel:
            return np.maximum(self.probabilities, 1 - self.probabilities).min(axis=1)
        return self.probabilities.max(axis=1)

    def take(self, rows: np.ndarray) -> Predictions:
        """Returns the table of some of the cases, int `[M]` or bool `[N]`, in that order."""
        chosen = np.arange(len(self))[rows]
        columns: dict[str, Any] = {name: _taken(getattr(self, name), chosen) for name in FIXED_COLUMNS}
        for name in ("target", "probabilities", "sets", "abstain", "familiarity"):
            array = getattr(self, name)
            columns[name] = None if array is None else array[chosen]
        columns["metadata"] = {name: _taken(values, chosen) for name, values in self.metadata.items()}
        return dataclasses.replace(self, **columns)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as UTF-8 CSV; every float32 is written so that it reads back bit for bit.

        A text that a spreadsheet program would run as a formula stands behind a `'`, which `read_csv` takes away.
        """
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(_header(self))
            writer.writerows(_rows(self))


def read_csv(path: str | os.PathLike[str]) -> Predictions:
    """Reads what `Predictions.write_csv` wrote, or what another program did (`foreign.parse` says which columns).

    Raises:
        DataError: The file lacks a column, or a cell breaks a rule; the sentence names both.
    """
    name = errors.printable(path)
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            separator = cells.separator(file.readline())
            file.seek(0)
            lines = list(csv.reader(file, delimiter=separator, strict=True))
    except (OSError, csv.Error) as error:
        raise errors.DataError(f"{name}: predictions are a readable CSV file. Received: {error}") from None
    header = lines[0] if lines else []
    if "\0" in "".join(header):
        raise errors.DataError(f"{name}: predictions are UTF-8 text. Received: UTF-16, or no text")
    if not foreign.is_foreign(header):
        _check_header(name, header)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise errors.DataError(
                f"{name}: every line has {len(header)} cells as the header has. Received: {len(line)} in line {number}"
            )
    try:
        return _parsed(header, lines[1:])
    except errors.DataError as error:
        raise errors.DataError(f"{name}: {error}") from None


def _check_lengths(table: Predictions) -> None:
    shape = (len(table.case_id), len(table.classes))
    columns: list[Any] = [table.patient_id, table.path, table.split, *table.metadata.values()]
    columns += [column for column in (table.abstain, table.familiarity) if column is not None]
    arrays = [np.shape(a) for a in (table.probabilities, table.target, table.sets) if a is not None]
    if any(len(column) != shape[0] for column in columns) or any(array != shape for array in arrays):
        raise errors.InternalError(
            "Predictions have one row a case and one column a class. "
            f"Received: {shape[0]} cases, {shape[1]} classes, columns of {[len(c) for c in columns]}, arrays {arrays}"
        )


def _check_names(table: Predictions) -> None:
    for kind, names in (("case_id", table.case_id), ("class name", table.classes)):
        repeated = [name for name, count in collections.Counter(names).items() if count > 1]
        if repeated:
            raise errors.DataError(f"A {kind} appears once. Received: {repeated[0]!r} more than once")
    if not all(table.classes):
        raise errors.DataError(f"A class name is not empty. Received: {table.classes!r}")


def _check_probabilities(table: Predictions) -> None:
    values = table.probabilities
    good = (values >= 0) & (values <= 1)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise errors.DataError(
            f"A probability lies between 0 and 1. Received: {values[row, column]:.6g} "
            f"for case {table.case_id[row]!r}, column {PROBABILITY}{table.classes[column]}"
        )
    sums = values.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if off.size and not table.multilabel:
        raise errors.DataError(
            f"The probabilities of a case sum to 1. Received: {sums[off[0]]:.6g} for case {table.case_id[off[0]]!r}"
        )


def _checked_target(table: Predictions) -> np.ndarray:
    target = np.asarray(table.target)
    wrong = ~np.isin(target, (0, 1)).all(axis=1)
    if not table.multilabel:
        wrong |= target.sum(axis=1) != 1
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        rule = "is made of zeros and ones" if table.multilabel else "is a single one among zeros"
        raise errors.DataError(f"A target {rule}. Received: {target[row]} for case {table.case_id[row]!r}")
    return target.astype(np.int8)


def _label_columns(multilabel: bool) -> tuple[str, str]:
    return ("labels", "predictions") if multilabel else ("label", "prediction")


def _checked_familiarity(table: Predictions) -> np.ndarray:
    values = np.asarray(table.familiarity, np.float32)
    good = (values >= 0) & (values <= 1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise errors.DataError(
            f"A familiarity lies between 0 and 1. Received: {values[row]} for case {table.case_id[row]!r}"
        )
    return values


def _taken(column: tuple[str, ...], rows: np.ndarray) -> tuple[str, ...]:
    return tuple(column[row] for row in rows)


def _header(table: Predictions) -> list[str]:
    return [
        *FIXED_COLUMNS,
        *_label_columns(table.multilabel),
        *(METADATA + name for name in table.metadata),
        *(PROBABILITY + name for name in table.classes),
        *([] if table.sets is None else [IN_SET + name for name in table.classes]),
        *([] if table.abstain is None else [ABSTAIN]),
        *([] if table.familiarity is None else [FAMILIARITY]),
    ]


def _rows(table: Predictions) -> Iterable[list[str]]:
    unknown = [""] * len(table)
    labels = unknown if table.target is None else _labels(table, table.target)
    texts: list[Sequence[str]] = [
        table.case_id,
        table.patient_id,
        table.split,
        table.path,
        labels,
        _labels(table, table.decisions),
    ]
    texts.extend(table.metadata.values())
    for row in range(len(table)):
        yield [*(cells.guarded(column[row]) for column in texts), *_numbers(table, row)]


def _numbers(table: Predictions, row: int) -> list[str]:
    flags = [] if table.sets is None else [*table.sets[row]]
    flags += [] if table.abstain is None else [table.abstain[row]]
    familiarity = [] if table.familiarity is None else [str(table.familiarity[row])]
    return [*map(str, table.probabilities[row]), *(str(int(flag)) for flag in flags), *familiarity]


def _labels(table: Predictions, hot: np.ndarray) -> list[str]:
    if not table.multilabel:
        return [table.classes[k] for k in hot.argmax(axis=1)]
    return [cells.join_labels(table.classes[k] for k in np.flatnonzero(row)) for row in hot]


def _check_header(name: str, header: Sequence[str]) -> None:
    expected = [*FIXED_COLUMNS, *_label_columns("labels" in header)]
    for column in expected:
        if header.count(column) != 1:
            raise errors.DataError(
                f"{name}: predictions have one column {column!r}. Received: {', '.join(header) or 'an empty file'}"
            )
    if not any(column.startswith(PROBABILITY) for column in header):
        raise errors.DataError(
            f"{name}: predictions have a column '{PROBABILITY}CLASS' for every class. Received: {', '.join(header)}"
        )


def _parsed(header: Sequence[str], lines: Sequence[Sequence[str]]) -> Predictions:
    repeated = [column for column, count in collections.Counter(header).items() if count > 1]
    if repeated:
        raise errors.DataError(f"A column appears once. Received: {repeated[0]!r} more than once")
    column = {name: tuple(line[i] for line in lines) for i, name in enumerate(header)}
    return Predictions(**(foreign.parse(column) if foreign.is_foreign(header) else _own(column)))


def _own(column: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Returns the arguments of `Predictions` from the columns that `write_csv` wrote."""
    classes = tuple(name.removeprefix(PROBABILITY) for name in column if name.startswith(PROBABILITY))
    multilabel = "labels" in column
    in_set = [cells.flags(IN_SET + name, column[IN_SET + name]) for name in classes if IN_SET + name in column]
    return {
        **{name: tuple(map(cells.unguarded, column[name])) for name in FIXED_COLUMNS},
        "classes": classes,
        "target": _parsed_target(column, classes, multilabel),
        "probabilities": np.stack([cells.numbers(PROBABILITY + k, column[PROBABILITY + k]) for k in classes], axis=1),
        "multilabel": multilabel,
        "metadata": {
            name.removeprefix(METADATA): tuple(map(cells.unguarded, values))
            for name, values in column.items()
            if name.startswith(METADATA)
        },
        "sets": np.stack(in_set, axis=1) if in_set else None,
        "abstain": cells.flags(ABSTAIN, column[ABSTAIN]) if ABSTAIN in column else None,
        "familiarity": cells.numbers(FAMILIARITY, column[FAMILIARITY]) if FAMILIARITY in column else None,
    }


def _parsed_target(
    column: Mapping[str, tuple[str, ...]], classes: Sequence[str], multilabel: bool
) -> np.ndarray | None:
    name, _ = _label_columns(multilabel)
    if not cells.is_filled(name, column[name]):
        return None
    texts = map(cells.unguarded, column[name])
    return cells.hot(name, [cells.split_labels(text) if multilabel else (text,) for text in texts], classes)
