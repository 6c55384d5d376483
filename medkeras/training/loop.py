"""The one training loop: any task, any strategy, every Keras callback."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.training import step as step_lib

# Steps between two looks at the losses: a look waits for the device.
FINITE_CHECK_STEPS = 32


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training goes through.

    A batch is a dict: `image` `[B, ...]`, `target`, `weight` `[B]` float32 (0 is padding), `index`
    `[B]` int64. Under several replicas B is the size over all of them.

    Attributes:
        batches: The training batches in the order in which they are learned from, beginning with
            those of `initial_epoch`; begun again where it ends.
        steps_per_epoch: Batches of one epoch, at least 1.
        epochs: Number of the last epoch, counted from 1.
        validation: Batches of the validation split, all of them used after every epoch.
        initial_epoch: Epochs already done.
        augment: `(image, target, epoch, index) -> (image, target)`, on the accelerator, training only.
    """

    batches: tf.data.Dataset | Iterable[step_lib.Batch]
    steps_per_epoch: int
    epochs: int
    validation: tf.data.Dataset | Iterable[step_lib.Batch] | None = None
    initial_epoch: int = 0
    augment: step_lib.Augment | None = None

    def __post_init__(self) -> None:
        """Refuses an epoch without steps."""
        if self.steps_per_epoch < 1:
            raise errors.ConfigError(f"An epoch has at least one step. Received: {self.steps_per_epoch}")


def fit(
    model: keras.Model,
    plan: Plan,
    *,
    task: step_lib.Task,
    optimizer: keras.optimizers.Optimizer,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Trains the model in place, under the strategy in whose scope it was made.

    The logs of an epoch are `loss` and the task's metrics (the mean over the examples seen during
    the epoch), the same with `val_` before, and `learning_rate`. A callback that has a method
    `close` is closed however the training ends.

    Args:
        model: Maps `image` to a dict with `logits` and `probabilities`; its trainable variables learn.
        plan: The batches and the epochs.
        task: The loss and the metrics.
        optimizer: Made in the same scope as the model.
        callbacks: Any Keras callbacks.

    Raises:
        errors.DivergedError: The loss was not finite, at most 32 steps ago.
        errors.DataError: There are no batches.
    """
    with model.distribute_strategy.scope():
        model.compile(optimizer=optimizer, jit_compile=False)
        run = _Run(model, plan, task=task, callbacks=callbacks)
        try:
            return run.train()
        finally:
            run.close()


class _Run:
    def __init__(
        self, model: keras.Model, plan: Plan, *, task: step_lib.Task, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        self._model, self._plan = model, plan
        self._steps = step_lib.Stepper(model, task, augment=plan.augment)
        self._history = keras.callbacks.History()
        self._callbacks = keras.callbacks.CallbackList(
            [*callbacks, self._history], model=model, epochs=plan.epochs, steps=plan.steps_per_epoch, verbose=0
        )
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)

    def train(self) -> keras.callbacks.History:
        self._model.stop_training = False
        self._callbacks.on_train_begin()
        stream = self._stream()
        logs: dict[str, float] = {}
        for epoch in range(self._first_epoch(), self._plan.epochs):
            logs = self._epoch(epoch, stream)
            if self._model.stop_training:
                break
        self._callbacks.on_train_end(logs)
        return self._history

    def close(self) -> None:
        for callback in self._callbacks.callbacks:
            if hasattr(callback, "close"):
                callback.close()

    def _first_epoch(self) -> int:
        # Keras's BackupAndRestore has no other way to say where it resumes.
        return getattr(self._model, "_initial_epoch", None) or self._plan.initial_epoch

    def _epoch(self, epoch: int, stream: Iterator[step_lib.Batch]) -> dict[str, float]:
        self._callbacks.on_epoch_begin(epoch)
        self._steps.training.reset()
        self._learn(epoch, stream)
        logs = self._steps.training.read()
        if self._plan.validation is not None:
            logs |= {f"val_{name}": value for name, value in self._validate(self._plan.validation).items()}
        logs["learning_rate"] = self._learning_rate()
        self._callbacks.on_epoch_end(epoch, logs)
        return logs

    def _learn(self, epoch: int, stream: Iterator[step_lib.Batch]) -> None:
        number, losses = tf.constant(epoch, tf.int64), []
        for step in range(self._plan.steps_per_epoch):
            self._callbacks.on_train_batch_begin(step)
            losses.append(self._steps.train(next(stream), number))
            # CallbackList would turn the logs into numbers, and so wait for the device, at every step.
            logs = self._steps.training.lazy()
            for callback in self._callbacks.callbacks:
                callback.on_train_batch_end(step, logs)
            if self._model.stop_training:
                return
            if len(losses) == FINITE_CHECK_STEPS or step + 1 == self._plan.steps_per_epoch:
                self._check_finite(losses, epoch=epoch, step=step)
                losses.clear()

    def _check_finite(self, losses: list[tf.Tensor], *, epoch: int, step: int) -> None:
        values = tf.stack(losses).numpy()
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise errors.DivergedError(
                "The training loss must stay a finite number; try a tenth of train.learning_rate, keep train.clip_norm "
                f"above 0, and look for NaN among the images. Received: loss={values[bad[0]]} in epoch {epoch + 1}, "
                f"step {step + 2 - len(losses) + bad[0]}, at learning rate {self._learning_rate():.3g}"
            )

    def _validate(self, batches: tf.data.Dataset | Iterable[step_lib.Batch]) -> dict[str, float]:
        self._callbacks.on_test_begin()
        self._steps.validation.reset()
        for step, batch in enumerate(self._distributed(batches)):
            self._callbacks.on_test_batch_begin(step)
            self._steps.validate(batch)
            logs = self._steps.validation.lazy()
            for callback in self._callbacks.callbacks:
                callback.on_test_batch_end(step, logs)
        results = self._steps.validation.read()
        self._callbacks.on_test_end(results)
        return results

    def _learning_rate(self) -> float:
        return float(tf.convert_to_tensor(self._model.optimizer.learning_rate))

    def _stream(self) -> Iterator[step_lib.Batch]:
        while True:
            batch = None
            for batch in self._distributed(self._plan.batches):
                yield batch
            if batch is None:
                raise errors.DataError(
                    "Training needs batches that can be gone through again, or steps_per_epoch batches for every "
                    "epoch. Received: none"
                )

    def _distributed(self, batches: tf.data.Dataset | Iterable[step_lib.Batch]) -> Iterable[step_lib.Batch]:
        if isinstance(batches, tf.data.Dataset):
            return self._model.distribute_strategy.experimental_distribute_dataset(batches)
        return (_split(batch, self._model.distribute_strategy) for batch in batches)


def _split(batch: step_lib.Batch, strategy: tf.distribute.Strategy) -> step_lib.Batch:
    """Gives every replica its part of a batch of arrays."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return tf.nest.map_structure(tf.convert_to_tensor, batch)

    def part(context: tf.distribute.ValueContext) -> step_lib.Batch:
        number = context.replica_id_in_sync_group
        return tf.nest.map_structure(lambda array: tf.constant(np.array_split(array, replicas)[number]), batch)

    return strategy.experimental_distribute_values_from_function(part)
