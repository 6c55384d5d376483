"""The table that separates a model from its evaluation: one row a case, on disk as CSV."""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from medkeras import errors

FIXED_COLUMNS = ("case_id", "patient_id", "split", "path")
PROBABILITY = "probability:"
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

    def __post_init__(self) -> None:
        _check_lengths(self)
        _check_names(self)
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, np.float32))
        _check_probabilities(self)
        if self.target is not None:
            object.__setattr__(self, "target", _checked_target(self))

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

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as UTF-8 CSV; every float32 is written so that it reads back bit for bit."""
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(_header(self))
            writer.writerows(_rows(self))


def read_csv(path: str | os.PathLike[str]) -> Predictions:
    """Reads what `Predictions.write_csv` wrote.

    Raises:
        DataError: The file lacks a column, or a cell breaks a rule; the sentence names both.
    """
    name = errors.printable(path)
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, csv.Error) as error:
        raise errors.DataError(f"{name}: predictions are a readable CSV file. Received: {error}") from None
    header = lines[0] if lines else []
    _check_header(name, header)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise errors.DataError(
                f"{name}: every line has {len(header)} cells as the header has. Received: {len(line)} in line {number}"
            )
    return _parsed(name, header, lines[1:])


def join_labels(labels: Iterable[str]) -> str:
    r"""Returns class names as one text: joined by `|`, with `\` before a `|` or `\` of a name.

    No name at all is a lone `|`, so that an empty text stays free to mean "unknown".

    >>> print(join_labels(["effusion", "mass|nodule"]))
    effusion|mass\|nodule
    """
    return "|".join(re.sub(r"([\\|])", r"\\\1", label) for label in labels) or "|"


def split_labels(text: str) -> tuple[str, ...]:
    r"""Returns the class names that `join_labels` joined.

    >>> split_labels(r"effusion|mass\|nodule")
    ('effusion', 'mass|nodule')
    """
    labels, escaped = [""], False
    for character in text:
        if character == "|" and not escaped:
            labels.append("")
        elif character == "\\" and not escaped:
            escaped = True
            continue
        else:
            labels[-1] += character
        escaped = False
    return tuple(label for label in labels if label)


def _check_lengths(table: Predictions) -> None:
    shape = (len(table.case_id), len(table.classes))
    columns = (table.patient_id, table.path, table.split)
    arrays = [np.shape(a) for a in (table.probabilities, table.target) if a is not None]
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
            f"A probability lies between 0 and 1. Received: {values[row, column]} "
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


def _header(table: Predictions) -> list[str]:
    return [*FIXED_COLUMNS, *_label_columns(table.multilabel), *(PROBABILITY + name for name in table.classes)]


def _rows(table: Predictions) -> Iterable[list[str]]:
    unknown = [""] * len(table)
    labels = unknown if table.target is None else _labels(table, table.target)
    fixed = zip(table.case_id, table.patient_id, table.split, table.path, strict=True)
    for row, label, prediction, values in zip(
        fixed, labels, _labels(table, table.decisions), table.probabilities, strict=True
    ):
        yield [*row, label, prediction, *map(str, values)]


def _labels(table: Predictions, hot: np.ndarray) -> list[str]:
    if not table.multilabel:
        return [table.classes[k] for k in hot.argmax(axis=1)]
    return [join_labels(table.classes[k] for k in np.flatnonzero(row)) for row in hot]


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


def _parsed(name: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> Predictions:
    column = {key: tuple(line[i] for line in lines) for i, key in enumerate(header)}
    classes = tuple(key.removeprefix(PROBABILITY) for key in header if key.startswith(PROBABILITY))
    multilabel = "labels" in header
    try:
        return Predictions(
            **{key: column[key] for key in FIXED_COLUMNS},
            classes=classes,
            target=_parsed_target(column["labels" if multilabel else "label"], classes, multilabel),
            probabilities=_parsed_probabilities(column, classes),
            multilabel=multilabel,
        )
    except errors.DataError as error:
        raise errors.DataError(f"{name}: {error}") from None


def _parsed_probabilities(column: dict[str, tuple[str, ...]], classes: Sequence[str]) -> np.ndarray:
    cells = [column[PROBABILITY + name] for name in classes]
    return np.array(
        [[_number(cell, name) for cell in row] for name, row in zip(classes, cells, strict=True)]
    ).T.reshape(-1, len(classes))


def _number(text: str, class_name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise errors.DataError(f"Column '{PROBABILITY}{class_name}' holds numbers. Received: {text!r}") from None


def _parsed_target(cells: Sequence[str], classes: Sequence[str], multilabel: bool) -> np.ndarray | None:
    column, _ = _label_columns(multilabel)
    if not any(cells):
        return None
    if not all(cells):
        raise errors.DataError(
            f"Column '{column}' is filled in every line or in none. Received: {cells.count('')} empty"
        )
    position = {name: k for k, name in enumerate(classes)}
    target = np.zeros((len(cells), len(classes)), np.int8)
    for row, cell in enumerate(cells):
        for label in split_labels(cell) if multilabel else (cell,):
            if label not in position:
                raise errors.DataError(f"Column '{column}': {errors.unknown('class', label, classes)}")
            target[row, position[label]] = 1
    return target
