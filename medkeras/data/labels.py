"""A table of labels that stands beside the images: one row a label, found by a UID, a patient or a path."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from medkeras import errors
from medkeras.data import cases, table

NAME = "labels.csv"
KEYS = (
    "sop_instance_uid",
    "path",
    "case_id",
    "series_instance_uid",
    "study_instance_uid",
    "patient_id",
)
"""Columns that may find an image; of several in one table, the first in this order does."""

_FRAME = re.compile(r"#[0-9]+$")
_COLUMNS = types.MappingProxyType({name.replace("_", ""): name for name in (*KEYS, "label", "labels", "split")})


@dataclasses.dataclass(frozen=True)
class Row:
    """What a table says of the images that one key finds.

    Attributes:
        line: Line of the table, the header being the first.
        key: The cell that finds the images.
        label: Class name (multi-class).
        labels: Class names that are present (multi-label).
        split: `train`, `validation`, `test`, or empty where the table does not say.
        patient_id: Whose images they are, or empty where the table does not say.
        metadata: Name and value of the columns that were asked for and that the table has.
    """

    line: int
    key: str
    label: str = ""
    labels: tuple[str, ...] = ()
    split: str = ""
    patient_id: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def answer(self) -> tuple[object, ...]:
        """All that the row says of what is to be told, whatever its place and key."""
        return self.label, self.labels, self.split, self.patient_id


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes:
        path: Its file.
        key: The column that finds images, one of `KEYS`.
        multilabel: Whether an image may have any number of the classes.
        metadata: The columns that were asked for beside the labels, those that the table has.
    """

    path: pathlib.Path
    key: str
    multilabel: bool
    metadata: tuple[str, ...]
    _rows: Mapping[str, Row]

    def lookup(self, facts: Mapping[str, str]) -> Row | None:
        """Returns the row of an image, or None.

        Args:
            facts: What is known of the image, by the names in `KEYS`; a path is written with slashes, from the
                folder of the images, `#` and the frame after it. A file's row is that of its frames, a folder's that
                of everything below it; the nearest row counts.
        """
        value = facts.get(self.key, "")
        places = [value]
        if self.key in ("path", "case_id"):
            places.append(_FRAME.sub("", value))
        if self.key == "path":
            places.extend(map(str, pathlib.PurePosixPath(value).parents))
        return next((self._rows[place] for place in places if place in self._rows), None)

    def classes_of(self, found: Iterable[Row]) -> tuple[str, ...]:
        """Returns the class names of rows, numbers by their value and before words."""
        names = {name for row in found for name in (row.labels if self.multilabel else (row.label,))}
        return tuple(sorted(names, key=table.natural_key))

    def unused(self, found: Iterable[Row]) -> tuple[Row, ...]:
        """Returns the rows that are not among those found, in order."""
        keys = {row.key for row in found}
        return tuple(row for row in self._rows.values() if row.key not in keys)

    def problems(self, found: Iterable[Row]) -> tuple[cases.Problem, ...]:
        """Returns a problem for each row that found no image; by its line: the key may be a name."""
        return tuple(
            cases.Problem(str(self.path), "unpaired", f"line {row.line}: no image has this {self.key}")
            for row in self.unused(found)
        )


def read(path: str | pathlib.Path, metadata: Sequence[str] = ()) -> LabelTable:
    """Reads a CSV table of labels.

    Columns: one of `KEYS`, also as DICOM spells them (`SOPInstanceUID`), and `label`, or `labels` (several, joined by
    `|`; empty for none); optional `split`, and `patient_id` beside another key. Other columns are not read. Rows that
    say the same twice count once.

    Args:
        path: The table.
        metadata: Names of columns that are read too, where the table has them; a column of `KEYS` never is.

    Raises:
        DataError: The file is missing, a column is missing, a key has two labels, a cell is empty, a split has no known
            name.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise errors.DataError(f"data.labels names a CSV file that exists. Received: {errors.printable(path)!r}")
    raw = table.read_rows(path)
    columns = _columns(path, [name for name in raw[0] if name is not None])
    key = _key(path, columns)
    multilabel = "labels" in columns
    if not multilabel and "label" not in columns:
        _fail(path, "the column 'label'", ("label",), columns)
    kept = tuple(name for name in metadata if name in columns and name not in KEYS)
    rows: dict[str, Row] = {}
    for line, cells in enumerate(raw, start=2):
        if None in cells or None in cells.values():
            raise errors.BadInputError(path, f"every row has as many cells as the header. Received: line {line}")
        row = _row(path, line, {name: cells[column] for name, column in columns.items()}, key)
        _add(path, rows, dataclasses.replace(row, metadata=table.metadata_of(cells, kept)), key)
    return LabelTable(path, key, multilabel, kept, rows)


def _columns(path: pathlib.Path, header: Sequence[str]) -> dict[str, str]:
    """Returns the table's own spelling of each column that is read."""
    found: dict[str, str] = {}
    for column in header:
        name = _COLUMNS.get(column.strip().lower().replace("_", ""), column)
        if name in found and name in _COLUMNS.values():
            raise errors.BadInputError(path, f"each column stands once. Received: {found[name]!r} and {column!r}")
        found[name] = column
    return found


def _key(path: pathlib.Path, columns: Mapping[str, str]) -> str:
    key = next((name for name in KEYS if name in columns), None)
    if key is None:
        _fail(path, f"one of the columns {', '.join(KEYS)}", KEYS, columns)
    return key


def _fail(path: pathlib.Path, rule: str, wanted: Sequence[str], columns: Mapping[str, str]) -> NoReturn:
    known = (*_COLUMNS, *_COLUMNS.values())
    table.refuse_header(path, f"a table of labels has {rule}", wanted, list(columns), known=known)


def _row(path: pathlib.Path, line: int, cells: Mapping[str, str], key: str) -> Row:
    texts = {name: value.strip() for name, value in cells.items()}
    multilabel = "labels" in texts
    for name in (key,) if multilabel else (key, "label"):
        if not texts[name]:
            raise errors.BadInputError(path, f"the column {name!r} is filled in every row. Received: line {line}")
    table.require_utf8(path, line, texts["labels" if multilabel else "label"])
    parts = texts.get("labels", "").split(table.SEPARATOR)
    return Row(
        line=line,
        key=_normal_path(texts[key]) if key == "path" else texts[key],
        label="" if multilabel else texts["label"],
        labels=tuple(filter(None, (part.strip() for part in parts))),
        split=table.split_of(path, line, texts.get("split", "")),
        patient_id="" if key == "patient_id" else texts.get("patient_id", ""),
    )


def _normal_path(text: str) -> str:
    return str(pathlib.PurePosixPath(text.replace("\\", "/")))


def _add(path: pathlib.Path, rows: dict[str, Row], row: Row, key: str) -> None:
    other = rows.setdefault(row.key, row)
    if (other.answer, other.metadata) != (row.answer, row.metadata):
        said = [repr("|".join(each.labels) or each.label) for each in (other, row)]
        differ = (
            "labelled " + " and ".join(said)
            if said[0] != said[1]
            else "with another split or patient, or other metadata"
        )
        raise errors.BadInputError(
            path, f"each {key} has one label. Received: lines {other.line} and {row.line}, {differ}"
        )
