"""NIfTI files as values that mean something, in the canonical orientation; runs in the guarded worker."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.data import headers, volume
from medkeras.data.readers import nifti_file

MAX_BAD_SHARE = 0.5
"""Largest share of NaN and infinite voxels that is replaced; a volume with more is refused."""

_KEPT_BYTES = 3 * 2**26
_LARGEST_WHOLE_FLOAT32 = 2**24
_MOST_LEVELS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class _File:
    """A file in memory, or mapped.

    Attributes:
        header: Its header.
        values: Stored values `[T, D, H, W, C]`, canonical.
        affine: From canonical index to LPS mm.
        lowest: Lowest finite value of each volume that holds others, else None.
    """

    header: nifti_file.Header
    values: np.ndarray
    affine: np.ndarray
    lowest: tuple[float | None, ...]


def inspect(path: str, values: bool = False) -> dict[str, Any]:
    """Returns what a file says of its volumes, in the canonical orientation.

    Args:
        path: The file.
        values: Whether the voxels are read too.

    Returns:
        `shape` [D, H, W], `times`, `channels`, `dtype` (uint8, uint16 or float32), `spacing` [D, H, W] in mm, `affine`
        4 x 4 from (d, h, w, 1) to LPS mm, `whole` (whether whole numbers are stored, unscaled), `real` (whether
        floating-point ones are, which may be NaN), `notes`; with `values` also `low`, `high`, `bad` (share of NaN and
        infinite voxels) and `levels` (up to 256 different values if all are whole numbers, else []).

    Raises:
        RefusalError: The file is not read.
    """
    with headers.open_regular(path) as file:
        header = nifti_file.header(file)
    placed = volume.canonical(volume.Volume(np.broadcast_to(np.uint8(0), (*header.shape, 1)), header.affine))
    facts: dict[str, Any] = {
        "shape": list(placed.values.shape[:3]),
        "times": header.times,
        "channels": header.channels,
        "dtype": header.dtype,
        "spacing": list(placed.spacing),
        "affine": placed.affine.tolist(),
        "whole": header.slope is None and header.stored.kind in "iu",
        "real": header.stored.kind == "f",
        "notes": list(header.notes),
    }
    return facts | _survey(_open(path)) if values else facts


def read(
    path: str,
    frame: int | None = None,
    spacing: volume.Spacing | None = None,
    labels: bool = False,
    time: int = 0,
) -> np.ndarray:
    """Returns values in the canonical orientation: uint8, uint16 or float32 as `inspect` says.

    Args:
        path: The file.
        frame: An axial slice: counted from the lowest, volume by volume where the file holds several.
        spacing: Voxel size in mm along D, H and W to resample a whole volume to; None: as stored.
        labels: Whether values are labels: whole numbers, given in the narrowest of uint8, uint16, int32 and int64 and
            resampled by the nearest.
        time: Which volume of the file, where no frame is asked for.

    Returns:
        `[H, W, C]` of a frame, else `[D, H, W, C]`.

    Raises:
        RefusalError: The file is not read, or holds no such frame or volume.
    """
    opened = _open(path)
    depth = opened.values.shape[1]
    chosen, place = (time, None) if frame is None else divmod(frame, depth)
    if not 0 <= chosen < opened.header.times:
        raise errors.RefusalError(
            f"a frame lies within the file, of {opened.header.times} volumes of {depth} slices. "
            f"Received: {time if frame is None else frame}"
        )
    stored = opened.values[chosen] if place is None else opened.values[chosen, place : place + 1]
    if spacing is not None and place is None:
        return _resampled(opened, chosen, spacing, labels)
    given = _labels(opened.header, stored) if labels else _meant(opened, stored, opened.lowest[chosen])
    return np.ascontiguousarray(given if place is None else given[0])


def _resampled(opened: _File, time: int, spacing: volume.Spacing, labels: bool) -> np.ndarray:
    stored, lowest, header = opened.values[time], opened.lowest[time], opened.header
    depth, row, column = spacing
    nifti_file.require_size(volume.resampled_shape(stored.shape, volume.spacing_of(opened.affine), spacing))
    if labels:
        stored = _labels(header, stored)
    # What float32 holds as it is need not be copied before.
    elif header.slope is not None or lowest is not None or not np.can_cast(stored.dtype, np.float32):
        stored = _meant(opened, stored, lowest)
    one = volume.Volume(stored, opened.affine)
    return np.ascontiguousarray(volume.resample(one, (depth, row, column), order=0 if labels else 1).values)


def _open(path: str) -> _File:
    """Returns a file, from the last one kept in memory where it is the same."""
    status = os.stat(path)
    key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    if key in _kept:
        return _kept[key]
    _kept.clear()
    opened = _load(path)
    if opened.header.nbytes <= _KEPT_BYTES:
        _kept[key] = opened
    return opened


# The slices of a volume are asked for one by one: the last file stays, if it is not too large.
_kept: dict[tuple[str, int, int, int], _File] = {}


def _load(path: str) -> _File:
    with headers.open_regular(path) as file:
        header = nifti_file.header(file)
        file.seek(0)
        stored = nifti_file.voxels(file, header)
    placed = volume.canonical(volume.Volume(stored, header.affine))
    values = np.moveaxis(placed.values, 3, 0)
    return _File(header, values, placed.affine, tuple(map(_lowest, values)))


def _lowest(stored: np.ndarray) -> float | None:
    """Returns the lowest finite value of a volume that holds NaN or infinite ones, else None."""
    if stored.dtype.kind != "f":
        return None
    bad = stored.size - sum(int(np.count_nonzero(np.isfinite(plane))) for plane in stored)
    if not bad:
        return None
    if bad > MAX_BAD_SHARE * stored.size:
        return math.nan
    return float(min(plane[np.isfinite(plane)].min() for plane in stored if np.isfinite(plane).any()))


def _meant(opened: _File, stored: np.ndarray, lowest: float | None) -> np.ndarray:
    """Returns the values that the file means, `[D, H, W, C]`."""
    header = opened.header
    if lowest is not None and math.isnan(lowest):
        raise errors.RefusalError(
            f"voxels are finite numbers; more than {MAX_BAD_SHARE:.0%} of the volume are NaN or infinite"
        )
    if header.dtype != "float32":
        return stored
    values = np.empty(stored.shape, np.float32)
    for plane, source in zip(values, stored, strict=True):
        exact = source if lowest is None else np.where(np.isfinite(source), source, lowest)
        plane[...] = _narrowed(_scaled(header, exact))
    return values


def _narrowed(exact: np.ndarray) -> np.ndarray:
    if exact.dtype.kind in "iu" and exact.dtype.itemsize > 2 and exact.size:
        if max(abs(int(exact.min())), abs(int(exact.max()))) > _LARGEST_WHOLE_FLOAT32:
            raise errors.RefusalError("whole numbers beyond 2**24 lose digits as float32")
    elif exact.dtype.kind == "f" and not (np.abs(exact) <= np.finfo(np.float32).max).all():
        raise errors.RefusalError("values lie within the range of float32; the volume holds larger ones")
    return exact.astype(np.float32)


def _labels(header: nifti_file.Header, stored: np.ndarray) -> np.ndarray:
    """Returns whole numbers in the narrowest dtype that holds them."""
    if header.channels > 1:
        raise errors.RefusalError("labels are whole numbers; the mask holds colours")
    values = _scaled(header, stored)
    if values.dtype.kind == "f":
        if not (np.isfinite(values) & (np.abs(values) < 2**53) & (values == np.rint(values))).all():
            raise errors.RefusalError("labels are whole numbers; the mask holds others")
        values = values.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    for dtype in (np.uint8, np.uint16, np.int32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    raise errors.RefusalError(f"labels are below 2**63. Received: {high}")


def _survey(opened: _File) -> dict[str, Any]:
    """Returns the range of the finite values, the share of the others, and the levels of a mask, plane by plane."""
    low, high, good, whole = math.inf, -math.inf, 0, True
    levels: set[float] = set()
    for plane in itertools.chain.from_iterable(opened.values):
        finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
        good += finite.size
        if not finite.size:
            continue
        values = _scaled(opened.header, finite)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        whole = whole and (values.dtype.kind in "iu" or bool((values == np.rint(values)).all()))
        if whole and len(levels) <= _MOST_LEVELS:
            levels.update(np.unique(values).tolist())
    listed = whole and good == opened.values.size and len(levels) <= _MOST_LEVELS
    return {
        "low": low if good else 0.0,
        "high": high if good else 0.0,
        "bad": 1 - good / opened.values.size,
        "levels": sorted(levels) if listed else [],
    }


def _scaled(header: nifti_file.Header, stored: np.ndarray) -> np.ndarray:
    return stored if header.slope is None else stored.astype(np.float64) * header.slope + header.inter
