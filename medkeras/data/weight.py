"""What a PNG or a JPEG would cost its decoder beyond what its header declares, found before the decoder sees it.

The decoder inflates all that a PNG holds, and goes over the whole picture for each scan of a progressive JPEG: a small
file could keep it busy for minutes.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

# A smaller PNG cannot inflate to more than half a gigabyte, and is not looked into.
SMALL_PNG = 2**19
_MAX_CHUNKS = 2**17
_MAX_MARKERS = 2**12
_STEP, _BLOCK = 2**16, 2**20
_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")


def inflates_beyond(file: BinaryIO, most: int) -> bool:
    """Returns whether the pixels of a PNG inflate to more than `most` bytes, or lie in pieces without number."""
    if os.fstat(file.fileno()).st_size < SMALL_PNG:
        return False
    inflater, count = zlib.decompressobj(), 0
    for piece in _png_data(file):
        while piece and not inflater.eof and count <= most:
            try:
                count += len(inflater.decompress(piece, _STEP))
            except zlib.error:
                return False
            piece = inflater.unconsumed_tail
        if piece is None or count > most:
            return True
    return False


def _png_data(file: BinaryIO) -> Iterator[bytes | None]:
    """Yields the contents of the IDAT chunks, piece by piece; last None where there are too many chunks."""
    file.seek(8)
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        length, name = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"IEND")
        if name == b"IEND":
            return
        after = file.tell() + length + 4
        for start in range(0, length if name == b"IDAT" else 0, _STEP):
            piece = file.read(min(_STEP, length - start))
            if not piece:
                return
            yield piece
        file.seek(after)
    yield None


def scans_beyond(file: BinaryIO, most: int) -> bool:
    """Returns whether more than `most` scans follow in a JPEG, from the end of its frame header on.

    Reference:
        ISO/IEC 10918-1, B.1.1: compressed data hold no marker but restarts; the other markers have a length.
    """
    position, count = file.tell(), 0
    # Nearly every file has too few marks even if all bytes that look like one are counted, which is fast.
    if _marks(file) <= most:
        return False
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for _ in range(_MAX_MARKERS):
            found = _MARKER.search(data, position)
            if not found or found[1] == b"\xd9":
                return False
            count += found[1] == b"\xda"
            if count > most:
                return True
            position = found.end() + (
                0 if found[1] == b"\xd8" else int.from_bytes(data[found.end() : found.end() + 2], "big")
            )
    return True


def _marks(file: BinaryIO) -> int:
    count, last = 0, b""
    while part := file.read(_BLOCK):
        count += (last + part).count(_SCAN)
        last = part[-1:]
    return count
