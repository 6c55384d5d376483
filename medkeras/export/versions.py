"""Numbered versions that appear whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

from medkeras import errors

# Remembers the largest number after its folder was deleted; TensorFlow Serving looks at nothing but numbers.
_NEWEST = ".newest"


def next_version(*bases: str | os.PathLike[str]) -> int:
    """Returns the smallest number above every version that these folders hold or have held.

    A number is never used twice: TensorFlow Serving loads no other files under a number that it knows.
    """
    return max((number for base in bases for number in (*_numbers(base), _held(base))), default=0) + 1


def latest(base: str | os.PathLike[str]) -> pathlib.Path | None:
    """Returns the folder of the largest version, or None."""
    number = max(_numbers(base), default=0)
    return pathlib.Path(base, str(number)) if number else None


def _numbers(base: str | os.PathLike[str]) -> list[int]:
    folder = pathlib.Path(base)
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()] if folder.is_dir() else []


def _held(base: str | os.PathLike[str]) -> int:
    """Returns the largest number that was ever published in a folder, as far as is noted there."""
    try:
        return int(pathlib.Path(base, _NEWEST).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _note(base: pathlib.Path, version: int) -> None:
    if version > _held(base):
        written = base / f"{_NEWEST}-{secrets.token_hex(4)}"
        written.write_text(f"{version}\n", encoding="ascii")
        written.replace(base / _NEWEST)


def unused(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the folder, or where it exists the first of `FOLDER-2`, `FOLDER-3` … that does not."""
    names = itertools.chain((os.fspath(folder),), (f"{os.fspath(folder)}-{number}" for number in itertools.count(2)))
    return next(path for path in map(pathlib.Path, names) if not path.exists())


def require_writable(folder: str | os.PathLike[str]) -> None:
    """Asks, before the hours of a training, whether a folder can be written or made.

    Raises:
        ModelError: It cannot.
    """
    folder = pathlib.Path(folder).absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        state = "is read-only" if nearest.is_dir() else "is a file"
        raise errors.ModelError(
            f"A model is written into a folder that can be made. "
            f"Received: {errors.printable(folder)}, where {errors.printable(nearest)} {state}"
        )


@contextlib.contextmanager
def new_version(base: str | os.PathLike[str], version: int) -> Iterator[pathlib.Path]:
    """Yields a folder to write into, and makes it `base/version` when the block ends well.

    A server that watches `base` never sees half of it, nor takes what is being written for a version.

    Raises:
        ModelError: The folder cannot be written, or the version appeared in the meantime.
    """
    base = pathlib.Path(base)
    with new_folder(base / str(version)) as folder:
        yield folder
    _note(base, version)


@contextlib.contextmanager
def new_folder(final: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a folder to write into, and gives it its name when the block ends well.

    The folder is written beside its final name, synchronised to disk and renamed, so that nobody ever sees half of it.
    When the block raises, Ctrl-C included, nothing is left.

    Raises:
        ModelError: The folder cannot be written, or its name appeared in the meantime.
    """
    final = pathlib.Path(final)
    # A random name and not the process's number, which every container counts from 1.
    temporary = final.with_name(f"tmp-{final.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise errors.ModelError(
            f"A model is written into a folder that can be made. "
            f"Received: {errors.printable(temporary)} ({error.strerror or error})"
        ) from None
    try:
        yield temporary
        _synchronise(temporary)
        temporary.rename(final)
        _synchronise_folder(final.parent)
    except OSError as error:
        raise errors.ModelError(
            f"A version is written whole or not at all. Received: {errors.printable(final)} ({error.strerror or error})"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _synchronise(folder: pathlib.Path) -> None:
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                os.fsync(file.fileno())
        _synchronise_folder(directory)


def _synchronise_folder(folder: str | os.PathLike[str]) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
