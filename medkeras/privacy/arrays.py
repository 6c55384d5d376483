"""Arrays of numbers that end where their description says: what follows could be words.

Reference:
    DICOM PS3.3, C.7.6.3.1.5, C.10.9 and C.11.1; PS3.5, annex G (RLE).
"""

from __future__ import annotations

import struct
from collections.abc import MutableSequence

import numpy as np
import pydicom

from medkeras.privacy import held

_COLOURS = ("Red", "Green", "Blue", "Alpha")
_TABLES = (
    *((f"{colour}PaletteColorLookupTableData", f"{colour}PaletteColorLookupTableDescriptor") for colour in _COLOURS),
    ("LUTData", "LUTDescriptor"),
    ("BlendingLookupTableData", "BlendingLookupTableDescriptor"),
)
_SEGMENTED = tuple(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS)
_SAMPLES = ("WaveformPaddingValue", "ChannelMinimumValue", "ChannelMaximumValue")
_LARGEST_SAMPLE = 8
# Words that a segment of a palette takes: of a linear one and of one told by its place, with their code.
_LINEAR, _INDIRECT = 3, 4


def cut(level: pydicom.Dataset) -> None:
    """Cuts the palettes, look-up tables and waveforms of one level of a dataset; one without description goes."""
    for table, descriptor in _TABLES:
        if table in level:
            entries = level.get(descriptor)
            if not isinstance(entries, MutableSequence) or not entries:
                del level[table]
            else:
                size = int(entries[0]) or 2**16
                level[table].value = level[table].value[: 2 * size if isinstance(level[table].value, bytes) else size]
    for name in _SEGMENTED:
        if name in level:
            level[name].value = _segments(level[name].value or b"")
    for name in _SAMPLES:
        if name in level:
            level[name].value = (level[name].value or b"")[:_LARGEST_SAMPLE]
    if "WaveformData" in level:
        names = ("NumberOfWaveformChannels", "NumberOfWaveformSamples", "WaveformBitsAllocated")
        channels, samples, bits = (int(level.get(name) or 0) for name in names)
        size = channels * samples * bits // 8
        level["WaveformData"].value = level["WaveformData"].value[: size + size % 2]


def _segments(data: bytes) -> bytes:
    """Returns the segments of a palette up to the first one that is none (PS3.3, C.7.9.2)."""
    words, place = np.frombuffer(data[: len(data) // 2 * 2], "<u2"), 0
    while place + 2 <= len(words):
        code, length = int(words[place]), int(words[place + 1])
        size = {0: 2 + length, 1: _LINEAR, 2: _INDIRECT}.get(code, 0)
        if not size or place + size > len(words):
            break
        place += size
    return data[: 2 * place]


def cut_rle(frame: bytes, pixels: int) -> bytes:
    """Returns a run-length coded frame without the bytes that decode to nothing.

    Args:
        frame: A header of 64 bytes and the segments, one for each byte of a pixel.
        pixels: How many bytes each segment decodes to.

    Raises:
        HeldBackError: The segments do not decode to that many bytes.
    """
    if len(frame) < 64:
        raise held.HeldBackError("the RLE data end early")
    count, *places = struct.unpack("<16I", frame[:64])
    if not 1 <= count <= 15 or any(not 64 <= place < len(frame) for place in places[:count]):
        raise held.HeldBackError("the RLE header is damaged")
    segments = [_segment(frame, place, pixels) for place in places[:count]]
    starts = [64 + sum(map(len, segments[:number])) for number in range(count)]
    return struct.pack("<16I", count, *starts, *[0] * (15 - count)) + b"".join(segments)


def _segment(frame: bytes, begin: int, pixels: int) -> bytes:
    place, made, end = begin, 0, len(frame)
    while made < pixels:
        if place >= end:
            raise held.HeldBackError("the RLE data end early")
        code = frame[place]
        if code < 128:
            place, made = place + 2 + code, made + 1 + code
        elif code > 128:
            place, made = place + 2, made + 257 - code
        else:
            place += 1
    if place > end:
        raise held.HeldBackError("the RLE data end early")
    return frame[begin:place] + b"\0" * ((place - begin) % 2)
