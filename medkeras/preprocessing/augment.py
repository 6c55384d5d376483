"""Augmentation: what training images go through and no other image does.

Each layer is called as `layer(images, seeds)` with one key an example (`random.example_seeds`); what an example becomes
is a pure function of its pixels and its key. The layers of `geometry` move pixels, those here change values.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base, geometry, random

_INTENSITY, _NOISE, _CUTOUT, _MIXUP = 11, 12, 13, 14
_QUANTILES = 1024


@keras.saving.register_keras_serializable("medkeras")
class RandomIntensity(base.PixelLayer):
    """Changes gamma, contrast and brightness, in this order, each by an amount uniform up to its limit.

    On values that the range maps to 0…1: gamma is `2^a`, contrast `1 + a` about each image's mean, brightness `a`.

    Args:
        amount: The limit of each `a`, either way.
        value_range: The range that the images' values live in; values below it are raised to it.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The amount is outside 0…1, or the range is empty.
    """

    def __init__(self, amount: float, value_range: tuple[float, float], **options: Any) -> None:
        super().__init__(**options)
        self.amount = _share("amount", amount)
        self.value_range = base.checked_range(value_range)

    def call(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`, which may leave the value range."""
        low, width = self.value_range[0], base.width(self.value_range)
        drawn = self.amount * (2.0 * random.uniform(seeds, _INTENSITY, (3, 1, 1, 1)) - 1.0)
        unit = tf.maximum((tf.cast(images, tf.float32) - low) * (1.0 / width), 0.0)
        bent = tf.pow(unit, tf.pow(2.0, drawn[:, 0]))
        gain = width * (1.0 + drawn[:, 1])
        mean = tf.reduce_mean(bent, axis=[1, 2, 3], keepdims=True)
        # One product and one sum a pixel: contrast, brightness and the way back to the range in one.
        return bent * gain + (width * (mean + drawn[:, 2]) - gain * mean + low)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "amount": self.amount, "value_range": list(self.value_range)}


@keras.saving.register_keras_serializable("medkeras")
class RandomNoise(base.PixelLayer):
    """Adds independent Gaussian noise to every value.

    Args:
        std: Standard deviation as a share of the value range.
        value_range: The range that the images' values live in.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The deviation is outside 0…1, or the range is empty.
    """

    def __init__(self, std: float, value_range: tuple[float, float], **options: Any) -> None:
        super().__init__(**options)
        self.std = _share("std", std)
        self.value_range = base.checked_range(value_range)

    def call(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`, which may leave the value range."""
        noise = random.normal(seeds, _NOISE, base.shape_of(images)[1:])
        return tf.cast(images, tf.float32) + noise * (self.std * base.width(self.value_range))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "std": self.std, "value_range": list(self.value_range)}


@keras.saving.register_keras_serializable("medkeras")
class RandomCutout(base.PixelLayer):
    """Fills one rectangle, its centre anywhere in the image, with the mean of each channel.

    Args:
        side: Height and width of the rectangle as a share of the image's.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The side is outside 0…1.

    Reference: T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with cutout",
    arXiv:1708.04552.
    """

    def __init__(self, side: float, **options: Any) -> None:
        super().__init__(**options)
        self.side = _share("side", side)

    def call(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`."""
        images = tf.cast(images, tf.float32)
        _, height, width, _ = base.shape_of(images)
        centre = random.uniform(seeds, _CUTOUT, (2, 1, 1, 1))
        rows = self._inside(height, centre[:, 0])[:, :, tf.newaxis]
        columns = self._inside(width, centre[:, 1])[:, tf.newaxis, :]
        mean = tf.reduce_mean(images, axis=[1, 2], keepdims=True)
        return tf.where((rows & columns)[..., tf.newaxis], mean, images)

    def _inside(self, size: base.Size, centre: tf.Tensor) -> tf.Tensor:
        """Returns which of the pixels along one side lie in the rectangle, bool `[B, size]`."""
        places = (tf.range(size, dtype=tf.float32) + 0.5) / tf.cast(size, tf.float32)
        return tf.abs(places - tf.reshape(centre, [-1, 1])) < self.side / 2

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable("medkeras")
class Mixup(base.PixelLayer):
    """Blends each image, and its target, with the one before it in the batch.

    The share is a function of the example's key alone; the partner depends on the batch, necessarily. The larger share
    is the example's own, which is the same distribution of pairs.

    Args:
        alpha: The share is drawn from Beta(alpha, alpha).
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: Alpha is not positive.

    Reference: H. Zhang et al., "mixup: Beyond empirical risk minimization", ICLR 2018.
    """

    def __init__(self, alpha: float, **options: Any) -> None:
        super().__init__(**options)
        if not 0 < alpha < np.inf:
            raise errors.ConfigError(f"Mixup's alpha is positive and finite. Received: alpha={alpha!r}")
        self.alpha = float(alpha)
        quantiles = scipy.special.betaincinv(alpha, alpha, np.linspace(0.5, 1.0, _QUANTILES + 1))
        self._shares = quantiles.astype(np.float32)

    def call(self, images: tf.Tensor, targets: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 images `[B, H, W, C]` and targets `[B, K]`."""
        share = self._drawn(seeds)
        return _blended(images, share[:, tf.newaxis, tf.newaxis, tf.newaxis]), _blended(targets, share[:, tf.newaxis])

    def _drawn(self, seeds: tf.Tensor) -> tf.Tensor:
        """Returns each example's own share, 0.5…1, `[B]`."""
        place = random.uniform(seeds, _MIXUP, ()) * _QUANTILES
        lower = tf.cast(place, tf.int32)
        shares = tf.constant(self._shares)
        first = tf.gather(shares, lower)
        return first + (tf.gather(shares, lower + 1) - first) * (place - tf.floor(place))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable("medkeras")
class Augmenter(base.PixelLayer):
    """Chains augmentation layers; geometric layers that follow one another share one sampling of the pixels.

    Args:
        steps: The layers, in order.
        value_range: The range that the images' values live in; the result is clipped to it.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The range is empty.
    """

    def __init__(self, steps: Sequence[keras.layers.Layer], value_range: tuple[float, float], **options: Any) -> None:
        super().__init__(**options)
        self.steps = list(steps)
        self.value_range = base.checked_range(value_range)

    def call(self, images: tf.Tensor, targets: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images and targets as training sees them; without a step, as they are.

        Args:
            images: Stored values `[B, H, W, C]`, any numeric dtype.
            targets: float32 `[B, K]`.
            seeds: One key an example, `[B]` or `[B, 2]`.

        Returns:
            float32 images `[B, H, W, C]` and float32 targets `[B, K]`.
        """
        images = tf.cast(images, tf.float32)
        for is_geometric, group in itertools.groupby(self.steps, lambda step: isinstance(step, geometry.Geometry)):
            if is_geometric:
                images = geometry.move(list(group), images, seeds)
                continue
            for step in group:
                if isinstance(step, Mixup):
                    images, targets = step(images, targets, seeds)
                else:
                    images = step(images, seeds)
        return (tf.clip_by_value(images, *self.value_range) if self.steps else images), targets

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        steps = [keras.saving.serialize_keras_object(step) for step in self.steps]
        return {**super().get_config(), "steps": steps, "value_range": list(self.value_range)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augmenter:
        """Returns the layer that `get_config` described."""
        steps = [keras.saving.deserialize_keras_object(step) for step in config.pop("steps")]
        return cls(steps=steps, **config)


def _blended(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    values = tf.cast(values, tf.float32)
    partner = tf.roll(values, shift=1, axis=0)
    return partner + (values - partner) * share


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise errors.ConfigError(f"{name} lies between 0 and 1. Received: {name}={value!r}")
    return float(value)
