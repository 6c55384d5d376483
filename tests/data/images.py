"""Small image files of every kind that medkeras must read or refuse, written by Pillow, tifffile and by hand."""

from __future__ import annotations

import functools
import io
import pathlib
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

from medkeras.data import cases

ORIENTATION = 0x0112


def case(path: object) -> cases.Case:
    return cases.Case(case_id="a", path=str(path), patient_id="a")


@functools.cache
def picture(height: int = 19, width: int = 29, channels: int = 3, *, high: int = 255, seed: int = 0) -> np.ndarray:
    """Waves and noise, `[H, W, channels]` uint8 or uint16: a picture with both large and small structure."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + k) * np.cos(y / (4 + k)) for k in range(channels)]
    noise = np.random.default_rng(seed).normal(0, 0.02, (height, width, channels))
    values = np.clip((np.stack(waves, -1) + 1) / 2 + noise, 0, 1) * high
    return values.astype(np.uint8 if high < 256 else np.uint16)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pillow(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def exif(orientation: int, order: str) -> bytes:
    """An Exif structure with other tags around the orientation; `order` is `<` or `>`."""
    tags = Image.Exif()
    tags.endian = order
    tags[0x010F], tags[ORIENTATION], tags[0x0131] = "maker", orientation, "software"
    return tags.tobytes()


def tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG from its filtered rows (each begins with its filter byte)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png16(array: np.ndarray, colour: int) -> bytes:
    """A 16-bit PNG of `[H, W, C]`, whose colour type is `colour`."""
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in array)
    return png(array.shape[1], array.shape[0], 16, colour, rows)


def write(folder: pathlib.Path, contents: bytes, name: str = "image") -> pathlib.Path:
    path = folder / name
    path.write_bytes(contents)
    return path
