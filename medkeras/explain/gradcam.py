"""Grad-CAM: where in the image the evidence for an answer lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

FEATURES, LOGITS = "features", "logits"

Explainer = Callable[[tf.Tensor], tuple[Mapping[str, tf.Tensor], tf.Tensor]]


def gradcam(model: keras.Model, score: Callable[[Mapping[str, tf.Tensor]], tf.Tensor]) -> Explainer:
    """Returns a function that answers and explains its answer; the network runs once.

    Args:
        model: A functional model whose last convolutional map `[B, h, w, F]` is the output of the layer `features`,
            and whose output `logits` depends on the images through that map alone; others may depend on more.
        score: From the model's outputs to the number `[B]` that is explained, a function of the logits.

    Returns:
        From images `[B, H, W, C]` to the model's outputs and a heatmap float32 `[B, H, W, 1]`, 0 to 1, each
        image's largest evidence at 1; all 0 where nothing speaks for the answer.

    Reference: Selvaraju et al., "Grad-CAM", ICCV 2017.
    """
    features = model.get_layer(FEATURES).output
    whole = keras.Model(model.input, [model.output, features])
    rest = keras.Model(features, model.get_layer(LOGITS).output)

    def explain(images: tf.Tensor) -> tuple[Mapping[str, tf.Tensor], tf.Tensor]:
        outputs, features = whole(images, training=False)
        with tf.GradientTape() as tape:
            # The map itself: nothing before it need be differentiable, nor trainable.
            tape.watch(features)
            explained = score({**outputs, LOGITS: rest(features, training=False)})
        gradient = tape.gradient(explained, features)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        evidence = tf.nn.relu(tf.reduce_sum(tf.cast(features * weights, tf.float32), axis=-1, keepdims=True))
        heatmap = tf.math.divide_no_nan(evidence, tf.reduce_max(evidence, axis=(1, 2, 3), keepdims=True))
        return outputs, tf.image.resize(heatmap, tf.shape(images)[1:3])

    return explain
