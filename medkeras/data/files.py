"""Images that are files: the decoder of the graph where it reads them, the host elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
import tifffile
from PIL import Image

from medkeras import errors
from medkeras.data import cases, decode, headers


@dataclasses.dataclass(frozen=True)
class FileImages:
    """Images whose case's path is the name of a file."""

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the header; raises `BadInputError` for a file that cannot be one."""
        return headers.sniff(case.path)

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the stored values `[H, W, channels]`, uint8, uint16 or float32 as the header says.

        Files that the graph's decoder reads go through that decoder, so that training sees what a server will.

        Raises:
            BadInputError: The file cannot be read, is cut short or damaged, or holds NaN or infinite values.
        """
        header = headers.sniff(case.path)
        try:
            pixels = _native(case.path, header, channels) if header.native else _host(case.path, header, channels)
            if pixels.shape[:2] != (header.height, header.width):
                raise headers.RefusalError("the image data do not fit their header")
            return pixels
        except headers.RefusalError as refusal:
            raise errors.BadInputError(case.path, str(refusal)) from None
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise errors.BadInputError(case.path, "there is too little memory to decode the image") from None
        except OSError as error:
            raise errors.BadInputError(case.path, f"the file cannot be read ({error.strerror})") from None


def _native(path: str, header: cases.ImageHeader, channels: int) -> np.ndarray:
    with headers.open_regular(path) as file:
        contents = file.read()
    try:
        return decode.decode_bytes(tf.constant(contents), channels, header.dtype).numpy()
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError:
        raise headers.RefusalError(_damage(contents)) from None


def _damage(contents: bytes) -> str:
    name = headers.kind(contents[:512])
    state = "end early: the file is truncated" if _ENDS_EARLY[name](contents) else "are damaged"
    return f"the {name} data {state}"


_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda contents: b"\xff\xd9" not in contents[-1024:],
    "PNG": lambda contents: b"IEND\xaeB`\x82" not in contents[-1024:],
    "BMP": lambda contents: len(contents) < int.from_bytes(contents[2:6], "little"),
}


def _host(path: str, header: cases.ImageHeader, channels: int) -> np.ndarray:
    with headers.open_regular(path) as file:
        name = headers.kind(file.read(512))
        file.seek(0)
        try:
            pixels = _HOST_READERS.get(name, _pillow)(file)
        except (headers.RefusalError, MemoryError):
            raise
        except Exception:
            raise headers.RefusalError(f"the {name} data are truncated or damaged") from None
    return _with_channels(pixels, channels).astype(header.dtype, copy=False)


def _pillow(file: BinaryIO) -> np.ndarray:
    with Image.open(file, formats=("BMP", "GIF", "WEBP")) as image:
        return _upright(np.asarray(image.convert("RGB")), headers.pillow_orientation(image))


def _pnm(file: BinaryIO) -> np.ndarray:
    height, width, channels, white = headers.pnm_layout(file)
    dtype = np.dtype("u1" if white < 256 else ">u2")
    count = height * width * channels
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise headers.RefusalError("the PGM or PPM data end early: the file is truncated")
    return np.frombuffer(data, dtype).reshape(height, width, channels)


def _tiff(file: BinaryIO) -> np.ndarray:
    with tifffile.TiffFile(file) as tiff:
        page = headers.tiff_page(tiff)
        pixels = page.asarray(maxworkers=1)
        pixels = np.moveaxis(pixels, page.axes.index("S"), -1) if "S" in page.axes else pixels[..., np.newaxis]
        return _upright(_tiff_values(page, pixels), headers.tiff_orientation(page))


def _tiff_values(page: Any, pixels: np.ndarray) -> np.ndarray:
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
    return _finite(pixels)


def _negative(pixels: np.ndarray, white: int) -> np.ndarray:
    if pixels.dtype.kind != "u":
        raise headers.RefusalError("a TIFF where 0 is white holds unsigned whole numbers")
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
        raise headers.RefusalError("pixels are finite numbers; the image holds NaN or infinite ones")
    if pixels.dtype.kind in "iu" and (values.astype(np.float64) != pixels).any():
        raise headers.RefusalError("whole numbers beyond 2**24 lose digits as float32")
    return values


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    pixels = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    axes = tuple(axis for axis, flipped in enumerate(headers.FLIPS[orientation - 1]) if flipped)
    return np.ascontiguousarray(np.flip(pixels, axes))


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Turns `[H, W, 1..4]` into `[H, W, channels]`, the last of 2 or 4 being alpha."""
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], channels, axis=2)
    colour = pixels[..., :3]
    if channels == 3:
        return colour
    weights = np.array(headers.LUMA)
    if colour.dtype.kind == "f":
        return (colour @ (weights / 65536)).astype(colour.dtype)[..., np.newaxis]
    return ((colour.astype(np.int64) @ weights + 2**15) >> 16).astype(colour.dtype)[..., np.newaxis]


_HOST_READERS = {"PNM": _pnm, "TIFF": _tiff}
