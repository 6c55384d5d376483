"""A Keras network that computes as its int8 conversion would, in float32 and with gradients.

Kernels are rounded symmetrically to int8, one scale an output channel; what flows between layers is rounded to int8
with one scale and one zero point a tensor. Batch normalisation needs no folding here: it multiplies whole output
channels, and a channel's scale multiplies with it. A range is measured, never learnt.

Reference: Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference,
    CVPR 2018; the scheme: tensorflow.org/lite/performance/quantization_spec.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors

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
        layer: Rounds it.
        owner: Name of the layer that computes it; empty for what comes from the preprocessing.
        users: Names of the layers that take it.
        tensor: Before it is rounded.
    """

    layer: RoundedTensor
    owner: str
    users: set[str]
    tensor: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Simulated:
    """A network with every rounding of its int8 conversion, each of which can be switched.

    Attributes:
        model: From images float32 `[B, H, W, C]` to logits `[B, K]`; weights are those of the model it was made of.
        points: Where tensors are rounded, in the order of the graph.
        kernels: By the name of the layer.
    """

    model: keras.Model
    points: tuple[Point, ...]
    kernels: dict[str, RoundedKernel]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers that int8 arithmetic would compute, in the order of the graph."""
        owners = dict.fromkeys((*self.kernels, *(point.owner for point in self.points if point.owner)))
        return tuple(owners)

    def switch(self, names: Collection[str]) -> None:
        """Lets these layers alone compute in int8: their kernels, what they take and what they give."""
        for name, kernel in self.kernels.items():
            kernel.on.assign(float(name in names))
        for point in self.points:
            point.layer.on.assign(float(point.owner in names or not point.users.isdisjoint(names)))

    def calibrate(self, images: np.ndarray) -> None:
        """Sets every range to what the float network computes for these images, and switches all rounding on.

        Args:
            images: Stored values `[N, H, W, C]`.
        """
        self.switch(())
        watcher = keras.Model(self.model.input, [point.tensor for point in self.points])

        @tf.function(reduce_retracing=True)
        def extremes(batch: tf.Tensor) -> tf.Tensor:
            found = watcher(batch, training=False)
            return tf.stack([[tf.reduce_min(each), tf.reduce_max(each)] for each in found])

        ranges = np.stack([extremes(batch).numpy() for batch in batches_of(images)])
        for point, low, high in zip(self.points, ranges[:, :, 0].min(0), ranges[:, :, 1].max(0), strict=True):
            point.layer.remember(float(low), float(high))
        self.switch(self.names)


def simulate(model: keras.Model) -> Simulated:
    """Returns the part of the model that int8 would compute, from its images to its logits; the weights are shared.

    Layers before the first of `KERNELS` are preprocessing and stay float.

    Args:
        model: Functional, from stored values `[B, H, W, C]` to a dict with `logits` `[B, K]`.

    Raises:
        ModelError: The model has no logits, or nothing in it could be rounded.
    """
    if not isinstance(model.output, dict) or LOGITS not in model.output:
        raise errors.ModelError(f"A model to simulate in int8 answers with logits. Received: {model.name}")
    network = keras.Model(model.input, model.output[LOGITS])
    builder = _Builder()
    simulated = keras.models.clone_model(network, clone_function=builder.clone, call_function=builder.call)
    if not builder.kernels:
        raise errors.ModelError(f"A model to simulate in int8 has convolutions or dense layers. Received: {model.name}")
    tensor = builder.taken(simulated.output, user="")
    return Simulated(keras.Model(simulated.input, tensor), tuple(builder.points), builder.kernels)


def batches_of(images: np.ndarray) -> Iterator[tf.Tensor]:
    """Yields the images in float32, `BATCH` at a time."""
    for start in range(0, len(images), BATCH):
        yield tf.cast(images[start : start + BATCH], tf.float32)


@dataclasses.dataclass(eq=False)
class _Origin:
    """Where a tensor of the graph comes from; `fused` says that the next layer may still become one with the last."""

    tensor: Any
    owner: str
    fused: bool = False
    point: Point | None = None


class _Builder:
    """Rebuilds a graph layer by layer, with a rounding before every layer that takes int8."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.kernels: dict[str, RoundedKernel] = {}
        self._origins: dict[int, _Origin] = {}

    def clone(self, layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, KERNELS) or isinstance(layer, RoundedKernel):
            return layer
        self.kernels[layer.name] = RoundedKernel(layer, name=f"{layer.name}_rounded")
        return self.kernels[layer.name]

    def call(self, layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, RoundedKernel):
            return self._track(layer(self.taken(args[0], user=layer.layer.name)), layer.layer.name, layer)
        known = [self._origins[id(each)] for each in keras.tree.flatten(args) if id(each) in self._origins]
        if not known:
            return layer(*args, **kwargs)
        if known[0].fused and _joins(layer):
            return self._track(layer(*args, **kwargs), known[0].owner, layer)
        if isinstance(layer, CARRIERS):
            return self._carry(layer, args[0])
        taken = keras.tree.map_structure(lambda each: self.taken(each, user=layer.name), args)
        return self._track(layer(*taken, **kwargs), layer.name, layer)

    def taken(self, tensor: Any, *, user: str) -> Any:
        """Returns the tensor rounded, for a layer that takes it; always the same rounding for the same tensor."""
        origin = self._origins.setdefault(id(tensor), _Origin(tensor, ""))
        if origin.point is None:
            rounding = RoundedTensor(name=f"rounded_{len(self.points)}")
            origin.point = Point(rounding, origin.owner, set(), tensor)
            self.points.append(origin.point)
            origin.tensor = rounding(tensor)
        origin.point.users.add(user)
        return origin.tensor

    def _carry(self, layer: keras.Layer, tensor: Any) -> Any:
        """Returns what a layer gives that moves numbers and computes none: its output lies in the grid of its input."""
        output = layer(self.taken(tensor, user=layer.name))
        origin = self._origins[id(tensor)]
        self._origins[id(output)] = dataclasses.replace(origin, tensor=output)
        return output

    def _track(self, output: Any, owner: str, layer: keras.Layer) -> Any:
        fused = isinstance(layer, RoundedKernel | keras.layers.BatchNormalization | keras.layers.Add)
        self._origins[id(output)] = _Origin(output, owner, fused=fused)
        return output


def _joins(layer: keras.Layer) -> bool:
    """Whether the converter makes this layer one with the convolution, dense layer or sum before it."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation.__name__ in RECTIFIED
    if isinstance(layer, keras.layers.ReLU):
        return layer.max_value in (None, 6.0) and not layer.negative_slope and not layer.threshold
    return isinstance(layer, keras.layers.BatchNormalization)
