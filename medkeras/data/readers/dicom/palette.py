"""Palettes: three lookup tables, stored entry by entry or in segments.

Reference:
    PS3.3 sections C.7.6.3.1.5, C.7.6.3.1.6 (palette color lookup tables) and C.7.9.2 (segmented ones).
"""

from __future__ import annotations

import numpy as np
import pydicom

from medkeras import errors
from medkeras.data.readers.dicom import tables, tags

_COLOURS = ("Red", "Green", "Blue")
_DISCRETE, _LINEAR, _INDIRECT = range(3)
_DAMAGED = "a segmented palette expands to as many entries as it declares"


def palette(dataset: pydicom.Dataset, signed: bool) -> tuple[tables.Table, ...]:
    """Reads the palette of an image.

    Args:
        dataset: The data set.
        signed: Whether its stored values are.

    Returns:
        The tables of red, green and blue, of equal depth.

    Raises:
        RefusalError: A table is missing, or not as long as it says.
    """
    found = tuple(_colour(dataset, name, signed) for name in _COLOURS)
    if len({one.entries.dtype for one in found}) > 1:
        raise errors.RefusalError("the three tables of a palette have equal depths")
    return found


def expand(stored: np.ndarray, colours: tuple[tables.Table, ...]) -> np.ndarray:
    """Looks up the colours of a palette: `[rows, columns, 1]` becomes `[rows, columns, 3]`."""
    return np.concatenate([colour.apply(stored) for colour in colours], axis=-1)


def _colour(dataset: pydicom.Dataset, name: str, signed: bool) -> tables.Table:
    descriptor = f"{name}PaletteColorLookupTableDescriptor"
    segments = tags.value(dataset, f"Segmented{name}PaletteColorLookupTableData")
    if not isinstance(segments, bytes):
        return tables.table(dataset, descriptor, f"{name}PaletteColorLookupTableData", signed)
    count, first, bits = tables.described(dataset, descriptor, signed)
    words = np.frombuffer(segments, np.uint8) if bits == 8 else tables.words(dataset, segments)
    try:
        entries = _expanded(words.tolist(), wide=bits > 8, limit=count)
    except IndexError:
        raise errors.RefusalError(_DAMAGED) from None
    if len(entries) != count:
        raise errors.RefusalError(_DAMAGED)
    return tables.Table(first, bits, np.asarray(entries, np.uint8 if bits == 8 else np.uint16))


def _expanded(words: list[int], *, wide: bool, limit: int) -> list[int]:
    entries: list[int] = []
    position = 0
    while position + 1 < len(words) and len(entries) <= limit:
        if words[position] == _INDIRECT:
            parts = words[position + 2 : position + (4 if wide else 6)]
            place = sum(part << (16 if wide else 8) * at for at, part in enumerate(parts)) // (2 if wide else 1)
            for _ in range(words[position + 1]):
                place = _segment(words, place, entries, limit)
            position += 4 if wide else 6
        else:
            position = _segment(words, position, entries, limit)
    return entries


def _segment(words: list[int], position: int, entries: list[int], limit: int) -> int:
    """Appends the entries of a discrete or linear segment, and returns where the next segment begins."""
    kind, length = words[position], words[position + 1]
    if kind not in (_DISCRETE, _LINEAR) or len(entries) + length > limit or (kind == _LINEAR and not entries):
        raise errors.RefusalError(_DAMAGED)
    if kind == _DISCRETE:
        entries.extend(words[position + 2 : position + 2 + length])
        return position + 2 + length
    begin, end = entries[-1], words[position + 2]
    entries.extend(round(begin + (end - begin) * step / length) for step in range(1, length + 1))
    return position + 3
