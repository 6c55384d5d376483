"""PNG files without text, times, colour profiles or anything after the pixels.

Reference:
    ISO/IEC 15948 (PNG), 11; PNG specification, third edition, 11.3.
"""

from __future__ import annotations

import struct
import types
import zlib
from collections.abc import Iterator, Mapping

from medkeras.privacy import held, jpeg

_MAGIC = b"\x89PNG\r\n\x1a\n"
# Chunks that decoding or showing needs, and how long the ancillary ones are at most: no room for words.
_KEPT: Mapping[bytes, int] = types.MappingProxyType(
    {
        **dict.fromkeys((b"IHDR", b"PLTE"), 768),
        b"tRNS": 256,
        b"gAMA": 4,
        b"cHRM": 32,
        b"sRGB": 1,
        b"sBIT": 4,
        b"pHYs": 9,
        b"bKGD": 6,
        b"cICP": 4,
    }
)
_PIECE = 2**20


def strip(data: bytes) -> bytes:
    """Returns a PNG file that decodes to the same pixels and says nothing else but how to turn them upright.

    Raises:
        HeldBackError: The chunks cannot be followed to the end, or one of them is damaged.
    """
    kept, pixels, orientation = [], [], 1
    for name, body in _chunks(data):
        if name == b"IDAT":
            pixels.append(body)
        elif name == b"eXIf":
            orientation = jpeg.exif_orientation(body)
        elif len(body) <= _KEPT.get(name, -1):
            kept.append(_chunk(name, body))
    if orientation != 1:
        kept.append(_chunk(b"eXIf", jpeg.minimal_exif(orientation)))
    return b"".join((_MAGIC, *kept, *(_chunk(b"IDAT", body) for body in _ended(pixels)), _chunk(b"IEND", b"")))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_MAGIC)
    while True:
        if place + 12 > len(data):
            raise held.HeldBackError("the PNG data end early")
        size, name = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + size]
        check = data[place + 8 + size : place + 12 + size]
        if check != zlib.crc32(name + body).to_bytes(4):
            raise held.HeldBackError("the PNG data are damaged, or end early")
        if name == b"IEND":
            return
        yield name, body
        place += 12 + size


def _chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)


def _ended(pixels: list[bytes]) -> Iterator[bytes]:
    """Yields the chunks of the compressed pixels up to where their stream ends."""
    stream = zlib.decompressobj()
    for body in pixels:
        try:
            rest = body
            while rest and not stream.eof:
                stream.decompress(rest, _PIECE)
                rest = stream.unconsumed_tail
        except zlib.error:
            raise held.HeldBackError("the PNG data are damaged") from None
        yield body[: len(body) - len(stream.unused_data)]
        if stream.eof:
            return
    raise held.HeldBackError("the PNG data end early")
