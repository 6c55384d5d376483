"""Where the elements of a DICOM data set begin and end, found without parsing any and within bounds.

A parser that trusts nested sequences and element counts can be kept busy for minutes by a small file. This walk visits
each element once, keeps a list of the open sequences, and refuses what no image needs; the parser comes after it.

Reference:
    PS3.5 section 7 (data set), section 7.5 (nesting), annex A (transfer syntaxes).
"""

from __future__ import annotations

import dataclasses
import mmap
import struct
from collections.abc import Iterator

from medkeras import errors

# An enhanced object of 2,000 frames holds about 120,000 elements.
MAX_ELEMENTS = 2**18
MAX_DEPTH = 32
MAX_FRAGMENTS = 2**17
MAX_META = 64

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
TRANSFER_SYNTAX = 0x00020010
FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS = 0x7FE00008, 0x7FE00009, 0x7FE00010
_PIXEL_TAGS = (FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS)
# Value representations with a length of four bytes (PS3.5 table 7.1-1); the others have two.
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_BYTES = frozenset((b"OB", b"OW"))

Buffer = bytes | mmap.mmap


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How the elements of a data set are written.

    Attributes:
        implicit: Whether the value representation is left out.
        little: Whether the least significant byte comes first.
    """

    implicit: bool
    little: bool


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Where the pixel data lie.

    Attributes:
        tag: (7FE0,0008) float, (7FE0,0009) double float or (7FE0,0010) whole numbers.
        words: Whether the element says that it holds 16-bit words (OW).
        start: Position of the first byte of the value.
        length: Bytes of the value; None: fragments follow.
    """

    tag: int
    words: bool
    start: int
    length: int | None


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the walk found.

    Attributes:
        start: Position of the first element of the data set.
        end: Position after the last element before the pixel data.
        encoding: How the elements are really written.
        pixels: Where the pixel data lie; None: there are none.
    """

    start: int
    end: int
    encoding: Encoding
    pixels: Pixels | None


class _Walk:
    """The state of a walk: a position, and the ends of the open sequences and items."""

    def __init__(self, data: Buffer, start: int, encoding: Encoding) -> None:
        self.data = data
        self.size = len(data)
        self.position = start
        self.encoding = encoding
        self.implicit = encoding.implicit
        self.open: list[tuple[float, bool]] = []
        order = "<" if encoding.little else ">"
        self._short = struct.Struct(f"{order}HH2sH").unpack_from
        self._plain = struct.Struct(f"{order}HHI").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from

    def element(self) -> tuple[int, bytes, int]:
        """Returns tag, value representation (empty where it is not written) and length; moves to the value."""
        group, number, length = self._plain(self.data, self.position)
        tag = group << 16 | number
        if self.implicit or group == 0xFFFE:
            self.position += 8
            return tag, b"", length
        _, _, kind, short = self._short(self.data, self.position)
        if kind not in _LONG:
            self.position += 8
            return tag, kind, short
        (length,) = self._long(self.data, self.position + 8)
        self.position += 12
        return tag, kind, length

    def nest(self, length: int, implicit: bool = False) -> None:
        """Opens a sequence or an item; one of unknown representation is written implicitly (PS3.5 section 6.2.2)."""
        end = self.size if length == UNDEFINED else self.position + length
        if end > self.size:
            raise errors.RefusalError("the file ends within a sequence")
        self.open.append((end, self.implicit))
        self.implicit = self.implicit or implicit
        if len(self.open) > 2 * MAX_DEPTH:
            raise errors.RefusalError(f"DICOM sequences are nested at most {MAX_DEPTH} deep")

    def leave(self) -> None:
        """Closes the innermost item or sequence."""
        if self.open:
            _, self.implicit = self.open.pop()

    def close(self) -> None:
        """Leaves the items and sequences whose last byte has passed."""
        while self.open and self.position >= self.open[-1][0]:
            self.leave()

    def skip(self, length: int) -> None:
        """Passes over a value."""
        self.position += length
        if self.position > self.size:
            raise errors.RefusalError("the file ends within an element")


def layout(data: Buffer, start: int, declared: Encoding) -> Layout:
    """Walks over a data set, up to its pixel data.

    Args:
        data: The bytes of the file, or of the inflated data set.
        start: Position of the first element.
        declared: How the transfer syntax says that the elements are written.

    Raises:
        RefusalError: The elements are cut short, or nested or counted beyond what any image needs.
    """
    walk = _Walk(data, start, _encoding(data, start, declared))
    for _ in range(MAX_ELEMENTS):
        walk.close()
        begin = walk.position
        if begin + 8 > walk.size:
            if any(data[begin:]):
                raise errors.RefusalError("the file ends within an element")
            return Layout(start, begin, walk.encoding, None)
        try:
            tag, kind, length = walk.element()
        except struct.error:
            raise errors.RefusalError("the file ends within an element") from None
        if tag in _PIXEL_TAGS and not walk.open:
            return Layout(start, begin, walk.encoding, _pixels(walk, tag, kind, length))
        _step(walk, tag, kind, length)
    raise errors.RefusalError(f"a DICOM header has at most {MAX_ELEMENTS} elements")


def meta(data: Buffer, start: int) -> tuple[bytes, int]:
    """Returns the transfer syntax that the file meta information states, and where the data set begins.

    Reference:
        PS3.10 section 7.1: group 0002, explicit, little endian.
    """
    walk, syntax = _Walk(data, start, Encoding(implicit=False, little=True)), b""
    for _ in range(MAX_META):
        begin = walk.position
        if data[begin : begin + 2] != b"\x02\x00":
            return syntax, begin
        try:
            tag, _, length = walk.element()
        except struct.error:
            raise errors.RefusalError("the file ends within an element") from None
        value = walk.position
        walk.skip(length)
        if tag == TRANSFER_SYNTAX:
            syntax = data[value : value + min(length, 128)]
    raise errors.RefusalError(f"the file meta information of a DICOM file has at most {MAX_META} elements")


def _step(walk: _Walk, tag: int, kind: bytes, length: int) -> None:
    if tag in (ITEM_END, SEQUENCE_END):
        walk.leave()
    elif tag == ITEM:
        walk.nest(length)
    elif length == UNDEFINED and (kind in _BYTES or tag == PIXELS):
        walk.position = _last_fragment(walk)
    elif kind == b"SQ" or length == UNDEFINED or _hidden_sequence(walk, tag, kind, length):
        walk.nest(length, implicit=kind == b"UN")
    else:
        walk.skip(length)


def _hidden_sequence(walk: _Walk, tag: int, kind: bytes, length: int) -> bool:
    """Returns whether a public element without a representation is a sequence; private ones are never parsed."""
    item = b"\xfe\xff\x00\xe0" if walk.encoding.little else b"\xff\xfe\xe0\x00"
    private = tag >> 16 & 1
    return kind in (b"", b"UN") and not private and length >= 8 and walk.data[walk.position : walk.position + 4] == item


def _last_fragment(walk: _Walk) -> int:
    end = walk.position
    for _, start, length in fragments(walk.data, walk.position, walk.encoding.little):
        end = start + length
    return end + 8


def _encoding(data: Buffer, start: int, declared: Encoding) -> Encoding:
    """Returns how the elements are really written: some writers leave out the value representation, or add it."""
    kind = data[start + 4 : start + 6]
    explicit = kind.isalpha() and kind.isupper()
    return dataclasses.replace(declared, implicit=not explicit) if len(kind) == 2 else declared


def _pixels(walk: _Walk, tag: int, kind: bytes, length: int) -> Pixels:
    if length == UNDEFINED:
        return Pixels(tag, False, walk.position, None)
    return Pixels(tag, kind != b"OB", walk.position, length)


def fragments(data: Buffer, start: int, little: bool) -> Iterator[tuple[int, int, int]]:
    """Yields the number, the position and the length of each fragment; the first is the basic offset table.

    Reference:
        PS3.5 section A.4.
    """
    unpack = struct.Struct("<HHI" if little else ">HHI").unpack_from
    position = start
    for number in range(MAX_FRAGMENTS):
        if position + 8 > len(data):
            raise errors.RefusalError("the file ends before its last fragment")
        group, element, length = unpack(data, position)
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return
        if tag != ITEM or position + 8 + length > len(data):
            raise errors.RefusalError("the fragments of the pixel data are damaged")
        yield number, position + 8, length
        position += 8 + length
    raise errors.RefusalError(f"pixel data have at most {MAX_FRAGMENTS} fragments")
