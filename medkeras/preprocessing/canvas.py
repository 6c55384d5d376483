"""Resizing to one canvas, the same bits in tf.data and in the model's graph.

The resize is an antialiased triangle filter, written as two matrix products whose weights are computed in the graph: it
works for sizes known only at run time, converts to TFLite built-ins, runs on accelerators and is deterministic.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import base

MODES = ("pad", "stretch")

Sides = tuple[int, ...]
"""Height and width, or depth, height and width."""


@keras.saving.register_keras_serializable("medkeras")
class Canvas(base.PixelLayer):
    """Brings images or volumes of any size to one canvas; those that fit already pass unchanged.

    Args:
        size: Height and width of the canvas in pixels; of volumes, depth, height and width.
        mode: `pad` keeps the aspect of planes, centres and fills with 0, or with the image's lowest value where that is
            below 0, as air is in Hounsfield units, and reduces the depth only where there are too many planes;
            `stretch` fills the canvas in every direction.
        round_values: Whether results are whole numbers, as they are in data sets of integers.
        **options: Options of `keras.layers.Layer`.

    Raises:
        ConfigError: The mode is unknown or a side is not positive.
    """

    def __init__(self, size: Sides, mode: str = "pad", round_values: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.size = _checked(size, mode)
        self.mode = mode
        self.round_values = bool(round_values)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, *size, C]` of images `[B, H, W, C]` or volumes `[B, D, H, W, C]`."""
        resized = resize(images, self.size, self.mode)
        return whole(resized) if self.round_values else resized

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        own = {"size": list(self.size), "mode": self.mode, "round_values": self.round_values}
        return {**super().get_config(), **own}


def to_canvas(image: tf.Tensor, *, size: Sides, mode: str, dtype: tf.DType) -> tf.Tensor:
    """Returns one image `[H, W, C]` or volume `[D, H, W, C]` on the canvas `[*size, C]`, for `tf.data.Dataset.map`.

    Args:
        image: Stored values of any numeric dtype.
        size: Height and width of the canvas in pixels; of a volume, depth, height and width.
        mode: `pad` or `stretch`, as in `Canvas`.
        dtype: The dtype of the result; for an integer dtype the values are those of `Canvas(round_values=True)`.
    """
    size, dtype = _checked(size, mode), tf.as_dtype(dtype)

    def bring() -> tf.Tensor:
        resized = resize(image[tf.newaxis], size, mode)[0]
        return tf.cast(whole(resized), dtype) if dtype.is_integer else tf.cast(resized, dtype)

    if not image.dtype.is_integer:
        return bring()
    # Whole numbers of the right size stay as they are: no detour through float32, which costs what decoding costs.
    return tf.cond(tf.reduce_all(tf.equal(tf.shape(image)[:-1], size)), lambda: tf.cast(image, dtype), bring)


def resize(images: tf.Tensor, size: Sides, mode: str) -> tf.Tensor:
    """Returns float32 images `[B, *size, C]`, exactly the input where the size is right already.

    Args:
        images: `[B, H, W, C]`, or `[B, D, H, W, C]`, any numeric dtype; sides may be known only at run time.
        size: Height and width in pixels, or depth, height and width.
        mode: `pad` or `stretch`.
    """
    images = tf.cast(images, tf.float32)
    floor = tf.minimum(tf.reduce_min(images, axis=tuple(range(1, len(size) + 2)), keepdims=True), 0.0)
    resize_any = _resize_planes if len(size) == 2 else _resize_volumes
    return resize_any(images, size, mode, floor)


def _resize_planes(images: tf.Tensor, size: Sides, mode: str, floor: tf.Tensor) -> tf.Tensor:
    _, height, width, _ = base.shape_of(images)
    if isinstance(height, int) and isinstance(width, int):
        return images if (height, width) == tuple(size) else _resample(images, size, mode, floor)
    fits = tf.logical_and(tf.equal(height, size[0]), tf.equal(width, size[1]))
    resized = tf.cond(fits, lambda: images, lambda: _resample(images, size, mode, floor))
    resized.set_shape([images.shape[0], *size, images.shape[3]])
    return resized


def _resize_volumes(images: tf.Tensor, size: Sides, mode: str, floor: tf.Tensor) -> tf.Tensor:
    """Resizes every plane as an image of its own, and then along the depth."""
    count, depth, height, width, channels = tf.unstack(tf.shape(images))
    planes = tf.reshape(images, [count * depth, height, width, channels])
    planes.set_shape([None, *images.shape[2:]])
    resized = _resize_planes(planes, size[1:], mode, tf.repeat(floor[:, 0], depth, axis=0))
    volumes = tf.reshape(resized, [count, depth, *size[1:], channels])
    fitted = tf.minimum(depth, size[0]) if mode == "pad" else size[0]
    weights = _centred(resize_matrix(depth, fitted), size[0])
    along = tf.transpose(tf.tensordot(weights, volumes - floor, axes=[[1], [1]]), [1, 0, 2, 3, 4]) + floor
    result = tf.cond(tf.equal(depth, size[0]), lambda: volumes, lambda: along)
    result.set_shape([images.shape[0], *size, images.shape[4]])
    return result


def resize_matrix(source: base.Size, target: base.Size) -> tf.Tensor:
    """Returns the weights `[target, source]` that resize one axis; every row sums to 1.

    Distances are whole numbers of half a pixel over `source * target`, so equal sizes give exactly the identity.
    Their product must stay below 2^30.

    Reference: `tf.image.resize(method="bilinear", antialias=True)`, which it equals.
    """
    inputs, outputs = tf.range(source)[tf.newaxis, :], tf.range(target)[:, tf.newaxis]
    distance = tf.abs((2 * inputs + 1) * target - (2 * outputs + 1) * source)
    weights = tf.cast(tf.maximum(2 * tf.maximum(source, target) - distance, 0), tf.float32)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def whole(values: tf.Tensor) -> tf.Tensor:
    """Returns the nearest whole numbers, ties upwards.

    The threshold lies 1/128 below the tie: averages of integers are often exact ties, and a sum taken in another order
    must not tip them the other way.
    """
    return tf.floor(values + (0.5 + 1 / 128))


def _resample(images: tf.Tensor, size: Sides, mode: str, floor: tf.Tensor) -> tf.Tensor:
    """Resizes what lies above the floor `[B, 1, 1, 1]`, so that rows of zeros pad with the floor."""
    _, height, width, _ = base.shape_of(images)
    fitted = _fitted((height, width), (size[0], size[1])) if mode == "pad" else size
    rows = _centred(resize_matrix(height, fitted[0]), size[0])
    columns = _centred(resize_matrix(width, fitted[1]), size[1])
    # Products of two plain matrices: TensorFlow 2.21's batched product writes past its buffer where it broadcasts
    # (tensorflow/tensorflow#117700).
    by_rows = tf.tensordot(rows, images - floor, axes=[[1], [1]])
    return tf.transpose(tf.tensordot(columns, by_rows, axes=[[1], [2]]), [2, 1, 0, 3]) + floor


def _fitted(source: tuple[base.Size, base.Size], target: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the largest height and width of the source's aspect that the target holds, at least one pixel."""
    (height, width), (rows, columns) = source, target
    fitted_height = tf.minimum(rows, (2 * height * columns + width) // (2 * width))
    fitted_width = tf.minimum(columns, (2 * width * rows + height) // (2 * height))
    return tf.maximum(fitted_height, 1), tf.maximum(fitted_width, 1)


def _centred(matrix: tf.Tensor, target: int) -> tf.Tensor:
    """Returns `[target, source]`: rows of zeros around the matrix, which pad what it makes."""
    missing = target - tf.shape(matrix)[0]
    return tf.pad(matrix, [[missing // 2, missing - missing // 2], [0, 0]])


def _checked(size: Sides, mode: str) -> Sides:
    if mode not in MODES:
        raise errors.ConfigError(errors.unknown("resize mode", mode, MODES))
    if len(size) not in (2, 3) or min(size) < 1:
        raise errors.ConfigError(f"A canvas has at least one row and one column. Received: size={tuple(size)}")
    return tuple(int(side) for side in size)


def from_canvas(maps: tf.Tensor, size: tf.Tensor, *, mode: str) -> tf.Tensor:
    """Returns maps drawn on the canvas, laid over the images that were brought to it.

    Args:
        maps: float32 `[B, size of the canvas, C]`.
        size: int32 `[2]`, height and width of the images before the canvas.
        mode: How they were brought to it, `pad` or `stretch`.

    Returns:
        float32 `[B, size[0], size[1], C]`, bilinear; what lay on the padding is cut away.
    """
    if mode == "pad":
        _, height, width, _ = base.shape_of(maps)
        rows, columns = _fitted((size[0], size[1]), (height, width))
        top, left = (height - rows) // 2, (width - columns) // 2
        maps = maps[:, top : top + rows, left : left + columns]
    return tf.image.resize(maps, size)
