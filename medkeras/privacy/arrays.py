"""Arrays of numbers that end where their description says: what follows could be words.

Reference:
    DICOM PS3.3, C.7.6.3.1.5, C.10.9 and C.11.1; PS3.5, annex G (RLE).
"""

from __future__ import annotations

import struct

import pydicom

from medkeras.privacy import held

_PALETTES = tuple(
    (f"{colour}PaletteColorLookupTableData", f"{colour}PaletteColorLookupTableDescriptor")
    for colour in ("Red", "Green", "Blue", "Alpha")
)


def cut(level: pydicom.Dataset) -> None:
    """Cuts the palettes, look-up tables and waveforms of one level of a dataset; one without description goes."""
    for table, descriptor in (*_PALETTES, ("LUTData", "LUTDescriptor")):
        if table in level and isinstance(level[table].value, bytes):
            entries = level.get(descriptor)
            if not entries:
                del level[table]
            else:
                level[table].value = level[table].value[: 2 * (int(entries[0]) or 2**16)]
    if "WaveformData" in level:
        names = ("NumberOfWaveformChannels", "NumberOfWaveformSamples", "WaveformBitsAllocated")
        channels, samples, bits = (int(level.get(name) or 0) for name in names)
        size = channels * samples * bits // 8
        level["WaveformData"].value = level["WaveformData"].value[: size + size % 2]


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
