"""Masks of NIfTI images: whether each one fits its image, and holds what a mask holds."""

from __future__ import annotations

import collections
import concurrent.futures
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.data import cases, guard

KIND = "mask"
SAME_PLACE = 0.1
"""Largest distance, in voxels, of the corners of a mask and of its image."""
RARE = 0.05
"""What at most this share of the files has is pointed out, where the others agree."""

_THREADS = 4


def look(path: pathlib.Path, *, values: bool = False) -> dict[str, Any] | errors.BadInputError:
    """Returns what a NIfTI file says of itself, with `values` of its voxels too, or why it cannot be read."""
    try:
        return guard.inspect("nifti", str(path), values=values)
    except errors.BadInputError as error:
        return error


def check(
    masks: Mapping[str, pathlib.Path], images: Mapping[str, Mapping[str, Any]], *, values: bool
) -> tuple[cases.Problem, ...]:
    """Returns a problem for each mask and each thing that is wrong with it, of the kind `mask`.

    Args:
        masks: Name to file.
        images: Name to what its image says of itself, where there is one.
        values: Whether the voxels are looked at too: fractions, nothing but background, labels unlike the others'.
    """
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        looks = list(pool.map(lambda path: look(path, values=values), masks.values()))
    problems, levels, sizes = [], {}, {}
    for (name, path), facts in zip(masks.items(), looks, strict=True):
        if isinstance(facts, errors.BadInputError):
            problems.append(cases.Problem(str(path), KIND, facts.reason))
            continue
        sentences = [*_misfits(facts, images[name])] if name in images else []
        sentences += _faults(facts) if values else []
        problems.extend(cases.Problem(str(path), KIND, sentence) for sentence in sentences)
        sizes[str(path)] = voxel_size(facts)
        if values and facts["levels"]:
            levels[str(path)] = ", ".join(f"{level:g}" for level in facts["levels"])
    for place, found, usual in odd_ones(levels):
        problems.append(cases.Problem(place, KIND, f"holds the labels {found} where most masks hold {usual}"))
    for place, found, usual in odd_ones(sizes):
        problems.append(cases.Problem(place, KIND, f"has voxels of {found} mm where most masks have {usual} mm"))
    return tuple(problems)


def odd_ones(values: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yields name, value and usual value of the few that differ where nearly all have the same."""
    if not values:
        return
    ((usual, count),) = collections.Counter(values.values()).most_common(1)
    if len(values) - count <= RARE * len(values):
        yield from ((name, value, usual) for name, value in values.items() if value != usual)


def voxel_size(facts: Mapping[str, Any]) -> str:
    """Returns the voxel size in mm along D, H and W as a sentence has it."""
    return " x ".join(f"{size:.3g}" for size in facts["spacing"])


def _misfits(mask: Mapping[str, Any], image: Mapping[str, Any]) -> Iterator[str]:
    if mask["channels"] > 1 or mask["times"] > 1:
        yield f"a mask is one volume of labels. Received: {mask['times']} volumes, {mask['channels']} channels"
    if mask["shape"] != image["shape"]:
        yield f"a mask has its image's size. Received: {_size(mask)} for {_size(image)}"
        return
    corners = np.array([[*index, 1] for index in np.ndindex(2, 2, 2)]) * [*(np.array(mask["shape"]) - 1), 1]
    apart = corners @ (np.array(mask["affine"]) - np.array(image["affine"])).T
    farthest = float(np.linalg.norm(apart, axis=1).max())
    if farthest > SAME_PLACE * min(image["spacing"]):
        yield f"a mask lies where its image lies. Received: {farthest:.2f} mm apart"


def _faults(mask: Mapping[str, Any]) -> Iterator[str]:
    if mask["bad"] or not mask["levels"]:
        yield "a mask holds whole numbers, at most 256 different ones; this one holds others"
    elif len(mask["levels"]) == 1:
        yield f"a mask marks something. Received: {mask['levels'][0]:g} everywhere"
    elif not mask["whole"]:
        yield "whole numbers are stored as floating-point ones; they are read as whole numbers"


def _size(facts: Mapping[str, Any]) -> str:
    return " x ".join(map(str, facts["shape"]))
