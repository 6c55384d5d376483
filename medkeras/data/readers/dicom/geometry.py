"""Where the frames lie in the patient, and how far apart their pixels are.

Reference:
    PS3.3 sections C.7.6.2 (image plane), 10.7.1.3 (pixel spacing), C.7.6.16.2 (functional groups), C.8.5.5
    (ultrasound regions). Positions and directions are in the patient's system: left, posterior, superior; mm.
"""

from __future__ import annotations

import math

import numpy as np
import pydicom

from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import groups, tags

# How far the directions of rows and columns may be from unit length and from a right angle.
TOLERANCE = 1e-2
CENTIMETRES = 3


def geometry(dataset: pydicom.Dataset, form: forms.Form) -> tuple[dict[str, object], list[str]]:
    """Returns the facts of geometry, and notes on what is missing or cannot be."""
    notes: list[str] = []
    frames = range(form.frames)
    measures = groups.group(dataset, "PixelMeasuresSequence", 0)
    measures = dataset if measures is None else measures
    facts = {
        "positions": [_position(_plane(dataset, "PlanePositionSequence", frame)) for frame in frames],
        "orientation": [_directions(_plane(dataset, "PlaneOrientationSequence", frame)) for frame in frames],
        "spacing": _spacing(dataset, measures, notes),
        "slice_thickness": _positive(measures, "SliceThickness"),
        "spacing_between": _positive(measures, "SpacingBetweenSlices"),
    }
    if None in facts["orientation"] and tags.value(dataset, "ImageOrientationPatient") is not None:
        notes.append("the image orientation is no pair of perpendicular unit vectors: there is no geometry")
    aspect = tags.optional_numbers(dataset, "PixelAspectRatio")
    if len(aspect) == 2 and aspect[0] != aspect[1] and facts["spacing"] is None:
        notes.append(f"pixels are not square: the aspect ratio is {aspect[0]:g} to {aspect[1]:g}, and is not corrected")
    return facts, notes


def _plane(dataset: pydicom.Dataset, keyword: str, frame: int) -> pydicom.Dataset:
    found = groups.group(dataset, keyword, frame)
    return dataset if found is None else found


def _position(dataset: pydicom.Dataset) -> list[float] | None:
    found = tags.optional_numbers(dataset, "ImagePositionPatient")
    return found if len(found) == 3 else None


def _directions(dataset: pydicom.Dataset) -> list[float] | None:
    """Returns the directions of a row and of a column; None where they are no perpendicular unit vectors."""
    found = tags.optional_numbers(dataset, "ImageOrientationPatient")
    if len(found) != 6:
        return None
    row, column = found[:3], found[3:]
    lengths = [math.hypot(*row), math.hypot(*column)]
    if any(abs(length - 1) > TOLERANCE for length in lengths) or abs(float(np.dot(row, column))) > TOLERANCE:
        return None
    return found


def _positive(dataset: pydicom.Dataset, keyword: str) -> float | None:
    found = tags.optional_numbers(dataset, keyword)
    return found[0] if len(found) == 1 and found[0] > 0 else None


def _spacing(dataset: pydicom.Dataset, measures: pydicom.Dataset, notes: list[str]) -> list[float] | None:
    """Returns the distances of rows and of columns in mm."""
    for keyword, owner in (("PixelSpacing", measures), ("ImagerPixelSpacing", dataset)):
        if tags.text(owner, keyword):
            found = tags.optional_numbers(owner, keyword)
            if len(found) == 2 and min(found) > 0:
                if keyword == "ImagerPixelSpacing":
                    notes.append("the pixel spacing is that at the detector, not in the patient")
                return found
            notes.append(f"{keyword} is no pair of positive numbers: there is no spacing")
            return None
    return _ultrasound(dataset, notes)


def _ultrasound(dataset: pydicom.Dataset, notes: list[str]) -> list[float] | None:
    """Returns the spacing of calibrated ultrasound regions, where all regions in centimetres agree."""
    regions = tags.items(dataset, "SequenceOfUltrasoundRegions")
    found = {
        (tags.numbers(one, "PhysicalDeltaY")[0] * 10, tags.numbers(one, "PhysicalDeltaX")[0] * 10)
        for one in regions
        if _units(one) == {CENTIMETRES}
    }
    if len(found) == 1 and min(*found) > 0:
        notes.append("the pixel spacing is that of the calibrated ultrasound region")
        return list(*found)
    if regions or tags.text(dataset, "Modality") == "US":
        notes.append("this ultrasound image is not calibrated, or its regions differ")
    return None


def _units(region: pydicom.Dataset) -> set[int | None]:
    return {tags.whole(region, "PhysicalUnitsXDirection"), tags.whole(region, "PhysicalUnitsYDirection")}
