"""How much longer does medkeras's loop take than a bare `tf.function` step?

The same network, optimizer, metric and batches in memory; both run in turn, several times, and
the medians are compared. The bare loop knows no weights, no replicas, no callbacks and no check
for NaN; ours runs with the callbacks of `--mode=train` that see every batch.

    python benchmarks/loop.py [--steps=100] [--rounds=15] [--network=small|wide]
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import keras
import numpy as np
import rich.console
import tensorflow as tf

from medkeras import config
from medkeras.training import callbacks, loop, losses, optimizers, progress

CLASSES, BATCH, SIDE = 4, 32, 28
FILTERS = {"small": (8, 16), "wide": (32, 64)}


class ImageTask:
    """Exclusive classes, and the accuracy."""

    def loss(self, target: tf.Tensor, outputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns the cross-entropy `[B]`."""
        return losses.softmax_crossentropy(target, outputs["logits"])

    def metrics(self) -> dict[str, keras.metrics.Metric]:
        """Returns the accuracy."""
        return {"accuracy": keras.metrics.CategoricalAccuracy()}


def make_model(filters: tuple[int, ...]) -> keras.Model:
    """Returns a small convolutional network with batch normalisation."""
    image = x = keras.Input((SIDE, SIDE, 1))
    for width in filters:
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.MaxPooling2D()(x)
    logits = keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, {"logits": logits, "probabilities": keras.layers.Softmax()(logits)})


def make_batches(count: int = 8) -> tf.data.Dataset:
    """Returns an endless dataset of a few batches that are already tensors in memory."""
    random = np.random.default_rng(0)
    label = random.integers(0, CLASSES, (count, BATCH))
    image = random.normal(0, 1, (count, BATCH, SIDE, SIDE, 1)) + label[..., None, None, None]
    batches = {
        "image": image.astype(np.float32),
        "target": np.eye(CLASSES, dtype=np.float32)[label],
        "weight": np.ones((count, BATCH), np.float32),
        "index": np.arange(count * BATCH, dtype=np.int64).reshape(count, BATCH),
    }
    return tf.data.Dataset.from_tensor_slices(batches).repeat()


def make_bare(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Callable[[tf.data.Dataset, int], None]:
    """Returns the loop that one writes by hand."""
    mean, accuracy = keras.metrics.Mean(), keras.metrics.CategoricalAccuracy()

    @tf.function
    def step(batch: dict[str, tf.Tensor]) -> None:
        with tf.GradientTape() as tape:
            outputs = model(batch["image"], training=True)
            loss = tf.reduce_mean(losses.softmax_crossentropy(batch["target"], outputs["logits"]))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        mean.update_state(loss)
        accuracy.update_state(batch["target"], outputs["probabilities"])

    def run(batches: tf.data.Dataset, steps: int) -> None:
        for batch in batches.take(steps):
            step(batch)
        mean.result().numpy(), accuracy.result().numpy()

    return run


class InTurn(keras.callbacks.Callback):
    """Times each epoch of ours, and then as many steps of the bare loop: both meet the same weather."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self.ours: list[np.ndarray] = []
        self.bare: list[np.ndarray] = []
        self._run = run
        self._begin = now()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes when our epoch begins."""
        self._begin = now()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes what our epoch took, and what the bare loop takes."""
        end = now()
        self._run()
        self.ours.append(end - self._begin)
        self.bare.append(now() - end)


def now() -> np.ndarray:
    """Returns the clock on the wall and the processor time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(steps: int, rounds: int, network: str) -> InTurn:
    """Returns the seconds of the rounds; the first, in which the graphs are built, is not counted."""
    settings = config.TrainConfig()
    model, twin = make_model(FILTERS[network]), make_model(FILTERS[network])
    total = steps * (rounds + 1)
    batches = make_batches()
    bare = make_bare(twin, optimizers.make_optimizer(settings, steps=total))
    in_turn = InTurn(lambda: bare(batches, steps))
    bar = progress.Progress(rich.console.Console(file=io.StringIO(), force_terminal=True))
    best = callbacks.BestWeights(patience=rounds + 1, monitor="loss")
    loop.fit(
        model,
        loop.Plan(batches, steps, rounds + 1),
        task=ImageTask(),
        optimizer=optimizers.make_optimizer(settings, steps=total),
        callbacks=[bar, best, in_turn],
    )
    return in_turn


def main() -> None:
    """Prints the medians over the rounds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--network", choices=sorted(FILTERS), default="small")
    options = parser.parse_args()
    seconds = measure(options.steps, options.rounds, options.network)
    ours, bare = (np.median(rounds[1:], axis=0) / options.steps * 1000 for rounds in (seconds.ours, seconds.bare))
    print(f"{'':10}{'wall':>12}{'processor':>12}")
    for name, row, unit in (("medkeras", ours, "ms"), ("bare", bare, "ms"), ("ratio", ours / bare, "")):
        print(f"{name:10}{row[0]:9.3f} {unit:2}{row[1]:9.3f} {unit:2}")


if __name__ == "__main__":
    main()
