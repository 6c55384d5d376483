"""What DICOM headers say of the machine and of the picture, and never of the patient."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.audit import survey
from medkeras.data import guard, headers, prepare

NAMES = ("modality", "manufacturer", "model", "photometric_interpretation", "bits_stored")
BURNED_IN = "burned_in"
POOR_WINDOW = "poor_window"

_THREADS = 4


def take(
    records: Sequence[survey.Record], *, track: prepare.Track = lambda items, total, description: items
) -> dict[str, dict[str, str]]:
    """Returns, by case id, what the header of each DICOM case states; empty for cases of other formats.

    A series is described by its first DICOM file. `burned_in` is `yes` where the header announces writing in the
    pixels, `window_beside` where the centre of no window lies among the values of the series.
    """
    members = [record for record in records if _is_dicom(record.case.path)]
    paths = sorted({record.case.path for record in members})
    if not paths:
        return {}
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        known = dict(zip(paths, track(pool.map(_inspected, paths), len(paths), "Looking at headers"), strict=True))
    beside = _with_poor_window(members, known)
    return {
        record.case.case_id: dict(_stated(known[record.case.path], record.case.case_id in beside))
        for record in members
        if known[record.case.path]
    }


def poor_windows(records: Sequence[survey.Record], stated: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Returns, by folder, the path and a sentence for images whose windows do not show them.

    Args:
        records: What was seen of the cases.
        stated: What `take` returned.
    """
    folders = collections.defaultdict(list)
    for record in records:
        if stated.get(record.case.case_id, {}).get(POOR_WINDOW):
            folders[pathlib.Path(record.case.path).parent].append(record)
    return [
        (
            str(folder) if len(members) > 1 else members[0].case.path,
            "a window shows the values of its series; viewers show these dark, its centre beyond all values, or burnt "
            f"out, its end below many. Received: {len(members)} of {min(each.low for each in members):g} to "
            f"{max(each.high for each in members):g}",
        )
        for folder, members in folders.items()
    ]


def _with_poor_window(members: Sequence[survey.Record], known: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Returns the ids of grey cases none of whose windows (PS3.3 C.11.2) shows the values of their series."""
    series: dict[str, list[survey.Record]] = collections.defaultdict(list)
    for record in members:
        header = known[record.case.path]
        if header and header["windows"] and not header["voi_lut"] and header["channels"] == 1:
            series[header["series_uid"] or record.case.path].append(record)
    return {
        record.case.case_id
        for group in series.values()
        for record in group
        if not any(_shows(window, known[record.case.path], group) for window in known[record.case.path]["windows"])
    }


def _shows(window: Sequence[Any], header: Mapping[str, Any], group: Sequence[survey.Record]) -> bool:
    """Whether the centre lies among the values; and, in MR, whether no more than about a sixth lie above the window.

    In CT a narrow window on one tissue is the rule. Windows are of the values before MONOCHROME1 is inverted.
    """
    center, width = window[:2]
    if header["mirror"] is not None:
        center = header["mirror"] - center
    if not min(each.low for each in group) <= center <= max(each.high for each in group):
        return False
    if header["modality"] != "MR":
        return True
    means = np.array([each.mean for each in group])
    spread = np.sqrt(np.mean([each.std**2 + each.mean**2 for each in group]) - means.mean() ** 2)
    return bool(center + width / 2 >= means.mean() + spread)


def _inspected(path: str) -> Mapping[str, Any]:
    try:
        return guard.inspect("dicom", _file(path))
    except errors.BadInputError:
        return {}


def _stated(facts: Mapping[str, Any], beside: bool) -> Iterator[tuple[str, str]]:
    for name in NAMES:
        if facts.get(name):
            yield name, str(facts[name])
    if facts.get(BURNED_IN):
        yield BURNED_IN, "yes"
    if beside:
        yield POOR_WINDOW, "yes"


def _is_dicom(path: str) -> bool:
    try:
        return os.path.exists(path) and headers.identify(_file(path)) == "DICOM"
    except errors.BadInputError:
        return False


def _file(path: str) -> str:
    """Returns the file itself, or of a folder the first DICOM file by name."""
    if not os.path.isdir(path):
        return path
    names = (each.path for each in sorted(os.scandir(path), key=lambda each: each.name) if each.is_file())
    return next((name for name in names if _is_dicom(name)), path)
