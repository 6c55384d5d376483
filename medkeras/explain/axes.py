"""Resizing and smoothing as one matrix an axis: the same for images and for volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def along(maps: tf.Tensor, matrices: Sequence[np.ndarray]) -> tf.Tensor:
    """Returns maps `[B, *target, C]` of maps `[B, *source, C]`, by one matrix `[target, source]` an axis."""
    rank = len(maps.shape)
    for axis, matrix in enumerate(matrices, 1):
        last = tf.tensordot(maps, tf.constant(matrix, maps.dtype), [[axis], [1]])
        maps = tf.transpose(last, [*range(axis), rank - 1, *range(axis, rank - 1)])
    return maps


def linear(source: int, target: int, *, first: float, step: float) -> np.ndarray:
    """Returns float64 `[target, source]` that interpolates linearly between cells and repeats the outermost ones.

    Args:
        source: Number of cells.
        target: Number of pixels.
        first: The pixel that the first cell lies on.
        step: Distance of the cells in pixels.
    """
    cells = np.clip((np.arange(target) - first) / step, 0, source - 1)
    return np.maximum(1 - np.abs(cells[:, np.newaxis] - np.arange(source)), 0)


def gaussian(size: int, deviation: float) -> np.ndarray:
    """Returns float64 `[size, size]` that smooths by a Gaussian of that deviation in pixels; every row sums to 1."""
    places = np.arange(size)
    weights = np.exp(-0.5 * ((places[:, np.newaxis] - places) / deviation) ** 2)
    return weights / weights.sum(1, keepdims=True)
