"""Grad-CAM and Grad-CAM++: which places of the last map the answer comes from."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from medkeras.explain import axes, network, receptive

Weights = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def gradcam(model: keras.Model, score: network.Score) -> network.Explainer:
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
    return _explainer(model, score, _mean_gradient)


def gradcam_plus_plus(model: keras.Model, score: network.Score) -> network.Explainer:
    """Returns what `gradcam` returns, with weights that count each of several places with evidence.

    Reference: Chattopadhay et al., "Grad-CAM++", WACV 2018, equations 10, 11 and 19, of the exponential of the score.
    """
    return _explainer(model, score, _counted_gradient)


def _explainer(model: keras.Model, score: network.Score, weights: Weights) -> network.Explainer:
    cut = network.at_features(model)
    matrices = _upsampling(model)

    def explain(images: tf.Tensor) -> tuple[network.Outputs, tf.Tensor]:
        outputs, features = cut.whole(images, training=False)
        with tf.GradientTape() as tape:
            # The map itself: nothing before it need be differentiable, nor trainable.
            tape.watch(features)
            logits = cut.rest(features, training=False)
        gradient = tape.gradient(logits, features, output_gradients=network.direction(outputs, score))
        features, gradient = tf.cast(features, tf.float32), tf.cast(gradient, tf.float32)
        evidence = tf.reduce_sum(features * weights(features, gradient), axis=-1, keepdims=True)
        # Scaled last: between cells a heatmap may stay below its highest cell.
        return outputs, network.scaled(axes.along(tf.nn.relu(evidence), matrices))

    return explain


def _upsampling(model: keras.Model) -> list[np.ndarray]:
    """Returns the matrices that lay the last map over the image, each cell where its receptive field has its middle."""
    start, end = model.input, model.get_layer(network.FEATURES).output
    sides = zip(end.shape[1:-1], start.shape[1:-1], receptive.grids(model, start=start, end=end), strict=True)
    return [axes.linear(cells, pixels, first=grid.first, step=grid.step) for cells, pixels, grid in sides]


def _mean_gradient(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(gradient, axis=network.spatial(features), keepdims=True)


def _counted_gradient(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    places = network.spatial(features)
    # Divided by the square of the gradient, which may be too small to be squared.
    shares = 1 / (2 + tf.reduce_sum(features, axis=places, keepdims=True) * gradient)
    return tf.reduce_sum(shares * tf.nn.relu(gradient), axis=places, keepdims=True)
