"""How alike two small pictures are, where one may be cropped or padded by a few hundredths: aligned correlation."""

from __future__ import annotations

import numpy as np

MARGIN = 1 / 16

_COARSE_STEPS = 4
_FINE_STEPS = 2
_PROMISING = 0.8
_MOST_SHIFT = 0.06


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the normalised cross-correlation, float32 `[P]`, -1..1, of pairs `[P, S, S]`, their margins left out."""
    first, second = (_flat(_inside(each)) for each in (first, second))
    first = first - first.mean(axis=1, keepdims=True)
    second = second - second.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.square(first).sum(axis=1) * np.square(second).sum(axis=1))
    return (first * second).sum(axis=1) / np.maximum(norms, 1e-6)


def align(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Finds how the second of float32 pairs `[P, S, S]` is laid over the first, by least squares.

    Height and width may be scaled, and either axis shifted, by 6% at most. It is done at half the size, and at full
    size for the pairs that then are somewhat alike. S is a multiple of 32.

    Returns:
        Warps for `warped`, float32 `[P, 4]`: scale and shift of the rows and of the columns, as shares of the side.

    Reference:
        Baker, Matthews: Lucas-Kanade 20 years on (IJCV 2004), 3.2 (inverse compositional).
    """
    small = _halved(first), _halved(second)
    warp = _refined(*small, np.zeros((len(first), 4), np.float32), _COARSE_STEPS)
    rows = np.flatnonzero(correlation(small[0], warped(small[1], warp)) > _PROMISING)
    warp[rows] = _refined(first[rows], second[rows], warp[rows], _FINE_STEPS)
    return warp


def warped(images: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Samples `[P, S, S]` bilinearly at the places to which warps `[P, 4]` send the pixels."""
    top, down = _samples(warp[:, 0:1], warp[:, 1:2], images.shape[1])
    left, across = _samples(warp[:, 2:3], warp[:, 3:4], images.shape[2])
    rows = np.arange(len(images))[:, np.newaxis]
    down, across = down[:, :, np.newaxis], across[:, np.newaxis, :]
    lines = images[rows, top] * (1 - down) + images[rows, top + 1] * down
    left = np.broadcast_to(left[:, np.newaxis, :], lines.shape)
    return np.take_along_axis(lines, left, 2) * (1 - across) + np.take_along_axis(lines, left + 1, 2) * across


def _inside(images: np.ndarray) -> np.ndarray:
    edge = round(images.shape[1] * MARGIN)
    return images[:, edge:-edge, edge:-edge]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), images.shape[1] * images.shape[2])


def _halved(images: np.ndarray) -> np.ndarray:
    count, side, _ = images.shape
    return images.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4))


def _refined(first: np.ndarray, second: np.ndarray, warp: np.ndarray, steps: int) -> np.ndarray:
    """Returns better warps float32 `[P, 4]`."""
    down, across = _inside(np.gradient(first, axis=1)), _inside(np.gradient(first, axis=2))
    side = first.shape[1]
    place = _inside(np.broadcast_to(_places(side), (1, side, side)))[0, 0]
    directions = (down * place[:, np.newaxis], down, across * place, across)
    slopes = np.stack([_flat(each) for each in directions], axis=1) * np.float32(side)
    normal = slopes @ slopes.transpose(0, 2, 1)
    normal += 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, np.newaxis, np.newaxis] * np.eye(4, dtype=np.float32) + 1e-6
    for _ in range(steps):
        missing = _flat(_inside(first - warped(second, warp)))[..., np.newaxis]
        warp = warp + np.linalg.solve(normal, slopes @ missing)[..., 0]
        warp = np.clip(warp, -_MOST_SHIFT, _MOST_SHIFT)
    return warp


def _places(side: int) -> np.ndarray:
    """Returns where the pixels of a row lie, float32 `[side]`, -0.5..0.5."""
    return ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)


def _samples(scale: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for each pixel of an axis, the one before its sample int64 `[P, S]`, and the share of the next one."""
    place = ((1 + scale) * _places(side) + shift + 0.5) * side - 0.5
    place = np.clip(place, 0, side - 1.001)
    before = place.astype(np.int64)
    return before, (place - before).astype(np.float32)
