"""What every preprocessing layer shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from medkeras import errors

Size: TypeAlias = int | tf.Tensor


class PixelLayer(keras.layers.Layer):
    """A layer on pixel values: float32 out, whatever the mixed-precision policy.

    Half precision keeps eleven bits, fewer than a 16-bit scan has, so pixel values never go through it. There are no
    weights, so a layer is built when it is made.

    Args:
        **options: Options of `keras.layers.Layer`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns every argument; Keras would leave out the name of a layer that has no more than these."""
        return super().get_config()


def shape_of(images: tf.Tensor) -> list[Size]:
    """Returns the size of every axis: an int where it is known while tracing, else a scalar int32 tensor."""
    dynamic = tf.shape(images)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(images.shape)]


def ratio(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """Returns `numerator / denominator`, and 0 where the denominator is not positive (no `DivNoNan` in TFLite)."""
    positive = denominator > 0
    safe = tf.where(positive, denominator, tf.ones_like(denominator))
    return numerator * tf.cast(positive, tf.float32) / safe


def take(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns `images[:, rows][:, :, columns]`, `[B, len(rows), len(columns), C]`."""
    return tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)


def pad_edge(images: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Returns images `[B, H + 2 rows, W + 2 columns, C]` whose border pixels are repeated outwards."""
    _, height, width, _ = shape_of(images)
    return take(images, _clamped(height, rows), _clamped(width, columns))


def _clamped(size: Size, margin: int) -> tf.Tensor:
    return tf.clip_by_value(tf.range(-margin, size + margin), 0, size - 1)


def width(value_range: tuple[float, float]) -> float:
    """Returns high minus low."""
    return value_range[1] - value_range[0]


def checked_range(value_range: Sequence[float]) -> tuple[float, float]:
    """Returns `(low, high)`; raises `ConfigError` unless low is below high."""
    low, high = (float(value) for value in value_range)
    if not low < high:
        raise errors.ConfigError(f"A value range's low end lies below its high end. Received: ({low:g}, {high:g})")
    return low, high
