"""What every explanation starts from: the model cut in two, and the direction of the answer that is explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

FEATURES, LOGITS, PROBABILITIES = "features", "logits", "probabilities"

Outputs = Mapping[str, tf.Tensor]
Score = Callable[[Outputs], tf.Tensor]
Explainer = Callable[[tf.Tensor], tuple[Outputs, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Cut:
    """A model, cut at one of its tensors.

    Attributes:
        whole: From images to the model's outputs and the tensor at the cut, in one pass.
        rest: From the tensor at the cut to the logits `[B, K]`.
    """

    whole: keras.Model
    rest: keras.Model

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width at the cut; of volumes, depth, height and width."""
        return tuple(self.rest.input.shape[1:-1])


def at_features(model: keras.Model) -> Cut:
    """Returns the model cut at its last convolutional map `[B, h, w, F]`, the output of the layer `features`."""
    return _cut(model, model.get_layer(FEATURES).output)


def at_input(model: keras.Model) -> Cut:
    """Returns the model cut where preprocessing ends."""
    return _cut(model, input_of(model))


def input_of(model: keras.Model) -> keras.KerasTensor:
    """Returns what the network sees after preprocessing: the input `[B, H, W, C]` of the first layer with weights."""
    return next(layer for layer in to_logits(model).layers if layer.weights).input


def to_logits(model: keras.Model) -> keras.Model:
    """Returns the model without the layers that the logits do not depend on."""
    return keras.Model(model.input, model.get_layer(LOGITS).output)


def answering(model: keras.Model) -> keras.Model:
    """Returns the model with its logits and probabilities alone; the weights are shared."""
    return keras.Model(model.input, {name: model.output[name] for name in (LOGITS, PROBABILITIES)}, name=model.name)


def direction(outputs: Outputs, score: Score) -> tf.Tensor:
    """Returns the gradient `[B, K]` of the score by the logits: 1 at the class that it picks, 0 elsewhere.

    An explanation follows this direction wherever it looks, so that it never changes the class on its way.
    """
    with tf.GradientTape() as tape:
        logits = tf.identity(outputs[LOGITS])
        tape.watch(logits)
        explained = score({**outputs, LOGITS: logits})
    return tape.gradient(explained, logits)


def scaled(evidence: tf.Tensor) -> tf.Tensor:
    """Returns what speaks for the answer, each image's largest at 1; all 0 where nothing does."""
    positive = tf.nn.relu(evidence)
    return tf.math.divide_no_nan(
        positive, tf.reduce_max(positive, axis=spatial(evidence, channels=True), keepdims=True)
    )


def spatial(maps: tf.Tensor, *, channels: bool = False) -> tuple[int, ...]:
    """Returns the axes of `[B, H, W, C]` or `[B, D, H, W, C]` that are places, or places and channels."""
    return tuple(range(1, len(maps.shape) - (not channels)))


def _cut(model: keras.Model, tensor: keras.KerasTensor) -> Cut:
    return Cut(
        whole=keras.Model(model.input, [model.output, tensor]),
        rest=keras.Model(tensor, model.get_layer(LOGITS).output),
    )
