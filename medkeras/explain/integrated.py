"""Integrated gradients: how much of the answer each pixel brings, on the way from an image without detail."""

from __future__ import annotations

import keras
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


def attributions(
    rest: keras.Model, seen: tf.Tensor, start: tf.Tensor, *, direction: tf.Tensor, steps: int = STEPS
) -> tf.Tensor:
    """Returns signed shares `[B, H, W, C]` that sum to the difference of the score between `start` and `seen`.

    Args:
        rest: From `[B, H, W, C]` to logits `[B, K]`.
        seen: The images `[B, H, W, C]`.
        start: Where the path begins, `[B, H, W, C]`.
        direction: Weights `[B, K]` of the logits in the score.
        steps: Points on the path, by the midpoint rule; memory does not grow with them.
    """
    way = seen - start

    def add(total: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            point = start + tf.cast(share, way.dtype) * way
            tape.watch(point)
            logits = rest(point, training=False)
        return total + tape.gradient(logits, point, output_gradients=direction)

    shares = (tf.range(steps, dtype=tf.float32) + 0.5) / steps
    # One point at a time: its activations are what takes memory.
    return way * tf.foldl(add, shares, tf.zeros_like(seen), parallel_iterations=1) / steps
