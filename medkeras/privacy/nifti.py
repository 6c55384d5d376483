"""NIfTI files whose free texts and extensions are gone; voxels, affine and scaling stay byte for byte.

Reference:
    NIfTI-1.1 header (nifti1.h); NIfTI-2 header (nifti2.h); RFC 1952 (gzip), 2.3.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import Any

from medkeras.privacy import held

LARGEST_VOXELS = 2**32
"""Bytes of voxels; more are held back."""

_GZIP = b"\x1f\x8b"
_PIECE = 2**22
# Where texts lie: data_type, db_name, descrip, aux_file, intent_name; NIfTI-2: descrip, aux_file, intent_name, unused.
_TEXTS_1 = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))
_TEXTS_2 = ((240, 80), (320, 24), (508, 16), (525, 15))


def looks_like(head: bytes) -> bool:
    """Whether the first bytes may begin a NIfTI file, or one that gzip compressed."""
    if head.startswith(_GZIP):
        head = _inflated(head)
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def suffix(head: bytes) -> str:
    """Returns how the name of a NIfTI file ends."""
    return ".nii.gz" if head.startswith(_GZIP) else ".nii"


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""


def deidentify(path: str, target: str) -> dict[str, int]:
    """Writes a NIfTI file without texts; a compressed one names no file and no time.

    Returns:
        How many texts were blanked and how many bytes of extensions left out.

    Raises:
        HeldBackError: The file is damaged, ends early, or keeps its voxels in a second file.
    """
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP
    with open(path, "rb") as file, open(target, "wb") as new:
        if not compressed:
            return _copy(file, new)
        try:
            with (
                gzip.GzipFile(fileobj=file) as voxels,
                gzip.GzipFile(filename="", mode="wb", fileobj=new, mtime=0, compresslevel=6) as packed,
            ):
                return _copy(voxels, packed)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise held.HeldBackError("the gzip data are damaged, or end early") from None


def _copy(file: Any, new: Any) -> dict[str, int]:
    """Copies from one binary stream to another; gzip's are no `IO[bytes]`."""
    header = bytearray(file.read(540))
    second = header[4:8] in (b"n+2\0", b"ni2\0")
    size, texts = (540, _TEXTS_2) if second else (348, _TEXTS_1)
    if len(header) < size or header[4 if second else 344 :][:3] not in (b"n+1", b"n+2"):
        raise held.HeldBackError("a NIfTI file holds its header and its voxels in one file")
    order = "<" if struct.unpack_from("<i", header)[0] == size else ">"
    begin, count = _layout(header, order, second)
    blanked = 0
    for place, length in texts:
        blanked += any(header[place : place + length])
        header[place : place + length] = bytes(length)
    struct.pack_into(f"{order}q" if second else f"{order}f", header, 168 if second else 108, size + 4)
    already = bytes(header[size:])
    new.write(bytes(header[:size]) + bytes(4))
    _skip(file, begin - len(header))
    _voxels(file, new, count, already[begin - size :] if begin < len(header) else b"")
    return {"texts_blanked": blanked, "bytes_removed": begin - size - 4}


def _layout(header: bytearray, order: str, second: bool) -> tuple[int, int]:
    """Returns where the voxels begin, and how many bytes they have."""
    dims = struct.unpack_from(f"{order}8q" if second else f"{order}8h", header, 16 if second else 40)
    bits = struct.unpack_from(f"{order}h", header, 14 if second else 72)[0]
    begin = struct.unpack_from(f"{order}q" if second else f"{order}f", header, 168 if second else 108)[0]
    size = 540 if second else 348
    if not 1 <= dims[0] <= 7 or min(dims[1 : 1 + dims[0]]) < 1 or bits < 1 or not math.isfinite(begin):
        raise held.HeldBackError("the NIfTI header is damaged")
    count = math.ceil(math.prod(dims[1 : 1 + dims[0]]) * bits / 8)
    if count > LARGEST_VOXELS or not size + 4 <= begin <= LARGEST_VOXELS:
        raise held.HeldBackError("the NIfTI header is damaged, or the volume too large")
    return int(begin), count


def _skip(file: Any, count: int) -> None:
    while count > 0:
        piece = file.read(min(count, _PIECE))
        if not piece:
            raise held.HeldBackError("the NIfTI data end early")
        count -= len(piece)


def _voxels(file: Any, new: Any, count: int, begun: bytes) -> None:
    new.write(begun[:count])
    count -= len(begun[:count])
    while count > 0:
        piece = file.read(min(count, _PIECE))
        if not piece:
            raise held.HeldBackError("the NIfTI data end early")
        new.write(piece)
        count -= len(piece)
