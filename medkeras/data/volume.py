"""Volumes: values on a regular grid, and where the grid lies in the patient.

The world is DICOM's patient system, LPS in mm: x grows to the patient's left, y to the back, z to the head. In the
canonical orientation D runs from inferior to superior, H from anterior to posterior, W from the patient's right to
left: `values[d]` is an axial slice as radiologists look at it.

Reference:
    DICOM PS3.3 C.7.6.2.1.1; the NIfTI-1 data format, "orientation" (whose RAS+ is LPS with x and y negated).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from medkeras import errors

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns world coordinates of NIfTI into those of DICOM, and back."""
MAX_SKEW_DEGREES = 1.0
LARGEST_SPACING_MM = 1000.0

_FARTHEST_MM = 1e9

# The world axis (x, y, z) that D, H and W of the canonical orientation follow.
_CANONICAL_AXES = (2, 1, 0)
_NEAREST = 0

Spacing = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """Values and their place.

    Attributes:
        values: `[D, H, W, C]`.
        affine: float64 `[4, 4]`, from voxel index `(d, h, w, 1)` to LPS mm `(x, y, z, 1)`.
    """

    values: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> Spacing:
        """Distances of neighbouring voxels in mm, along D, H and W."""
        return spacing_of(self.affine)


def spacing_of(affine: np.ndarray) -> Spacing:
    """Returns the lengths in mm of the columns of an affine `[4, 4]`."""
    depth, row, column = np.sqrt((np.asarray(affine, np.float64)[:3, :3] ** 2).sum(axis=0)).tolist()
    return depth, row, column


def fault(affine: np.ndarray) -> str:
    """Returns the sentence that says why an affine `[4, 4]` places no volume; empty for one that does."""
    matrix = np.asarray(affine, np.float64)
    if not (np.abs(matrix) < _FARTHEST_MM).all():
        return "the place of a volume is made of finite numbers; its affine holds NaN or numbers beyond all measure"
    spacing = np.array(spacing_of(matrix))
    if not spacing.all() or abs(np.linalg.det(matrix[:3, :3] / spacing)) < 1e-3:
        return "the axes of a volume span three dimensions; its affine is singular"
    directions = matrix[:3, :3] / spacing
    skew = max(abs(float(directions[:, one] @ directions[:, two])) for one, two in ((0, 1), (0, 2), (1, 2)))
    if skew > math.sin(math.radians(MAX_SKEW_DEGREES)):
        angle = math.degrees(math.acos(min(skew, 1.0)))
        return f"the axes of a volume stand at right angles; its affine shears. Received: {angle:.1f} degrees"
    return ""


def orientation(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Returns how to bring an array to the canonical orientation: its axes as D, H and W, and which of these to flip.

    Of the six ways to match axes, the one is taken whose directions agree best, so that the order and direction in
    which a file stores its axes make no difference.

    Args:
        affine: float `[4, 4]` without a `fault`.
    """
    left, _, right = np.linalg.svd(np.asarray(affine, np.float64)[:3, :3] / spacing_of(affine))
    directions = left @ right
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(directions[world, axis]) for world, axis in zip(_CANONICAL_AXES, axes, strict=True)),
    )
    depth, row, column = (bool(directions[world, axis] < 0) for world, axis in zip(_CANONICAL_AXES, order, strict=True))
    return (order[0], order[1], order[2]), (depth, row, column)


def canonical(volume: Volume) -> Volume:
    """Returns the volume with D inferior to superior, H anterior to posterior and W right to left.

    Axes are swapped and flipped to the nearest ones; nothing is interpolated, and what is oblique stays in the affine.

    Raises:
        DataError: The affine has a `fault`.
    """
    sentence = fault(volume.affine)
    if sentence:
        raise errors.DataError(sentence)
    axes, flips = orientation(volume.affine)
    rest = range(3, volume.values.ndim)
    values = np.flip(volume.values.transpose(*axes, *rest), tuple(axis for axis in range(3) if flips[axis]))
    turn = np.zeros((4, 4))
    turn[3, 3] = 1.0
    for axis, (source, flipped) in enumerate(zip(axes, flips, strict=True)):
        turn[source, axis] = -1.0 if flipped else 1.0
        turn[source, 3] = values.shape[axis] - 1 if flipped else 0.0
    return Volume(values, np.asarray(volume.affine, np.float64) @ turn)


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, int, int]:
    """Returns the number of voxels along each axis, at least one, that cover the same extent at another spacing."""
    depth, height, width = (
        max(1, math.floor(size * old / new + 0.5)) for size, old, new in zip(shape[:3], spacing, wanted, strict=True)
    )
    return depth, height, width


def resample(volume: Volume, spacing: Spacing, *, order: int) -> Volume:
    """Returns the volume with voxels of another size, its centre in the same place.

    Args:
        volume: Of any orientation; D, H and W are its own.
        spacing: Wanted distances in mm along D, H and W; they are met exactly, so the extent may change by up to half
            a voxel at either end, where the nearest values are repeated.
        order: 1: linear, for images; where voxels grow, a triangle filter as wide as they are, so that nothing is
            aliased. Values become float32; uint8 and uint16 are rounded and stay. 0: nearest, for labels of any
            integer dtype.
    """
    affine = np.array(volume.affine, np.float64)
    sizes = resampled_shape(volume.values.shape, volume.spacing, spacing)
    places: dict[int, tuple[np.ndarray, float]] = {}
    for axis, (old, new, size) in enumerate(zip(volume.spacing, spacing, sizes, strict=True)):
        here = (volume.values.shape[axis] - 1) / 2 + (np.arange(size) - (size - 1) / 2) * (new / old)
        affine[:3, 3] += affine[:3, axis] * here[0]
        affine[:3, axis] *= new / old
        if size != volume.values.shape[axis] or new != old:
            places[axis] = here, max(1.0, new / old)
    # What shrinks most goes first, so that the steps between are small.
    first = sorted(places, key=lambda axis: sizes[axis] / volume.values.shape[axis])
    values = volume.values
    for axis in first:
        values = _nearest(values, axis, places[axis][0]) if order == _NEAREST else _linear(values, axis, *places[axis])
    return Volume(values if order == _NEAREST else _restored(values, volume.values.dtype), affine)


def parse_spacing(text: str) -> Spacing | None:
    """Returns the voxel size in mm that `data.spacing` names, along D, H and W; None where it is empty.

    >>> parse_spacing("1"), parse_spacing("3, 1, 1")
    ((1.0, 1.0, 1.0), (3.0, 1.0, 1.0))

    Raises:
        ConfigError: It is not one number or three, each above 0 and at most 1000 mm.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(0 < number <= LARGEST_SPACING_MM for number in numbers):
        raise errors.ConfigError(
            f"data.spacing is one number of mm, or DEPTH,ROW,COLUMN, each above 0 and at most "
            f"{LARGEST_SPACING_MM:g}. Received: {text!r}"
        )
    depth, row, column = numbers if len(numbers) == 3 else numbers * 3
    return depth, row, column


def _linear(values: np.ndarray, axis: int, places: np.ndarray, reach: float) -> np.ndarray:
    """Returns float32 values at places along an axis, made slab by slab: a volume may be large."""
    weights = _triangles(values.shape[axis], places, reach)
    result = np.empty((*values.shape[:axis], len(places), *values.shape[axis + 1 :]), np.float32)
    across, along = (1, 0) if axis == 0 else (0, axis - 1)
    for slab, target in zip(np.moveaxis(values, across, 0), np.moveaxis(result, across, 0), strict=True):
        front = np.moveaxis(slab, along, 0).astype(np.float32)
        flat = weights @ front.reshape(len(front), -1)
        np.moveaxis(target, along, 0)[...] = flat.reshape(len(places), *front.shape[1:])
    return result


def _restored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns values rounded to uint8 or uint16 where they came from there, else as float32."""
    if dtype.kind != "u" or dtype.itemsize > 2:
        return values.astype(np.float32, copy=False)
    if values.dtype.kind == "f":
        values += np.float32(0.5)
        np.floor(values, out=values)
    return values.astype(dtype, copy=False)


def _triangles(size: int, places: np.ndarray, reach: float) -> scipy.sparse.csr_array:
    """Returns float32 weights `[len(places), size]`, triangles that fall to 0 at `reach`; each row sums to 1."""
    taps = np.floor(places - reach).astype(np.int64)[:, np.newaxis] + np.arange(1, math.ceil(2 * reach) + 1)
    weights = np.maximum(1 - np.abs(taps - places[:, np.newaxis]) / reach, 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(places)), taps.shape[1])
    columns = np.clip(taps, 0, size - 1).ravel()
    table = scipy.sparse.coo_array((weights.ravel(), (rows, columns)), shape=(len(places), size))
    return table.astype(np.float32).tocsr()


def _nearest(values: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    index = np.clip(np.floor(places + 0.5).astype(np.int64), 0, values.shape[axis] - 1)
    return values.take(index, axis=axis)
