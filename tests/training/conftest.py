"""A tiny task, tiny models and tiny batches; also used by `two_replicas.py`, outside pytest."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from medkeras.training import losses

# Run by test_replicas.py in a process of its own.
collect_ignore = ["two_replicas.py"]

CLASSES, SIDE, BATCH = 3, 4, 8


class TinyTask:
    """Three exclusive classes; the accuracy, and where asked a metric with more state, whose graph takes long."""

    def __init__(self, *, auc=False):
        self._auc = auc

    def loss(self, target, outputs):
        return losses.softmax_crossentropy(target, outputs["logits"])

    def metrics(self):
        accuracy = {"accuracy": keras.metrics.CategoricalAccuracy()}
        return {**accuracy, "auc": keras.metrics.AUC()} if self._auc else accuracy


def make_model(*, hidden=(), penalty=0.0):
    """Returns image -> flatten -> hidden layers -> dense, with the weights of seed 0."""
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = keras.layers.Flatten()(image)
    for layer in hidden:
        x = layer(x)
    logits = keras.layers.Dense(
        CLASSES,
        kernel_initializer=keras.initializers.GlorotUniform(0),
        kernel_regularizer=keras.regularizers.L2(penalty) if penalty else None,
    )(x)
    return keras.Model(image, {"logits": logits, "probabilities": keras.layers.Softmax()(logits)})


def make_batches(count=3, *, padded=3, seed=0):
    """Returns batches of 8 whose classes can be learned; the last `padded` examples of the last one weigh zero."""
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(9).normal(0, 1.5, (CLASSES, SIDE, SIDE, 1))
    batches = []
    for number in range(count):
        label = random.integers(0, CLASSES, BATCH)
        weight = np.ones(BATCH, np.float32)
        if number == count - 1 and padded:
            weight[-padded:] = 0
        image = (centre[label] + random.normal(0, 1, (BATCH, SIDE, SIDE, 1))).astype(np.float32)
        index = np.arange(number * BATCH, (number + 1) * BATCH, dtype=np.int64)
        target = np.eye(CLASSES, dtype=np.float32)[label]
        batches.append({"image": image, "target": target, "weight": weight, "index": index})
    return batches


@pytest.fixture
def task():
    return TinyTask()


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def batches():
    return make_batches()


@pytest.fixture(name="make_model")
def _make_model():
    return make_model


@pytest.fixture(name="make_batches")
def _make_batches():
    return make_batches
