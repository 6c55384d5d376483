"""Lookup tables: modality, VOI and palette.

Reference:
    PS3.3 sections C.11.1.1.1, C.11.2.1.1 (LUT descriptor and data), C.7.6.3.1.5 and C.7.6.3.1.6 (palettes).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pydicom

from medkeras import errors
from medkeras.data.readers.dicom import tags


@dataclasses.dataclass(frozen=True)
class Table:
    """A lookup table.

    Attributes:
        first: The stored value that the first entry is for; lower ones take it too.
        bits: Bits of an entry.
        entries: The entries, uint8 or uint16.
    """

    first: int
    bits: int
    entries: np.ndarray

    @property
    def highest(self) -> int:
        """Returns the highest value that an entry can have."""
        return (1 << self.bits) - 1

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """Looks values up; those beyond the ends of the table take its ends."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def table(dataset: pydicom.Dataset, descriptor: str, data: str, signed: bool) -> Table:
    """Reads a lookup table.

    Args:
        dataset: The item of the sequence, or the data set, that holds it.
        descriptor: Keyword of the descriptor.
        data: Keyword of the entries.
        signed: Whether the stored values are.

    Raises:
        RefusalError: The entries are not as many or as wide as the descriptor says.
    """
    count, first, bits = described(dataset, descriptor, signed)
    found = tags.value(dataset, data)
    if found is None:
        raise errors.RefusalError(f"{descriptor} comes with {data}")
    entries = _entries(dataset, found, count, bits)
    if len(entries) != count:
        raise errors.RefusalError(f"{data} has as many entries as declared, {count}. Received: {len(entries)}")
    return Table(first, bits, entries.astype(np.uint8 if bits <= 8 else np.uint16))


def described(dataset: pydicom.Dataset, descriptor: str, signed: bool) -> tuple[int, int, int]:
    """Returns the number of entries, the first value mapped, and the bits of an entry."""
    three = tags.numbers(dataset, descriptor)
    if len(three) != 3 or not all(one.is_integer() for one in three):
        raise errors.RefusalError(f"{descriptor} has three whole numbers")
    count, first, bits = (int(one) for one in three)
    if not 8 <= bits <= 16:
        raise errors.RefusalError(f"the entries of a lookup table have 8 to 16 bits. Received: {bits}")
    if signed and first > 32767:
        first -= 65536
    return (count & 0xFFFF) or 65536, first, bits


def _entries(dataset: pydicom.Dataset, found: object, count: int, bits: int) -> np.ndarray:
    if not isinstance(found, bytes):
        return np.atleast_1d(np.asarray(found, np.int64)) & 0xFFFF
    if bits == 8 and len(found) in (count, count + count % 2):
        return np.frombuffer(found, np.uint8, count)
    return words(dataset, found)


def words(dataset: pydicom.Dataset, found: bytes) -> np.ndarray:
    """Returns words of 16 bits in the byte order of the data set."""
    little = dataset.original_encoding[1] is not False
    return np.frombuffer(found[: len(found) // 2 * 2], "<u2" if little else ">u2")
