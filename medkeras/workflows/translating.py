"""A table of labels for files that were written anew: the same labels, found by what the new files are called."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from medkeras import errors
from medkeras.data import labels, table
from medkeras.privacy import file, held, names, patients, pseudonyms, values, words

KIND = "table"
METADATA = ("sex", "age")
"""Columns that stay beside the labels, where their values are what they are called."""

LARGEST = 2**26
"""Bytes of a table; larger ones are held back."""

_FRAME = re.compile(r"(.*)(#[0-9]+)")
_UIDS = {"sop_instance_uid": "instance", "series_instance_uid": "series", "study_instance_uid": "study"}


@dataclasses.dataclass(frozen=True)
class Moved:
    """A file that was written anew.

    Attributes:
        old: Its name from the folder of the table, with slashes.
        new: Its name from the output folder, with slashes.
        identity: What a DICOM file says of its patient and of itself; None for any other.
    """

    old: str
    new: str
    identity: patients.Identity | None = dataclasses.field(default=None, repr=False)


def translate(
    source: pathlib.Path, target: pathlib.Path, moved: Sequence[Moved], *,
    key: bytes, options: frozenset[str], people: frozenset[str],
) -> file.Done:  # fmt: skip
    """Writes a table of labels anew: the key, the labels, the split, and of the metadata sex and age alone.

    Rows that find no file that was written are left out, all other columns too; both are counted. Whose an image is
    (`patient_id` beside another key) becomes a pseudonym.

    Args:
        source: The table, as `medkeras.data.labels` reads it.
        target: Where the new one goes.
        moved: The files that were written.
        key: The secret.
        options: The options of the profile that the files were cleaned with.
        people: Words of names and identifiers of the files' patients, in small letters.
    """
    try:
        return _translated(source, target, moved, key=key, keep_uids="retain_uids" in options, people=people)
    except held.HeldBackError as why:
        return file.Done(KIND, reason=str(why))
    except (errors.UserError, OSError, UnicodeError):
        # What is said of such a table may quote it.
        return file.Done(KIND, reason="the table of labels cannot be read as one: training on the originals says why")


def _translated(
    source: pathlib.Path, target: pathlib.Path, moved: Sequence[Moved], *,
    key: bytes, keep_uids: bool, people: frozenset[str],
) -> file.Done:  # fmt: skip
    if source.stat().st_size > LARGEST:
        raise held.HeldBackError(f"a table of labels has at most {LARGEST} bytes")
    known = labels.read(source, METADATA)
    rows = {row.key: row for row in known.unused(())}
    if any(_names_somebody(label, people) for row in rows.values() for label in (row.label, *row.labels)):
        raise held.HeldBackError("a label holds a word of a patient's name or identifier")
    found = list(_found(known.key, rows, moved, _renamed(key, keep_uids)))
    if not found:
        raise held.HeldBackError("no row of the table finds a file that was written")
    cells = {new: _cells(row, key) for new, row in found}
    columns = _columns(known, rows.values())
    target.write_bytes(_written(known.key, columns, cells))
    emptied = sum(_emptied(row) for row in {row.line: row for _, row in found}.values())
    return file.Done(
        KIND,
        labels.NAME,
        actions={
            "rows": len({row.line for _, row in found}),
            "rows_dropped": len(rows) - len({row.line for _, row in found}),
            "columns_dropped": len(table.read_rows(source)[0]) - 1 - len(columns),
            "cells_emptied": emptied,
        },
    )


def _renamed(key: bytes, keep: bool) -> Callable[[str], str]:
    return lambda old: values.kept_uid(key, old) if keep else values.new_uid(key, old)


def _found(
    column: str, rows: Mapping[str, labels.Row], moved: Sequence[Moved], renamed: Callable[[str], str]
) -> Iterator[tuple[str, labels.Row]]:
    """Yields the new key of each row that finds a file, once for each file where a path does."""
    if column in _UIDS:
        known = {getattr(each.identity, _UIDS[column]) for each in moved if each.identity}
        yield from ((renamed(old), row) for old, row in rows.items() if old in known)
    elif column == "patient_id":
        yield from _by_patient(rows, moved)
    else:
        yield from _by_path(rows, moved)


def _by_patient(rows: Mapping[str, labels.Row], moved: Sequence[Moved]) -> Iterator[tuple[str, labels.Row]]:
    """Yields the new names of each patient; an identifier that two issuers gave names nobody, here as in training."""
    people: dict[str, set[str]] = collections.defaultdict(set)
    volumes: dict[str, set[str]] = collections.defaultdict(set)
    for each in moved:
        if each.identity is None:
            for old, new in zip(names.patients_of(each.old), names.patients_of(each.new), strict=True):
                volumes[old].add(new)
        elif each.identity.patient_id:
            people[each.identity.patient_id].add(names.patient_folder(each.new))
    for old, row in rows.items():
        known = people.get(old, set()) if len(people.get(old, ())) == 1 else set()
        yield from ((new, row) for new in sorted(known | volumes.get(old, set())))


def _by_path(rows: Mapping[str, labels.Row], moved: Sequence[Moved]) -> Iterator[tuple[str, labels.Row]]:
    """Yields the new path of each file and frame that a row names, and of each file below a folder that one names."""
    frames: dict[str, list[tuple[str, labels.Row]]] = {}
    for old, row in rows.items():
        if frame := _FRAME.fullmatch(old):
            frames.setdefault(frame[1], []).append((frame[2], row))
    for each in moved:
        for old in names.places(each.old):
            yield from ((each.new + frame, row) for frame, row in frames.get(old, ()))
        places = [place for old in names.places(each.old) for place in (old, *map(str, pathlib.PurePath(old).parents))]
        yield from ((each.new, rows[place]) for place in [place for place in places if place in rows][:1])


def _names_somebody(label: str, people: frozenset[str]) -> bool:
    return any(part in people and not words.is_label(part) for part in re.findall(r"[a-z0-9]{3,}", label.lower()))


def _columns(known: labels.LabelTable, rows: Iterable[labels.Row]) -> tuple[str, ...]:
    """Returns the columns of the new table beside its key: those of the old one that say something."""
    rows = list(rows)
    owned = ("patient_id",) if any(row.patient_id for row in rows) else ()
    split = ("split",) if any(row.split for row in rows) else ()
    return ("labels" if known.multilabel else "label", *owned, *split, *known.metadata)


def _cells(row: labels.Row, key: bytes) -> dict[str, str]:
    return {
        "label": row.label,
        "labels": table.SEPARATOR.join(row.labels),
        "split": row.split,
        "patient_id": pseudonyms.pseudonym(key, row.patient_id) if row.patient_id else "",
        **{name: _metadata(name, value) for name, value in row.metadata},
    }


def _metadata(name: str, value: str) -> str:
    return values.sex(value) if name == "sex" else values.years(value)


def _emptied(row: labels.Row) -> int:
    return sum(bool(value) and not _metadata(name, value) for name, value in row.metadata)


def _written(column: str, columns: Sequence[str], cells: Mapping[str, Mapping[str, str]]) -> bytes:
    """Returns the table, sorted by the new keys: the old order may be that of names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path" if column == "case_id" else column, *columns))
    writer.writerows((new, *(cells[new][name] for name in columns)) for new in sorted(cells))
    return text.getvalue().encode("utf-8")
