"""Fine-tuning that teaches a trained network to bear int8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.edge import equalised, simulated

LABELS_SHARE = 0.1
"""How much the labels count in the loss, in units of the distance that is to be overcome.

The float model is the teacher. Where int8 is near it already, labels would only lead the network away from it.
"""
SLOWER = 0.3
LARGEST_GRADIENT = 1.0
SUM_TOLERANCE = 1e-3
LEAST_SPREAD = 1e-6
PROBABILITIES = "probabilities"

Batch = Mapping[str, Any]


def finetune(
    model: keras.Model,
    batches: Callable[[], Iterable[Batch]],
    *,
    representative: np.ndarray,
    epochs: int,
    learning_rate: float,
    seed: int,
    say: Callable[[str], object],
) -> keras.Model:
    """Returns a copy of the model whose weights lose less when they are converted to int8.

    The network up to its embedding computes as int8 would, with gradients that pass the rounding straight through, and
    learns the float model's logits, and a little the labels. Statistics of batch normalisation and everything before
    and after the network stay. Before it learns, channels are brought to like ranges where that changes nothing. Of all
    epochs, and the start, the weights nearest to the float model are kept.

    Args:
        model: Functional, from stored values `[B, H, W, C]` to a dict with `logits` and `probabilities` `[B, K]`; it is
            left as it is.
        batches: Makes the batches of one epoch: `image` `[B, H, W, C]`, `weight` `[B]`, and `target` `[B, K]` where
            there are labels.
        representative: Stored values `[N, H, W, C]` of training cases, for the ranges and for the choice of an epoch.
        epochs: How often the batches are gone through.
        learning_rate: Of Adam; an epoch that leads away from the float model is undone, and the next one learns more
            slowly.
        seed: Of whatever draws random numbers while batches are made.
        say: Is told a sentence an epoch.

    Raises:
        ConfigError: The epochs or the learning rate are not positive.
        ModelError: The model has no logits, no layer `embedding`, or more than one way leads there.

    Reference: Jacob et al., CVPR 2018; Hinton et al., Distilling the knowledge in a neural network, 2015.
    """
    _check(epochs, learning_rate)
    keras.utils.set_random_seed(seed)
    lesson = _Lesson(model, representative, learning_rate)
    say(f"Simulated int8 differs from float by {lesson.best:.4f} of the logits' spread.")
    tensors, found = lesson.equalise()
    say(f"Channels brought to like ranges in {tensors} tensors: differs by {found:.4f}.")
    for epoch in range(1, epochs + 1):
        for batch in batches():
            lesson.step({name: tf.cast(batch[name], tf.float32) for name in lesson.keys if name in batch})
        say(f"Fine-tuning in simulated int8, epoch {epoch} of {epochs}: differs by {lesson.judge():.4f}.")
    return simulated.copy(model, weights=lesson.kept)


def _check(epochs: int, learning_rate: float) -> None:
    if epochs < 1:
        raise errors.ConfigError(f"Fine-tuning takes at least one epoch. Received: {epochs}")
    if not learning_rate > 0.0:
        raise errors.ConfigError(f"The learning rate is above 0. Received: {learning_rate}")


class _Lesson:
    """A float model as teacher of its int8 self."""

    keys = ("image", "target", "weight")

    def __init__(self, model: keras.Model, representative: np.ndarray, learning_rate: float) -> None:
        logits, probabilities = model.output[simulated.LOGITS], model.output[PROBABILITIES]
        self._teacher = keras.Model(model.input, [logits, probabilities])
        self._student = simulated.copy(model)
        self._network = simulated.simulate(self._student)
        self._representative = representative
        self._optimizer = keras.optimizers.Adam(learning_rate, global_clipnorm=LARGEST_GRADIENT)
        self._variables = self._network.trainable_variables()
        self._optimizer.build(self._variables)
        self._spread, self._exclusive = self._taught()
        self.step = tf.function(self._step, reduce_retracing=True)
        self._away = tf.function(self._distances, reduce_retracing=True)
        self.best, self.kept = self._distance(), self._student.get_weights()
        self._labels = LABELS_SHARE * self.best

    def equalise(self) -> tuple[int, float]:
        """Brings channels to like ranges if that helps; returns in how many tensors, and the distance then."""
        tensors, found = equalised.equalise(self._network, self._representative), self._distance()
        self._keep(found)
        return tensors, found

    def judge(self) -> float:
        """Returns the distance; goes back to the nearest weights if these are not, and learns more slowly then."""
        found = self._distance()
        if not self._keep(found):
            self._optimizer.learning_rate = SLOWER * self._optimizer.learning_rate
        return found

    def _keep(self, found: float) -> bool:
        """Keeps the weights at this distance, or goes back to nearer ones; returns whether they were kept."""
        nearer = found < self.best
        if nearer:
            self.best, self.kept = found, self._student.get_weights()
        self._student.set_weights(self.kept)
        return nearer

    def _taught(self) -> tuple[float, bool]:
        """Returns the standard deviation of the teacher's logits, and whether its classes exclude each other."""
        taught = [self._teacher(batch, training=False) for batch in simulated.batches_of(self._representative)]
        logits, probabilities = (np.concatenate([each.numpy() for each in part]) for part in zip(*taught, strict=True))
        exclusive = np.allclose(probabilities.sum(-1), 1.0, atol=SUM_TOLERANCE)
        return max(float(logits.std()), LEAST_SPREAD), bool(exclusive)

    def _distance(self) -> float:
        """Returns the root mean square difference of the logits in units of their spread, ranges calibrated anew."""
        self._network.calibrate(self._representative)
        found = [self._away(batch).numpy() for batch in simulated.batches_of(self._representative)]
        return float(np.sqrt(np.concatenate(found).mean()))

    def _distances(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the mean squared difference of each image's logits `[B]` in units of their variance."""
        exact, _ = self._teacher(images, training=False)
        return self._squared(self._network.logits(images), exact)

    def _squared(self, logits: tf.Tensor, exact: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square((logits - exact) / self._spread), axis=-1)

    def _step(self, batch: Mapping[str, tf.Tensor]) -> None:
        weight = batch["weight"] / tf.maximum(tf.reduce_sum(batch["weight"]), 1.0)
        exact, _ = self._teacher(batch["image"], training=False)
        with tf.GradientTape() as tape:
            logits = self._network.logits(batch["image"])
            each = self._squared(logits, exact)
            if "target" in batch:
                each += self._labels * self._crossentropy(batch["target"], logits)
            loss = tf.reduce_sum(weight * each)
        self._optimizer.apply(tape.gradient(loss, self._variables), self._variables)

    def _crossentropy(self, target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self._exclusive:
            return -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=-1)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits), axis=-1)
