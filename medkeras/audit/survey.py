"""One pass over every image of a data set, each decoded once: what the audit knows of a case comes from here."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib

import numpy as np

from medkeras import errors
from medkeras.audit import fingerprints
from medkeras.data import cases, headers, prepare

_THREADS = 4
_BACKGROUND = 0.06


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """What was seen of one case.

    Attributes:
        case: The case.
        header: What its file says of itself.
        fingerprint: By which its copies are known.
        low: Lowest stored value.
        high: Highest stored value.
        mean: Mean of the stored values.
        std: Standard deviation of the stored values.
        border: Share of the picture, 0..1, that lies outside the smallest box around all that differs from its
            corners; of a volume, in its middle slice.
        file_bytes: Size of the file; 0 where a case is no file of its own.
        file_format: `JPEG`, `PNG` and so on, by its first bytes where they are known, else by its name; empty for none.
    """

    case: cases.Case
    header: cases.ImageHeader
    fingerprint: fingerprints.Fingerprint
    low: float
    high: float
    mean: float
    std: float
    border: float
    file_bytes: int
    file_format: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was seen of a data set.

    Attributes:
        records: One a readable case, in the order of the cases.
        unreadable: One error a case that cannot be read, in the order of the cases.
    """

    records: tuple[Record, ...]
    unreadable: tuple[errors.BadInputError, ...] = ()


def survey(case_set: cases.CaseSet, *, track: prepare.Track = lambda items, total, description: items) -> Survey:
    """Decodes every image of a data set once, several at a time.

    Args:
        case_set: The cases; their splits and labels play no part.
        track: Wraps an iterable of known length to show progress.
    """

    def look(case: cases.Case) -> Record | errors.BadInputError:
        try:
            return _record(case, case_set.images)
        except errors.BadInputError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        results = list(track(pool.map(look, case_set.cases), len(case_set.cases), "Looking at images"))
    return Survey(
        records=tuple(each for each in results if isinstance(each, Record)),
        unreadable=tuple(each for each in results if isinstance(each, errors.BadInputError)),
    )


def _record(case: cases.Case, images: cases.ImageSource) -> Record:
    header = images.header(case)
    image = images.read(case, header.channels)
    image = fingerprints.one_channel(image)
    middle = fingerprints.grey(image[len(image) // 2] if image.ndim == 4 else image)
    file_bytes, file_format = _file(case.path)
    return Record(
        case=case,
        header=header,
        fingerprint=fingerprints.take(image),
        low=float(image.min()),
        high=float(image.max()),
        mean=float(image.mean(dtype=np.float64)),
        std=float(image.std(dtype=np.float64)),
        border=border_share(middle),
        file_bytes=file_bytes,
        file_format=file_format,
    )


def border_share(plane: np.ndarray) -> float:
    """Returns the share of `[H, W]`, 0..1, outside the smallest box around all that differs from the corners."""
    corners = np.median(plane[[0, 0, -1, -1], [0, -1, 0, -1]])
    differs = np.abs(plane - corners) > _BACKGROUND * np.ptp(plane)
    rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 1.0
    return 1.0 - float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)) / plane.size


def _file(path: str) -> tuple[int, str]:
    """Returns size in bytes and format of a file; 0 and nothing for a name that is no file."""
    if not os.path.isfile(path):
        return 0, ""
    with open(path, "rb") as file:
        head = file.read(512)
    try:
        return os.path.getsize(path), headers.kind(head)
    except errors.RefusalError:
        return os.path.getsize(path), pathlib.Path(path).suffix.lstrip(".").upper()
