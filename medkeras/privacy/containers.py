"""GIF, BMP and WebP files without comments, profiles, application data or anything after the pixels.

Reference:
    GIF89a specification; RFC 9649 (WebP), 2; Windows BITMAPV5HEADER.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from medkeras.privacy import held, jpeg

_CONTROL, _CONTROL_BYTES = 0xF9, 8
_ALPHA, _EXIF, _ANIMATED = 0x10, 0x08, 0x02
_WEBP_KEPT = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_BMP_RLE = (1, 2)
_BMP_KEPT = (0, 3, 6)
_BMP_HEADERS = (40, 52, 56, 64, 108, 124)


def strip_gif(data: bytes) -> bytes:
    """Returns a GIF file with its images and their timing alone; raises `HeldBackError` for a damaged one."""
    if len(data) < 13:
        raise held.HeldBackError("the GIF data end early")
    place = 13 + _table_size(data[10])
    kept = [data[:place]]
    while place < len(data) and data[place] != 0x3B:
        if data[place] == 0x21:
            end = _blocks_end(data, place + 2)
            if data[place + 1] == _CONTROL and end - place == _CONTROL_BYTES:
                kept.append(data[place:end])
        elif data[place] == 0x2C and place + 10 <= len(data):
            end = _blocks_end(data, place + 11 + _table_size(data[place + 9]))
            kept.append(data[place:end])
        else:
            raise held.HeldBackError("the GIF data are damaged")
        place = end
    if place >= len(data):
        raise held.HeldBackError("the GIF data end early")
    return b"".join((*kept, b"\x3b"))


def _table_size(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, place: int) -> int:
    while place < len(data):
        size = data[place]
        place += 1 + size
        if not size:
            return place
    raise held.HeldBackError("the GIF data end early")


def strip_bmp(data: bytes) -> bytes:
    """Returns a BMP file whose colour profile and gaps are gone; raises `HeldBackError` for a damaged one."""
    if len(data) < 54:
        raise held.HeldBackError("the BMP data end early")
    offset, size, width, height, _, bits, form, stated = struct.unpack_from("<IIiiHHII", data, 10)
    colours = struct.unpack_from("<I", data, 46)[0]
    if (
        size not in _BMP_HEADERS
        or colours > 256
        or form not in (*_BMP_KEPT, *_BMP_RLE)
        or bits not in (1, 2, 4, 8, 16, 24, 32)
    ):
        raise held.HeldBackError("a BMP has a header of Windows 3 or later and no JPEG or PNG inside")
    masks = {3: 12, 6: 16}.get(form, 0) if size == 40 else 0
    table = 4 * (colours or (2**bits if bits <= 8 else 0))
    length = stated if form in _BMP_RLE else (width * bits + 31) // 32 * 4 * abs(height)
    begin = 14 + size + masks + table
    pixels = data[offset : offset + length]
    if not begin <= offset or len(pixels) < length or width <= 0:
        raise held.HeldBackError("the BMP data end early, or do not fit their header")
    header = bytearray(data[14:begin])
    if size >= 124:
        struct.pack_into("<4s", header, 56, b"BGRs")
        struct.pack_into("<III", header, 112, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", begin + length, 0, 0, begin) + bytes(header) + pixels


def strip_webp(data: bytes) -> bytes:
    """Returns a WebP file with its images alone, and its orientation; raises `HeldBackError` for a damaged one."""
    kept, orientation = [], 1
    for name, body in _riff(data[12 : 8 + int.from_bytes(data[4:8], "little")]):
        if name == b"EXIF":
            orientation = jpeg.exif_orientation(body.removeprefix(b"Exif\0\0"))
        elif name in _WEBP_KEPT:
            kept.append((name, _frames_alone(body) if name == b"ANMF" else body))
    if not kept:
        raise held.HeldBackError("the WebP file holds no image")
    extended = kept[0][0] == b"VP8X"
    if extended:
        flags = kept[0][1][0] & (_ALPHA | _ANIMATED) | (_EXIF if orientation != 1 else 0)
        kept[0] = (b"VP8X", bytes((flags,)) + kept[0][1][1:10])
        if orientation != 1:
            kept.append((b"EXIF", jpeg.minimal_exif(orientation)))
    body = b"WEBP" + b"".join(_riff_chunk(name, body) for name, body in kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        if place + 8 + size > len(data):
            raise held.HeldBackError("the WebP data end early")
        yield name, data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _frames_alone(body: bytes) -> bytes:
    """Returns an animation's frame without chunks that are no image."""
    kept = (chunk for chunk in _riff(body[16:]) if chunk[0] in _WEBP_KEPT)
    return body[:16] + b"".join(_riff_chunk(name, inner) for name, inner in kept)


def _riff_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
