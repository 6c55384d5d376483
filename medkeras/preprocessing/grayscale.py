"""Colour to luminance, and grey to as many channels as pretrained weights expect."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base

LUMINANCE = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable("medkeras")
class Grayscale(base.PixelLayer):
    """Luminance of red, green and blue; one channel passes unchanged.

    Reference: ITU-R BT.601-7, 2.5.1, as in Pillow's mode `L` (which rounds to whole levels).
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, 1]` of images `[B, H, W, 1 or 3]`; raises `DataError` for other channels."""
        images = tf.cast(images, tf.float32)
        if images.shape[-1] == 1:
            return images
        if images.shape[-1] != 3:
            raise errors.DataError(f"Luminance needs 1 or 3 channels. Received: channels={images.shape[-1]}")
        return tf.reduce_sum(images * tf.constant(LUMINANCE), axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("medkeras")
class RepeatChannels(base.PixelLayer):
    """Repeats a single channel; images that have as many already pass unchanged.

    Args:
        channels: Channels of the result.
        **options: Options of `keras.layers.Layer`.
    """

    def __init__(self, channels: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.channels = int(channels)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, channels]` of images `[B, H, W, 1 or channels]`; raises `DataError` for others."""
        images = tf.cast(images, tf.float32)
        if images.shape[-1] == self.channels:
            return images
        if images.shape[-1] != 1:
            raise errors.DataError(f"Only one channel can be repeated. Received: channels={images.shape[-1]}")
        return tf.concat([images] * self.channels, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "channels": self.channels}
