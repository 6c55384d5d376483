"""`csv:FILE`: one row a case, columns named as the case's fields."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from medkeras import config, errors
from medkeras.data import cases, files, split

SEPARATOR = "|"
COLUMNS = ("path", "label", "labels", "case_id", "patient_id", "split")


def load(place: str, settings: config.DataConfig) -> cases.CaseSet:
    """Reads a table of cases.

    Columns: `path` (relative to the table's folder, or absolute) and `label`, or `labels` (several, joined by
    `|`; empty for none); optional `case_id` (else the path), `patient_id`, `split`, and those that `data.metadata`
    names. Other columns are not read.

    Raises:
        DataError: A column is missing, a path stands in two rows, a split has no known name, a label is empty.
    """
    path = pathlib.Path(place)
    rows = read_rows(path)
    multilabel = "labels" in rows[0]
    kept = metadata_names(settings)
    _require_columns(path, rows[0], ("path", "labels" if multilabel else "label", *kept))
    found = tuple(
        dataclasses.replace(_case(path, number, row, multilabel), metadata=metadata_of(row, kept))
        for number, row in enumerate(rows, start=2)
    )
    _refuse_repeats(path, found)
    labels = {label for case in found for label in (case.labels if multilabel else (case.label,))}
    return cases.CaseSet(
        name=path.stem.lower().replace(" ", "_"),
        cases=found,
        classes=tuple(sorted(labels, key=natural_key)),
        images=files.FileImages(),
        multilabel=multilabel,
        patients_known="patient_id" in rows[0],
    )


def metadata_names(settings: config.DataConfig) -> tuple[str, ...]:
    """Returns the names in `data.metadata`, in order.

    Raises:
        ConfigError: A name identifies cases or patients, or says what is to be told.
    """
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in settings.metadata.split(",")))))
    for name in names:
        if name in COLUMNS:
            raise errors.ConfigError(
                f"data.metadata names what a subgroup may be made of, not the case itself. Received: {name!r}"
            )
    return names


def metadata_of(row: Mapping[str, str], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns names and values of a row's metadata; empty where the row says nothing."""
    return tuple((name, (row.get(name) or "").strip()) for name in names)


def natural_key(text: str) -> tuple[int, float, str]:
    """Sorts numbers by value and before words.

    >>> sorted(["10", "9", "b", "a"], key=natural_key)
    ['9', '10', 'a', 'b']
    """
    try:
        value = float(text)
    except ValueError:
        return (1, 0.0, text)
    return (0, value, text) if math.isfinite(value) else (1, 0.0, text)


def read_rows(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV table, by column; raises `DataError` where there is no such table or it is empty."""
    if path.exists() and not path.is_file():
        # A pipe or a device may never end.
        raise errors.BadInputError(path, "a table is a regular file")
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            first = file.readline()
            _refuse_wide(path, first)
            file.seek(0)
            reader = csv.DictReader(file, delimiter=_separator(first), strict=True)
            rows = [dict(row) for row in reader]
    except FileNotFoundError:
        raise errors.DataError(f"csv: needs a file that exists. Received: {errors.printable(path)!r}") from None
    except (OSError, csv.Error) as error:
        raise errors.BadInputError(path, f"is not a readable CSV table ({error})") from None
    if not rows:
        raise errors.BadInputError(path, "a table of cases has a header and at least one row")
    _refuse_twins(path, reader.fieldnames or ())
    return rows


def _refuse_wide(path: pathlib.Path, first: str) -> None:
    """Refuses text of two bytes a character, as programs call Unicode text, before its bytes are shown."""
    if "\0" in first or first.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        raise errors.BadInputError(path, "a table is UTF-8 text. Received: UTF-16, or no text")


def _refuse_twins(path: pathlib.Path, columns: Sequence[str]) -> None:
    """Refuses a column that medkeras reads and that stands twice, for one of the two would count in silence."""
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise errors.BadInputError(
            path, f"each column stands once. Received: {twice[0]!r} {columns.count(twice[0])} times"
        )


def _separator(header: str) -> str:
    """Returns what parts the cells: a comma, or the semicolon or tab that spreadsheet programs write in some countries.

    >>> _separator("path;label"), _separator("path,label"), _separator("path,a;b")
    (';', ',', ',')
    """
    names = {separator: header.strip().split(separator) for separator in (",", ";", "\t")}
    known = {_plain(name) for name in COLUMNS}
    return max(names, key=lambda separator: len({_plain(name) for name in names[separator]} & known))


def _plain(column: str) -> str:
    """Returns the name of a column without quotes, capitals and underscores: `PatientID` and `patient_id` are one."""
    return column.strip('" \r\n').lower().replace("_", "")


def _require_columns(path: pathlib.Path, row: Mapping[str, str], names: Sequence[str]) -> None:
    columns = [str(column) for column in row if column is not None]
    for name in names:
        if name not in columns:
            refuse_header(path, f"a table of cases has the column {name!r}", (name,), columns, known=COLUMNS)


def refuse_header(
    path: pathlib.Path, rule: str, wanted: Sequence[str], columns: Sequence[str], *, known: Sequence[str]
) -> NoReturn:
    """Refuses a header, which is shown, or a first line that looks like none, which is not: it may name a patient.

    Args:
        path: The table.
        rule: What the header breaks.
        wanted: Columns that one of those received may have been meant for.
        columns: Those received.
        known: Names of columns by which a header is told.
    """
    if not any(difflib.get_close_matches(column, known, n=1, cutoff=0.6) for column in columns):
        received = f"a first line of {len(columns)} cells, none of them the name of a column"
        raise errors.BadInputError(path, f"{rule}. Received: {received}")
    near = [name for name in columns if difflib.get_close_matches(name, wanted, n=1, cutoff=0.4)]
    hint = f"; is {near[0]!r} meant?" if near else "."
    raise errors.BadInputError(path, f"{rule}{hint} Received: {', '.join(columns)}")


def _case(path: pathlib.Path, number: int, row: Mapping[str, str], multilabel: bool) -> cases.Case:
    if None in row or None in row.values():
        raise errors.BadInputError(path, f"every row has as many cells as the header. Received: line {number}")
    image = row["path"].strip()
    label = "" if multilabel else row["label"].strip()
    patient = row.get("patient_id", image).strip()
    for column, value in (("path", image), ("patient_id", patient), ("label", label)):
        if not value and not (multilabel and column == "label"):
            raise errors.BadInputError(path, f"the column {column!r} is filled in every row. Received: line {number}")
    require_utf8(path, number, row["labels"] if multilabel else label)
    return cases.Case(
        case_id=row.get("case_id", image).strip() or image,
        path=str(path.parent / image),
        patient_id=patient,
        split=split_of(path, number, row.get("split", "")),
        label=label,
        labels=tuple(filter(None, (part.strip() for part in row["labels"].split(SEPARATOR)))) if multilabel else (),
    )


def require_utf8(path: pathlib.Path, number: int, label: str) -> None:
    """Refuses bytes that are not UTF-8 in a class name, which is shown and served; a path may hold any."""
    if errors.printable(label) != label:
        raise errors.BadInputError(
            path, f"class names are UTF-8 text. Received: {errors.printable(label)!r} in line {number}"
        )


def split_of(path: pathlib.Path, number: int, text: str) -> str:
    """Returns the split that a cell names, empty for none; raises `BadInputError` for an unknown name."""
    name = split.split_name(text) if text.strip() else ""
    if name is None:
        raise errors.BadInputError(path, f"a split is train, validation or test. Received: {text!r} in line {number}")
    return name


def _refuse_repeats(path: pathlib.Path, found: Sequence[cases.Case]) -> None:
    for field, rule in (("path", "each path stands in one row"), ("case_id", "each case_id stands in one row")):
        first: dict[str, cases.Case] = {}
        for case in found:
            other = first.setdefault(getattr(case, field), case)
            if other is not case:
                labels = " and ".join(repr("|".join(each.labels) or each.label) for each in (other, case))
                raise errors.BadInputError(
                    path, f"{rule}. Received: {errors.printable(getattr(case, field))!r} twice, labelled {labels}"
                )
