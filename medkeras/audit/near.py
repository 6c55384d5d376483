"""Near copies: one picture compressed again, resized, brightened, cropped a little, padded, or turned.

Two pictures are compared by their thumbnails, whose contrast is made equal everywhere first: what a copy keeps is the
fine structure, and what two neighbouring slices of a head share is everything but that. Candidates come from a tree
over a few principal components of a coarser grid, so that the time grows little faster than the number of pictures.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import scipy.ndimage
import scipy.spatial

from medkeras.audit import alignment, copies, fingerprints
from medkeras.data import cases

# Chosen on pictures that are no copies. The highest correlations of neighbouring slices and of different patients are
# 0.885 among 5,400 tumour slices of a head MRI set, where copies begin at 0.939, under 0.9 among 5,000 chest X-rays
# of 28x28; about one in a hundred pairs of simulated slices a few millimetres apart rises above it.
THRESHOLD = 0.94

_RADIUS = 0.36
_TURNED_RADIUS = 0.2
_NEIGHBOURS = 12
_COMPONENTS = 16
_LEAST_ALIKE = 0.9
# Who scores just below the threshold is not shifted: a crop of a hundredth costs more. Neighbours would gain by it.
_SHIFT_COSTS = 0.02
_PROMISING = 0.85
_CORES = os.cpu_count() or 1
# Sigma, in pixels of the thumbnail, below which structure counts as detail; small pictures have none so fine.
_DETAIL = 1.5
_SMALL_DETAIL = 3.0
_SMALL = 48
_COARSE_DETAIL = 2.5
_NOISE_FLOOR = 8.0
_COARSE_NOISE_FLOOR = 12.0
_LEAST_DETAIL = 0.05
_CHUNK = 512

Turn = Callable[[np.ndarray], np.ndarray]
_UPRIGHT = "altered"
_TURNS: Mapping[str, Turn] = MappingProxyType(
    {
        _UPRIGHT: lambda images: images,
        "flipped left to right": lambda images: images[:, :, ::-1],
        "flipped upside down": lambda images: images[:, ::-1],
        "turned by 180 degrees": lambda images: images[:, ::-1, ::-1],
        "turned by 90 degrees": lambda images: np.rot90(images, axes=(1, 2)),
        "transposed": lambda images: images.transpose(0, 2, 1),
        "transposed the other way": lambda images: images[:, ::-1, ::-1].transpose(0, 2, 1),
    }
)


def find(
    members: Sequence[cases.Case],
    prints: Sequence[fingerprints.Fingerprint],
    *,
    threshold: float = THRESHOLD,
    turns: bool = True,
    patients_known: bool = False,
) -> copies.Copies:
    """Finds the cases that show one picture differently.

    Exact copies stand for one another: they are searched once and join the group of any of them. Pictures without
    detail are compared with nothing.

    Args:
        members: The cases.
        prints: Their fingerprints, in the same order.
        threshold: Least correlation of the locally normalised thumbnails, 0..1; see `THRESHOLD`.
        turns: Whether mirrored pictures and those turned by quarters are searched too.
        patients_known: Whether `patient_id` came from the data: slices of one patient are alike by nature and never
            part, so they are then no copies of one another.
    """
    same = sorted(copies.same_pixels(prints), key=lambda rows: prints[rows[0]].digest)
    found = _matches([prints[rows[0]] for rows in same], threshold, turns)
    if patients_known:
        patients = [{members[row].patient_id for row in rows} for rows in same]
        found = [each for each in found if len(patients[each.first] | patients[each.second]) > 1]
    return _copies(members, same, found)


@dataclasses.dataclass(frozen=True)
class _Match:
    """Two pictures, by their positions, that show the same."""

    first: int
    second: int
    score: float
    kind: str


def _matches(prints: Sequence[fingerprints.Fingerprint], threshold: float, turns: bool) -> list[_Match]:
    """Returns the near copies among different pictures, a pair once."""
    if not prints:
        return []
    thumbnails = np.stack([each.thumbnail for each in prints])
    small = np.array([each.side < _SMALL for each in prints])
    best: dict[tuple[int, int], _Match] = {}
    for kind, pairs in _candidates(*_grids(thumbnails), turns):
        either = small[pairs].any(axis=1)
        for chosen, detail in ((pairs[~either], _DETAIL), (pairs[either], _SMALL_DETAIL)):
            for match in _confirmed(thumbnails, chosen, kind, detail=detail, threshold=threshold):
                best.setdefault((match.first, match.second), match)
    return list(best.values())


def _grids(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns coarse pictures float32 `[N, 7, 7]` without their margins, and the positions of those with detail."""
    grids = np.zeros((len(thumbnails), 7, 7), np.float32)
    detail = np.zeros(len(thumbnails), np.float32)
    for start in range(0, len(thumbnails), _CHUNK):
        part = slice(start, start + _CHUNK)
        small = _shrunk(thumbnails[part].astype(np.float32), 4)
        coarse = _local_contrast(small, _COARSE_DETAIL, _COARSE_NOISE_FLOOR)
        grids[part] = _shrunk(coarse[:, 1:-1, 1:-1], 2)
        detail[part] = grids[part].std(axis=(1, 2))
    return grids, np.flatnonzero(detail > _LEAST_DETAIL)


def _shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    count, height, width = images.shape
    return images.reshape(count, height // factor, factor, width // factor, factor).mean(axis=(2, 4))


def _local_contrast(images: np.ndarray, sigma: float, floor: float) -> np.ndarray:
    """Returns `[N, S, S]` less its local mean, over its local standard deviation where that rises above the floor."""

    def smooth(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(values, (0, sigma, sigma), truncate=3)

    rest = images - smooth(images)
    return rest / (np.sqrt(smooth(np.square(rest))) + floor)


def _candidates(grids: np.ndarray, detailed: np.ndarray, turns: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each way to turn and pairs of positions int64 `[P, 2]`: the first, turned so, may be the second."""
    if len(detailed) < 2:
        return
    points = _unit(grids[detailed])
    _, axes = np.linalg.eigh(np.cov(points, rowvar=False))
    axes = axes[:, -_COMPONENTS:].astype(np.float32)
    tree = scipy.spatial.cKDTree(points @ axes)
    for kind, turn in _TURNS.items():
        if kind == _UPRIGHT or turns:
            turned = _unit(turn(grids[detailed]))
            radius = _RADIUS if kind == _UPRIGHT else _TURNED_RADIUS
            # Approximate search: a fifth of the time; 97 of 100 of those at nine tenths of the radius were found.
            distance, nearest = tree.query(
                turned @ axes, k=min(_NEIGHBOURS, len(points)), eps=1.0, distance_upper_bound=radius, workers=_CORES
            )
            first, rank = np.nonzero(np.isfinite(distance))
            second = nearest[first, rank]
            alike = (turned[first] * points[second]).sum(axis=1) > _LEAST_ALIKE
            chosen = alike & (first != second)
            yield kind, np.stack([detailed[first[chosen]], detailed[second[chosen]]], axis=1)


def _unit(grids: np.ndarray) -> np.ndarray:
    """Returns grids `[N, 7, 7]` as vectors `[N, 49]` of mean 0 and length 1."""
    flat = grids.reshape(len(grids), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _confirmed(
    thumbnails: np.ndarray, pairs: np.ndarray, kind: str, *, detail: float, threshold: float
) -> Iterator[_Match]:
    """Yields the pairs `[P, 2]` that show one picture, the first turned; upright ones may be shifted too."""
    pairs = _distinct(pairs, ordered=kind == "turned by 90 degrees")
    rows, places = np.unique(pairs, return_inverse=True)
    maps, guides = (_detail_maps(thumbnails[rows], sigma) for sigma in (detail, _SMALL_DETAIL))
    places = places.reshape(-1, 2)
    for start in range(0, len(pairs), _CHUNK):
        part = slice(start, start + _CHUNK)
        one, two = (maps[places[part, side]].astype(np.float32) for side in (0, 1))
        score = alignment.correlation(_TURNS[kind](one), two)
        shifted = np.zeros(len(score), bool)
        if kind == _UPRIGHT:
            unsure = np.flatnonzero(score < threshold - _SHIFT_COSTS)
            first, second = (guides[places[part, side][unsure]].astype(np.float32) for side in (0, 1))
            score[unsure] = _aligned(one[unsure], two[unsure], first, second)
            shifted[unsure] = True
        for at in np.flatnonzero(score >= threshold).tolist():
            first, second = sorted(pairs[start + at].tolist())
            yield _Match(first, second, float(score[at]), "shifted" if shifted[at] else kind)


def _aligned(one: np.ndarray, two: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the correlation of one and two, each laid over the other as the guides first and second tell; the best.

    The one that is moved is blurred by it, which costs least where it is the sharper one.
    """
    scores = alignment.correlation(one, alignment.warped(two, alignment.align(first, second)))
    rows = np.flatnonzero(scores > _PROMISING)
    moved = alignment.warped(one[rows], alignment.align(second[rows], first[rows]))
    scores[rows] = np.maximum(scores[rows], alignment.correlation(moved, two[rows]))
    return scores


def _distinct(pairs: np.ndarray, *, ordered: bool) -> np.ndarray:
    return np.unique(pairs if ordered else np.sort(pairs, axis=1), axis=0)


def _detail_maps(thumbnails: np.ndarray, sigma: float) -> np.ndarray:
    maps = np.zeros(thumbnails.shape, np.float16)
    for start in range(0, len(maps), _CHUNK):
        part = slice(start, start + _CHUNK)
        maps[part] = _local_contrast(thumbnails[part].astype(np.float32), sigma, _NOISE_FLOOR)
    return maps


def _copies(members: Sequence[cases.Case], same: Sequence[Sequence[int]], found: Sequence[_Match]) -> copies.Copies:
    """Names the cases: `same` holds the positions of the cases of each picture."""
    edges = [(same[match.first][0], same[match.second][0]) for match in found]
    edges += [(rows[0], row) for match in found for rows in (same[match.first], same[match.second]) for row in rows[1:]]
    groups = [copies.Group(tuple(members[row] for row in rows)) for rows in copies.together(edges, len(members))]
    ranked = sorted(zip(found, edges, strict=False), key=lambda pair: (-pair[0].score, pair[1]))
    pairs = [
        copies.Pair(members[min(ends)], members[max(ends)], score=match.score, kind=match.kind)
        for match, ends in ranked
    ]
    return copies.Copies(tuple(groups), tuple(pairs))
