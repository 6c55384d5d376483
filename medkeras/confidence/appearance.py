"""What a picture looks like before any network: a thumbnail, and statistics of its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

GRID = 8
STATISTICS = ("mean", "spread", "across", "down", "fine", "colour", "highest", "lowest")
_LEAST = 1e-3


class _Look(keras.layers.Layer):
    """What sees stored values on the scale of the training.

    Args:
        value_range: The stored values that become 0 and 1.
        **options: Options of `keras.layers.Layer`.
    """

    def __init__(self, value_range: Sequence[float], **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.value_range = [float(value) for value in value_range]
        self.built = True

    def scaled(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`, the range brought to 0…1."""
        low, high = self.value_range
        return (tf.cast(images, tf.float32) - low) / (high - low)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "value_range": self.value_range}


@keras.saving.register_keras_serializable("medkeras")
class Thumbnail(_Look):
    """Brightness, averaged over the cells of an 8 by 8 grid.

    Args:
        value_range: The stored values that become 0 and 1.
        **options: Options of `keras.layers.Layer`.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, 64]` of stored values `[B, H, W, C]`."""
        _, height, width, _ = images.shape
        bright = tf.reduce_mean(self.scaled(images), axis=-1)
        rows = tf.tensordot(bright, tf.constant(_cells(height).T), axes=[[1], [0]])
        cells = tf.tensordot(rows, tf.constant(_cells(width).T), axes=[[1], [0]])
        return tf.reshape(cells, (-1, GRID * GRID))


@keras.saving.register_keras_serializable("medkeras")
class Statistics(_Look):
    """The names in `STATISTICS` and their logarithms: what changes with scale, noise, blur, polarity and colour.

    Args:
        value_range: The stored values that become 0 and 1.
        **options: Options of `keras.layers.Layer`.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, 16]` of stored values `[B, H, W, C]`, H and W 3 or more."""
        scaled = self.scaled(images)
        bright = tf.reduce_mean(scaled, axis=-1)
        middle = bright[:, 1:-1, 1:-1]
        around = bright[:, 2:, 1:-1] + bright[:, :-2, 1:-1] + bright[:, 1:-1, 2:] + bright[:, 1:-1, :-2]
        columns = [
            _mean(bright),
            tf.math.reduce_std(bright, axis=(1, 2)),
            _mean(tf.abs(bright[:, :, 1:] - bright[:, :, :-1])),
            _mean(tf.abs(bright[:, 1:] - bright[:, :-1])),
            _mean(tf.abs(4.0 * middle - around)),
            _mean(tf.reduce_max(scaled, axis=-1) - tf.reduce_min(scaled, axis=-1)),
            tf.reduce_max(bright, axis=(1, 2)),
            tf.reduce_min(bright, axis=(1, 2)),
        ]
        values = tf.stack(columns, axis=1)
        return tf.concat([values, tf.math.log(tf.abs(values) + _LEAST)], axis=1)


def _mean(maps: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(maps, axis=(1, 2))


def _cells(length: int) -> np.ndarray:
    """Returns float32 `[GRID, length]` that averages a line over the grid's cells, borders shared by area."""
    edges = np.linspace(0.0, length, GRID + 1)
    low, high = edges[:-1, None], edges[1:, None]
    position = np.arange(length)
    overlap = np.clip(np.minimum(high, position + 1) - np.maximum(low, position), 0.0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
