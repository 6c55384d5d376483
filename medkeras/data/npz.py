"""Arrays of an `.npz` archive, weighed by what the archive says of them before any of them is inflated.

Reference:
    PKWARE APPNOTE 6.3.10, 4.3 (ZIP); NEP 1 (the .npy format).
"""

from __future__ import annotations

import ast
import io
import math
import os
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from typing import BinaryIO

import numpy as np

from medkeras import errors

MAX_MEMBERS = 1024
MAX_RATIO = 100
"""How many times its size an array may take that is larger than `SMALL`."""
SMALL = 2**28
MEMORY_SHARE = 0.75
"""Largest share of the machine's memory that the arrays of an archive may take."""

_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_OBJECTS = re.compile(r"[<>|=]?O\d?")
_MAGIC = b"\x93NUMPY"
_MAX_SIDE = 2**40
_MAX_DIRECTORY = 2**20
_MAX_HEADER = 10_000
_END, _END_SIZE, _MAX_COMMENT = b"PK\5\6", 22, 2**16
_LOCATOR, _LOCATOR_SIZE, _END64_SIZE = b"PK\6\7", 20, 56
# What zipfile and zlib raise on damaged archives.
_DAMAGE = (OSError, ValueError, EOFError, OverflowError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
# What ast.literal_eval documents.
_MALFORMED = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


def read(path: pathlib.Path, names: Collection[str]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Reads arrays of numbers; text, records and objects are refused, and nothing is ever unpickled.

    Args:
        path: The archive.
        names: The arrays that are wanted, where they are there; others are not looked into.

    Returns:
        The arrays by name, and the names of all that the archive holds.

    Raises:
        BadInputError: The archive is damaged, an array is not what it says, or they are too large for this machine.
    """
    try:
        with _open(path) as file, _directory(file) as archive:
            held = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
            wanted = {name: held[name] for name in names if name in held}
            _weigh(archive, wanted, os.fstat(file.fileno()).st_size)
            return {name: _array(archive, member) for name, member in wanted.items()}, tuple(held)
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, f"is not a readable .npz archive: {refusal}") from None
    except MemoryError:
        raise errors.BadInputError(path, "there is too little memory for the arrays of the archive") from None
    except _DAMAGE:
        raise errors.BadInputError(path, "is not a readable .npz archive: it is truncated or damaged") from None


def _open(path: pathlib.Path) -> BinaryIO:
    if not path.is_file():
        raise errors.RefusalError("it is no regular file")
    return open(path, "rb")


def _directory(file: BinaryIO) -> zipfile.ZipFile:
    """Opens an archive whose directory is small enough to be read whole."""
    count, size = _end(file)
    if count > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise errors.RefusalError(f"it holds at most {MAX_MEMBERS} arrays. Received: {count}, named in {size} bytes")
    archive = zipfile.ZipFile(file)
    if len(set(archive.namelist())) < len(archive.infolist()):
        raise errors.RefusalError("it names each array once")
    return archive


def _end(file: BinaryIO) -> tuple[int, int]:
    """Returns how many members the directory names, and its size in bytes, found as `zipfile` finds them."""
    whole = file.seek(0, os.SEEK_END)
    file.seek(max(0, whole - _END_SIZE - _MAX_COMMENT))
    tail = file.read()
    plain = tail[-_END_SIZE:].startswith(_END) and tail.endswith(b"\0\0")
    at = len(tail) - _END_SIZE if plain else tail.rfind(_END)
    if at < 0:
        raise errors.RefusalError("it has no ZIP directory: it is truncated, or something else")
    if len(tail) - at < _END_SIZE:
        raise errors.RefusalError("it is truncated")
    count, size = struct.unpack_from("<HI", tail, at + 10)
    place = whole - len(tail) + at - _LOCATOR_SIZE - _END64_SIZE
    file.seek(max(0, place))
    large = file.read(_END64_SIZE + _LOCATOR_SIZE)
    if place >= 0 and large.startswith(_LOCATOR, _END64_SIZE):
        count, size = (max(pair) for pair in zip((count, size), struct.unpack_from("<QQ", large, 32), strict=True))
    return count, size


def _weigh(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], whole: int) -> None:
    """Refuses members that lie of their sizes, and those that together take too much.

    Raises:
        RefusalError: Which rule is broken.
    """
    if sum(member.compress_size for member in members.values()) > whole:
        raise errors.RefusalError("its arrays lie one behind the other; these overlap, or the file is truncated")
    for name, member in members.items():
        expected = _declared(archive, name, member)
        if member.file_size != expected:
            raise errors.RefusalError(
                f"an array takes the bytes that its shape and type say. Received: {name}, {expected} bytes in "
                f"{member.file_size}"
            )
        if expected > max(SMALL, MAX_RATIO * member.compress_size):
            raise errors.RefusalError(
                f"a large array takes at most {MAX_RATIO} times its compressed bytes. Received: {name}, "
                f"{member.compress_size} bytes for {expected}"
            )
    total, most = sum(member.file_size for member in members.values()), MEMORY_SHARE * _memory()
    if total > most:
        raise errors.RefusalError(f"its arrays take at most {most:.0f} bytes on this machine. Received: {total}")


def _declared(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> int:
    """Returns the bytes that an array takes with its header, as the header says."""
    if member.flag_bits & 1:
        raise errors.RefusalError("it is not encrypted; this one is")
    with archive.open(member) as packed:
        head = io.BytesIO(packed.read(_MAX_HEADER))
    shape, descr = _header(head)
    if not _NUMBERS.fullmatch(descr):
        what = "Python objects, which nothing unpickles" if _OBJECTS.fullmatch(descr) else "something else"
        raise errors.RefusalError(f"arrays hold numbers. Received: {name}, which holds {what}")
    return head.tell() + math.prod(shape) * np.dtype(descr).itemsize


def _header(head: io.BytesIO) -> tuple[tuple[int, ...], str]:
    """Returns the shape and the type code that the header of an `.npy` states, and stops behind it."""
    magic = head.read(8)
    form = "<H" if magic[6:7] == b"\1" else "<I"
    length = head.read(struct.calcsize(form))
    if not magic.startswith(_MAGIC) or len(length) < struct.calcsize(form):
        raise errors.RefusalError("its members are .npy arrays; one is something else")
    text = head.read(struct.unpack(form, length)[0])
    try:
        stated = ast.literal_eval(text.decode("latin-1").strip())
        shape, descr = tuple(stated["shape"]), stated["descr"]
    except (*_MALFORMED, KeyError):
        raise errors.RefusalError("the header of an array is damaged") from None
    if not all(type(side) is int and 0 <= side < _MAX_SIDE for side in shape):
        raise errors.RefusalError("the shape of an array is whole numbers from 0 on; this one is not")
    return shape, descr if isinstance(descr, str) else ""


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as packed:
        return np.lib.format.read_array(packed, allow_pickle=False, max_header_size=_MAX_HEADER)


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
