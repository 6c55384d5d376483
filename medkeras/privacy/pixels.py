"""Pixels on their way through: bit for bit as they are, but for what lies beyond them or outside a known region.

Reference:
    DICOM PS3.3, C.7.6.3 (Image Pixel), C.8.5.5 (US Region Calibration), C.9.2 (Overlay Plane); PS3.5, 8 and annex A.4.
"""

from __future__ import annotations

import io
import math

import numpy as np
import pydicom
from pydicom import encaps, uid

from medkeras.privacy import arrays, held, jpeg

_DECODERS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow")
_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
         uid.JPEGLSNearLossless)  # fmt: skip
_JPEG2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)


def tidy(source: pydicom.Dataset, new: pydicom.Dataset, *, syntax: uid.UID) -> str:
    """Takes from the pixel data what is not pixels; returns what was done, empty for nothing.

    Bytes after the last pixel are cut, comments inside JPEG streams too. Overlays that older scanners drew into unused
    bits of native pixels are wiped.

    Raises:
        HeldBackError: An overlay is drawn into the bits of compressed pixels.
    """
    for keyword, bits in (("FloatPixelData", 32), ("DoubleFloatPixelData", 64)):
        if keyword in new:
            return _cut(new, keyword, bits)
    if "PixelData" not in new:
        return ""
    if not new.get("PhotometricInterpretation"):
        raise held.HeldBackError("the photometric interpretation is none of the standard's")
    if syntax.is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
        if _embedded(source):
            raise held.HeldBackError("an overlay is drawn into unused bits of compressed pixels")
        return _without_comments(new, syntax)
    _forget_offsets(new)
    done = _cut(new, "PixelData", int(new.BitsAllocated))
    if _embedded(source):
        _wipe(new, "<" if syntax.is_little_endian else ">")
        done = "overlay_bits_wiped"
    return done


def _embedded(source: pydicom.Dataset) -> bool:
    tags = list(source.keys())
    places = (tag for tag in tags if tag.group & 0xFF01 == 0x6000 and tag.element == 0x0102)
    return any(int(source[tag].value or 0) > 0 and (tag.group << 16 | 0x3000) not in source for tag in places)


def _cut(new: pydicom.Dataset, keyword: str, bits: int) -> str:
    frames = int(new.get("NumberOfFrames") or 1)
    samples = int(new.get("SamplesPerPixel") or 1) * int(new.Rows) * int(new.Columns) * frames
    if "422" in str(new.get("PhotometricInterpretation", "")):
        samples = samples // 3 * 2
    size = math.ceil(samples * bits / 8)
    size += size % 2
    if size >= len(new[keyword].value):
        return ""
    new[keyword].value = new[keyword].value[:size]
    return "padding_cut"


def _wipe(new: pydicom.Dataset, order: str) -> None:
    bits, stored, high = (int(new[name].value) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    if bits not in (8, 16):
        raise held.HeldBackError("an overlay is drawn into unused bits of the pixels")
    values = np.frombuffer(new.PixelData, f"{order}u{bits // 8}")
    mask = (1 << high + 1) - (1 << high + 1 - stored)
    new["PixelData"].value = (values & np.array(mask, values.dtype)).astype(values.dtype).tobytes()


def _without_comments(new: pydicom.Dataset, syntax: uid.UID) -> str:
    strip = jpeg.strip_stream if syntax in _JPEG else jpeg.strip_codestream if syntax in _JPEG2000 else None
    if strip is None and syntax != uid.RLELossless:
        raise held.HeldBackError("pixels in this transfer syntax may hold texts, which are not searched for")
    frames = list(encaps.generate_frames(new.PixelData, number_of_frames=int(new.get("NumberOfFrames") or 1)))
    size = int(new.Rows) * int(new.Columns)
    stripped = [strip(frame) if strip else arrays.cut_rle(frame, size) for frame in frames]
    if stripped == [_even(frame) for frame in frames] and _offsets_point_to_fragments(new):
        return ""
    _forget_offsets(new)
    new["PixelData"].value = encaps.encapsulate(stripped, has_bot=len(stripped) > 1)
    return "comments_cut"


def _forget_offsets(new: pydicom.Dataset) -> None:
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in new:
            del new[keyword]


def _offsets_point_to_fragments(new: pydicom.Dataset) -> bool:
    """Whether the offset tables, which may hold any bytes, hold offsets."""
    stream = io.BytesIO(new.PixelData)
    offsets = encaps.parse_basic_offsets(stream)
    _, places = encaps.parse_fragments(stream)
    return "ExtendedOffsetTable" not in new and {place - places[0] for place in places}.issuperset(offsets)


def _even(frame: bytes) -> bytes:
    return frame + b"\0" if len(frame) % 2 else frame


def mask(source: pydicom.Dataset, new: pydicom.Dataset) -> None:
    """Blanks ultrasound pixels outside the regions that the file states, of native pixels and of those it decodes.

    Text inside a region stays: Burned In Annotation is left as it was.

    Raises:
        HeldBackError: The file states no region, or its pixels cannot be decoded.
    """
    boxes = _boxes(source)
    if not boxes:
        raise held.HeldBackError("no ultrasound region says which pixels are the image")
    _decode(new)
    rows, columns, samples = int(new.Rows), int(new.Columns), int(new.SamplesPerPixel)
    inside = np.zeros((rows, columns), bool)
    for left, top, right, bottom in boxes:
        inside[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    pixels = _frames(new, samples, rows, columns)
    blank = 255 if new.PhotometricInterpretation == "MONOCHROME1" else 0
    outside = ~inside[..., np.newaxis] if not new.get("PlanarConfiguration") or samples == 1 else ~inside
    new["PixelData"].value = _even(np.where(outside, np.array(blank, pixels.dtype), pixels).tobytes())


def _boxes(source: pydicom.Dataset) -> list[tuple[int, int, int, int]]:
    corners = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    try:
        regions = source.get("SequenceOfUltrasoundRegions") or []
        found = [tuple(int(region[name].value) for name in corners) for region in regions]
        return [(left, top, right, bottom) for left, top, right, bottom in found]
    except (KeyError, TypeError, ValueError):
        return []


def _decode(new: pydicom.Dataset) -> None:
    syntax = new.file_meta.TransferSyntaxUID
    if syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian):
        return
    for name in _DECODERS:
        try:
            new.decompress(as_rgb=True, decoding_plugin=name, generate_instance_uid=False)
            return
        except Exception:
            continue
    raise held.HeldBackError(f"pixels in the transfer syntax {syntax.name} cannot be decoded to be masked")


def _frames(new: pydicom.Dataset, samples: int, rows: int, columns: int) -> np.ndarray:
    layout = str(new.PhotometricInterpretation)
    if int(new.BitsAllocated) not in (8, 16) or "422" in layout or (layout.startswith("YBR") and samples == 3):
        raise held.HeldBackError(f"pixels in {layout} cannot be masked")
    dtype, frames = np.dtype(f"<u{int(new.BitsAllocated) // 8}"), int(new.get("NumberOfFrames") or 1)
    shape = (frames, rows, columns, samples)
    if samples > 1 and int(new.get("PlanarConfiguration") or 0):
        shape = (frames, samples, rows, columns)
    if len(new.PixelData) < math.prod(shape) * dtype.itemsize:
        raise held.HeldBackError("the pixel data end early")
    return np.frombuffer(new.PixelData, dtype, math.prod(shape)).reshape(shape)
