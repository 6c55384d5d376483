"""Geometric augmentation: each layer moves coordinates, so that a chain of them costs one bilinear sampling.

Outside the image lies its mirror image (about the border pixel): no dark wedge that no scanner makes, no smeared line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base, random

Extent: TypeAlias = tuple[base.Size, base.Size]
Place: TypeAlias = tuple[tf.Tensor, tf.Tensor]

FLIPS = ("horizontal", "both")

# Streams of random numbers, one a kind of draw.
_FLIP, _AFFINE, _ELASTIC = 1, 2, 3
# Control points of the elastic grid within an image; cubic B-splines need one more on each side.
_CONTROL = 6


class Geometry(base.PixelLayer):
    """A layer that says, for every pixel of its result, where in the image to look.

    Called as `layer(images, seeds)`.
    """

    def call(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, H, W, C]` of images `[B, H, W, C]` and seeds `[B]` or `[B, 2]`."""
        return move((self,), images, seeds)

    def coordinates(self, rows: tf.Tensor, columns: tf.Tensor, *, seeds: tf.Tensor, size: Extent) -> Place:
        """Returns where to look, rows and columns broadcasting to `[B, H, W]`, for pixels at `rows` and `columns`.

        Args:
            rows: float32, broadcasts to `[B, H, W]`, in pixels.
            columns: float32, broadcasts to `[B, H, W]`, in pixels.
            seeds: One key an example.
            size: Height and width of the images in pixels.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("medkeras")
class RandomFlip(Geometry):
    """Mirrors half of the images left to right, and with `both` half of them upside down as well.

    Args:
        axes: `horizontal` or `both`.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The axes are unknown.
    """

    def __init__(self, axes: str = "horizontal", **options: Any) -> None:
        super().__init__(**options)
        if axes not in FLIPS:
            raise errors.ConfigError(errors.unknown("flip", axes, FLIPS))
        self.axes = axes

    def coordinates(self, rows: tf.Tensor, columns: tf.Tensor, *, seeds: tf.Tensor, size: Extent) -> Place:
        """Returns the mirrored coordinates."""
        is_flipped = random.uniform(seeds, _FLIP, (2, 1, 1)) < 0.5
        columns = tf.where(is_flipped[:, 0], _float(size[1] - 1) - columns, columns)
        if self.axes == "both":
            rows = tf.where(is_flipped[:, 1], _float(size[0] - 1) - rows, rows)
        return rows, columns

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "axes": self.axes}


@keras.saving.register_keras_serializable("medkeras")
class RandomAffine(Geometry):
    """Rotates about the centre, zooms and shifts, each by an amount uniform up to its limit.

    Args:
        rotation: Largest angle in degrees, either way.
        zoom: Largest relative change of size, either way.
        translation: Largest shift, either way, as a share of the height and of the width.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: A limit is negative, or the zoom is not below 1.
    """

    def __init__(self, rotation: float = 0.0, zoom: float = 0.0, *, translation: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if min(rotation, zoom, translation) < 0 or zoom >= 1:
            raise errors.ConfigError(
                "Rotation, zoom and translation are not negative and zoom is below 1. "
                f"Received: rotation={rotation}, zoom={zoom}, translation={translation}"
            )
        self.rotation = float(rotation)
        self.zoom = float(zoom)
        self.translation = float(translation)

    def coordinates(self, rows: tf.Tensor, columns: tf.Tensor, *, seeds: tf.Tensor, size: Extent) -> Place:
        """Returns the coordinates before the motion."""
        height, width = _float(size[0]), _float(size[1])
        drawn = 2.0 * random.uniform(seeds, _AFFINE, (4, 1, 1)) - 1.0
        angle = drawn[:, 0] * (self.rotation * math.pi / 180)
        scale = 1.0 / (1.0 + drawn[:, 1] * self.zoom)
        cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
        middle_row, middle_column = (height - 1.0) / 2.0, (width - 1.0) / 2.0
        rows = rows - middle_row - drawn[:, 2] * self.translation * height
        columns = columns - middle_column - drawn[:, 3] * self.translation * width
        return cosine * rows - sine * columns + middle_row, sine * rows + cosine * columns + middle_column

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        own = {"rotation": self.rotation, "zoom": self.zoom, "translation": self.translation}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("medkeras")
class RandomElastic(Geometry):
    """Bends the image smoothly: cubic B-splines over a coarse grid of random displacements.

    Args:
        amount: Largest displacement as a share of the height and of the width.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The amount is outside 0…0.5.

    Reference: P. Y. Simard et al., "Best practices for convolutional neural networks", ICDAR 2003;
    D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE TMI 18, 1999.
    """

    def __init__(self, amount: float, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= amount <= 0.5:
            raise errors.ConfigError(f"An elastic displacement lies between 0 and 0.5. Received: amount={amount!r}")
        self.amount = float(amount)

    def coordinates(self, rows: tf.Tensor, columns: tf.Tensor, *, seeds: tf.Tensor, size: Extent) -> Place:
        """Returns the displaced coordinates."""
        height, width = size
        grid = 2.0 * random.uniform(seeds, _ELASTIC, (2, _CONTROL + 2, _CONTROL + 2)) - 1.0
        # Plain matrix products, as in `canvas`: a batched one that broadcasts corrupts memory in TensorFlow 2.21.
        by_rows = tf.tensordot(grid, _splines(height), axes=[[2], [1]])
        field = tf.tensordot(by_rows, _splines(width), axes=[[2], [1]])
        down, across = field[:, 0], field[:, 1]
        return rows + down * (self.amount * _float(height)), columns + across * (self.amount * _float(width))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "amount": self.amount}


def move(steps: Sequence[Geometry], images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Returns images `[B, H, W, C]` after all the steps, in order, by one bilinear sampling."""
    images = tf.cast(images, tf.float32)
    _, height, width, _ = base.shape_of(images)
    rows = tf.range(height, dtype=tf.float32)[tf.newaxis, :, tf.newaxis]
    columns = tf.range(width, dtype=tf.float32)[tf.newaxis, tf.newaxis, :]
    # The last step says where in the image before it to look, and so back to the first.
    for step in reversed(steps):
        rows, columns = step.coordinates(rows, columns, seeds=seeds, size=(height, width))
    return sample(images, rows, columns)


def sample(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns the images between their pixels, bilinear, mirrored about the border pixels.

    Args:
        images: float32 `[B, H, W, C]`.
        rows: float32, broadcasts to `[B, H, W]`, in pixels.
        columns: float32, broadcasts to `[B, H, W]`, in pixels.
    """
    batch, height, width, channels = base.shape_of(images)
    row, down = _split(rows, height)
    column, across = _split(columns, width)
    pixels = tf.reshape(images, [-1, channels])
    upper = tf.range(batch)[:, tf.newaxis, tf.newaxis] * (height * width) + row * width
    lower = tf.where(row < height - 1, upper + width, upper)
    right = tf.minimum(column + 1, width - 1)
    above = _between(tf.gather(pixels, upper + column), tf.gather(pixels, upper + right), across)
    below = _between(tf.gather(pixels, lower + column), tf.gather(pixels, lower + right), across)
    return _between(above, below, down)


def _between(first: tf.Tensor, second: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return first + (second - first) * share[..., tf.newaxis]


def _split(places: tf.Tensor, size: base.Size) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the pixel before each place, int32, and the share of the way to the next, float32."""
    last = _float(size - 1)
    mirrored = tf.clip_by_value(last - tf.abs(last - tf.abs(places)), 0.0, last)
    whole = tf.floor(mirrored)
    return tf.cast(whole, tf.int32), mirrored - whole


def _splines(size: base.Size) -> tf.Tensor:
    """Returns the weights of the control points at each pixel, `[size, control points + 2]`; every row sums to 1."""
    places = tf.range(size, dtype=tf.float32) * ((_CONTROL - 1) / tf.maximum(_float(size - 1), 1.0))
    points = tf.range(-1, _CONTROL + 1, dtype=tf.float32)
    distance = tf.abs(places[:, tf.newaxis] - points)
    near = 2.0 / 3.0 - tf.square(distance) * (1.0 - distance / 2.0)
    far = tf.pow(tf.maximum(2.0 - distance, 0.0), 3.0) / 6.0
    return tf.where(distance < 1.0, near, far)


def _float(size: base.Size) -> tf.Tensor:
    return tf.cast(size, tf.float32)
