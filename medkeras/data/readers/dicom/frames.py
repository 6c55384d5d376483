"""The bytes of one compressed frame, gathered from its fragments.

Reference:
    PS3.5 section A.4 and table A.4-1; PS3.3 section C.7.6.3 (extended offset table).
"""

from __future__ import annotations

import itertools
import struct

from medkeras import errors
from medkeras.data.readers.dicom import scan
from medkeras.data.readers.dicom import source as sources

_END_OF_IMAGE = b"\xff\xd9"
Span = tuple[int, int]


def joined(source: sources.Source, spans: list[Span]) -> bytes:
    """Returns the compressed bytes of one frame."""
    return b"".join(source.data[start : start + length] for start, length in spans)


def fragments(source: sources.Source, frames: int) -> list[list[Span]]:
    """Returns where the fragments of each frame lie.

    Raises:
        RefusalError: The fragments do not make up the frames that the header declares.
    """
    if source.pixels.length is not None:
        raise errors.RefusalError("compressed pixel data are stored in fragments")
    table, *found = [
        (start, length)
        for _, start, length in scan.fragments(source.data, source.pixels.start, source.layout.encoding.little)
    ] or [(0, 0)]
    if frames == 1:
        groups = [found] if found else []
    elif len(found) == frames:
        groups = [[span] for span in found]
    elif table[1]:
        groups = _by_table(source.data[table[0] : sum(table)], found)
    else:
        groups = _by_marker(source.data, found)
    if len(groups) != frames:
        raise errors.RefusalError(f"the pixel data hold {frames} frames. Received: fragments of {len(groups)}")
    return groups


def _by_table(table: bytes, found: list[Span]) -> list[list[Span]]:
    """Parts fragments by the basic offset table, which counts from the first fragment's tag."""
    offsets = struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4])
    starts = {start - found[0][0]: number for number, (start, _) in enumerate(found)} if found else {}
    if list(offsets) != sorted(set(offsets)) or not set(offsets) <= set(starts) or offsets[:1] != (0,):
        raise errors.RefusalError("the offset table of the pixel data is damaged")
    numbers = [starts[offset] for offset in offsets]
    return [found[begin:end] for begin, end in itertools.pairwise([*numbers, len(found)])]


def _by_marker(data: scan.Buffer, found: list[Span]) -> list[list[Span]]:
    """Parts fragments after those that end with an end-of-image marker and its padding."""
    groups: list[list[Span]] = [[]]
    for start, length in found:
        groups[-1].append((start, length))
        tail = data[max(start, start + length - 16) : start + length]
        if tail.rstrip(b"\x00").endswith(_END_OF_IMAGE):
            groups.append([])
    return [group for group in groups if group]
