"""One step of learning and one of measuring, as graph functions under any strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from medkeras.training import logs

Batch = Mapping[str, Any]
Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Task(Protocol):
    """What the loop asks of a task: it knows none by name."""

    def loss(self, target: tf.Tensor, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the loss of every example, `[B]` float32."""

    def metrics(self) -> dict[str, keras.metrics.Metric]:
        """Returns new metrics by name, each with one number as its result.

        They are updated as `update_state(target, outputs["probabilities"], sample_weight=weight)`.
        """


class Meters:
    """The mean loss and the task's metrics since the last reset.

    Their variables are summed over the replicas when they are read, and every example enters
    with its weight: the numbers are those of one device and of one large batch.
    """

    def __init__(self, task: Task) -> None:
        self._loss = keras.metrics.Mean(name="loss")
        self._metrics = task.metrics()
        self._meters = {"loss": self._loss, **self._metrics}

    def update(
        self, target: tf.Tensor, outputs: Mapping[str, tf.Tensor], *, losses: tf.Tensor, weight: tf.Tensor
    ) -> None:
        """Adds a batch: `losses` and `weight` are `[B]`."""
        self._loss.update_state(losses, sample_weight=weight)
        for metric in self._metrics.values():
            metric.update_state(target, outputs["probabilities"], sample_weight=weight)

    def reset(self) -> None:
        """Forgets every example."""
        for meter in self._meters.values():
            meter.reset_state()

    def read(self) -> dict[str, float]:
        """Returns the numbers, `loss` first; waits for the device."""
        return {name: float(meter.result()) for name, meter in self._meters.items()}

    def lazy(self) -> logs.LazyLogs:
        """Returns the numbers, to be read when they are first looked at."""
        return logs.LazyLogs(self._meters, self.read)


class Stepper:
    """The graph functions of one training, and their meters.

    Args:
        model: Compiled, and made in the scope of its strategy.
        task: Gives the loss and the metrics.
        augment: Changes the training images and targets, or none.
    """

    def __init__(self, model: keras.Model, task: Task, *, augment: Augment | None) -> None:
        self._model, self._task, self._augment = model, task, augment
        self._optimizer = model.optimizer
        self._strategy = model.distribute_strategy
        self.training, self.validation = Meters(task), Meters(task)
        self.train = tf.function(self._train, reduce_retracing=True)
        self.validate = tf.function(self._validate, reduce_retracing=True)

    def _train(self, batch: Batch, epoch: tf.Tensor) -> tf.Tensor:
        """Learns from one global batch and returns its objective, a scalar."""
        objectives = self._strategy.run(self._train_replica, args=(batch, epoch))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, objectives, axis=None)

    def _validate(self, batch: Batch) -> None:
        self._strategy.run(self._validate_replica, args=(batch,))

    def _train_replica(self, batch: Batch, epoch: tf.Tensor) -> tf.Tensor:
        image, target, weight = tf.cast(batch["image"], tf.float32), batch["target"], batch["weight"]
        if self._augment is not None:
            image, target = self._augment(image, target, epoch, batch["index"])
        share = tf.math.divide_no_nan(weight, _sum_over_replicas(tf.reduce_sum(weight)))
        with tf.GradientTape() as tape:
            outputs, losses, penalty = self._forward(image, target, training=True)
            objective = tf.reduce_sum(share * losses) + penalty / self._strategy.num_replicas_in_sync
            scaled = self._optimizer.scale_loss(objective)
        variables = self._model.trainable_variables
        self._optimizer.apply(self._clipped(tape.gradient(scaled, variables)), variables)
        self.training.update(target, outputs, losses=losses + penalty, weight=weight)
        return objective

    def _validate_replica(self, batch: Batch) -> None:
        image, target = tf.cast(batch["image"], tf.float32), batch["target"]
        outputs, losses, penalty = self._forward(image, target, training=False)
        self.validation.update(target, outputs, losses=losses + penalty, weight=batch["weight"])

    def _forward(self, image: tf.Tensor, target: tf.Tensor, *, training: bool) -> tuple[Any, tf.Tensor, tf.Tensor]:
        outputs = self._model(image, training=training)
        penalties = [tf.cast(penalty, tf.float32) for penalty in self._model.losses]
        return outputs, self._task.loss(target, outputs), tf.add_n(penalties) if penalties else tf.constant(0.0)

    def _clipped(self, gradients: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """Clips the gradient summed over the replicas; Keras itself would clip each replica's part.

        Keras then sums over the replicas: each hands in its share of the clipped sum, whose norm
        is below the limit, so that Keras's own clipping changes nothing.
        """
        limit, replicas = self._optimizer.global_clipnorm, self._strategy.num_replicas_in_sync
        if not limit or replicas == 1:
            return gradients
        known = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
        clipped, _ = tf.clip_by_global_norm(_sum_over_replicas(known), limit)
        shares = iter([gradient / replicas for gradient in clipped])
        return [None if gradient is None else next(shares) for gradient in gradients]


def _sum_over_replicas(value: Any) -> Any:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
