"""What DICOM headers say of the machine and of the picture, and never of the patient."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medkeras import errors
from medkeras.audit import survey
from medkeras.data import guard, headers, prepare

NAMES = ("modality", "manufacturer", "model", "photometric_interpretation", "bits_stored")
BURNED_IN = "burned_in"

_THREADS = 4


def take(
    records: Sequence[survey.Record], *, track: prepare.Track = lambda items, total, description: items
) -> dict[str, dict[str, str]]:
    """Returns, by case id, what the header of each DICOM case states; empty for cases of other formats.

    A series is described by its first file. `burned_in` is `yes` where the header announces writing in the pixels.
    """
    members = [record for record in records if _is_dicom(record.case.path)]
    paths = sorted({record.case.path for record in members})
    if not paths:
        return {}
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        known = dict(zip(paths, track(pool.map(_inspected, paths), len(paths), "Looking at headers"), strict=True))
    return {record.case.case_id: known[record.case.path] for record in members if known[record.case.path]}


def _inspected(path: str) -> dict[str, str]:
    try:
        return dict(_stated(guard.inspect("dicom", _file(path))))
    except errors.BadInputError:
        return {}


def _stated(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in NAMES:
        if facts.get(name):
            yield name, str(facts[name])
    if facts.get(BURNED_IN):
        yield BURNED_IN, "yes"


def _is_dicom(path: str) -> bool:
    try:
        return os.path.exists(path) and headers.identify(_file(path)) == "DICOM"
    except errors.BadInputError:
        return False


def _file(path: str) -> str:
    """Returns the file itself, or of a folder the first file by name."""
    if not os.path.isdir(path):
        return path
    files = (each for each in sorted(pathlib.Path(path).iterdir()) if each.is_file() and not each.name.startswith("."))
    return str(next(files, path))
