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

from medkeras.audit import alignment, copies, fingerprints, linkage
from medkeras.data import cases

# Chosen on pictures that are no copies. The highest correlations of neighbouring slices and of different patients are
# 0.885 among 5,400 tumour slices of a head MRI set, where copies begin at 0.939, under 0.9 among 5,000 chest X-rays
# of 28x28; about one in a hundred pairs of simulated slices a few millimetres apart rises above it.
THRESHOLD = 0.94

_RADIUS = 0.36
_TURNED_RADIUS = 0.2
_CUT_RADIUS = 0.25
_LEAST_ALIKE_CUT = 0.965
_NEIGHBOURS = 12
_COMPONENTS = 16
_LEAST_ALIKE = 0.9
# Who scores just below the threshold is not shifted: a crop of a hundredth costs more. Neighbours would gain by it.
_SHIFT_COSTS = 0.02
_PROMISING, _CERTAIN = 0.93, 0.99
# Moving a picture takes its finest structure, so that shifted ones are compared without it, and more strictly: planted
# crops score above 0.985 for all but one in twenty, neighbouring slices 0.98 at most.
_SHIFT_BLUR, _STRICTER = 0.8, 0.3
# What is cut off to look for crops and pads, in pixels of the thumbnail: at the top, the bottom, the left, the right.
_CUTS = (
    *((1, 2, 1, 2), (3, 0, 3, 0), (3, 0, 0, 3), (0, 3, 3, 0), (0, 3, 0, 3)),
    *((3, 0, 1, 2), (0, 3, 1, 2), (1, 2, 3, 0), (1, 2, 0, 3)),
)
_CORES = os.cpu_count() or 1
# Sigma, in pixels of the thumbnail, below which structure counts as detail; small pictures have none so fine.
_DETAIL = 1.5
_SMALL_DETAIL = 3.0
_SMALL = 48
# Beyond this ratio of sides the larger picture is made coarse; then neighbours are as alike as 0.97 in one of twenty.
_FINER, _COARSER_STRICTER = 1.25, 0.5
_COARSE_DETAIL = 2.5
_NOISE_FLOOR = 8.0
_COARSE_NOISE_FLOOR = 12.0
_LEAST_DETAIL = 0.05
_CHUNK = 512

Turn = Callable[[np.ndarray], np.ndarray]
_UPRIGHT = "altered"
TURNS: Mapping[str, Turn] = MappingProxyType(
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
    edges = [(match.first, match.second) for match in found]

    def look(pictures: np.ndarray) -> np.ndarray:
        thumbnails = np.stack([prints[same[picture][0]].thumbnail for picture in pictures.tolist()])
        return _detail_maps(thumbnails, _SMALL_DETAIL).astype(np.float32)

    return _copies(members, same, found, linkage.parts(edges, len(same), look))


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
    sides = np.array([min(each.side, fingerprints.SIDE) for each in prints])
    best: dict[tuple[int, int], _Match] = {}
    for kind, pairs in _candidates(thumbnails, turns):
        least = sides[pairs].min(axis=1)
        # One that is large is seen as coarsely as the small one that it is compared with.
        for side in np.unique(np.where(least < _SMALL, least, fingerprints.SIDE)).tolist():
            chosen = pairs[least == side] if side < _SMALL else pairs[least >= _SMALL]
            for match in _confirmed(_coarsened(thumbnails, sides, side), chosen, kind, side, threshold):
                apart = side < _SMALL and max(sides[match.first], sides[match.second]) > _FINER * side
                if not apart or match.score >= 1 - _COARSER_STRICTER * (1 - threshold):
                    best.setdefault((match.first, match.second), match)
    return list(best.values())


def _coarsened(thumbnails: np.ndarray, sides: np.ndarray, side: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what gives thumbnails float32 `[R, 64, 64]` by position, with no more in them than `side` pixels show."""
    weights = fingerprints.weights(side, fingerprints.SIDE) @ fingerprints.weights(fingerprints.SIDE, side)
    coarse = weights.toarray()

    def look(rows: np.ndarray) -> np.ndarray:
        chosen = thumbnails[rows].astype(np.float32)
        finer = (sides[rows] > _FINER * side) & (side < _SMALL)
        chosen[finer] = coarse @ chosen[finer] @ coarse.T
        return chosen

    return look


def _grids(thumbnails: np.ndarray, cut: tuple[int, int, int, int] = (0, 0, 0, 0)) -> np.ndarray:
    """Returns coarse pictures float32 `[N, 7, 7]` of what is left of `[N, 64, 64]` after a cut, without its margins."""
    grids = np.zeros((len(thumbnails), 7, 7), np.float32)
    down, across = _kept(*cut[:2]), _kept(*cut[2:])
    for start in range(0, len(thumbnails), _CHUNK):
        part = slice(start, start + _CHUNK)
        small = down @ thumbnails[part].astype(np.float32) @ across.T
        coarse = _local_contrast(small, _COARSE_DETAIL, _COARSE_NOISE_FLOOR)
        grids[part] = _shrunk(coarse[:, 1:-1, 1:-1], 2)
    return grids


def _kept(before: int, after: int) -> np.ndarray:
    """Returns float32 `[16, 64]`: means of what is left of 64 pixels."""
    return np.pad(fingerprints.weights(fingerprints.SIDE - before - after, 16).toarray(), ((0, 0), (before, after)))


def _shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    count, height, width = images.shape
    return images.reshape(count, height // factor, factor, width // factor, factor).mean(axis=(2, 4))


def _local_contrast(images: np.ndarray, sigma: float, floor: float) -> np.ndarray:
    """Returns `[N, S, S]` less its local mean, over its local standard deviation where that rises above the floor."""

    def smooth(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(values, (0, sigma, sigma), truncate=3)

    rest = images - smooth(images)
    return rest / (np.sqrt(smooth(np.square(rest))) + floor)


def _candidates(thumbnails: np.ndarray, turns: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each way to turn and pairs of positions int64 `[P, 2]`: the first, turned so, may be the second."""
    grids = _grids(thumbnails)
    detailed = np.flatnonzero(grids.std(axis=(1, 2)) > _LEAST_DETAIL)
    if len(detailed) < 2:
        return
    points = _unit(grids[detailed])
    _, axes = np.linalg.eigh(np.cov(points, rowvar=False))
    axes = axes[:, -_COMPONENTS:].astype(np.float32)
    tree = scipy.spatial.cKDTree(points @ axes)

    def alike(asked: np.ndarray, radius: float, least: float = _LEAST_ALIKE) -> np.ndarray:
        # Approximate search: a fifth of the time; 97 of 100 of those at nine tenths of the radius were found.
        distance, nearest = tree.query(
            asked @ axes, k=min(_NEIGHBOURS, len(points)), eps=1.0, distance_upper_bound=radius, workers=_CORES
        )
        first, rank = np.nonzero(np.isfinite(distance))
        second = nearest[first, rank]
        chosen = ((asked[first] * points[second]).sum(axis=1) > least) & (first != second)
        return np.stack([detailed[first[chosen]], detailed[second[chosen]]], axis=1)

    cut = [alike(_unit(_grids(thumbnails[detailed], each)), _CUT_RADIUS, _LEAST_ALIKE_CUT) for each in _CUTS]
    yield _UPRIGHT, np.concatenate([alike(points, _RADIUS), *cut])
    for kind, turn in TURNS.items():
        if kind != _UPRIGHT and turns:
            yield kind, alike(_unit(turn(grids[detailed])), _TURNED_RADIUS)


def _unit(grids: np.ndarray) -> np.ndarray:
    """Returns grids `[N, 7, 7]` as vectors `[N, 49]` of mean 0 and length 1."""
    flat = grids.reshape(len(grids), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _confirmed(
    look: Callable[[np.ndarray], np.ndarray], pairs: np.ndarray, kind: str, side: int, threshold: float
) -> Iterator[_Match]:
    """Yields the pairs `[P, 2]` that show one picture, the first turned; upright ones may be shifted too."""
    pairs = _distinct(pairs, ordered=kind == "turned by 90 degrees")
    rows, places = np.unique(pairs, return_inverse=True)
    fine = side >= _SMALL
    pictures = look(rows)
    maps = _detail_maps(pictures, _DETAIL if fine else _SMALL_DETAIL)
    guides = _detail_maps(pictures, _SMALL_DETAIL) if fine and kind == _UPRIGHT else maps
    shifted_least = 1 - (_STRICTER if fine else 1) * (1 - threshold)
    places = places.reshape(-1, 2)
    for start in range(0, len(pairs), _CHUNK):
        part = slice(start, start + _CHUNK)
        one, two = (maps[places[part, side]].astype(np.float32) for side in (0, 1))
        score = alignment.correlation(TURNS[kind](one), two)
        shifted = np.zeros(len(score), bool)
        if kind == _UPRIGHT:
            unsure = np.flatnonzero(score < threshold - _SHIFT_COSTS)
            first, second = (guides[places[part, side][unsure]].astype(np.float32) for side in (0, 1))
            score[unsure] = _aligned(one[unsure], two[unsure], first, second)
            shifted[unsure] = True
        least = np.where(shifted, shifted_least, threshold)
        for at in np.flatnonzero(score >= least).tolist():
            first, second = sorted(pairs[start + at].tolist())
            yield _Match(first, second, float(score[at]), "shifted" if shifted[at] else kind)


def _aligned(one: np.ndarray, two: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the correlation of one and two, each laid over the other as the guides first and second tell; the best.

    The one that is moved is blurred by it, which costs least where it is the sharper one; what is left of that
    difference is blurred away in both.
    """
    moved = alignment.warped(two, alignment.align(first, second))
    scores = alignment.correlation(_blurred(one), _blurred(moved))
    rows = np.flatnonzero((scores > _PROMISING) & (scores < _CERTAIN))
    moved = alignment.warped(one[rows], alignment.align(second[rows], first[rows]))
    scores[rows] = np.maximum(scores[rows], alignment.correlation(_blurred(moved), _blurred(two[rows])))
    return scores


def _blurred(maps: np.ndarray) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(maps, (0, _SHIFT_BLUR, _SHIFT_BLUR), truncate=3)


def _distinct(pairs: np.ndarray, *, ordered: bool) -> np.ndarray:
    return np.unique(pairs if ordered else np.sort(pairs, axis=1), axis=0)


def _detail_maps(thumbnails: np.ndarray, sigma: float) -> np.ndarray:
    maps = np.zeros(thumbnails.shape, np.float16)
    for start in range(0, len(maps), _CHUNK):
        part = slice(start, start + _CHUNK)
        maps[part] = _local_contrast(thumbnails[part].astype(np.float32), sigma, _NOISE_FLOOR)
    return maps


def _copies(members: Sequence[cases.Case], same: Sequence[Sequence[int]], found: Sequence[_Match],
            parts: Sequence[Sequence[int]]) -> copies.Copies:  # fmt: skip
    """Names the cases: `same` holds the positions of the cases of each picture, `parts` the pictures of each group."""
    part = {picture: number for number, pictures in enumerate(parts) for picture in pictures}
    kept = [each for each in found if part.get(each.first, -1) == part.get(each.second, -2)]
    rows = sorted(sorted(row for picture in pictures for row in same[picture]) for pictures in parts)
    edges = [(same[match.first][0], same[match.second][0]) for match in kept]
    ranked = sorted(zip(kept, edges, strict=True), key=lambda pair: (-pair[0].score, pair[1]))
    pairs = [
        copies.Pair(members[min(ends)], members[max(ends)], score=match.score, kind=match.kind)
        for match, ends in ranked
    ]
    return copies.Copies(tuple(copies.Group(tuple(members[row] for row in each)) for each in rows), tuple(pairs))
