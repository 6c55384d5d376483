"""One SOPInstanceUID names one image: files that are copies of others, and files that share it and differ.

Reference:
    DICOM PS3.3 C.12.1 (SOP Common Module); PS3.5 section 9 (unique identifiers).
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from medkeras import errors
from medkeras.data import cases, guard

KIND = "header"

_THREADS = 4
_LOOK = ("transfer_syntax_uid", "windows", "voi_function", "voi_lut", "notes")
"""What may differ between two files of one image: how it is compressed, and how it wants to be looked at."""

Files = Mapping[str, Mapping[str, Any]]


def contents(root: pathlib.Path, files: Files) -> dict[str, str]:
    """Returns what the files hold that share a SOPInstanceUID with another: equal texts for equal images.

    Two files are one image where their pixels are equal and so is what they say of the patient, the series and the
    geometry. Only these few files are decoded, and of those of equal bytes one.

    Args:
        root: The folder.
        files: Name from the root to what the file says of itself.
    """
    shared = [name for names in _by_uid(files).values() if len(names) > 1 for name in names]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        by_bytes = dict(zip(shared, pool.map(_digest, [root / name for name in shared]), strict=True))
        first = {digest: name for name, digest in reversed(by_bytes.items())}
        values = dict(zip(first, pool.map(_pixels, [root / name for name in first.values()], first), strict=True))
    return {name: f"{values[digest]} {_stated(files[name])}" for name, digest in by_bytes.items()}


def clashes(root: pathlib.Path, files: Files, held: Mapping[str, str]) -> Iterator[cases.Problem]:
    """Reports, by folder, identifiers that stand for several images.

    Args:
        root: The folder.
        files: Name from the root to what the file says of itself.
        held: What `contents` returned.
    """
    found: dict[pathlib.Path, list[Sequence[str]]] = collections.defaultdict(list)
    for names in _by_uid(files).values():
        if len(names) > 1 and len({held[name] for name in names}) > 1:
            found[(root / names[0]).parent].append(names)
    for folder, groups in found.items():
        members = [name for names in groups for name in names]
        patients = len({(files[name]["issuer_of_patient_id"], files[name]["patient_id"]) for name in members})
        yield cases.Problem(
            str(root / members[0] if len(groups) == 1 else folder),
            KIND,
            f"a SOPInstanceUID names one image. Received: {len(groups)} that stand in {len(members)} files of "
            f"{patients} patient{'s' if patients > 1 else ''}, whose images differ",
        )


def copies(paths: Iterable[str]) -> Iterator[cases.Problem]:
    """Reports, by folder, files or series that are left out since another one holds the same."""
    folders: dict[pathlib.Path, list[str]] = collections.defaultdict(list)
    for path in dict.fromkeys(paths):
        folders[pathlib.Path(path).parent].append(path)
    for folder, members in folders.items():
        place, number = (members[0], "a copy") if len(members) == 1 else (str(folder), f"{len(members)} copies")
        yield cases.Problem(place, KIND, f"{number}, of the same SOPInstanceUID and with the same pixels, left out")


def without_copies(members: Iterable[cases.Case], held: Mapping[str, str]) -> tuple[list[cases.Case], list[cases.Case]]:
    """Parts cases from those that hold the same, and are said to be the same, as an earlier one.

    Copies with another label, split or patient are kept: they are no mere copies, but a contradiction.

    Args:
        members: The cases.
        held: What a case holds, by its id; cases that are not in it have no copy.

    Returns:
        The cases without copies, and the copies.
    """
    first: dict[tuple[object, ...], cases.Case] = {}
    kept: list[cases.Case] = []
    others: list[cases.Case] = []
    for case in members:
        key = (held.get(case.case_id, case.case_id), case.label, case.labels, case.split, case.patient_id)
        (kept if first.setdefault(key, case) is case else others).append(case)
    return kept, others


def editions(names: Sequence[str], held: Mapping[str, str]) -> list[list[str]]:
    """Parts the files of one series such that none holds an image twice: the first of each image, the second, ….

    Only what is the whole series again is parted: copies of some of its images stay with none.

    >>> editions(["a/1", "a/2", "b/1", "b/2"], {"a/1": "x", "b/1": "x", "a/2": "y", "b/2": "y"})
    [['a/1', 'a/2'], ['b/1', 'b/2']]
    """
    parts: list[list[str]] = []
    times: collections.Counter[str] = collections.Counter()
    for name in names:
        content = held.get(name, name)
        if times[content] == len(parts):
            parts.append([])
        parts[times[content]].append(name)
        times[content] += 1
    return [part for part in parts if len(part) == len(parts[0])]


def _by_uid(files: Files) -> dict[str, list[str]]:
    names = collections.defaultdict(list)
    for name, facts in files.items():
        if facts["sop_uid"]:
            names[facts["sop_uid"]].append(name)
    return names


def _digest(path: pathlib.Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # It is told where it is read as an image.
        return str(path)


def _pixels(path: pathlib.Path, otherwise: str) -> str:
    """Returns a digest of the decoded pixels; of a file that cannot be decoded, that of its bytes."""
    try:
        values = guard.read("dicom", str(path))
    except errors.BadInputError:
        return otherwise
    return hashlib.sha256(values.tobytes()).hexdigest()


def _stated(facts: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in facts.items() if name not in _LOOK}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
