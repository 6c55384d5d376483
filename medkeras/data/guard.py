"""The kinds of files that worker processes decode, so that none can end or hang us.

What a decoder dies of, what takes too long and what it refuses becomes one `BadInputError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.data import headers
from medkeras.guard import pool, tasks

# Seconds of processor time for one file, and seconds by the clock.
DEADLINE = 9.0
PATIENCE = 30.0
MOST_WORKERS = 4
# Decoders that are loaded late add a little.
MEMORY = 900 * 2**20

# Kind of file to the module whose `inspect` and `read` the worker calls, and to what such a file is called.
KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "dicom": ("medkeras.data.readers.dicom", "DICOM file"),
        "nifti": ("medkeras.data.readers.nifti", "NIfTI file"),
        "image": ("medkeras.data.readers.image", "image file"),
    }
)

_pool = pool.Pool(MOST_WORKERS, memory=MEMORY)


def inspect(kind: str, path: str, **options: Any) -> dict[str, Any]:
    """Returns what a file says of itself before its pixels are decoded.

    Args:
        kind: `dicom`, `nifti` or `image`.
        path: The file.
        **options: Arguments of the reader's `inspect`.

    Raises:
        BadInputError: The file cannot be read; the reason is one sentence without anything that the file holds.
    """
    try:
        headers.check_regular(path)
        return _pool.facts(_task("inspect", kind, path, options))
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, str(refusal)) from None


def read(kind: str, path: str, **options: Any) -> np.ndarray:
    """Returns the pixels of a file as its reader gives them.

    Args:
        kind: `dicom`, `nifti` or `image`.
        path: The file.
        **options: Arguments of the reader's `read`.

    Raises:
        BadInputError: The file cannot be read; the reason is one sentence without anything that the file holds.
    """
    try:
        headers.check_regular(path)
        return _pool.array(_task("read", kind, path, options))
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, str(refusal)) from None


def _task(function: str, kind: str, path: str, options: Mapping[str, Any]) -> tasks.Task:
    module, name = KINDS[kind]
    sentences = tasks.Sentences(
        damaged=f"the {name} is truncated or damaged",
        slow=f"decoding the {name} takes longer than {DEADLINE:g} seconds",
        died=f"the {name} is damaged so that its decoder cannot go on",
        large="decoding the file takes more memory than the 1 GB that a file may",
        full=f"there is too little memory for the values of the {name}",
    )
    return tasks.Task(module, function, path, tasks.Limits(DEADLINE, PATIENCE), sentences, options)
