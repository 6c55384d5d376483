"""Hostile DICOM, NIfTI and image files made by hand: sizes that lie, bombs, endless nesting, nonsense.

`DICOM`, `NIFTI` and `PACKED` map a name to a function that returns the bytes of the file. Names in `READABLE` are
files that are merely odd: they are read.
"""

from __future__ import annotations

import functools
import gzip
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from tests.data import images

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, RLE, MPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.100"
JPEG, JPEG_LS, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT")
UNDEFINED = 0xFFFFFFFF
SIDE = 16

Builder = Callable[[], bytes]


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in explicit little endian; `length` may lie."""
    value += b"\0" * (len(value) % 2)
    length = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in _LONG:
        return head + b"\0\0" + struct.pack("<I", length) + value
    return head + struct.pack("<H", length) + value


def short(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


PIXELS = np.arange(SIDE * SIDE, dtype="<u2").tobytes()
CT: Mapping[int, tuple[bytes, bytes]] = {
    0x00080016: (b"UI", b"1.2.840.10008.5.1.4.1.1.2"),
    0x00080018: (b"UI", b"1.2.3.4.5"),
    0x00080060: (b"CS", b"CT"),
    0x00100010: (b"PN", b"Doe^Jane"),
    0x00100020: (b"LO", b"P1"),
    0x0020000D: (b"UI", b"1.2.3"),
    0x0020000E: (b"UI", b"1.2.3.4"),
    0x00280002: (b"US", short(1)),
    0x00280004: (b"CS", b"MONOCHROME2"),
    0x00280010: (b"US", short(SIDE)),
    0x00280011: (b"US", short(SIDE)),
    0x00280100: (b"US", short(16)),
    0x00280101: (b"US", short(16)),
    0x00280102: (b"US", short(15)),
    0x00280103: (b"US", short(0)),
    0x00281052: (b"DS", b"-1024"),
    0x00281053: (b"DS", b"1"),
    0x7FE00010: (b"OW", PIXELS),
}


def meta(syntax: str) -> bytes:
    body = element(0x00020010, b"UI", syntax.encode()) if syntax else b""
    body = element(0x00020002, b"UI", CT[0x00080016][1]) + body
    return element(0x00020000, b"UL", struct.pack("<I", len(body))) + body


def dataset(changes: Mapping[int, tuple[bytes, bytes] | bytes | None]) -> bytes:
    """The CT with elements replaced, added (bytes: as they are) or, by None, left out."""
    elements = {tag: element(tag, *pair) for tag, pair in CT.items()}
    for tag, change in changes.items():
        if change is None:
            elements.pop(tag, None)
        else:
            elements[tag] = change if isinstance(change, bytes) else element(tag, *change)
    return b"".join(elements[tag] for tag in sorted(elements))


def dicom(
    changes: Mapping[int, tuple[bytes, bytes] | bytes | None] | None = None,
    *,
    syntax: str = EXPLICIT,
    preamble: bytes = bytes(128),
    body: bytes | None = None,
) -> bytes:
    return preamble.ljust(128, b"\0") + b"DICM" + meta(syntax) + (dataset(changes or {}) if body is None else body)


def us(tag: int, *values: int) -> Builder:
    return lambda: dicom({tag: (b"US", short(*values))})


def text(tag: int, vr: bytes, value: bytes) -> Builder:
    return lambda: dicom({tag: (vr, value)})


def fragments(*parts: bytes, table: bytes = b"", end: bool = True) -> bytes:
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in (table, *parts))
    close = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if end else b""
    return element(0x7FE00010, b"OB", b"", UNDEFINED) + items + close


def packed(
    syntax: str, *parts: bytes, rows: int = SIDE, columns: int = SIDE, bits: int = 16, **options: object
) -> bytes:
    """A file of compressed frames."""
    sizes = {
        0x00280010: (b"US", short(rows)),
        0x00280011: (b"US", short(columns)),
        0x00280100: (b"US", short(bits)),
        0x00280101: (b"US", short(bits)),
        0x00280102: (b"US", short(bits - 1)),
    }
    return dicom({**sizes, 0x7FE00010: fragments(*parts, **options)}, syntax=syntax)


def siz(rows: int, columns: int, *, bits: int = 16, tile: int = 0) -> bytes:
    """A JPEG 2000 codestream of which only the header is there."""
    tile = tile or max(rows, columns)
    size = struct.pack(">HIIIIIIIIHBBB", 0, columns, rows, 0, 0, tile, tile, 0, 0, 1, bits - 1, 1, 1)
    cod = struct.pack(">BBHBBBBBB", 0, 0, 1, 0, 5, 4, 4, 0, 1)
    qcd = bytes([0x20, *[0x48] * 16])
    sot = struct.pack(">HIBB", 0, 0, 0, 1)
    parts = ((0x51, size), (0x52, cod), (0x5C, qcd), (0x90, sot))
    body = b"".join(b"\xff" + bytes([code]) + struct.pack(">H", 2 + len(part)) + part for code, part in parts)
    return b"\xff\x4f" + body + b"\xff\x93" + bytes(64) + b"\xff\xd9"


def sof55(rows: int, columns: int) -> bytes:
    """A JPEG-LS stream of which only the header is there."""
    frame = struct.pack(">HBHHBBBB", 11, 16, rows, columns, 1, 1, 0x11, 0)
    scan = struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0)
    return b"\xff\xd8\xff\xf7" + frame + b"\xff\xda" + scan + bytes(64) + b"\xff\xd9"


def sof0(rows: int, columns: int, components: int = 1, bits: int = 8) -> bytes:
    """A JPEG with its frame header changed."""
    whole = images.encoded(images.pillow(images.picture(SIDE, SIDE, 1)), "JPEG")
    at = whole.index(b"\xff\xc0") + 4
    return whole[:at] + struct.pack(">BHHB", bits, rows, columns, components) + whole[at + 6 :]


def rle(count: int, *offsets: int, data: bytes = b"") -> bytes:
    return struct.pack("<16I", count, *offsets, *[0] * (15 - len(offsets))) + data


def nested(depth: int) -> bytes:
    """Sequences within sequences, of undefined length."""
    opened = (element(0x00081140, b"SQ", b"", UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)) * depth
    closed = (struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) * depth
    return opened + closed


def nested_by_length(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = element(0x00081140, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner)
    return inner


def tiny(count: int) -> bytes:
    return element(0x00080005, b"CS", b"") * count


def palette(count: int, *, first: int = 0, bits: int = 16, entries: int | None = None) -> bytes:
    table = bytes(2 * (count if entries is None else entries))
    changes: dict[int, tuple[bytes, bytes] | bytes | None] = {0x00280004: (b"CS", b"PALETTE COLOR")}
    for tag in (0x00281101, 0x00281102, 0x00281103):
        changes[tag] = (b"US", short(count, first, bits))
        changes[tag + 0x100] = (b"OW", table)
    return dicom({**changes, 0x00281052: None, 0x00281053: None})


def table_item(descriptor: bytes, entries: bytes) -> bytes:
    item = element(0x00283002, b"US", descriptor) + element(0x00283006, b"OW", entries)
    return element(0x00283000, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)


def modality_table(count: int, entries: int) -> bytes:
    table = table_item(short(count, 0, 16), bytes(2 * entries))
    return dicom({0x00283000: table, 0x00281052: None, 0x00281053: None})


@functools.cache
def zeros_deflated(megabytes: int) -> bytes:
    """The blocks of a stream, without its end, that inflate to so many megabytes of zeros."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (press.compress(bytes(2**20)) + press.flush(zlib.Z_FULL_FLUSH)) * megabytes


def deflated(body: bytes) -> bytes:
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return press.compress(body) + press.flush()


def deflate_bomb() -> bytes:
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = dataset({0x7FE00010: None}) + element(0x7FE00010, b"OW", b"", 2000 * 2**20)
    body = press.compress(start) + press.flush(zlib.Z_FULL_FLUSH) + zeros_deflated(2000) + deflated(b"")
    return dicom(syntax=DEFLATED, body=body)


DICOM: Mapping[str, Builder] = {
    "rows 65535": us(0x00280010, 65535),
    "columns 65535": us(0x00280011, 65535),
    "rows and columns 65535": lambda: dicom({0x00280010: (b"US", short(65535)), 0x00280011: (b"US", short(65535))}),
    "rows 0": us(0x00280010, 0),
    "columns 0": us(0x00280011, 0),
    "rows doubled": us(0x00280010, 2 * SIDE),
    "rows halved": us(0x00280010, SIDE // 2),
    "rows absent": lambda: dicom({0x00280010: None}),
    "rows empty": lambda: dicom({0x00280010: (b"US", b"")}),
    "rows as text": text(0x00280010, b"LO", b"sixteen"),
    "rows as three numbers": us(0x00280010, SIDE, 1, 2),
    "rows as a sequence": lambda: dicom({0x00280010: element(0x00280010, b"SQ", b"")}),
    "frames 10**9": text(0x00280008, b"IS", b"1000000000"),
    "frames -1": text(0x00280008, b"IS", b"-1"),
    "frames 0": text(0x00280008, b"IS", b"0"),
    "frames as text": text(0x00280008, b"IS", b"many"),
    "frames 1000 of 1": text(0x00280008, b"IS", b"1000"),
    "frames 10**400": text(0x00280008, b"IS", b"1" + b"0" * 400),
    "samples 0": us(0x00280002, 0),
    "samples 2": us(0x00280002, 2),
    "samples 65535": us(0x00280002, 65535),
    "samples 3 of grey": us(0x00280002, 3),
    "allocated 0": us(0x00280100, 0),
    "allocated 12": us(0x00280100, 12),
    "allocated 64": us(0x00280100, 64),
    "allocated 65535": us(0x00280100, 65535),
    "stored 0": us(0x00280101, 0),
    "stored 17": us(0x00280101, 17),
    "high bit 40": us(0x00280102, 40),
    "representation 7": us(0x00280103, 7),
    "photometric nonsense": text(0x00280004, b"CS", b"MAGIC"),
    "photometric absent": lambda: dicom({0x00280004: None}),
    "pixels absent": lambda: dicom({0x7FE00010: None}),
    "pixels empty": lambda: dicom({0x7FE00010: (b"OW", b"")}),
    "pixels end early": lambda: dicom()[:-100],
    "pixels of 4 GB": lambda: dicom({0x7FE00010: element(0x7FE00010, b"OW", PIXELS, 0xFFFFFFFE)}),
    "pixels in fragments uncompressed": lambda: dicom({0x7FE00010: fragments(PIXELS)}),
    "pixels only in an icon": lambda: dicom(
        {
            0x7FE00010: None,
            0x00880200: element(
                0x00880200,
                b"SQ",
                struct.pack("<HHI", 0xFFFE, 0xE000, 12 + len(PIXELS)) + element(0x7FE00010, b"OW", PIXELS),
            ),
        }
    ),
    "header ends early": lambda: dicom()[:300],
    "nothing after DICM": lambda: dicom()[:132],
    "nothing after the meta information": lambda: dicom(body=b""),
    "noise after DICM": lambda: bytes(128) + b"DICM" + np.random.default_rng(0).bytes(5000),
    "noise after the meta information": lambda: dicom(body=np.random.default_rng(1).bytes(5000)),
    "zeros after the meta information": lambda: dicom(body=bytes(5000)),
    "slope 0": text(0x00281053, b"DS", b"0"),
    "slope NaN": text(0x00281053, b"DS", b"NaN"),
    "slope infinite": text(0x00281053, b"DS", b"inf"),
    "slope as text": text(0x00281053, b"DS", b"one"),
    "slope 1e300": text(0x00281053, b"DS", b"1e300"),
    "slope of 60 kB": text(0x00281053, b"DS", b"1" * 60000),
    "intercept 1e400": text(0x00281052, b"DS", b"1e400"),
    "modality table short": lambda: modality_table(4096, 10),
    "modality table long": lambda: modality_table(16, 4096),
    "modality table empty": lambda: modality_table(0, 0),
    "palette short": lambda: palette(4096, entries=10),
    "palette of 9 bits": lambda: palette(256, bits=9),
    "palette absent": text(0x00280004, b"CS", b"PALETTE COLOR"),
    "float pixels NaN": lambda: dicom(
        {
            0x7FE00010: None,
            0x7FE00008: (b"OF", np.full(SIDE * SIDE, np.nan, "<f4").tobytes()),
            0x00280100: (b"US", short(32)),
        }
    ),
    "preamble of a Windows program": lambda: dicom(preamble=b"MZ\x90\0\3"),
    "preamble of a Linux program": lambda: dicom(preamble=b"\x7fELF\2\1\1"),
    "preamble of a script": lambda: dicom(preamble=b"#!/bin/sh\nrm -rf ~\n"),
    "preamble of an archive": lambda: dicom(preamble=b"PK\3\4"),
    "syntax unknown": lambda: dicom(syntax="1.2.3.4.5.6"),
    "syntax absent": lambda: dicom(syntax=""),
    "syntax of a film": lambda: dicom({0x7FE00010: fragments(bytes(100))}, syntax=MPEG),
    "syntax JPEG, pixels plain": lambda: dicom(syntax=JPEG),
    "syntax big endian, data little": lambda: dicom(syntax=BIG),
    "syntax RLE, pixels JPEG": lambda: packed(RLE, sof0(SIDE, SIDE), bits=8),
    "representation ZZ": lambda: dicom({0x00280030: element(0x00280030, b"ZZ", b"1\\1")}),
    "representation of zeros": lambda: dicom({0x00280030: element(0x00280030, b"\0\0", b"1\\1")}),
    "text of 4 GB": lambda: dicom({0x00204000: element(0x00204000, b"UT", b"x", 0xFFFFFFF0)}),
    "private of undefined length": lambda: dicom({0x00291010: element(0x00291010, b"UN", b"", UNDEFINED)}),
    "sequences 33 deep": lambda: dicom({0x00081140: nested(33)}),
    "sequences 900 deep": lambda: dicom({0x00081140: nested(900)}),
    "sequences 100,000 deep": lambda: dicom({0x00081140: nested(100_000)}),
    "sequences 900 deep by length": lambda: dicom({0x00081140: nested_by_length(900)}),
    "2,000,000 elements": lambda: dicom({0x00080005: tiny(2_000_000)}),
    "2,000,000 items": lambda: dicom(
        {
            0x00081140: element(0x00081140, b"SQ", b"", UNDEFINED)
            + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000
            + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        }
    ),
    "500,000 meta elements": lambda: bytes(128) + b"DICM" + element(0x00020012, b"UI", b"1.2") * 500_000,
    "sequence longer than the file": lambda: dicom({0x00081140: element(0x00081140, b"SQ", b"", 10**9)}),
    "item longer than the file": lambda: dicom(
        {0x00081140: element(0x00081140, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 10**9))}
    ),
    "delimiters without a sequence": lambda: dicom(
        {0x00081140: struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) * 3 + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)}
    ),
    "fragment of 4 GB": lambda: dicom(
        {
            0x7FE00010: element(0x7FE00010, b"OB", b"", UNDEFINED)
            + struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, 0xFFFFFFF0)
        },
        syntax=JPEG,
    ),
    "no fragments": lambda: packed(JPEG, bits=8),
    "fragments without an end": lambda: packed(JPEG, sof0(SIDE, SIDE), bits=8, end=False),
    "1,000,000 empty fragments": lambda: packed(JPEG, *[b""] * 1_000_000, bits=8),
    "offset table nonsense": lambda: packed(J2K, siz(SIDE, SIDE), siz(SIDE, SIDE), table=b"\xff" * 8),
    "JPEG cut short": lambda: packed(JPEG, sof0(SIDE, SIDE)[:200], bits=8),
    "JPEG of other size": lambda: packed(JPEG, sof0(8, 8), bits=8),
    "JPEG of 12 bits": lambda: packed(JPEG, sof0(SIDE, SIDE, bits=12), bits=8),
    "JPEG of 0 components": lambda: packed(JPEG, sof0(SIDE, SIDE, components=0), bits=8),
    "JPEG of 65500 x 65500": lambda: packed(JPEG, sof0(65500, 65500), rows=65500, columns=65500, bits=8),
    "JPEG of 8000 x 8000": lambda: packed(JPEG, sof0(8000, 8000), rows=8000, columns=8000, bits=8),
    "JPEG of nothing but a start": lambda: packed(JPEG, b"\xff\xd8", bits=8),
    "JPEG of endless fill": lambda: packed(JPEG, b"\xff\xd8" + b"\xff" * 2_000_000, bits=8),
    "J2K of 65535 x 65535": lambda: packed(J2K, siz(65535, 65535), rows=65535, columns=65535),
    "J2K of 2**31 x 2**31": lambda: packed(J2K, siz(2**31 - 1, 2**31 - 1)),
    "J2K of 8000 x 8000": lambda: packed(J2K, siz(8000, 8000), rows=8000, columns=8000),
    "J2K of 8000 x 8000 in tiles of 1": lambda: packed(J2K, siz(8000, 8000, tile=1), rows=8000, columns=8000),
    "J2K of other size": lambda: packed(J2K, siz(8, 8)),
    "J2K of 38 bits": lambda: packed(J2K, siz(SIDE, SIDE, bits=38)),
    "J2K cut short": lambda: packed(J2K, siz(SIDE, SIDE)[:40]),
    "JPEG-LS of 65500 x 65500": lambda: packed(JPEG_LS, sof55(65500, 65500), rows=65500, columns=65500),
    "JPEG-LS of 65500 x 65500 in 16 x 16": lambda: packed(JPEG_LS, sof55(65500, 65500)),
    "JPEG-LS of 8000 x 8000": lambda: packed(JPEG_LS, sof55(8000, 8000), rows=8000, columns=8000),
    "JPEG-LS empty": lambda: packed(JPEG_LS, b"\xff\xd8\xff\xd9"),
    "RLE of 255 segments": lambda: packed(RLE, rle(255, 64, 100)),
    "RLE of 0 segments": lambda: packed(RLE, rle(0)),
    "RLE of too few segments": lambda: packed(RLE, rle(1, 64, data=bytes([255 - 14, 7]) * 16)),
    "RLE with offsets beyond": lambda: packed(RLE, rle(2, 64, 10**9)),
    "RLE with offsets backwards": lambda: packed(RLE, rle(2, 100, 64, data=bytes(100))),
    "RLE header cut short": lambda: packed(RLE, b"\2\0\0\0"),
    "RLE of 8000 x 8000": lambda: packed(RLE, rle(2, 64, 66, data=b"\x81\0\x81\0"), rows=8000, columns=8000),
    "RLE of 65535 x 65535": lambda: packed(RLE, rle(2, 64, 66, data=b"\x81\0\x81\0"), rows=65535, columns=65535),
    "RLE that fills more than the frame": lambda: packed(
        RLE, rle(2, 64, 1_000_064, data=b"\x81\0" * 1_000_000), rows=SIDE, columns=SIDE
    ),
    "deflate bomb": deflate_bomb,
    "deflate cut short": lambda: dicom(syntax=DEFLATED, body=deflated(dataset({}))[:-20]),
    "deflate nonsense": lambda: dicom(syntax=DEFLATED, body=b"\xff" * 500),
    "character set unknown": text(0x00080005, b"CS", b"ISO_IR 9999"),
    "character set broken": lambda: dicom(
        {0x00080005: (b"CS", b"\\ISO 2022 IR 87"), 0x00100010: (b"PN", b"\x1b$B\xff\xff\x1b(")}
    ),
    "spacing 0": text(0x00280030, b"DS", b"0\\0"),
    "orientation of zeros": text(0x00200037, b"DS", b"0\\0\\0\\0\\0\\0"),
    "position of two numbers": text(0x00200032, b"DS", b"1\\2"),
    "window of width 0": lambda: dicom({0x00281050: (b"DS", b"40"), 0x00281051: (b"DS", b"0")}),
    "elements out of order": lambda: dicom(body=element(0x00280030, b"DS", b"1\\1") + dataset({})),
    "an element twice": lambda: dicom({0x00280010: element(0x00280010, b"US", short(SIDE)) * 2}),
    "deflated and whole": lambda: dicom(syntax=DEFLATED, body=deflated(dataset({}))),
    "meta length that lies": lambda: dicom().replace(element(0x00020000, b"UL", struct.pack("<I", 62)), b"", 1),
}


def nifti(
    data: bytes | None = None,
    *,
    size: int = 348,
    magic: bytes = b"n+1\0",
    order: str = "<",
    rest: bytes = bytes(4),
    **fields: object,
) -> bytes:
    """A NIfTI-1 file of 4 x 5 x 6 int16, with header fields replaced."""
    header = np.zeros((), _NIFTI.newbyteorder(order))
    header["size"] = size
    header["dim"] = (3, 4, 5, 6, 1, 1, 1, 1)
    header["datatype"], header["bitpix"], header["vox_offset"] = 4, 16, 352
    header["pixdim"] = 1
    header["sform_code"] = 1
    header["srow"] = np.eye(4)[:3]
    header["magic"] = magic
    for name, value in fields.items():
        header[name] = value
    voxels = np.arange(120, dtype=f"{order}i2").tobytes() if data is None else data
    return header.tobytes() + rest + voxels


_NIFTI = np.dtype(
    [
        ("size", "i4"), ("unused", "S36"), ("dim", "i2", 8), ("intent", "f4", 3), ("intent_code", "i2"),
        ("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8), ("vox_offset", "f4"),
        ("slope", "f4"), ("inter", "f4"), ("slice_end", "i2"), ("slice_code", "i1"), ("units", "i1"),
        ("cal", "f4", 2), ("slice_duration", "f4"), ("toffset", "f4"), ("gl", "i4", 2), ("descrip", "S80"),
        ("aux_file", "S24"), ("qform_code", "i2"), ("sform_code", "i2"), ("quatern", "f4", 3), ("qoffset", "f4", 3),
        ("srow", "f4", (3, 4)), ("intent_name", "S16"), ("magic", "S4"),
    ]
)  # fmt: skip


def nifti2(dim: tuple[int, ...]) -> bytes:
    head = struct.pack("<i8shh", 540, b"n+2\0\r\n\x1a\n", 4, 16) + struct.pack("<8q", *dim)
    return head.ljust(540, b"\0") + bytes(1000)


def floats(*values: float) -> bytes:
    return np.resize(np.array(values, "<f4"), 120).tobytes()


def gzip_bomb() -> bytes:
    """A header that honestly declares 4 GB, and the voxels."""
    head = nifti(b"", dim=(3, 2000, 2000, 500, 1, 1, 1, 1))
    return _gzipped(head, 4000)


def gzip_tail() -> bytes:
    """A small volume followed by 2 GB."""
    return _gzipped(nifti(), 2000)


def _gzipped(head: bytes, megabytes: int) -> bytes:
    press = zlib.compressobj(9, zlib.DEFLATED, 31)
    return press.compress(head) + press.flush(zlib.Z_FULL_FLUSH) + zeros_deflated(megabytes) + deflated(b"")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


NIFTI: Mapping[str, Builder] = {
    "dims 32767": lambda: nifti(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)),
    "dims doubled": lambda: nifti(dim=(3, 8, 5, 6, 1, 1, 1, 1)),
    "dims 0": lambda: nifti(dim=(3, 0, 5, 6, 1, 1, 1, 1)),
    "dims negative": lambda: nifti(dim=(3, -4, 5, 6, 1, 1, 1, 1)),
    "rank 0": lambda: nifti(dim=(0, 4, 5, 6, 1, 1, 1, 1)),
    "rank 8": lambda: nifti(dim=(8, 4, 5, 6, 1, 1, 1, 1)),
    "rank -1": lambda: nifti(dim=(-1, 4, 5, 6, 1, 1, 1, 1)),
    "rank 32767": lambda: nifti(dim=(32767, 4, 5, 6, 1, 1, 1, 1)),
    "7 dimensions": lambda: nifti(dim=(7, 2, 2, 5, 1, 3, 1, 2)),
    "32767 volumes": lambda: nifti(dim=(4, 4, 5, 6, 32767, 1, 1, 1)),
    "offset 1e30": lambda: nifti(vox_offset=1e30),
    "offset 10**9": lambda: nifti(vox_offset=1e9),
    "offset negative": lambda: nifti(vox_offset=-352),
    "offset NaN": lambda: nifti(vox_offset=np.nan),
    "offset in the header": lambda: nifti(vox_offset=100),
    "offset of half a byte": lambda: nifti(vox_offset=352.5),
    "datatype 0": lambda: nifti(datatype=0),
    "datatype 9999": lambda: nifti(datatype=9999),
    "datatype complex": lambda: nifti(bytes(8 * 120), datatype=32, bitpix=64),
    "datatype float128": lambda: nifti(bytes(16 * 120), datatype=1536, bitpix=128),
    "datatype larger than the data": lambda: nifti(datatype=64, bitpix=64),
    "affine NaN": lambda: nifti(srow=np.full((3, 4), np.nan)),
    "affine infinite": lambda: nifti(srow=np.full((3, 4), np.inf)),
    "affine singular": lambda: nifti(srow=np.ones((3, 4))),
    "affine zero": lambda: nifti(srow=0),
    "affine huge": lambda: nifti(srow=np.eye(4)[:3] * 1e30),
    "quaternion beyond 1": lambda: nifti(sform_code=0, qform_code=1, quatern=(2, 2, 2)),
    "quaternion NaN": lambda: nifti(sform_code=0, qform_code=1, quatern=np.nan),
    "pixdim 0": lambda: nifti(sform_code=0, pixdim=0),
    "pixdim NaN": lambda: nifti(sform_code=0, pixdim=np.nan),
    "slope infinite": lambda: nifti(slope=np.inf),
    "slope 1e38": lambda: nifti(slope=1e38, inter=1),
    "intercept NaN": lambda: nifti(slope=1, inter=np.nan),
    "voxels end early": lambda: nifti()[:-10],
    "header alone": lambda: nifti(b"", rest=b""),
    "header ends early": lambda: nifti()[:200],
    "mark absent": lambda: nifti(magic=b"\0\0\0\0"),
    "mark of a pair": lambda: nifti(magic=b"ni1\0"),
    "header of another size": lambda: nifti(size=349),
    "extension of 2 GB": lambda: nifti(rest=b"\1\0\0\0" + struct.pack("<ii", 2**31 - 1, 6), vox_offset=368),
    "voxels all NaN": lambda: nifti(floats(np.nan), datatype=16, bitpix=32),
    "voxels all infinite": lambda: nifti(floats(np.inf), datatype=16, bitpix=32),
    "voxels 1e300": lambda: nifti(np.full(120, 1e300).tobytes(), datatype=64, bitpix=64),
    "voxels beyond 2**24": lambda: nifti(np.full(120, 2**40 + 1).tobytes(), datatype=1024, bitpix=64),
    "NIfTI-2 of 2**62": lambda: nifti2((3, 2**62, 2**62, 2**62, 1, 1, 1, 1)),
    "NIfTI-2 negative": lambda: nifti2((3, -(2**62), 4, 4, 1, 1, 1, 1)),
    "NIfTI-2 of rank 2**40": lambda: nifti2((2**40, 4, 4, 4, 1, 1, 1, 1)),
    "gzip bomb": gzip_bomb,
    "gzip with 2 GB after the voxels": gzip_tail,
    "gzip cut short": lambda: gzip.compress(nifti())[:-40],
    "gzip with a bit flipped": lambda: flipped(gzip.compress(nifti(), 0), 500),
    "gzip header alone": lambda: gzip.compress(nifti())[:60],
    "gzip in gzip": lambda: gzip.compress(gzip.compress(nifti())),
    "gzip of text": lambda: gzip.compress(b"patient,age\n" * 100),
    "one dimension": lambda: nifti(dim=(1, 120, 1, 1, 1, 1, 1, 1)),
    "trailing dimensions of 1": lambda: nifti(dim=(7, 4, 5, 6, 1, 1, 1, 1)),
    "slope 0": lambda: nifti(slope=0, inter=3),
    "slope NaN": lambda: nifti(slope=np.nan),
    "bits a voxel 0": lambda: nifti(bitpix=0),
    "one voxel NaN": lambda: nifti(floats(*range(119), np.nan), datatype=16, bitpix=32),
    "colour": lambda: nifti(bytes(360), datatype=128, bitpix=24),
    "big endian": lambda: nifti(order=">"),
    "no affine": lambda: nifti(sform_code=0),
    "affine sheared": lambda: nifti(srow=[[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0]]),
}


def tiff_bomb() -> bytes:
    """A TIFF of 16 x 16 whose strip inflates to 1 GB."""
    whole = images.tiff(images.picture(16, 16, 1)[..., 0], compression="deflate")
    return _tiff_strip(whole, b"\x78\xda" + zeros_deflated(1000) + deflated(b""))


def tiff_lie(side: int) -> bytes:
    """A TIFF that declares side x side pixels of 64 bits and holds a small strip."""
    whole = images.tiff(np.zeros((16, 16), np.float64), compression="deflate")
    for tag in (256, 257, 278):
        at = whole.index(struct.pack("<H", tag), 8)
        whole = (
            whole[: at + 8]
            + struct.pack("<I", side)[: 4 if whole[at + 2] == 4 else 2].ljust(4, b"\0")
            + whole[at + 12 :]
        )
    return whole


def _tiff_strip(whole: bytes, strip: bytes) -> bytes:
    for tag, value in ((273, len(whole)), (279, len(strip))):
        at = whole.index(struct.pack("<H", tag), 8)
        whole = whole[: at + 2] + struct.pack("<HII", 4, 1, value) + whole[at + 12 :]
    return whole + strip


def endless_png() -> bytes:
    """A PNG of 16 x 16 whose rows go on for 1 GB."""
    whole = images.png(16, 16, 8, 0, b"")
    rows = images.chunk(b"IDAT", b"\x78\xda" + zeros_deflated(1000) + deflated(b""))
    return whole[: whole.index(b"IDAT") - 4] + rows + images.chunk(b"IEND", b"")


def endless_jpeg() -> bytes:
    """A progressive JPEG of 64 x 64 with 5,000 scans more than it has."""
    whole = images.encoded(images.pillow(images.picture(64, 64, 1)), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * 5000 + whole[-2:]


def scattered_png() -> bytes:
    """A PNG of 16 x 16 in 200,000 chunks without contents."""
    whole = images.png(16, 16, 8, 0, bytes(17 * 16))
    at = whole.index(b"IDAT") - 4
    return whole[:at] + images.chunk(b"IDAT", b"") * 200_000 + whole[at:]


def zip_bomb() -> bytes:
    """An archive whose member says, and is, 1 GB."""
    name, data = b"scan.dcm", zeros_deflated(1000) + deflated(b"")
    sizes = struct.pack("<III", 0, len(data), 1000 * 2**20)
    local = struct.pack("<4sHHHHH", b"PK\3\4", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", len(name), 0) + name + data
    entry = struct.pack("<4sHHHHHH", b"PK\1\2", 20, 20, 0, 8, 0, 0) + sizes
    entry += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    return local + entry + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local), 0)


PACKED: Mapping[str, Builder] = {
    "PNG of 100 megapixels": lambda: images.png(10000, 10000, 8, 0, bytes(10001 * 10000)),
    "PNG whose rows never end": endless_png,
    "PNG of 200,000 chunks": scattered_png,
    "JPEG of 5,000 scans": endless_jpeg,
    "TIFF of 16 x 16 that inflates to 1 GB": tiff_bomb,
    "TIFF of 8000 x 8000 with a strip of 16 x 16": lambda: tiff_lie(8000),
    "TIFF of 65535 x 65535": lambda: tiff_lie(65535),
    "GIF of 65535 x 65535": lambda: b"GIF89a" + b"\xff" * 4 + bytes(100),
    "GIF of 8000 x 8000 without pixels": lambda: b"GIF89a" + struct.pack("<HH", 8000, 8000) + bytes(3) + b",",
    "WebP of 16383 x 16383": lambda: b"RIFF\x40\0\0\0WEBPVP8L\x20\0\0\0\x2f\xff\xff\xff\x0f" + bytes(40),
    "PPM of 8000 x 8000 without pixels": lambda: b"P6 8000 8000 255\n",
    "ZIP of 1 GB": zip_bomb,
}

# DICOM and NIfTI files that are odd and say what they mean.
READABLE = {
    "image": set(),
    "DICOM": {
        "rows halved", "rows as three numbers", "representation 7", "palette of 9 bits", "representation ZZ",
        "offset table nonsense", "character set unknown", "character set broken", "spacing 0", "orientation of zeros",
        "position of two numbers", "window of width 0", "elements out of order", "an element twice",
        "deflated and whole", "meta length that lies",
    },
    "NIfTI": {
        "trailing dimensions of 1", "slope 0", "slope NaN", "bits a voxel 0", "one voxel NaN", "colour", "big endian",
        "no affine", "slope infinite", "offset of half a byte",
    },
}  # fmt: skip
BOMBS = {
    "DICOM": ("deflate bomb", "J2K of 65535 x 65535", "J2K of 2**31 x 2**31", "J2K of 8000 x 8000",
              "J2K of 8000 x 8000 in tiles of 1", "RLE of 8000 x 8000", "RLE of 65535 x 65535",
              "RLE that fills more than the frame", "JPEG-LS of 65500 x 65500",
              "JPEG-LS of 65500 x 65500 in 16 x 16", "JPEG-LS of 8000 x 8000", "JPEG of 65500 x 65500",
              "JPEG of 8000 x 8000"),
    "NIfTI": ("gzip bomb", "gzip with 2 GB after the voxels", "dims 32767", "NIfTI-2 of 2**62"),
    "image": tuple(PACKED),
}  # fmt: skip
