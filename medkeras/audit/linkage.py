"""Groups of near copies: pictures that matches tie together, where they are alike on the whole and no mere chain."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import scipy.cluster.hierarchy
import scipy.ndimage
import scipy.spatial.distance

from medkeras.audit import alignment, copies

LEAST_ON_AVERAGE = 0.85
"""Least correlation, 0..1, of two parts of a group, over all their pairs."""

_BLUR = 0.8
_BATCH = 2048
# A group of more is left whole, for all its pairs would be too many.
_LARGEST = 4096

Look = Callable[[np.ndarray], np.ndarray]


def parts(edges: Sequence[tuple[int, int]], count: int, look: Look) -> list[list[int]]:
    """Returns the positions of each group, two or more, sorted.

    All pictures of a group are laid over its best tied one, each by way of the one that it is tied to, and compared in
    all pairs. By average linkage a chain, each picture like the next and the last unlike the first, falls apart.

    Args:
        edges: Positions of two pictures that are near copies.
        count: How many pictures there are.
        look: Gives pictures whose contrast is made equal, float32 `[R, S, S]`, by their positions.
    """
    ties: dict[int, list[int]] = collections.defaultdict(list)
    for one, two in edges:
        ties[one].append(two)
        ties[two].append(one)
    groups = copies.together(edges, count)
    whole = [rows for rows in groups if not 3 <= len(rows) <= _LARGEST]
    for batch in _batches([rows for rows in groups if 3 <= len(rows) <= _LARGEST]):
        laid = _laid(batch, ties, look)
        for rows in batch:
            whole.extend(_alike(rows, np.stack([laid[row] for row in rows])))
    return sorted(whole)


def _batches(groups: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    batch: list[list[int]] = []
    for rows in groups:
        if batch and sum(map(len, batch)) + len(rows) > _BATCH:
            yield batch
            batch = []
        batch.append(rows)
    if batch:
        yield batch


def _laid(groups: Sequence[Sequence[int]], ties: Mapping[int, Sequence[int]], look: Look) -> dict[int, np.ndarray]:
    """Returns each picture, turned and warped so that it lies over the best tied one of its group."""
    roots = [max(rows, key=lambda row: (len(ties[row]), -row)) for rows in groups]
    laid = dict(zip(roots, look(np.array(roots)), strict=True))
    while True:
        step = {row: before for before in laid for row in ties[before] if row not in laid}
        if not step:
            return laid
        below = np.stack([laid[before] for before in step.values()])
        laid |= dict(zip(step, _over(below, look(np.array(list(step)))), strict=True))


def _over(below: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Returns pictures `[P, S, S]` turned and warped so that each lies over the one below it."""
    best, score = pictures, alignment.correlation(below, pictures)
    for turns in range(1, 8):
        turned = np.rot90(pictures if turns < 4 else pictures.transpose(0, 2, 1), turns % 4, axes=(1, 2))
        found = alignment.correlation(below, turned)
        best, score = np.where((found > score)[:, np.newaxis, np.newaxis], turned, best), np.maximum(found, score)
    # What is turned is not shifted; what is shifted a lot is like nothing before it is aligned.
    upright = np.where((score > LEAST_ON_AVERAGE)[:, np.newaxis, np.newaxis], best, pictures)
    moved = alignment.warped(upright, alignment.align(below, upright))
    better = alignment.correlation(below, moved) > alignment.correlation(below, upright)
    return np.where(better[:, np.newaxis, np.newaxis], moved, upright)


def _alike(rows: Sequence[int], pictures: np.ndarray) -> list[list[int]]:
    """Returns the parts, of two or more, into which a group falls by average linkage."""
    edge = round(pictures.shape[1] * alignment.MARGIN)
    blurred = scipy.ndimage.gaussian_filter(pictures, (0, _BLUR, _BLUR), truncate=3)[:, edge:-edge, edge:-edge]
    flat = blurred.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    apart = np.maximum(1 - flat @ flat.T, 0).astype(np.float64)
    np.fill_diagonal(apart, 0)
    tree = scipy.cluster.hierarchy.average(scipy.spatial.distance.squareform(apart, checks=False))
    names = scipy.cluster.hierarchy.fcluster(tree, 1 - LEAST_ON_AVERAGE, "distance")
    found: dict[int, list[int]] = collections.defaultdict(list)
    for row, name in zip(rows, names.tolist(), strict=True):
        found[name].append(row)
    return [each for each in found.values() if len(each) > 1]
