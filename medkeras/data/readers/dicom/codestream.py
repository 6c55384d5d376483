"""What a compressed frame says of itself, read before its decoder allocates anything.

Reference:
    ISO/IEC 10918-1 annex B (JPEG), ISO/IEC 14495-1 annex C (JPEG-LS), ISO/IEC 15444-1 annex A (JPEG 2000).
"""

from __future__ import annotations

import dataclasses
import struct

from medkeras import errors

MAX_SEGMENTS = 4096
_FRAME = struct.Struct(">BHHB")
_SIZ = struct.Struct(">HIIIIIIIIH")
_BOX = struct.Struct(">I4s")
_JPEG_TABLES = (0xC4, 0xC8, 0xCC)
_JP2 = b"\x00\x00\x00\x0cjP  "


@dataclasses.dataclass(frozen=True)
class Header:
    """The form of one compressed frame.

    Attributes:
        process: The JPEG frame marker (0xC0 baseline, 0xC3 lossless, 0xF7 JPEG-LS ...), 0x51 for JPEG 2000.
        rows: Rows.
        columns: Columns.
        components: Samples a pixel.
        precision: Bits of a sample.
        signed: Whether samples are in two's complement (JPEG 2000 only).
        identifiers: Component identifiers (JPEG).
        jfif: Whether a JFIF marker says that colours are YCbCr.
        adobe: The colour transform of an Adobe marker, 0 none, 1 YCbCr; None: no such marker.
    """

    process: int
    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    identifiers: bytes = b""
    jfif: bool = False
    adobe: int | None = None


def header(data: bytes) -> Header:
    """Reads the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Raises:
        RefusalError: It is none, or is damaged.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        start = _codestream(data) if data.startswith(_JP2) else 0
        if data[start : start + 4] == b"\xff\x4f\xff\x51":
            return _jpeg2000(data, start + 4)
    except (struct.error, IndexError):
        pass
    raise errors.RefusalError("the header of a compressed frame is damaged")


def _jpeg(data: bytes) -> Header:
    position, jfif, adobe = 2, False, None
    for _ in range(MAX_SEGMENTS):
        if data[position] != 0xFF:
            break
        code = data[position + 1]
        if code == 0xFF:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = data[position + 4 : position + 2 + length]
        if (0xC0 <= code <= 0xCF and code not in _JPEG_TABLES) or code == 0xF7:
            return _frame(code, body, jfif, adobe)
        jfif = jfif or (code == 0xE0 and body.startswith(b"JFIF"))
        if code == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        position += 2 + length
    raise errors.RefusalError("the header of a compressed frame is damaged")


def _frame(code: int, body: bytes, jfif: bool, adobe: int | None) -> Header:
    precision, rows, columns, components = _FRAME.unpack_from(body)
    identifiers = body[6 : 6 + 3 * components : 3]
    return Header(code, rows, columns, components, precision, identifiers=identifiers, jfif=jfif, adobe=adobe)


def _codestream(data: bytes) -> int:
    """Returns the position of the codestream within a JP2 file."""
    position = 0
    for _ in range(MAX_SEGMENTS):
        length, kind = _BOX.unpack_from(data, position)
        if kind == b"jp2c":
            return position + 8
        position += max(length, 8)
    return position


def _jpeg2000(data: bytes, start: int) -> Header:
    """Reads SIZ, from its length on."""
    _, right, bottom, left, top, *_, components = _SIZ.unpack_from(data, start + 2)
    sizes = data[start + 38 : start + 38 + 3 * components]
    if len(sizes) < 3 * components or not components:
        raise errors.RefusalError("the header of a compressed frame is damaged")
    if len(set(sizes[0::3])) > 1 or set(sizes[1::3]) | set(sizes[2::3]) != {1}:
        raise errors.RefusalError("the components of a JPEG 2000 frame are alike and not subsampled")
    return Header(0x51, bottom - top, right - left, components, (sizes[0] & 0x7F) + 1, bool(sizes[0] & 0x80))
