"""From stored values to values that mean something: rescaling, modality LUT, units, polarity.

Reference:
    PS3.3 sections C.11.1 (modality LUT), C.7.6.16.2.9 (pixel value transformation), C.7.6.3.1.2 (MONOCHROME1).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pydicom

from medkeras import errors
from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import groups as functional
from medkeras.data.readers.dicom import tables, tags

Line = tuple[float, float]
IDENTITY: Line = (1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Modality:
    """How stored values become values.

    Attributes:
        lines: Slope and intercept of each frame, or one for all frames.
        lut: The modality LUT; None: there is none.
        units: `HU`, or empty.
        low: The lowest value that a pixel can have.
        high: The highest value that a pixel can have.
        dtype: `uint8`, `uint16` or `float32`.
        mirror: Values are `mirror` minus what the file means, for higher to be brighter; None: as they are.
        notes: Sentences that the user should read.
    """

    lines: tuple[Line, ...]
    lut: tables.Table | None
    units: str
    low: float
    high: float
    dtype: str
    mirror: float | None
    notes: tuple[str, ...]

    def line(self, frame: int) -> Line:
        """Returns slope and intercept of a frame."""
        return self.lines[frame if len(self.lines) > 1 else 0]


def modality(dataset: pydicom.Dataset, form: forms.Form) -> Modality:
    """Reads how the stored values of a monochrome image become values.

    Raises:
        RefusalError: The slope is zero, missing or no finite number, or the LUT has another length than it says.
    """
    lut = _lut(dataset, form)
    lines, kind, notes = ((IDENTITY,), _lut_units(dataset), []) if lut else _lines(dataset, form)
    ct = tags.text(dataset, "Modality") == "CT"
    scaled = lut is not None or lines != ()
    units = "HU" if scaled and (kind == "HU" or (ct and not kind)) else ""
    lines = lines or (IDENTITY,)
    low, high = (0.0, float(lut.highest)) if lut else _range(form, lines)
    if ct and not scaled:
        notes.append("this CT has no rescale: its values are not in Hounsfield units")
    dtype = "float32" if ct or units or form.real else narrowest(low, high, lines)
    mirror = _mirror(form, units, low, high, notes)
    return Modality(tuple(lines), lut, units, low, high, dtype, mirror, tuple(notes))


def apply(meaning: Modality, stored: np.ndarray, frame: int) -> np.ndarray:
    """Turns the stored values of one frame into values of `meaning.dtype`."""
    values = meaning.lut.apply(stored) if meaning.lut else _rescaled(stored, *meaning.line(frame), meaning.dtype)
    if meaning.mirror is not None:
        values = (np.asarray(meaning.mirror, values.dtype) - values).astype(values.dtype, copy=False)
    return values.astype(meaning.dtype, copy=False)


def narrowest(low: float, high: float, lines: tuple[Line, ...]) -> str:
    """Returns the narrowest data type that keeps the values between two whole numbers; `float32` for others."""
    if low < 0 or high > 65535 or not all(part.is_integer() for line in lines for part in line):
        return "float32"
    return "uint8" if high <= 255 else "uint16"


def _rescaled(stored: np.ndarray, slope: float, intercept: float, dtype: str) -> np.ndarray:
    if (slope, intercept) == IDENTITY:
        return stored if dtype != "float32" else stored.astype(np.float32)
    whole = slope.is_integer() and intercept.is_integer() and stored.dtype.itemsize <= 2
    exact = np.float32 if whole and abs(slope) < 128 and abs(intercept) < 2**22 else np.float64
    values = np.multiply(stored, slope, dtype=exact)
    return np.add(values, intercept, out=values)


def _lut(dataset: pydicom.Dataset, form: forms.Form) -> tables.Table | None:
    found = tags.items(dataset, "ModalityLUTSequence")
    return tables.table(found[0], "LUTDescriptor", "LUTData", form.signed) if found else None


def _lut_units(dataset: pydicom.Dataset) -> str:
    kind = tags.text(tags.items(dataset, "ModalityLUTSequence")[0], "ModalityLUTType")
    return kind or "US"


def _lines(dataset: pydicom.Dataset, form: forms.Form) -> tuple[tuple[Line, ...], str, list[str]]:
    notes: list[str] = []
    groups = functional.Groups(dataset)
    found = [groups.item("PixelValueTransformationSequence", frame) for frame in range(form.frames)]
    if found[0] is None:
        line = _line(dataset, notes)
        return (line,) if line else (), tags.text(dataset, "RescaleType"), notes
    lines = [_line(one, notes) if one is not None else None for one in found]
    if None in lines:
        raise errors.RefusalError("every frame of an enhanced object has a rescale, or none has")
    kinds = {tags.text(one, "RescaleType") for one in found if one is not None}
    return tuple(line for line in lines if line), kinds.pop() if len(kinds) == 1 else "US", notes


def _line(dataset: pydicom.Dataset, notes: list[str]) -> Line | None:
    slope, intercept = tags.numbers(dataset, "RescaleSlope"), tags.numbers(dataset, "RescaleIntercept")
    if not slope and not intercept:
        return None
    if intercept and not slope and tags.text(dataset, "Modality") == "CT":
        notes.append("the rescale slope is missing; 1 is taken, as for every CT")
        slope = [1.0]
    if len(slope) != 1 or len(intercept) != 1:
        raise errors.RefusalError("RescaleSlope and RescaleIntercept come together, one value each")
    if not slope[0]:
        raise errors.RefusalError("RescaleSlope is not zero")
    return slope[0], intercept[0]


def _range(form: forms.Form, lines: tuple[Line, ...]) -> tuple[float, float]:
    if form.real:
        return -math.inf, math.inf
    ends = [slope * end + intercept for slope, intercept in set(lines) for end in (form.lowest, form.highest)]
    if not max(map(abs, ends)) <= np.finfo(np.float32).max:
        raise errors.RefusalError("rescaled values lie within the range of float32")
    return min(ends), max(ends)


def _mirror(form: forms.Form, units: str, low: float, high: float, notes: list[str]) -> float | None:
    if form.photometric != "MONOCHROME1":
        return None
    if units:
        notes.append("MONOCHROME1 is not inverted: Hounsfield units keep their meaning")
        return None
    notes.append("MONOCHROME1 is inverted: higher values are brighter")
    return 0.0 if form.real else low + high
