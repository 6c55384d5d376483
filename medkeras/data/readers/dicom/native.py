"""Samples that are not compressed: found by position, turned to the machine's order, masked to their stored bits.

Reference:
    PS3.5 section 8.1.1 (cells and stored bits), section 8.2 (encoding), annex D (bit and byte order).
"""

from __future__ import annotations

import math

import numpy as np

from medkeras import errors
from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import source as sources


def frame_bits(form: forms.Form) -> int:
    """Returns how many bits a frame takes; chrominance of YBR_FULL_422 is stored for every other column."""
    samples = 2 if form.photometric == "YBR_FULL_422" else form.samples
    return form.rows * form.columns * samples * form.allocated


def check(source: sources.Source, form: forms.Form) -> int:
    """Returns how many bytes lie beyond the declared frames.

    Raises:
        RefusalError: There are fewer bytes than declared.
    """
    pixels = source.pixels
    needed = math.ceil(frame_bits(form) * form.frames / 8)
    found = min(pixels.length or 0, len(source.data) - pixels.start)
    if found < needed or found < (pixels.length or 0):
        raise errors.RefusalError(f"the pixel data take {max(needed, pixels.length or 0)} bytes. Received: {found}")
    if form.photometric == "YBR_FULL_422" and (form.columns % 2 or found >= needed // 2 * 3):
        raise errors.RefusalError("YBR_FULL_422 has two chrominance samples for two pixels, and even columns")
    return found - needed


def frame(source: sources.Source, form: forms.Form, index: int) -> np.ndarray:
    """Reads one frame.

    Returns:
        Samples, `[rows, columns, samples]`, of the narrowest type that holds them.
    """
    if form.allocated == 1:
        return _bits(source, form, index)
    raw = _cells(source, form, index)
    if form.photometric == "YBR_FULL_422":
        return masked(_spread(raw, form), form)
    if form.planar and form.samples == 3:
        return masked(raw.reshape(3, form.rows, form.columns).transpose(1, 2, 0), form)
    return masked(raw.reshape(form.rows, form.columns, form.samples), form)


def masked(raw: np.ndarray, form: forms.Form) -> np.ndarray:
    """Cuts cells down to their stored bits; overlays and garbage above and below them go.

    Args:
        raw: Cells of `form.allocated` bits, unsigned, or floating-point numbers.
    """
    if form.real:
        return raw
    above, below = form.allocated - 1 - form.high, form.high + 1 - form.stored
    if form.signed:
        raw = raw.view(f"i{raw.dtype.itemsize}")
    if above:
        raw = np.left_shift(raw, above)
    return np.right_shift(raw, above + below) if above + below else raw


def _cells(source: sources.Source, form: forms.Form, index: int) -> np.ndarray:
    size = form.allocated // 8
    little = source.layout.encoding.little
    count = frame_bits(form) // form.allocated
    start = source.pixels.start + index * count * size
    if size == 1 and not little and source.pixels.words:
        return _swapped_bytes(source, index * count, count)
    dtype = np.dtype(f"{'f' if form.real else 'u'}{size}")
    cells = np.frombuffer(source.data, dtype.newbyteorder("<" if little else ">"), count, start)
    return cells.astype(dtype)


def _swapped_bytes(source: sources.Source, first: int, count: int) -> np.ndarray:
    """Reads bytes that were written as words, the most significant byte first."""
    pixels = source.pixels
    words = np.frombuffer(source.data, ">u2", (pixels.length or 0) // 2, pixels.start)
    return words.astype("<u2").view(np.uint8)[first : first + count]


def _bits(source: sources.Source, form: forms.Form, index: int) -> np.ndarray:
    """Reads samples of one bit, the first in the least significant bit; frames follow without padding."""
    count = form.rows * form.columns
    first = index * count
    start, stop = first // 8, math.ceil((first + count) / 8)
    packed = np.frombuffer(source.data, np.uint8, stop - start, source.pixels.start + start)
    bits = np.unpackbits(packed, bitorder="little")[first - 8 * start :][:count]
    return bits.reshape(form.rows, form.columns, 1)


def _spread(raw: np.ndarray, form: forms.Form) -> np.ndarray:
    """Repeats the chrominance of YBR_FULL_422 (Y1 Y2 Cb Cr) for both of its pixels (PS3.3 C.7.6.3.1.2)."""
    pairs = raw.reshape(form.rows, form.columns // 2, 4)
    luma = pairs[..., :2].reshape(form.rows, form.columns, 1)
    return np.concatenate([luma, np.repeat(pairs[..., 2:], 2, axis=1)], axis=2)
