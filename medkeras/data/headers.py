"""What an image file says of itself, read from its first bytes, before any pixel is decoded."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from medkeras import errors
from medkeras.data import cases, weight

# A picture of more pixels is refused from its header: 67 megapixels decode to 200 MB of 8-bit colour.
MAX_PIXELS = 2**26
MAX_BYTES = 2**30
# Before the pixels of a file: segments of a JPEG, chunks of a PNG, pages of a TIFF.
MAX_SEGMENTS = 256

MAX_SCANS = 64

# Rec. ITU-R BT.601 luma weights in 16-bit fixed point; they sum to 65536.
LUMA = (19595, 38470, 7471)
# Whether rows and columns run backwards in EXIF orientations 1 to 8, after the transposition of 5 to 8.
FLIPS = ((False, False), (False, True), (True, True), (True, False)) * 2
ORIENTATION_TAG, SHORT = 0x0112, 3
# An Exif structure states its orientation within its first bytes; a tag beyond them is not looked for.
EXIF_SPAN = 4096

_MAGIC = (
    ("DICOM", 128, b"DICM"),
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
    ("TIFF", 0, b"II+\x00"),
    ("TIFF", 0, b"MM\x00+"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("WebP", 8, b"WEBP"),
    ("PNM", 0, b"P5"),
    ("PNM", 0, b"P6"),
    ("NIfTI", 344, b"n+1\x00"),
    ("NIfTI", 344, b"ni1\x00"),
    ("NIfTI", 4, b"n+2\x00\r\n\x1a\n"),
    ("NIfTI", 4, b"ni2\x00\r\n\x1a\n"),
    ("BMP", 0, b"BM"),
)
_GZIP = b"\x1f\x8b\x08"
_FOREIGN = (
    ("JPEG 2000", 0, b"\x00\x00\x00\x0cjP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("HEIF or AVIF", 4, b"ftyp"),
    ("gzip", 0, b"\x1f\x8b"),
    ("ZIP", 0, b"PK\x03\x04"),
    ("PDF", 0, b"%PDF"),
    ("Photoshop", 0, b"8BPS"),
    ("HDF5", 0, b"\x89HDF"),
    ("NumPy", 0, b"\x93NUMPY"),
)
_READ = "PNG, JPEG, BMP, TIFF, GIF, WebP, PGM, PPM, DICOM and NIfTI are read"
# Enough of a file to tell its format; a compressed file shows its own header after as much.
_HEAD, _PACKED_HEAD = 512, 4096
# Value representations of the elements that a data set may begin with, groups 0002 and 0008.
_DICOM_VRS = (b"AE", b"CS", b"DA", b"DT", b"LO", b"OB", b"SH", b"SQ", b"ST", b"TM", b"UI", b"UL", b"US")
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_JPEG_TABLES = (0xC4, 0xC8, 0xCC, 0xDB, 0xDD)


def identify(path: str) -> str:
    """Names the format of a file by its first bytes: `PNG`, `DICOM`, `NIfTI`, ….

    Args:
        path: A file name; bytes that are not UTF-8 are surrogate-escaped, as `os.fsdecode` does.

    Raises:
        BadInputError: The file cannot be opened, is no regular file, is empty, or is of no format that is read.
    """
    try:
        with open_regular(path) as file:
            return kind(file.read(_PACKED_HEAD))
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, str(refusal)) from None


def sniff(path: str) -> cases.ImageHeader:
    """Reads the header of a PNG, JPEG, BMP, GIF, PGM or PPM; the magic bytes decide on the format, not the name.

    Raises:
        BadInputError: The file cannot be opened, is no regular file, is empty, or has no header that can be read.
    """
    try:
        with open_regular(path) as file:
            name = kind(file.read(_PACKED_HEAD))
            file.seek(0)
            return parse(name, file)
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, str(refusal)) from None
    except OSError as error:
        raise errors.BadInputError(path, f"the file cannot be read ({error.strerror})") from None


def parse(name: str, file: BinaryIO) -> cases.ImageHeader:
    """Reads the header of an image of a format in `PARSED`, from the file's beginning.

    Raises:
        RefusalError: The header is cut short or damaged, or states what is not read.
    """
    try:
        return PARSED[name](file)
    except (EOFError, struct.error):
        raise errors.RefusalError("the header is cut short") from None


def check_regular(path: str) -> None:
    """Refuses what is not a file to be read: a folder, a pipe or a device, which might never end, or too large a file.

    Raises:
        RefusalError: What it is.
    """
    with _refusing():
        status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise errors.RefusalError("this is a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):
        raise errors.RefusalError("this is not a regular file")
    if not status.st_size:
        raise errors.RefusalError("the file is empty")
    if status.st_size > MAX_BYTES:
        raise errors.RefusalError(f"an image file has at most {MAX_BYTES} bytes. Received: {status.st_size}")


def open_regular(path: str) -> BinaryIO:
    """Opens a file that `check_regular` lets pass.

    Raises:
        RefusalError: Why it cannot be opened.
    """
    check_regular(path)
    with _refusing():
        return open(path, "rb")


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise errors.RefusalError("there is no such file") from None
    except PermissionError:
        raise errors.RefusalError("there is no permission to read the file") from None
    except ValueError:
        raise errors.RefusalError("this is not a file name") from None
    except OSError as error:
        raise errors.RefusalError(f"the file cannot be read ({error.strerror})") from None


def kind(head: bytes) -> str:
    """Names the format that the first bytes of a file tell.

    Args:
        head: The first bytes, 512 of a plain file and 4096 of a compressed one, or all that there are.

    Raises:
        RefusalError: The format is not read; the sentence says what the file looks like.
    """
    if head.startswith(_GZIP) and _match(_inflated(head), _MAGIC) == "NIfTI":
        return "NIfTI"
    name = _match(head, _MAGIC)
    if name:
        return name
    if _is_bare_dicom(head):
        return "DICOM"
    name = _match(head, _FOREIGN)
    if name:
        raise errors.RefusalError(f"{_READ}. Received: a file that looks like {name}")
    if all(byte >= 0x20 or byte in b"\t\n\f\r" for byte in head[:_HEAD]):
        raise errors.RefusalError(f"{_READ}. Received: a file that looks like text")
    raise errors.RefusalError(f"{_READ}. Received: a file that begins with the bytes {head[:8].hex(' ')}")


def _match(head: bytes, table: tuple[tuple[str, int, bytes], ...]) -> str:
    return next((name for name, offset, magic in table if head.startswith(magic, offset)), "")


def _inflated(head: bytes) -> bytes:
    """Returns the first bytes of a gzip file's contents; never more than asked for, whatever they would inflate to."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        return b""


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins with an element of group 0002 or 0008, as data sets without a preamble do.

    Reference:
        DICOM PS3.5 7.1.2 and 7.1.3, the two forms of an element.
    """
    start = head[:8].ljust(8, b"\x00")
    for order in "<>":
        group, element, vr, _ = struct.unpack(f"{order}HH2sH", start)
        if group in (0x0002, 0x0008) and element <= 0x1199:
            implicit = order == "<" and group == 0x0008 and len(head) >= 8
            return vr in _DICOM_VRS or (implicit and int.from_bytes(start[4:], "little") <= 64)
    return False


def exif_orientation(tiff: bytes) -> int:
    """Returns the orientation 1..8 that an Exif TIFF structure states in its first directory; 1 where it states none.

    Reference:
        CIPA DC-008 (EXIF 2.32), 4.6.4 A: tag 0x0112, one SHORT.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    data = tiff[:EXIF_SPAN].ljust(EXIF_SPAN, b"\x00")
    directory = min(struct.unpack_from(f"{order}I", data, 4)[0], EXIF_SPAN - 2)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    count = min(count, (EXIF_SPAN - 2 - directory) // 12)
    entries = struct.iter_unpack(f"{order}HHIHxx", data[directory + 2 : directory + 2 + 12 * count])
    value = max((value for tag, form, _, value in entries if (tag, form) == (ORIENTATION_TAG, SHORT)), default=1)
    return value if 1 <= value <= 8 else 1


def described(height: int, width: int, channels: int, *, dtype: str = "uint8", orientation: int = 1,
            native: bool = False, plain: bool = False) -> cases.ImageHeader:  # fmt: skip
    """Returns the header of an image whose size is allowed; `height` and `width` are those before `orientation`.

    Raises:
        RefusalError: The image has no pixel, or more than `MAX_PIXELS`.
    """
    if not height or not width:
        raise errors.RefusalError(
            f"an image has at least one row and one column. Received: {height} rows, {width} columns"
        )
    if height * width > MAX_PIXELS:
        raise errors.RefusalError(f"an image has at most {MAX_PIXELS} pixels. Received: {height} rows, {width} columns")
    if orientation >= 5:
        height, width = width, height
    return cases.ImageHeader(height, width, channels, dtype, native, plain and orientation == 1)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _png(file: BinaryIO) -> cases.ImageHeader:
    file.seek(8)
    length, name, width, height, depth, colour = struct.unpack(">I4sIIBB", _take(file, 18))
    if (length, name) != (13, b"IHDR") or depth not in _PNG_DEPTHS.get(colour, ()):
        raise errors.RefusalError("the PNG header is damaged")
    dtype = "uint16" if depth == 16 else "uint8"
    file.seek(33)
    orientation = exif_orientation(_png_exif(file))
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    header = described(height, width, 1 if colour in (0, 4) else 3, dtype=dtype, orientation=orientation,
                       native=True, plain=depth <= 8)  # fmt: skip
    # Twice, since interlacing adds bytes to the rows.
    if weight.inflates_beyond(file, 2 * height * (width * samples * depth // 8 + 2)):
        raise errors.RefusalError("the pixels of a PNG are no more than its header declares; this one goes on")
    return header


def _png_exif(file: BinaryIO) -> bytes:
    for _ in range(MAX_SEGMENTS):
        length, name = struct.unpack(">I4s", _take(file, 8))
        if name == b"eXIf":
            return _take(file, length)
        if name == b"IDAT":
            return b""
        file.seek(length + 4, os.SEEK_CUR)
    raise errors.RefusalError(f"a PNG has at most {MAX_SEGMENTS} chunks before its pixels")


def _jpeg(file: BinaryIO) -> cases.ImageHeader:
    file.seek(2)
    orientation = 0
    for _ in range(MAX_SEGMENTS):
        mark, code = _take(file, 2)
        if mark != 0xFF:
            raise errors.RefusalError("the JPEG header is damaged")
        if code == 0xFF:
            file.seek(-1, os.SEEK_CUR)
            continue
        (length,) = struct.unpack(">H", _take(file, 2))
        if 0xC0 <= code <= 0xCF and code not in _JPEG_TABLES:
            header = _jpeg_frame(code, _take(file, 6), orientation or 1)
            file.seek(max(length - 8, 0), os.SEEK_CUR)
            if weight.scans_beyond(file, MAX_SCANS):
                raise errors.RefusalError(f"a JPEG has at most {MAX_SCANS} scans; this one goes on")
            return header
        if code < 0xE0 and code not in _JPEG_TABLES:
            raise errors.RefusalError("the JPEG header is damaged")
        body = _take(file, length - 2) if code == 0xE1 and not orientation else b""
        if body.startswith(b"Exif"):
            orientation = exif_orientation(body[6:])
        file.seek(max(length - 2, 0) - len(body), os.SEEK_CUR)
    raise errors.RefusalError(f"a JPEG has at most {MAX_SEGMENTS} segments before its picture")


def _jpeg_frame(code: int, frame: bytes, orientation: int) -> cases.ImageHeader:
    bits, height, width, components = struct.unpack(">BHHB", frame)
    if code not in (0xC0, 0xC1, 0xC2):
        raise errors.RefusalError(
            "a JPEG is baseline or progressive, Huffman-coded. Received: a lossless, hierarchical or "
            "arithmetic-coded one"
        )
    if bits != 8:
        raise errors.RefusalError(f"a JPEG has 8 bits a sample. Received: {bits}")
    if components not in (1, 3, 4):
        raise errors.RefusalError(f"a JPEG has 1, 3 or 4 components. Received: {components}")
    return described(
        height, width, 1 if components == 1 else 3, orientation=orientation, native=True, plain=components < 4
    )


def _bmp(file: BinaryIO) -> cases.ImageHeader:
    file.seek(14)
    (header,) = struct.unpack("<I", _take(file, 4))
    if header == 12:
        width, height, _, bits = struct.unpack("<HHHH", _take(file, 8))
        return described(height, width, 3)
    width, height, _, bits, compression = struct.unpack("<iiHHI", _take(file, 16))
    used = struct.unpack("<12xI4x", _take(file, 20))[0] or 256
    native = 40 <= header <= 124 and compression == 0 and bits in (8, 24, 32)
    channels = 3
    if native and bits == 8:
        file.seek(14 + header)
        table = _take(file, 4 * min(used, 256))
        channels = 1 if table[0::4] == table[1::4] == table[2::4] else 3
    return described(abs(height), max(width, 0), channels, native=native)


def _gif(file: BinaryIO) -> cases.ImageHeader:
    file.seek(6)
    width, height = struct.unpack("<HH", _take(file, 4))
    return described(height, width, 3)


def pnm_layout(file: BinaryIO) -> tuple[int, int, int, int]:
    """Reads the header of a binary PGM or PPM, and stops before its pixels.

    Returns:
        Height, width, channels, and the value of white, 1..65535.

    Reference:
        netpbm, pgm(5) and ppm(5).
    """
    channels = 1 if file.read(2) == b"P5" else 3
    width, height, white = (_pnm_number(file) for _ in range(3))
    if not 1 <= white <= 65535:
        raise errors.RefusalError(f"the white of a PGM or PPM lies between 1 and 65535. Received: {white}")
    return height, width, channels, white


def _pnm_number(file: BinaryIO) -> int:
    digits = b""
    for _ in range(2**12):
        byte = _take(file, 1)
        if byte == b"#" and not digits:
            file.readline(2**12)
        elif byte.isdigit() and len(digits) < 10:
            digits += byte
        elif not byte.isspace():
            break
        elif digits:
            return int(digits)
    raise errors.RefusalError("the PGM or PPM header is damaged")


def _pnm(file: BinaryIO) -> cases.ImageHeader:
    height, width, channels, white = pnm_layout(file)
    return described(height, width, channels, dtype="uint8" if white < 256 else "uint16")


PARSED: dict[str, Callable[[BinaryIO], cases.ImageHeader]] = {
    "BMP": _bmp, "GIF": _gif, "JPEG": _jpeg, "PNG": _png, "PNM": _pnm,
}  # fmt: skip
