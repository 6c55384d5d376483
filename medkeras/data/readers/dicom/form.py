"""The image pixel module: what the header says of the form of the pixel data.

Reference:
    PS3.3 section C.7.6.3; PS3.5 section 8.
"""

from __future__ import annotations

import dataclasses

import pydicom

from medkeras import errors
from medkeras.data import headers
from medkeras.data.readers.dicom import scan, tags

MAX_FRAMES = 2**16
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
# Samples of a pixel, by photometric interpretation; the others are refused by name.
SAMPLES = {
    **dict.fromkeys((*MONOCHROME, "PALETTE COLOR"), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3),
}
_FLOAT_BITS = {scan.FLOAT_PIXELS: 32, scan.DOUBLE_PIXELS: 64}


@dataclasses.dataclass(frozen=True)
class Form:
    """What every frame looks like.

    Attributes:
        rows: Rows.
        columns: Columns.
        samples: 1 or 3 samples a pixel.
        frames: Frames of the file.
        allocated: Bits of the cell that holds a sample.
        stored: Bits of the sample within its cell.
        high: Position of the sample's most significant bit in its cell.
        signed: Whether samples are in two's complement.
        real: Whether samples are floating-point numbers.
        photometric: Photometric interpretation.
        planar: Whether the samples of one kind lie together (planar configuration 1).
    """

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    real: bool
    photometric: str
    planar: bool

    @property
    def monochrome(self) -> bool:
        """Returns whether a pixel is one intensity."""
        return self.photometric in MONOCHROME

    @property
    def lowest(self) -> int:
        """Returns the lowest value that a sample can have."""
        return -(1 << self.stored - 1) if self.signed else 0

    @property
    def highest(self) -> int:
        """Returns the highest value that a sample can have."""
        return (1 << self.stored - self.signed) - 1


def form(dataset: pydicom.Dataset, pixels: scan.Pixels) -> Form:
    """Reads the image pixel module.

    Raises:
        RefusalError: An element is missing, or contradicts another.
    """
    real = pixels.tag in _FLOAT_BITS
    allocated = _needed(dataset, "BitsAllocated")
    stored = allocated if real else _needed(dataset, "BitsStored")
    high = tags.whole(dataset, "HighBit")
    made = Form(
        rows=_needed(dataset, "Rows"),
        columns=_needed(dataset, "Columns"),
        samples=_needed(dataset, "SamplesPerPixel"),
        frames=_frames(dataset),
        allocated=allocated,
        stored=stored,
        high=stored - 1 if high is None or real else high,
        signed=not real and bool(_needed(dataset, "PixelRepresentation")),
        real=real,
        photometric=tags.text(dataset, "PhotometricInterpretation"),
        planar=tags.whole(dataset, "PlanarConfiguration") == 1,
    )
    _check(made)
    if real and allocated != _FLOAT_BITS[pixels.tag]:
        raise errors.RefusalError(f"floating-point pixels have {_FLOAT_BITS[pixels.tag]} bits. Received: {allocated}")
    return made


def _needed(dataset: pydicom.Dataset, keyword: str) -> int:
    found = tags.whole(dataset, keyword)
    if found is None:
        raise errors.RefusalError(f"a DICOM image states its {keyword}")
    return found


def _frames(dataset: pydicom.Dataset) -> int:
    frames = tags.whole(dataset, "NumberOfFrames")
    if frames is None:
        return 1
    if not 1 <= frames <= MAX_FRAMES:
        raise errors.RefusalError(f"a DICOM file holds 1 to {MAX_FRAMES} frames. Received: {frames}")
    return frames


def _check(made: Form) -> None:
    if made.rows < 1 or made.columns < 1 or made.rows * made.columns > headers.MAX_PIXELS:
        raise errors.RefusalError(
            f"a frame has 1 to {headers.MAX_PIXELS} pixels. Received: {made.rows} rows, {made.columns} columns"
        )
    if made.photometric not in SAMPLES:
        raise errors.RefusalError(f"a photometric interpretation is one of {', '.join(SAMPLES)}")
    if made.samples != SAMPLES[made.photometric]:
        raise errors.RefusalError(
            f"{made.photometric} has {SAMPLES[made.photometric]} samples a pixel. Received: {made.samples}"
        )
    if made.allocated not in (1, 8, 16, 32) and not made.real:
        raise errors.RefusalError(f"BitsAllocated is 1, 8, 16 or 32. Received: {made.allocated}")
    if not 1 <= made.stored <= made.allocated or not made.stored - 1 <= made.high < made.allocated:
        raise errors.RefusalError(
            "stored bits lie within the allocated ones. "
            f"Received: {made.stored} bits up to bit {made.high} of {made.allocated}"
        )
    if made.samples == 3 and made.signed:
        raise errors.RefusalError("colours are unsigned")
    if made.samples == 3 and (made.real or made.allocated == 1):
        raise errors.RefusalError(f"colours are whole numbers of 8, 16 or 32 bits. Received: {made.allocated} bits")
