"""TIFF, GIF, WebP, PGM, PPM and the bitmaps that the graph's decoder does not read; runs inside the guard's worker."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image

from medkeras import errors
from medkeras.data import cases, headers

# A picture of more bytes than _LARGE that shrinks more than so holds nothing; it would only be allocated.
_LARGE, _MOST_PACKED = 2**25, 2000
_REDUCED, _MASK = 1, 4
_TIFF_JPEG = (6, 7)
_TIFF_COLOURS = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3}


def inspect(path: str) -> dict[str, Any]:
    """Returns the fields of the file's `cases.ImageHeader`.

    Raises:
        RefusalError: The file has no header that can be read.
    """
    with headers.open_regular(path) as file:
        return dataclasses.asdict(_header(file))


def read(path: str) -> np.ndarray:
    """Returns the stored values, upright, `[H, W, C]` of the dtype and size that the header states, alpha dropped.

    Raises:
        RefusalError: The file is truncated or damaged, or holds NaN or infinite values.
    """
    with headers.open_regular(path) as file:
        header, name = _header(file), _format(file)
        try:
            pixels = _READERS.get(name, _pillow)(file)
        except (errors.RefusalError, MemoryError):
            raise
        except Exception:
            raise errors.RefusalError(f"the {name} data are truncated or damaged") from None
    if pixels.shape[:2] != (header.height, header.width):
        raise errors.RefusalError("the image data do not fit their header")
    return pixels.astype(header.dtype, copy=False)


def _format(file: BinaryIO) -> str:
    file.seek(0)
    name = headers.kind(file.read(512))
    file.seek(0)
    return name


def _header(file: BinaryIO) -> cases.ImageHeader:
    name = _format(file)
    if name in _HEADERS:
        try:
            return _HEADERS[name](file)
        except EOFError:
            raise errors.RefusalError("the header is cut short") from None
    return headers.parse(name, file)


def _webp_header(file: BinaryIO) -> cases.ImageHeader:
    head = file.read(30)
    if len(head) < 30:
        raise EOFError
    name, data = head[12:16], head[16:]
    if name == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (8, 11))
    elif name == b"VP8L":
        bits = int.from_bytes(data[5:9], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif name == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (10, 12))
    else:
        raise errors.RefusalError("the WebP header is damaged")
    # Before Pillow sees the file: its decoder allocates the picture when it opens it.
    headers.described(height, width, 3)
    file.seek(0)
    try:
        with Image.open(file, formats=("WEBP",)) as image:
            return headers.described(height, width, 3, orientation=_pillow_orientation(image))
    except MemoryError:
        raise
    except Exception:
        raise errors.RefusalError("the WebP data are damaged") from None


def _tiff_header(file: BinaryIO) -> cases.ImageHeader:
    try:
        with tifffile.TiffFile(file) as tiff:
            page = _tiff_page(tiff)
            channels = 1 if page.photometric in (0, 1) else 3
            return headers.described(page.imagelength, page.imagewidth, channels, dtype=_tiff_dtype(page),
                                     orientation=_tiff_orientation(page))  # fmt: skip
    except (errors.RefusalError, MemoryError):
        raise
    except Exception:
        raise errors.RefusalError("the TIFF header is damaged") from None


def _tiff_page(file: tifffile.TiffFile) -> Any:
    """Returns the one picture of a TIFF file, a `tifffile.TiffPage`; previews and masks are passed over.

    Raises:
        RefusalError: The file holds several pictures, or one that is not read.
    """
    pages: list[Any] = list(itertools.islice(file.pages, headers.MAX_SEGMENTS))
    first, *others = (page for page in pages if page is pages[0] or not int(page.subfiletype) & (_REDUCED | _MASK))
    area = first.imagewidth * first.imagelength
    if any(page.imagewidth * page.imagelength >= area for page in others):
        raise errors.RefusalError("a TIFF holds one picture; several of its pages are: save each as a file of its own")
    _check_tiff_colours(first)
    pieces = list(zip(first.dataoffsets, first.databytecounts, strict=False))
    inside = all(count and offset + count <= file.filehandle.size for offset, count in pieces)
    if not inside or len(pieces) != math.prod(first.chunked):
        raise errors.RefusalError("the TIFF data end early: the file is truncated")
    stored = sum(count for _, count in pieces)
    if _LARGE < first.nbytes > _MOST_PACKED * stored:
        raise errors.RefusalError(f"a large TIFF takes at least a byte in {_MOST_PACKED}. Received: {stored} bytes")
    return first


def _check_tiff_colours(page: Any) -> None:
    photometric = getattr(page.photometric, "name", str(page.photometric))
    alpha = len(page.extrasamples)
    if _TIFF_COLOURS.get(photometric) != page.samplesperpixel - alpha or alpha > 1 or page.imagedepth != 1:
        raise errors.RefusalError(
            "a TIFF is grey, RGB, palette or CMYK, with or without alpha. "
            f"Received: {photometric}, {page.samplesperpixel} samples a pixel"
        )
    if photometric == "YCBCR" and page.compression not in _TIFF_JPEG:
        raise errors.RefusalError("a TIFF in YCbCr is compressed by JPEG")


def _tiff_dtype(page: Any) -> str:
    """Returns the narrowest of `uint8`, `uint16` and `float32` that keeps the values of a `tifffile.TiffPage`."""
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = "samples of an unknown form" if page.dtype is None else page.dtype
        raise errors.RefusalError(f"a TIFF holds whole or floating-point numbers. Received: {kind}")
    if page.dtype.kind in "bu" and page.dtype.itemsize <= 2:
        return "uint16" if page.dtype.itemsize == 2 and page.photometric != 3 else "uint8"
    return "float32"


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(headers.ORIENTATION_TAG)
    return tag.value if tag is not None and tag.value in range(1, 9) else 1


def _pillow_orientation(image: Image.Image) -> int:
    return headers.exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\x00\x00"))


def _pillow(file: BinaryIO) -> np.ndarray:
    with Image.open(file, formats=("BMP", "GIF", "WEBP")) as image:
        return _upright(np.asarray(image.convert("RGB")), _pillow_orientation(image))


def _pnm(file: BinaryIO) -> np.ndarray:
    height, width, channels, white = headers.pnm_layout(file)
    dtype = np.dtype("u1" if white < 256 else ">u2")
    count = height * width * channels
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise errors.RefusalError("the PGM or PPM data end early: the file is truncated")
    return np.frombuffer(data, dtype).reshape(height, width, channels)


def _tiff(file: BinaryIO) -> np.ndarray:
    with tifffile.TiffFile(file) as tiff:
        page = _tiff_page(tiff)
        pixels = page.asarray(maxworkers=1)
        pixels = np.moveaxis(pixels, page.axes.index("S"), -1) if "S" in page.axes else pixels[..., np.newaxis]
        return _upright(_tiff_values(page, pixels), _tiff_orientation(page))


def _tiff_values(page: Any, pixels: np.ndarray) -> np.ndarray:
    """Turns samples `[H, W, S]` into grey `[H, W, 1]` or colour `[H, W, 3]`, brighter being higher."""
    name = page.photometric.name
    if name == "PALETTE":
        return np.moveaxis(page.colormap, 0, -1)[pixels[..., 0]] // 256
    bits = page.bitspersample
    if bits < 8:
        pixels = pixels.astype(np.uint8) * (255 // (2**bits - 1))
    if name == "MINISWHITE":
        pixels = _negative(pixels, 2 ** max(bits, 8) - 1)
    if name == "SEPARATED":
        return _from_cmyk(pixels[..., :4])
    return _finite(pixels[..., : _TIFF_COLOURS[name]])


def _negative(pixels: np.ndarray, white: int) -> np.ndarray:
    if pixels.dtype.kind != "u":
        raise errors.RefusalError("a TIFF where 0 is white holds unsigned whole numbers")
    return white - pixels


def _from_cmyk(pixels: np.ndarray) -> np.ndarray:
    white = np.iinfo(pixels.dtype).max
    inks = pixels.astype(np.float64)
    return np.round((white - inks[..., :3]) * (white - inks[..., 3:]) / white).astype(pixels.dtype)


def _finite(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind in "bu" and pixels.dtype.itemsize <= 2:
        return pixels
    values = pixels.astype(np.float32)
    if not np.isfinite(values).all():
        raise errors.RefusalError("pixels are finite numbers; the image holds NaN or infinite ones")
    if pixels.dtype.kind in "iu" and (values.astype(np.float64) != pixels).any():
        raise errors.RefusalError("whole numbers beyond 2**24 lose digits as float32")
    return values


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    pixels = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    axes = tuple(axis for axis, flipped in enumerate(headers.FLIPS[orientation - 1]) if flipped)
    return np.ascontiguousarray(np.flip(pixels, axes))


_HEADERS = {"TIFF": _tiff_header, "WebP": _webp_header}
_READERS = {"PNM": _pnm, "TIFF": _tiff}
