"""Slices become a stack: sorted by where they lie, checked for gaps and copies, and placed in space.

Reference:
    DICOM PS3.3 C.7.6.2 (Image Plane Module): position and orientation of the patient, in mm, LPS.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medkeras.data import cases, files, volume

SAME_PLACE_MM = 0.01
SAME_DIRECTION = 5e-3
"""Largest difference of direction cosines that is rounding: a third of a degree."""
SAME_SPACING = 1e-3
GAP = 1.5
"""A step of so many slice distances is a gap."""
UNEVEN, UNEVEN_MM = 0.05, 0.02
MAX_VOXELS = 2**27
SCANNED_IN_SLICES = ("CT", "MR", "PT")
"""Modalities whose images, where they state no position, are slices in the order of their numbers."""


@dataclasses.dataclass(frozen=True)
class Slice:
    """One plane of a series: a file, or a frame of one.

    Attributes:
        path: The file.
        frame: Position of the frame in a file of several, from 0; None: the file is the plane.
        header: Its size, dtype and units.
        position: Centre of the first pixel in mm, LPS; None: not stated.
        orientation: Directions of increasing column and increasing row, LPS; None: not stated.
        spacing: Distance of rows and of columns in mm; None: not stated.
        step: Stated distance of slices in mm; None: not stated.
        number: Instance number; None: not stated.
        modality: CT, MR, ….
    """

    path: str
    frame: int | None
    header: cases.ImageHeader
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    step: float | None = None
    number: int | None = None
    modality: str = ""


@dataclasses.dataclass(frozen=True)
class Stack:
    """Slices in order.

    Attributes:
        slices: From the first to the last along the normal of their plane.
        affine: float64 `[4, 4]`, index (slice, row, column, 1) to mm, LPS.
        measured: Whether the affine comes from the files; else distances are 1.
    """

    slices: tuple[Slice, ...]
    affine: np.ndarray
    measured: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        return len(self.slices), self.slices[0].header.height, self.slices[0].header.width


class SeriesError(Exception):
    """Why no volume is made of a series, as one sentence."""


def arrange(slices: Sequence[Slice]) -> tuple[Stack | None, tuple[str, ...]]:
    """Makes a stack of the slices of one series.

    Returns:
        The stack, or None where a volume would lie; and a sentence for each fault that was found.
    """
    found: list[str] = []
    try:
        if len(slices) < 2:
            raise SeriesError(f"a volume has two slices or more. Received: {len(slices)}")
        for what, same in _ALIKE:
            slices = _majority(slices, what, same, found)
        stack = _by_position(slices, found) if slices[0].position and slices[0].orientation else _by_number(slices)
        if np.prod(stack.shape) > MAX_VOXELS:
            raise SeriesError(f"a volume has at most {MAX_VOXELS} voxels. Received: {stack.shape}")
        if not stack.measured:
            found.append(_UNMEASURED if stack.slices[0].position else _UNPLACED)
        return stack, tuple(found)
    except SeriesError as error:
        return None, (*found, str(error))


_UNPLACED = "no image states where it lies: slices are in the order of their instance numbers, as if axial"
_UNMEASURED = "no image states the distance of its pixels: it counts as 1 mm"


def _close(one: tuple[float, ...] | None, two: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or two is None:
        return one is two
    return bool(np.allclose(one, two, rtol=tolerance, atol=tolerance))


_ALIKE: tuple[tuple[str, Callable[[Slice, Slice], bool]], ...] = (
    ("size", lambda one, two: _size(one) == _size(two)),
    ("plane", lambda one, two: _close(one.orientation, two.orientation, SAME_DIRECTION)),
    ("unit", lambda one, two: one.header.units == two.header.units),
    ("pixel spacing", lambda one, two: _close(one.spacing, two.spacing, SAME_SPACING)),
    ("kind of place", lambda one, two: (one.position is None) == (two.position is None)),
)


def _size(one: Slice) -> tuple[int, int, int]:
    return one.header.height, one.header.width, one.header.channels


def _majority(
    slices: Sequence[Slice], what: str, same: Callable[[Slice, Slice], bool], found: list[str]
) -> Sequence[Slice]:
    """Returns the slices that are alike, where they are more than half of all; a localiser is among the others."""
    groups: list[list[Slice]] = []
    for one in slices:
        group = next((group for group in groups if same(group[0], one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    if len(groups) == 1:
        return slices
    counts = sorted(map(len, groups), reverse=True)
    largest = max(groups, key=len)
    if len(largest) <= len(slices) / 2:
        raise SeriesError(f"the slices of a volume are of one {what}. Received: {len(groups)}, of {counts} images")
    others = len(slices) - len(largest)
    found.append(f"{others} of {len(slices)} images have another {what}, as a localiser has, and are left out")
    return largest


def _by_position(slices: Sequence[Slice], found: list[str]) -> Stack:
    row, column = (np.array(half, np.float64) for half in np.split(np.array(slices[0].orientation), 2))
    normal = np.cross(row, column)
    if abs(np.linalg.norm(normal) - 1) > 0.05:
        raise SeriesError("the directions of rows and columns are two unit vectors at right angles; these are not")
    places = {id(one): float(np.array(one.position) @ normal) for one in slices}
    ordered = sorted(slices, key=lambda one: (places[id(one)], one.number or 0, one.path, one.frame or 0))
    ordered = _without_copies(ordered, [places[id(one)] for one in ordered], found)
    _refuse_uneven(np.diff([places[id(one)] for one in ordered]))
    points = np.array([one.position for one in ordered], np.float64)
    affine = np.eye(4)
    affine[:3, 0] = (points[-1] - points[0]) / (len(points) - 1)
    affine[:3, 1] = column * _spacing(ordered[0])[0]
    affine[:3, 2] = row * _spacing(ordered[0])[1]
    affine[:3, 3] = points[0]
    _refuse_shifted(points, affine)
    return Stack(tuple(ordered), affine, measured=ordered[0].spacing is not None)


def _without_copies(ordered: list[Slice], places: Sequence[float], found: list[str]) -> list[Slice]:
    """Returns one slice a place, the one with the lowest number."""
    fresh = np.concatenate([[True], np.diff(places) > SAME_PLACE_MM])
    counts = np.bincount(np.cumsum(fresh) - 1)
    if counts.max() == 1:
        return ordered
    if counts.min() > 1:
        raise SeriesError(
            f"a volume has one slice at each place. Received: {counts.min()} to {counts.max()} at every place, "
            "as a series of several echoes, phases or diffusion weights has"
        )
    found.append(f"{len(ordered) - len(counts)} images lie where another one lies, and are left out")
    kept = [one for one, first in zip(ordered, fresh, strict=True) if first]
    if len(kept) < 2:
        raise SeriesError("a volume has two slices or more. Received: 1 place")
    return kept


def _refuse_uneven(steps: np.ndarray) -> None:
    typical = float(np.median(steps))
    wide = steps[steps > GAP * typical]
    if len(wide):
        missing = int(np.rint(wide / typical - 1).sum())
        raise SeriesError(
            f"a volume has no gaps: about {missing} slices are missing at {len(wide)} places. "
            f"Received: steps of {typical:.4g} mm, the widest {wide.max():.4g} mm"
        )
    if np.abs(steps - typical).max() > max(UNEVEN * typical, UNEVEN_MM):
        raise SeriesError(
            f"the slices of a volume are evenly spaced. Received: steps of {steps.min():.4g} to {steps.max():.4g} mm"
        )


def _refuse_shifted(points: np.ndarray, affine: np.ndarray) -> None:
    sentence = volume.fault(affine)
    if sentence:
        raise SeriesError(sentence)
    expected = points[0] + np.arange(len(points))[:, np.newaxis] * affine[:3, 0]
    off = float(np.linalg.norm(points - expected, axis=1).max())
    if off > max(volume.spacing_of(affine)):
        raise SeriesError(f"the slices of a volume lie straight behind one another. Received: one {off:.3g} mm aside")


def _by_number(slices: Sequence[Slice]) -> Stack:
    if any(one.frame is not None for one in slices) or slices[0].modality not in SCANNED_IN_SLICES:
        raise SeriesError("the slices of a volume state where they lie; these may be views or moments")
    numbers = [one.number for one in slices]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise SeriesError("slices without a position have an instance number each; these have not")
    ordered = sorted(slices, key=lambda one: one.number or 0)
    row, column = _spacing(ordered[0])
    return Stack(tuple(ordered), np.diag([ordered[0].step or 1.0, row, column, 1.0])[[2, 1, 0, 3]], measured=False)


def _spacing(one: Slice) -> tuple[float, float]:
    row, column = one.spacing or (1.0, 1.0)
    return row, column


class SeriesImages:
    """An `ImageSource` of volumes, `[D, H, W, C]` in the canonical orientation.

    Args:
        stacks: Case path to its stack.
        spacing: Voxel size in mm to resample to, along D, H and W; None: as stored.
    """

    def __init__(self, stacks: Mapping[str, Stack], spacing: volume.Spacing | None) -> None:
        self._stacks = stacks
        self._spacing = spacing

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the volume's size and type."""
        stack = self._stacks[case.path]
        axes, _ = volume.orientation(stack.affine)
        shape: Sequence[int] = [stack.shape[axis] for axis in axes]
        if self._spacing:
            stored = volume.spacing_of(stack.affine)
            shape = volume.resampled_shape(shape, [stored[axis] for axis in axes], self._spacing)
        dtype = np.result_type(*{one.header.dtype for one in stack.slices}).name
        first = stack.slices[0].header
        return cases.ImageHeader(shape[1], shape[2], first.channels, dtype, depth=shape[0], units=first.units)

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the stored values `[D, H, W, channels]`; raises `BadInputError`."""
        return self.volume(case, channels).values

    def volume(self, case: cases.Case, channels: int) -> volume.Volume:
        """Returns the volume with its place in space; raises `BadInputError`."""
        stack = self._stacks[case.path]
        whole = volume.canonical(volume.Volume(_values(stack, channels), stack.affine))
        return volume.resample(whole, self._spacing, order=1) if self._spacing else whole


def _values(stack: Stack, channels: int) -> np.ndarray:
    planes = collections.defaultdict(list)
    for index, one in enumerate(stack.slices):
        planes[one.path].append((index, one))
    dtype = np.result_type(*{one.header.dtype for one in stack.slices})
    values = np.empty((*stack.shape, channels), dtype)
    source = files.FileImages()
    for path, members in planes.items():
        for index, one in members:
            case = cases.Case(case_id=path, path=path, patient_id="", frame=one.frame)
            values[index] = source.read(case, channels)
    return values
