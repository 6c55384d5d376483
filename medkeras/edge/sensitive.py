"""Which layers of a network lose most in int8."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from medkeras.edge import simulated

PROBABILITIES = "probabilities"


def rank(model: keras.Model, representative: np.ndarray) -> tuple[tuple[str, float], ...]:
    """Returns layers and the error that each adds when it alone computes in int8, worst first.

    A layer alone in int8 has its kernel, what it takes and what it gives rounded; so a tensor that int8 cannot hold is
    held against the layer that gives it and against those that take it, and all of them must stay float to save it.
    Batch normalisation and ReLU count with the layer they follow.

    Args:
        model: Functional, from stored values `[B, H, W, C]` to a dict with `logits` and `probabilities` `[B, K]`.
        representative: Stored values `[N, H, W, C]` of training cases.

    Returns:
        Names as in the model, each with the mean absolute difference of the probabilities, 0..1.

    Raises:
        ModelError: The model has no logits, no layer `embedding`, or more than one way leads there.
    """
    twin = simulated.copy(model)
    network = simulated.simulate(twin)
    network.calibrate(representative)
    answer = _answering(network, twin)
    network.switch(())
    exact = _answers(answer, representative)
    errors_of = {}
    for name in network.names:
        network.switch((name,))
        errors_of[name] = float(np.abs(_answers(answer, representative) - exact).mean())
    return tuple(sorted(errors_of.items(), key=lambda item: -item[1]))


def _answering(network: simulated.Simulated, model: keras.Model) -> tf.types.experimental.GenericFunction:
    head = keras.Model(model.output[simulated.LOGITS], model.output[PROBABILITIES])

    @tf.function(reduce_retracing=True)
    def answer(batch: tf.Tensor) -> tf.Tensor:
        return head(network.logits(batch), training=False)

    return answer


def _answers(answer: tf.types.experimental.GenericFunction, images: np.ndarray) -> np.ndarray:
    return np.concatenate([answer(batch).numpy() for batch in simulated.batches_of(images)])
