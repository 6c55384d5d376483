"""Integrated gradients: how much of the answer each pixel brings, on the way from an image without detail."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from medkeras.explain import absence, axes, network

STEPS = 32
SMOOTHING = 1 / 48


def integrated_gradients(model: keras.Model, score: network.Score) -> network.Explainer:
    """Returns a function that answers and explains, as `gradcam.gradcam` does, pixel by pixel.

    The path starts at the blurred image of `absence.blurred` and lies in what the network sees after preprocessing:
    medians and histograms have no gradient. Attributions are summed over channels and smoothed by a Gaussian of
    `SMOOTHING` of each side, for a pixel's own share is mostly noise. An image costs `STEPS` passes forward and back.

    Reference: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017.
    """
    cut = network.at_input(model)
    matrices = [axes.gaussian(side, SMOOTHING * side) for side in cut.sides]

    def explain(images: tf.Tensor) -> tuple[network.Outputs, tf.Tensor]:
        outputs, seen = cut.whole(images, training=False)
        chosen = network.direction(outputs, score)
        shares = attributions(cut.rest, seen, absence.blurred(seen), direction=chosen)
        evidence = tf.reduce_sum(tf.cast(shares, tf.float32), axis=-1, keepdims=True)
        return outputs, network.scaled(axes.along(evidence, matrices))

    return explain


def gap(model: keras.Model, score: network.Score) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function that tells how far the attributions miss what they should sum to.

    Returns:
        From images `[B, H, W, C]` to the error `[B]`, not negative, and the difference `[B]` of the score between image
        and blurred image, signed.
    """
    cut = network.at_input(model)

    def measure(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs, seen = cut.whole(images, training=False)
        chosen, start = network.direction(outputs, score), absence.blurred(seen)
        shares = attributions(cut.rest, seen, start, direction=chosen)
        before = tf.reduce_sum(chosen * cut.rest(start, training=False), axis=-1)
        difference = tf.reduce_sum(chosen * outputs[network.LOGITS], axis=-1) - before
        return tf.abs(tf.reduce_sum(shares, axis=network.spatial(shares, channels=True)) - difference), difference

    return measure


def attributions(
    rest: keras.Model, seen: tf.Tensor, start: tf.Tensor, *, direction: tf.Tensor, steps: int = STEPS
) -> tf.Tensor:
    """Returns signed shares `[B, H, W, C]` that sum to the difference of the score between `start` and `seen`.

    Args:
        rest: From `[B, H, W, C]` to logits `[B, K]`.
        seen: The images `[B, H, W, C]`.
        start: Where the path begins, `[B, H, W, C]`.
        direction: Weights `[B, K]` of the logits in the score.
        steps: Points on the path, by Gauss and Legendre's rule, which lie closer at its ends: a fine-tuned network
            changes most where detail first appears. Memory does not grow with them.
    """
    way = seen - start

    def add(total: tf.Tensor, place: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        share, weight = (tf.cast(number, way.dtype) for number in place)
        with tf.GradientTape() as tape:
            point = start + share * way
            tape.watch(point)
            logits = rest(point, training=False)
        return total + weight * tape.gradient(logits, point, output_gradients=direction)

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    places = (tf.constant((nodes + 1) / 2, tf.float32), tf.constant(weights / 2, tf.float32))
    # One point at a time: its activations are what takes memory.
    return way * tf.foldl(add, places, tf.zeros_like(seen), parallel_iterations=1)
