"""Noise filters; each repeats the border pixels outwards."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base

MEDIAN_SIZES = (3, 5)
TRUNCATE = 4.0

# Nineteen exchanges that bring the median of nine values to position 4: rows of three are sorted, then the largest of
# the minima, the median of the medians and the smallest of the maxima, then the median of these three.
_MEDIAN_OF_NINE = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)),
    *((0, 3), (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


@keras.saving.register_keras_serializable("medkeras")
class MedianDenoise(base.PixelLayer):
    """Median of each pixel's square neighbourhood, by exchanges of minima and maxima.

    Args:
        size: Side of the neighbourhood in pixels, 3 or 5.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The size is neither 3 nor 5.

    Reference: `scipy.ndimage.median_filter(mode="nearest")`, which it equals.
    """

    def __init__(self, size: int = 3, **options: Any) -> None:
        super().__init__(**options)
        if size not in MEDIAN_SIZES:
            raise errors.ConfigError(f"A median filter's size is 3 or 5. Received: size={size!r}")
        self.size = int(size)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`."""
        images = tf.cast(images, tf.float32)
        values = list(_neighbours(images, self.size))
        for low, high in _median_exchanges(self.size**2):
            values[low], values[high] = tf.minimum(values[low], values[high]), tf.maximum(values[low], values[high])
        return values[self.size**2 // 2]

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("medkeras")
class GaussianDenoise(base.PixelLayer):
    """Gaussian blur, cut at four standard deviations.

    Args:
        sigma: Standard deviation in pixels.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: `sigma` is not positive.

    Reference: `scipy.ndimage.gaussian_filter(mode="nearest", truncate=4)`, which it equals.
    """

    def __init__(self, sigma: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.sigma = _positive("sigma", sigma)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`."""
        images = tf.cast(images, tf.float32)
        radius = int(TRUNCATE * self.sigma + 0.5)
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        weights = np.tile((taps / taps.sum()).astype(np.float32)[:, None, None, None], [1, 1, images.shape[-1], 1])
        padded = base.pad_edge(images, radius, radius)
        blurred = tf.nn.depthwise_conv2d(padded, weights, strides=[1, 1, 1, 1], padding="VALID")
        across = np.transpose(weights, [1, 0, 2, 3])
        return tf.nn.depthwise_conv2d(blurred, across, strides=[1, 1, 1, 1], padding="VALID")

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "sigma": self.sigma}


@keras.saving.register_keras_serializable("medkeras")
class BilateralDenoise(base.PixelLayer):
    """Mean of the neighbourhood, weighted by nearness in space and in value: it keeps edges.

    Args:
        sigma_space: Standard deviation of the distance in pixels.
        sigma_value: Standard deviation of the distance in value (Euclidean over the channels), as a share of the range.
        size: Side of the neighbourhood in pixels, odd.
        value_range: The range that the images' values live in.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: A sigma is not positive, the size is even, or the range is empty.

    Reference: C. Tomasi and R. Manduchi, "Bilateral filtering for gray and color images", ICCV 1998.
    """

    def __init__(
        self,
        sigma_space: float = 1.5,
        sigma_value: float = 0.1,
        *,
        size: int = 5,
        value_range: tuple[float, float] = (0.0, 255.0),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.sigma_space = _positive("sigma_space", sigma_space)
        self.sigma_value = _positive("sigma_value", sigma_value)
        self.value_range = base.checked_range(value_range)
        if size % 2 != 1 or size < 3:
            raise errors.ConfigError(f"A neighbourhood's size is odd and at least 3. Received: size={size!r}")
        self.size = int(size)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`."""
        images = tf.cast(images, tf.float32)
        steepness = -0.5 / (self.sigma_value * base.width(self.value_range)) ** 2
        total, weights = tf.zeros_like(images), tf.zeros_like(images[..., :1])
        nearness = _nearness(self.size, self.sigma_space)
        for shifted, near in zip(_neighbours(images, self.size), nearness, strict=True):
            apart = tf.reduce_sum(tf.square(shifted - images), axis=-1, keepdims=True)
            weight = near * tf.exp(apart * steepness)
            total, weights = total + weight * shifted, weights + weight
        return total / weights

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        own = {"sigma_space": self.sigma_space, "sigma_value": self.sigma_value, "size": self.size}
        return {**super().get_config(), **own, "value_range": list(self.value_range)}


@keras.saving.register_keras_serializable("medkeras")
class TotalVariationDenoise(base.PixelLayer):
    """Nearest image of small total variation, channel by channel: it keeps edges and flattens the rest.

    Args:
        weight: Strength, as a share of the value range; 0.1 is strong.
        iterations: Steps of the fixed-point iteration.
        value_range: The range that the images' values live in.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The weight or the number of iterations is not positive, or the range is empty.

    Reference: A. Chambolle, "An algorithm for total variation minimization and applications", J. Math. Imaging Vis. 20,
    2004; `skimage.restoration.denoise_tv_chambolle(eps=0)`, which it equals.
    """

    def __init__(
        self,
        weight: float = 0.05,
        iterations: int = 30,
        *,
        value_range: tuple[float, float] = (0.0, 255.0),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.weight = _positive("weight", weight)
        self.iterations = int(_positive("iterations", iterations))
        self.value_range = base.checked_range(value_range)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]`."""
        images = tf.cast(images, tf.float32)
        scaled = images / base.width(self.value_range)
        # The first image that the reference looks at is the noisy one, hence one step less.
        down, across = tf.while_loop(
            lambda down, across: True,
            lambda down, across: self._step(scaled + _divergence(down, across), down, across),
            (tf.zeros_like(scaled), tf.zeros_like(scaled)),
            maximum_iterations=self.iterations - 1,
        )
        return (scaled + _divergence(down, across)) * base.width(self.value_range)

    def _step(self, smooth: tf.Tensor, down: tf.Tensor, across: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step = 0.25
        rise_down = tf.pad(smooth[:, 1:] - smooth[:, :-1], [[0, 0], [0, 1], [0, 0], [0, 0]])
        rise_across = tf.pad(smooth[:, :, 1:] - smooth[:, :, :-1], [[0, 0], [0, 0], [0, 1], [0, 0]])
        # Far below any slope that matters, and above 0, where the root has no gradient.
        slope = tf.sqrt(tf.maximum(tf.square(rise_down) + tf.square(rise_across), 1e-30))
        shrink = 1.0 / (1.0 + (step / self.weight) * slope)
        return (down - step * rise_down) * shrink, (across - step * rise_across) * shrink

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        own = {"weight": self.weight, "iterations": self.iterations, "value_range": list(self.value_range)}
        return {**super().get_config(), **own}


def _neighbours(images: tf.Tensor, size: int) -> list[tf.Tensor]:
    """Returns the `size²` images shifted over the neighbourhood, row by row."""
    padded = base.pad_edge(images, size // 2, size // 2)
    _, height, width, _ = base.shape_of(images)
    return [padded[:, row : row + height, column : column + width] for row in range(size) for column in range(size)]


def _nearness(size: int, sigma: float) -> list[float]:
    """Returns the spatial weights of a neighbourhood, row by row."""
    squares = (np.arange(size) - size // 2) ** 2
    return [float(value) for value in np.exp(-0.5 * np.add.outer(squares, squares) / sigma**2).ravel()]


def _divergence(down: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    """Returns the negative divergence of the dual field, whose last row and column stay 0."""
    above = tf.pad(down[:, :-1], [[0, 0], [1, 0], [0, 0], [0, 0]])
    before = tf.pad(across[:, :, :-1], [[0, 0], [0, 0], [1, 0], [0, 0]])
    return (above - down) + (before - across)


@functools.cache
def _median_exchanges(count: int) -> tuple[tuple[int, int], ...]:
    """Returns the exchanges (minimum first) that bring the median of `count` values to the middle."""
    return _MEDIAN_OF_NINE if count == 9 else _needed(_sorting_exchanges(count), count // 2)


def _sorting_exchanges(count: int) -> list[tuple[int, int]]:
    """Returns Batcher's merge exchange sort of `count` values.

    Reference: D. E. Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M.
    """
    exchanges = []
    top = 1 << ((count - 1).bit_length() - 1)
    part = top
    while part:
        reach, offset, distance = top, 0, part
        while True:
            exchanges += [(low, low + distance) for low in range(count - distance) if low & part == offset]
            if reach == part:
                break
            distance, reach, offset = reach - part, reach // 2, part
        part //= 2
    return exchanges


def _needed(exchanges: list[tuple[int, int]], position: int) -> tuple[tuple[int, int], ...]:
    """Returns the exchanges that one output position depends on."""
    alive, kept = {position}, []
    for pair in reversed(exchanges):
        if alive & set(pair):
            alive.update(pair)
            kept.append(pair)
    return tuple(reversed(kept))


def _positive(name: str, value: float) -> float:
    if not 0 < value < np.inf:
        raise errors.ConfigError(f"{name} is positive and finite. Received: {name}={value!r}")
    return float(value)
