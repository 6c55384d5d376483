"""Distances, soft edges and smooth random fields: what the phantoms are drawn with.

Everything is measured in mm or in shares of the field of view, so that the same patient at another image size is the
same anatomy sampled differently.
"""

from __future__ import annotations

import functools

import numpy as np

FIELD_SCALE = 0.33
"""Standard deviation of a cubic B-spline field of independent standard normal coefficients in three dimensions."""


def pixel_axis(size: int, field_of_view: float) -> np.ndarray:
    """Returns the pixel centres of one image axis in mm, float32 `[size]`, zero in the middle."""
    return (((np.arange(size) + 0.5) / size - 0.5) * field_of_view).astype(np.float32)


def norm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns `sqrt(x**2 + y**2)`; NumPy's `hypot` guards against overflow at fifteen times the cost."""
    return np.sqrt(x * x + y * y)


def cover(distance: np.ndarray, width: float) -> np.ndarray:
    """Returns the share 0..1 of a pixel inside a shape.

    Args:
        distance: Signed distance to the edge in mm, positive inside, `[H, W]`.
        width: Width of the soft edge in mm: the pixel's own size gives the partial volume.
    """
    return np.minimum(np.maximum(distance * (1.0 / width) + 0.5, 0.0), 1.0)


def ramp(value: float, start: float, end: float) -> float:
    """Returns 0 at `start`, 1 at `end`, and a smooth step between them."""
    share = min(max((value - start) / (end - start), 0.0), 1.0)
    return share * share * (3.0 - 2.0 * share)


def bump(value: float, low: float, high: float, edge: float = 0.04) -> float:
    """Returns 1 between `low` and `high`, falling smoothly to 0 within `edge` outside them."""
    return ramp(value, low - edge, low) * (1.0 - ramp(value, high, high + edge))


def ellipse(
    x: np.ndarray, y: np.ndarray, *, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> np.ndarray:
    """Returns the approximate signed distance in mm to an ellipse's edge, positive inside, `[H, W]`."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    dx, dy = x - centre[0], y - centre[1]
    u, v = (dx * cosine + dy * sine) / radii[0], (dy * cosine - dx * sine) / radii[1]
    return (1.0 - norm(u, v)) * min(radii)


def segment(
    x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance in mm to a line segment and the share 0..1 along it, both `[H, W]`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    along = np.minimum(np.maximum((x - start[0]) * (dx / length) + (y - start[1]) * (dy / length), 0.0), 1.0)
    return norm(x - start[0] - along * dx, y - start[1] - along * dy), along


def tube(x: np.ndarray, y: np.ndarray, points: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """Returns the signed distance to a bent tube, positive inside, `[H, W]`.

    Args:
        x: Coordinates in mm, `[H, W]`.
        y: Coordinates in mm, `[H, W]`.
        points: Corners of the centre line with the tube's radius there: (x, y, radius), in mm.
    """
    inside = np.full_like(x, -np.inf)
    for (x0, y0, r0), (x1, y1, r1) in zip(points, points[1:], strict=False):
        distance, along = segment(x, y, (x0, y0), (x1, y1))
        np.maximum(inside, r0 + (r1 - r0) * along - distance, out=inside)
    return inside


def smooth(coefficients: np.ndarray, level: float, size: int) -> np.ndarray:
    """Returns one slice of a smooth random field of about unit variance, float32 `[size, size]`.

    Args:
        coefficients: Standard normal B-spline coefficients, `[N, N, N]` over level, row and column.
        level: Height of the slice, 0..1.
        size: Pixels along each side.
    """
    across = _basis(size, coefficients.shape[-1])
    plane = np.tensordot(_at_level(level, coefficients.shape[0]), coefficients, axes=1)
    return across @ plane.astype(np.float32) @ across.T


@functools.lru_cache(maxsize=64)
def _basis(size: int, count: int) -> np.ndarray:
    return _weights((np.arange(size) + 0.5) / size, count).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _at_level(level: float, count: int) -> np.ndarray:
    return _weights(np.array([level]), count)[0] / FIELD_SCALE


def _weights(points: np.ndarray, count: int) -> np.ndarray:
    """Returns the uniform cubic B-splines `[len(points), count]` at points of 0..1."""
    knot = np.clip(points, 0.0, 1.0)[:, None] * (count - 3) + 1.0
    distance = np.abs(knot - np.arange(count))
    near = 2.0 / 3.0 - distance**2 * (1.0 - distance / 2.0)
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return np.where(distance < 1.0, near, far)
