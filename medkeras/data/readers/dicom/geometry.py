"""Where the frames lie in the patient, and how far apart their pixels are.

Reference:
    PS3.3 sections C.7.6.2 (image plane), 10.7.1.3 (pixel spacing), C.7.6.16.2 (functional groups), C.8.5.5
    (ultrasound regions). Positions and directions are in the patient's system: left, posterior, superior; mm.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pydicom

from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import groups as functional
from medkeras.data.readers.dicom import tags

# How far the directions of rows and columns may be from unit length and from a right angle.
TOLERANCE = 1e-2
CENTIMETRES = 3


def geometry(dataset: pydicom.Dataset, form: forms.Form) -> tuple[dict[str, Any], list[str]]:
    """Returns the facts of geometry, and notes on what is missing or cannot be."""
    notes: list[str] = []
    groups = functional.Groups(dataset)
    measures = groups.item("PixelMeasuresSequence", 0)
    measures = dataset if measures is None else measures
    spacing = _spacing(dataset, measures, notes)
    _check_directions(dataset, notes)
    _check_aspect(dataset, spacing, notes)
    places = _planes(dataset, form.frames, groups, "PlanePositionSequence")
    turns = _planes(dataset, form.frames, groups, "PlaneOrientationSequence")
    facts = {
        "positions": [_position(one) for one in places],
        "orientation": [_directions(one) for one in turns],
        "spacing": spacing,
        "slice_thickness": _positive(measures, "SliceThickness"),
        "spacing_between": _positive(measures, "SpacingBetweenSlices"),
    }
    return facts, notes


def _planes(
    dataset: pydicom.Dataset, frames: int, groups: functional.Groups, keyword: str
) -> list[pydicom.Dataset | None]:
    """Returns where the plane of each frame is described; a plane outside the groups is that of a single frame."""
    found = [groups.item(keyword, frame) for frame in range(frames)]
    return [dataset] if found == [None] else found


def _check_directions(dataset: pydicom.Dataset, notes: list[str]) -> None:
    if tags.text(dataset, "ImageOrientationPatient") and _directions(dataset) is None:
        notes.append("the image orientation is no pair of perpendicular unit vectors: there is no geometry")


def _check_aspect(dataset: pydicom.Dataset, spacing: list[float] | None, notes: list[str]) -> None:
    aspect = tags.optional_numbers(dataset, "PixelAspectRatio")
    if len(aspect) == 2 and aspect[0] != aspect[1] and spacing is None:
        notes.append(f"pixels are not square: the aspect ratio is {aspect[0]:g} to {aspect[1]:g}, and is not corrected")


def _position(dataset: pydicom.Dataset | None) -> list[float] | None:
    found = [] if dataset is None else tags.optional_numbers(dataset, "ImagePositionPatient")
    return found if len(found) == 3 else None


def _directions(dataset: pydicom.Dataset | None) -> list[float] | None:
    """Returns the directions of a row and of a column; None where they are no perpendicular unit vectors."""
    found = [] if dataset is None else tags.optional_numbers(dataset, "ImageOrientationPatient")
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
    found = {_deltas(one) for one in regions}
    if len(found) == 1 and None not in found:
        notes.append("the pixel spacing is that of the calibrated ultrasound region")
        return [10 * delta for deltas in found if deltas for delta in deltas]
    if regions or tags.text(dataset, "Modality") == "US":
        notes.append("this ultrasound image is not calibrated, or its regions differ")
    return None


def _deltas(region: pydicom.Dataset) -> tuple[float, float] | None:
    """Returns the distances of rows and of columns in cm; None for a region that is not in centimetres."""
    units = [tags.optional_numbers(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
    down, across = (tags.optional_numbers(region, f"PhysicalDelta{axis}") for axis in "YX")
    if units != [[CENTIMETRES]] * 2 or len(down) != 1 or len(across) != 1 or min(*down, *across) <= 0:
        return None
    return down[0], across[0]
