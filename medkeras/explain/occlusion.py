"""Occlusion: how much of the answer is lost when a patch of the image is taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from medkeras.explain import absence, axes, network

PATCHES = 12
PATCH = 1 / 8
BATCH = 32


def occlusion(model: keras.Model, score: network.Score) -> network.Explainer:
    """Returns a function that answers and explains, as `gradcam.gradcam` does, without any gradient.

    `PATCHES` patches along each side, each `PATCH` of the side wide, are replaced one by one by the blurred image of
    `absence.blurred`, after preprocessing. A place's evidence is the mean loss of score over the patches that cover it.
    An image costs `PATCHES ** 2` forward passes, `BATCH` of them at a time however many images are asked about.

    Reference: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.
    """
    cut = network.at_input(model)
    windows = [_windows(side) for side in cut.sides]
    spread = [(window / window.sum(0)).T for window in windows]

    def explain(images: tf.Tensor) -> tuple[network.Outputs, tf.Tensor]:
        outputs, seen = cut.whole(images, training=False)
        chosen = network.direction(outputs, score)
        before = tf.reduce_sum(chosen * outputs[network.LOGITS], axis=-1)
        after = _scores(cut.rest, seen, windows, direction=chosen)
        lost = tf.reshape(before, [-1, *[1] * len(windows)]) - after
        return outputs, network.scaled(axes.along(lost[..., tf.newaxis], spread))

    return explain


def _windows(side: int) -> np.ndarray:
    """Returns bool `[patches, side]`, true where a patch lies; they cover the side evenly, none reaches over it."""
    width = max(1, round(side * PATCH))
    starts = np.unique(np.linspace(0, side - width, PATCHES).round().astype(int))
    places = np.arange(side)
    return (places >= starts[:, np.newaxis]) & (places < starts[:, np.newaxis] + width)


def _scores(rest: keras.Model, seen: tf.Tensor, windows: Sequence[np.ndarray], *, direction: tf.Tensor) -> tf.Tensor:
    """Returns the score of every image without each of the patches, `[B, rows, columns]`."""
    counts = [len(window) for window in windows]
    jobs = tf.shape(seen)[0] * math.prod(counts)
    absent = absence.blurred(seen)

    def batch(first: tf.Tensor) -> tf.Tensor:
        # The last batch is filled with its last job.
        job = tf.minimum(first + tf.range(BATCH), jobs - 1)
        image, patch = job // math.prod(counts), tf.unravel_index(job % math.prod(counts), counts)
        without = tf.where(_hidden(windows, patch), tf.gather(absent, image), tf.gather(seen, image))
        return tf.reduce_sum(tf.gather(direction, image) * rest(without, training=False), axis=-1)

    batches = tf.range(0, jobs, BATCH)
    spec = tf.TensorSpec((BATCH,), direction.dtype)
    scores = tf.map_fn(batch, batches, fn_output_signature=spec, parallel_iterations=1)
    return tf.reshape(tf.reshape(scores, [-1])[:jobs], [-1, *counts])


def _hidden(windows: Sequence[np.ndarray], patch: tf.Tensor) -> tf.Tensor:
    """Returns bool `[B, H, W, 1]`, true where the patches lie; `patch` is `[2, B]`, their rows and columns."""
    mask = tf.ones([1] * (len(windows) + 2), tf.bool)
    for axis, window in enumerate(windows):
        shape = [-1 if other == axis + 1 else 1 for other in range(1, len(windows) + 2)]
        mask &= tf.reshape(tf.gather(window, patch[axis]), [BATCH, *shape])
    return mask
