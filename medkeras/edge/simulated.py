"""A Keras network that computes as its int8 conversion would, in float32 and with gradients.

Kernels are rounded symmetrically to int8, one scale an output channel; what flows between layers is rounded to int8
with one scale and one zero point a tensor. Batch normalisation needs no folding here: it multiplies whole output
channels, and a channel's scale multiplies with it. A range is measured, never learnt.

Reference: Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference,
    CVPR 2018; the scheme: tensorflow.org/lite/performance/quantization_spec.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.edge import cutting

LOGITS = "logits"
BATCH = 16
KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
# What the converter computes in the grid of its input, and what it makes one with the layer before.
CARRIERS = (
    keras.layers.MaxPooling2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.ZeroPadding2D,
)
RECTIFIED = ("relu", "relu6")
_LEAST_RANGE = 1e-8


@keras.saving.register_keras_serializable(package="medkeras")
class RoundedTensor(keras.layers.Layer):
    """Rounds a tensor to 256 steps between two numbers, zero among the steps.

    The gradient is one inside the range and zero outside.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.low = self._number("low", 0.0)
        self.high = self._number("high", 0.0)
        self.on = self._number("on", 0.0)
        self.built = True

    def _number(self, name: str, value: float) -> keras.Variable:
        return self.add_weight(shape=(), initializer=keras.initializers.Constant(value), trainable=False, name=name)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the tensor rounded where `on` is 1, else as it is."""
        high = tf.maximum(self.high, self.low + _LEAST_RANGE)
        rounded = tf.quantization.fake_quant_with_min_max_vars(values, self.low, high)
        return tf.where(self.on > 0.0, rounded, values)

    def remember(self, low: float, high: float) -> None:
        """Sets the range, widened to hold zero: a zero of padding must be exact."""
        self.low.assign(min(low, 0.0))
        self.high.assign(max(high, 0.0))


@keras.saving.register_keras_serializable(package="medkeras")
class RoundedKernel(keras.layers.Layer):
    """A layer whose kernel is rounded to -127..127, one scale an output channel; its bias stays as it is.

    Args:
        layer: A built layer of `KERNELS`; its weights are shared.
        **options: Options of `keras.layers.Layer`.
    """

    def __init__(self, layer: keras.Layer, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.layer = layer
        self.on = self.add_weight(shape=(), initializer="zeros", trainable=False, name="on")
        self.built = True

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Returns what the layer answers with its kernel rounded where `on` is 1."""
        state = [self._rounded(each) if each is self.layer.kernel else each for each in self.layer.trainable_variables]
        rest = self.layer.non_trainable_variables
        return self.layer.stateless_call(state, rest, values)[0]

    def _rounded(self, kernel: keras.Variable) -> tf.Tensor:
        value = tf.convert_to_tensor(kernel)
        return tf.where(self.on > 0.0, rounded_kernel(value, depthwise=is_depthwise(self.layer)), value)


def is_depthwise(layer: keras.Layer) -> bool:
    """Whether the layer's output channels are the last two axes of its kernel."""
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def rounded_kernel(kernel: tf.Tensor, *, depthwise: bool) -> tf.Tensor:
    """Returns the kernel rounded to 255 steps an output channel, the gradient passing straight through."""
    channels = kernel.shape[-1] * kernel.shape[-2] if depthwise else kernel.shape[-1]
    flat = tf.reshape(kernel, (-1, channels))
    largest = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), _LEAST_RANGE))
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -largest, largest, narrow_range=True)
    return tf.reshape(rounded, kernel.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """A tensor that int8 arithmetic hands from layer to layer.

    Attributes:
        rounding: Rounds it.
        tensor: Before it is rounded.
        made_by: The layers that the converter makes one, which compute it together; empty for prepared pixels.
        users: Names of the layers that compute with it.
    """

    rounding: RoundedTensor
    tensor: Any
    made_by: tuple[keras.Layer, ...]
    users: set[str]

    @property
    def owner(self) -> str:
        """Name of the first layer of `made_by`; empty for prepared pixels."""
        return self.made_by[0].name if self.made_by else ""


@dataclasses.dataclass(frozen=True, eq=False)
class Simulated:
    """A network with every rounding of its int8 conversion, each of which can be switched.

    Attributes:
        pixels: From stored values `[B, H, W, C]` to what the network takes; stays float.
        network: From there to the embedding `[B, F]`; its weights are those of the model it was made of.
        head: From the embedding to the logits `[B, K]`; stays float.
        points: Where tensors are rounded, in the order of the graph.
        kernels: By the name of the layer.
        watch: From stored values to the least and the largest number `[channels]` of each point's tensor.
    """

    pixels: keras.Model
    network: keras.Model
    head: keras.Model
    points: tuple[Point, ...]
    kernels: dict[str, RoundedKernel]
    watch: Callable[[tf.Tensor], list[tuple[tf.Tensor, tf.Tensor]]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers that int8 arithmetic would compute."""
        return tuple(dict.fromkeys((*self.kernels, *filter(None, (point.owner for point in self.points)))))

    def trainable_variables(self) -> list[keras.Variable]:
        """Returns kernels, biases and the scales and offsets of batch normalisation, made trainable."""
        for part in (self.network, self.head):
            part.trainable = True
        return [*self.network.trainable_variables, *self.head.trainable_variables]

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits `[B, K]` of stored values `[B, H, W, C]`."""
        prepared = self.pixels(images, training=False)
        return self.head(self.network(prepared, training=False), training=False)

    def switch(self, names: Collection[str]) -> None:
        """Lets these layers alone compute in int8: their kernels, what they take and what they give."""
        for name, kernel in self.kernels.items():
            kernel.on.assign(float(name in names))
        for point in self.points:
            point.rounding.on.assign(float(point.owner in names or not point.users.isdisjoint(names)))

    def calibrate(self, images: np.ndarray) -> None:
        """Sets every range to what the float network computes for these images, and switches all rounding on.

        Args:
            images: Stored values `[N, H, W, C]`.
        """
        lows, highs = zip(*self.extremes(images), strict=True)
        for point, low, high in zip(self.points, lows, highs, strict=True):
            point.rounding.remember(float(low.min()), float(high.max()))
        self.switch(self.names)

    def extremes(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns the least and the largest number `[channels]` that float computes at each point; rounding is off.

        Args:
            images: Stored values `[N, H, W, C]`.
        """
        self.switch(())
        seen = [self.watch(batch) for batch in batches_of(images)]
        return [
            (np.min([low.numpy() for low, _ in each], axis=0), np.max([high.numpy() for _, high in each], axis=0))
            for each in zip(*seen, strict=True)
        ]


def simulate(model: keras.Model) -> Simulated:
    """Returns the model with the part between its pixels and its embedding as int8 would compute it.

    It is the part that a conversion quantises: what prepares the pixels and what follows the embedding stay float. The
    weights are shared; the model can be called but not saved any more, so give a `copy`.

    Args:
        model: Functional, from stored values `[B, H, W, C]` to a dict with `logits` `[B, K]`.

    Raises:
        ModelError: It has no logits, no layer `embedding`, or more than one way leads there.
    """
    if not isinstance(model.output, dict) or LOGITS not in model.output:
        raise errors.ModelError(f"A model to simulate in int8 answers with logits. Received: {model.name}")
    pieces = cutting.cut(model)
    builder = _Builder()
    again = keras.models.clone_model(pieces.network, clone_function=builder.clone, call_function=builder.call)
    network = keras.Model(again.input, builder.taken(again.output))
    head = keras.Model(model.get_layer(cutting.EMBEDDING).output, model.output[LOGITS])
    watch = _watching(pieces.pixels, keras.Model(again.input, [point.tensor for point in builder.points]))
    return Simulated(pieces.pixels, network, head, tuple(builder.points), builder.kernels, watch)


def _watching(pixels: keras.Model, watched: keras.Model) -> Callable[[tf.Tensor], list[tuple[tf.Tensor, tf.Tensor]]]:
    @tf.function(reduce_retracing=True)
    def watch(batch: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        return [_by_channel(each) for each in watched(pixels(batch, training=False), training=False)]

    return watch


def copy(model: keras.Model, *, weights: list[np.ndarray] | None = None) -> keras.Model:
    """Returns the same model again, with its own weights or with these."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights() if weights is None else weights)
    for layer in twin.layers:
        # Keras derives what this layer computes with from its weights, but not when they are set.
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return twin


def batches_of(images: np.ndarray) -> Iterator[tf.Tensor]:
    """Yields the images in float32, `BATCH` at a time."""
    for start in range(0, len(images), BATCH):
        yield tf.cast(images[start : start + BATCH], tf.float32)


def _by_channel(tensor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    axes = list(range(len(tensor.shape) - 1))
    return tf.reduce_min(tensor, axes), tf.reduce_max(tensor, axes)


@dataclasses.dataclass(eq=False)
class _Origin:
    """Where a tensor of the graph comes from, and where it is rounded once it has been."""

    tensor: Any
    made_by: tuple[keras.Layer, ...] = ()
    point: Point | None = None


class _Builder:
    """Rebuilds a graph layer by layer, with a rounding before every layer that computes."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.kernels: dict[str, RoundedKernel] = {}
        self._origins: dict[int, _Origin] = {}

    def clone(self, layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, KERNELS):
            return layer
        self.kernels[layer.name] = RoundedKernel(layer, name=f"{layer.name}_rounded")
        return self.kernels[layer.name]

    def call(self, layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, CARRIERS):
            return self._carry(layer, args[0])
        known = self._origins.get(id(args[0]))
        if known and known.made_by and _joins(layer, known.made_by[-1]):
            return self._made(layer(*args, **kwargs), (*known.made_by, layer))
        plain = layer.layer if isinstance(layer, RoundedKernel) else layer
        taken = keras.tree.map_structure(lambda each: self.taken(each, plain.name), args)
        return self._made(layer(*taken, **kwargs), (plain,))

    def taken(self, tensor: Any, *users: str) -> Any:
        """Returns the tensor rounded, for layers that compute with it; always by the same rounding."""
        origin = self._origins.setdefault(id(tensor), _Origin(tensor))
        if origin.point is None:
            rounding = RoundedTensor(name=f"rounded_{len(self.points)}")
            origin.point = Point(rounding, tensor, origin.made_by, set())
            self.points.append(origin.point)
            origin.tensor = rounding(tensor)
        origin.point.users.update(users)
        return origin.tensor

    def _carry(self, layer: keras.Layer, tensor: Any) -> Any:
        """Returns what a layer gives that moves numbers and computes none: its output lies in the grid of its input."""
        output = layer(self.taken(tensor))
        self._origins[id(output)] = dataclasses.replace(self._origins[id(tensor)], tensor=output)
        return output

    def _made(self, output: Any, made_by: tuple[keras.Layer, ...]) -> Any:
        self._origins[id(output)] = _Origin(output, made_by)
        return output


def _joins(layer: keras.Layer, before: keras.Layer) -> bool:
    """Whether the converter makes this layer one with the layer before it."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return isinstance(before, KERNELS)
    return _rectifies(layer) and isinstance(before, (*KERNELS, keras.layers.BatchNormalization, keras.layers.Add))


def _rectifies(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.Activation):
        return layer.activation.__name__ in RECTIFIED
    plain = isinstance(layer, keras.layers.ReLU) and not layer.negative_slope and not layer.threshold
    return plain and layer.max_value in (None, 6.0)
