"""Images that are files: the decoder of the graph where it reads them, a guarded worker elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.data import cases, decode, guard, headers

# Format to the kind of the guard that reads it; the others are what the graph decodes, or what has no volumes.
_KINDS = {"DICOM": "dicom", "NIfTI": "nifti"}


@dataclasses.dataclass(frozen=True)
class FileImages:
    """Images whose case's path is the name of a file, of any format that is read."""

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the header; raises `BadInputError` for a file that cannot be one."""
        name = headers.identify(case.path)
        if name in headers.PARSED:
            return headers.sniff(case.path)
        if name in _KINDS:
            return _medical_header(guard.inspect(_KINDS[name], case.path), case)
        return cases.ImageHeader(**guard.inspect("image", case.path))

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the stored values `[H, W, channels]`, uint8, uint16 or float32 as the header says.

        A file of several slices or frames gives the one of `case.frame`, or without it `[D, H, W, channels]`. Files
        that the graph's decoder reads go through that decoder, so that training sees what a server will.

        Raises:
            BadInputError: The file cannot be read, is cut short or damaged, or holds NaN or infinite values.
        """
        name = headers.identify(case.path)
        if name in _KINDS:
            pixels = guard.read(_KINDS[name], case.path, frame=case.frame)
            return with_channels(pixels[0] if pixels.shape[0] == 1 and pixels.ndim == 4 else pixels, channels)
        header = headers.sniff(case.path) if name in headers.PARSED else None
        if header is None or not header.native:
            return with_channels(guard.read("image", case.path), channels)
        return _native(case.path, header, channels)


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Turns `[..., 1 or 3]` into `[..., channels]`: grey is repeated, colour becomes its BT.601 luma.

    Reference:
        Rec. ITU-R BT.601-7, 2.5.1.
    """
    if pixels.shape[-1] == channels:
        return pixels
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, channels, axis=-1)
    if pixels.dtype.kind == "f":
        return (pixels @ (np.array(headers.LUMA) / 65536)).astype(pixels.dtype)[..., np.newaxis]
    # The weights sum to 65536, so that 16 bits and the half that rounds fit 32 bits.
    luma = np.full(pixels.shape[:-1], 2**15, np.uint32)
    for channel, weight in enumerate(headers.LUMA):
        luma += pixels[..., channel] * np.uint32(weight)
    return (luma >> 16).astype(pixels.dtype)[..., np.newaxis]


def _medical_header(facts: dict[str, Any], case: cases.Case) -> cases.ImageHeader:
    frames, rows, columns = _extent(facts)
    if case.frame is not None and not 0 <= case.frame < frames:
        raise errors.BadInputError(case.path, f"frames are counted from 0 to {frames - 1}. Received: {case.frame}")
    return cases.ImageHeader(
        height=rows,
        width=columns,
        channels=facts["channels"],
        dtype=facts["dtype"],
        depth=frames if case.frame is None and frames > 1 else 0,
        units=facts.get("units", ""),
    )


def _extent(facts: dict[str, Any]) -> tuple[int, int, int]:
    """Returns frames, rows and columns of a DICOM or a NIfTI file."""
    if "frames" in facts:
        return facts["frames"], facts["rows"], facts["columns"]
    depth, rows, columns = facts["shape"]
    return depth * facts["times"], rows, columns


def _native(path: str, header: cases.ImageHeader, channels: int) -> np.ndarray:
    try:
        with headers.open_regular(path) as file:
            contents = file.read()
        pixels = _decoded(tf.constant(contents), header, channels).numpy()
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, str(refusal)) from None
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise errors.BadInputError(path, "there is too little memory to decode the image") from None
    except tf.errors.OpError:
        raise errors.BadInputError(path, _damage(contents)) from None
    except OSError as error:
        raise errors.BadInputError(path, f"the file cannot be read ({error.strerror})") from None
    if pixels.shape[:2] != (header.height, header.width):
        raise errors.BadInputError(path, "the image data do not fit their header")
    return pixels


def _decoded(contents: tf.Tensor, header: cases.ImageHeader, channels: int) -> tf.Tensor:
    if header.plain and header.channels <= channels:
        return decode.decode_plain(contents, channels)
    return decode.decode_bytes(contents, channels, header.dtype)


def _damage(contents: bytes) -> str:
    name = headers.kind(contents[:512])
    state = "end early: the file is truncated" if _ENDS_EARLY[name](contents) else "are damaged"
    return f"the {name} data {state}"


_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda contents: b"\xff\xd9" not in contents[-1024:],
    "PNG": lambda contents: b"IEND\xaeB`\x82" not in contents[-1024:],
    "BMP": lambda contents: len(contents) < int.from_bytes(contents[2:6], "little"),
}
