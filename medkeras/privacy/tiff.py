"""TIFF files rewritten with the tags that decoding needs; the compressed pixels are copied as they are.

Reference:
    TIFF 6.0; Adobe Photoshop TIFF Technical Notes (JPEG in TIFF).
"""

from __future__ import annotations

import io
import math
import struct
import types
import zlib
from collections.abc import Mapping
from typing import Any

import tifffile

from medkeras.privacy import held, jpeg

_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES, _SUBTYPE = 273, 279, 324, 325, 254
# What pixels mean and how they are packed; numbers alone, but for the tables of JPEG (347).
_KEPT = frozenset((_SUBTYPE, 256, 257, 258, 259, 262, 266, 274, 277, 278, 282, 283, 284, 292, 293, 296, 317, 320, 322,
                   323, 332, 338, 339, 347, 530, 531, 532))  # fmt: skip
_FORMATS: Mapping[int, str] = types.MappingProxyType({1: "B", 3: "H", 4: "I", 5: "I", 7: "B", 16: "Q"})
_REDUCED, _MASK = 1, 4
_RATIONAL, _LONG, _LONG8 = 5, 4, 16
_LARGEST_PAGES = 256
_TABLES, _UNDEFINED, _PLANES = 347, 7, 2
_NONE, _DEFLATE, _JPEG, _JPEG2000 = 1, (8, 32946), (7, 33007, 34892), (33003, 33004, 33005, 34712)
# CCITT, LZW, PackBits, LZMA and Zstandard: numbers alone.
_CODED = (2, 3, 4, 5, 32773, 34925, 50000)
_PIECE = 2**20


def strip(data: bytes) -> bytes:
    """Returns a TIFF file that decodes to the same pixels; previews are left out.

    Raises:
        HeldBackError: The file is damaged, or too large to be rewritten.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            order = file.byteorder
            pages = [_page(page, data) for page in list(file.pages)[:_LARGEST_PAGES] if _is_picture(page)]
    except held.HeldBackError:
        raise
    except Exception:
        raise held.HeldBackError("the TIFF data are damaged, or end early") from None
    if not pages:
        raise held.HeldBackError("the TIFF file holds no picture")
    return _written(order, pages)


def _is_picture(page: Any) -> bool:
    return page.index == 0 or not int(getattr(page, "subfiletype", 0)) & (_REDUCED | _MASK)


def _page(page: Any, data: bytes) -> tuple[dict[int, tuple[int, list[int]]], list[bytes]]:
    """Returns the tags of a page, each a type and its numbers, and the pieces of its pixels."""
    if int(page.compression) == 6:
        raise held.HeldBackError("a TIFF of the old JPEG compression is not rewritten")
    tags = {tag.code: (int(tag.dtype), _numbers(tag)) for tag in page.tags if tag.code in _KEPT}
    pieces = [data[at : at + size] for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if any(len(piece) != size for piece, size in zip(pieces, page.databytecounts, strict=True)):
        raise held.HeldBackError("the TIFF data end early")
    pieces = [_piece(page, index, piece) for index, piece in enumerate(pieces)]
    if _TABLES in tags:
        tags[_TABLES] = (_UNDEFINED, list(jpeg.strip_stream(bytes(tags[_TABLES][1]))))
    places, sizes = (_TILES, _TILE_SIZES) if page.is_tiled else (_STRIPS, _STRIP_SIZES)
    tags[places] = (_LONG, [0] * len(pieces))
    tags[sizes] = (_LONG, [len(piece) for piece in pieces])
    return tags, pieces


def _piece(page: Any, index: int, piece: bytes) -> bytes:
    """Returns a strip or tile of pixels without comments, and without what lies after the pixels."""
    compression = int(page.compression)
    if compression == _NONE:
        return piece[: _size(page, index)]
    if compression in _DEFLATE:
        inflating = zlib.decompressobj()
        while piece and not inflating.eof:
            inflating.decompress(inflating.unconsumed_tail or piece, _PIECE)
            if not inflating.unconsumed_tail:
                break
        return piece[: len(piece) - len(inflating.unused_data)]
    if compression in _JPEG:
        return jpeg.strip_stream(piece)
    if compression in _JPEG2000:
        return jpeg.strip_codestream(piece)
    if compression not in _CODED:
        raise held.HeldBackError("pixels in this compression may hold texts, which are not searched for")
    return piece


def _size(page: Any, index: int) -> int:
    """Returns how many bytes a strip or tile that is not compressed has at most."""
    samples = 1 if int(page.planarconfig) == _PLANES else int(page.samplesperpixel)
    width, rows = int(page.imagewidth), int(page.rowsperstrip)
    if page.is_tiled:
        width, rows = int(page.tilewidth), int(page.tilelength)
    else:
        begin = index % math.ceil(page.imagelength / rows) * rows
        rows = min(rows, page.imagelength - begin)
    return (width * samples * int(page.bitspersample) + 7) // 8 * rows


def _numbers(tag: Any) -> list[int]:
    if int(tag.dtype) not in _FORMATS:
        raise held.HeldBackError("the TIFF tags have forms that they do not have")
    value = tag.value
    if isinstance(value, bytes):
        return list(value)
    return [int(number) for number in value] if isinstance(value, tuple) else [int(value)]


def _written(order: str, pages: list[tuple[dict[int, tuple[int, list[int]]], list[bytes]]]) -> bytes:
    """Returns a classic TIFF file: each page's pixels, then its directory."""
    out = bytearray(b"II*\0" if order == "<" else b"MM\0*") + bytes(4)
    link = 4
    for tags, pieces in pages:
        places = []
        for piece in pieces:
            places.append(len(out))
            out += piece + b"\0" * (len(piece) % 2)
        tags[_TILES if _TILES in tags else _STRIPS] = (_LONG, places)
        entries = [_entry(order, code, *tags[code], out) for code in sorted(tags)]
        struct.pack_into(f"{order}I", out, link, len(out))
        out += struct.pack(f"{order}H", len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(4)
    return bytes(out)


def _entry(order: str, code: int, form: int, numbers: list[int], out: bytearray) -> bytes:
    """Returns one entry of a directory; numbers that do not fit into it are added to the file."""
    form = _LONG if form == _LONG8 else form
    body = struct.pack(f"{order}{len(numbers)}{_FORMATS[form]}", *numbers)
    count = len(numbers) // 2 if form == _RATIONAL else len(numbers)
    if len(body) > 4:
        place = len(out)
        out += body + b"\0" * (len(body) % 2)
        body = struct.pack(f"{order}I", place)
    return struct.pack(f"{order}HHI", code, form, count) + body.ljust(4, b"\0")
