"""Normalisation: what the network's first layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base


@keras.saving.register_keras_serializable("medkeras")
class ZScore(base.PixelLayer):
    """Mean 0 and standard deviation 1 of each image, over rows, columns and channels; a constant image becomes 0."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`."""
        images = tf.cast(images, tf.float32)
        # From the minimum: a constant image is then exactly 0, not rounding noise divided by itself.
        images = images - tf.reduce_min(images, axis=[1, 2, 3], keepdims=True)
        centred = images - tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1, 2, 3], keepdims=True))
        return base.ratio(centred, deviation)


@keras.saving.register_keras_serializable("medkeras")
class MinMax(base.PixelLayer):
    """Each image's smallest value becomes 0 and its largest 1; a constant image becomes 0."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]` in 0…1."""
        images = tf.cast(images, tf.float32)
        low = tf.reduce_min(images, axis=[1, 2, 3], keepdims=True)
        high = tf.reduce_max(images, axis=[1, 2, 3], keepdims=True)
        return base.ratio(images - low, high - low)


@keras.saving.register_keras_serializable("medkeras")
class Affine(base.PixelLayer):
    """Subtracts a mean and divides by a scale, the same for every image.

    Args:
        mean: One value, or one a channel.
        scale: One positive value, or one a channel.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The lengths differ or a scale is not positive.
    """

    def __init__(self, mean: Sequence[float], scale: Sequence[float], **options: Any) -> None:
        super().__init__(**options)
        self.mean = [float(value) for value in mean]
        self.scale = [float(value) for value in scale]
        if len(self.mean) != len(self.scale) or not self.mean:
            raise errors.ConfigError(f"Mean and scale have one value a channel. Received: mean={mean}, scale={scale}")
        if not all(0 < value < np.inf for value in self.scale):
            raise errors.ConfigError(f"A scale is positive and finite. Received: scale={self.scale}")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`; raises `DataError` where C is not the number of means."""
        if len(self.mean) not in (1, images.shape[-1]):
            raise errors.DataError(
                f"The images have one channel a mean. Received: channels={images.shape[-1]}, mean={self.mean}"
            )
        return (tf.cast(images, tf.float32) - tf.constant(self.mean)) / tf.constant(self.scale)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "mean": self.mean, "scale": self.scale}
