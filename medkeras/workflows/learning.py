"""From a built model to a trained one: one stage from scratch, or a frozen stage and a fine-tuning."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import config, models
from medkeras.data import order, pipeline, prepare, store
from medkeras.models import transfer
from medkeras.preprocessing import augment as augment_layers
from medkeras.preprocessing import random
from medkeras.training import callbacks, loop, optimizers, progress
from medkeras.training import step as step_lib
from medkeras.workflows import terminal

FINETUNE_RATE = 0.1
HISTORY = "history.csv"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training with its own trainable part, epochs and learning rate.

    Attributes:
        unfreeze: Blocks trained beside the head, -1 all of a pretrained network; None: nothing is frozen.
        first_epoch: Number of its first epoch, counted from 0 over all stages.
        epochs: Its epochs.
        settings: Settings of the training with the stage's learning rate.
    """

    unfreeze: int | None
    first_epoch: int
    epochs: int
    settings: config.TrainConfig

    @property
    def last_epoch(self) -> int:
        """Epoch after the last one."""
        return self.first_epoch + self.epochs


def stages(settings: config.TrainConfig, *, pretrained: bool) -> tuple[Stage, ...]:
    """Returns the stages of a training: a pretrained network first learns with everything but the head frozen."""
    if not pretrained:
        return (Stage(None, 0, settings.epochs, settings),)
    frozen = Stage(0, 0, settings.epochs, settings)
    if not settings.unfreeze:
        return (frozen,)
    slower = dataclasses.replace(settings, learning_rate=settings.learning_rate * FINETUNE_RATE)
    return (frozen, Stage(settings.unfreeze, settings.epochs, settings.finetune_epochs, slower))


@dataclasses.dataclass(frozen=True)
class Learner:
    """Trains a model through its stages.

    Attributes:
        built: The model and where its weights came from.
        data: The prepared data set.
        task: Gives targets, loss and metrics.
        settings: Settings of the run.
        augmenter: Changes training images.
        folder: Folder of the run: `history.csv`, `tensorboard/`, `checkpoints/`.
        stops: Epochs of each stage when nothing validates; the learning rate falls as it would over all of them.
    """

    built: models.BuiltModel
    data: prepare.Prepared
    task: Any
    settings: config.Config
    augmenter: augment_layers.Augmenter
    folder: pathlib.Path
    stops: tuple[int, ...] = ()

    def learn(self) -> list[dict[str, float]]:
        """Trains the model in place and returns the rows of `history.csv`."""
        for number, stage in enumerate(stages(self.settings.train, pretrained=self.built.weights.pretrained)):
            self._learn(stage, self.stops[number] if self.stops else stage.epochs)
        return read_history(self.folder / HISTORY)

    def _learn(self, stage: Stage, epochs: int) -> None:
        model = self.built.model
        stores = self.data.stores
        augment: step_lib.Augment | None = self._augment if self.augmenter.steps else None
        if stage.unfreeze is not None:
            transfer.freeze(model, unfreeze=stage.unfreeze)
            if self._frozen_part_is_fixed(stage):
                prefix, model = transfer.split(model, unfreeze=stage.unfreeze)
                stores = {split: self._features(prefix, split) for split in self._learning_splits()}
                augment = None
        loop.fit(
            model,
            self._plan(stage, stores, augment, epochs=epochs),
            task=self.task,
            optimizer=optimizers.make_optimizer(stage.settings, steps=stage.epochs * self._steps()),
            callbacks=self._callbacks(stage),
        )
        self._keep_weights(stage)

    def _keep_weights(self, stage: Stage) -> None:
        """Writes the weights of the whole model: they outlive whatever goes wrong after the stage."""
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        partial = folder / "partial.weights.h5"
        self.built.model.save_weights(partial)
        partial.replace(folder / f"epoch-{stage.last_epoch:03d}.weights.h5")

    def _frozen_part_is_fixed(self, stage: Stage) -> bool:
        """Whether the frozen layers see the same images every epoch: then they run once, not once an epoch."""
        blocks = len(transfer.block_outputs(self.built.model))
        return stage.unfreeze == 0 or (not self.augmenter.steps and 0 < (stage.unfreeze or 0) < blocks)

    def _learning_splits(self) -> tuple[str, ...]:
        return ("train",) if self.stops else ("train", "validation")

    def _plan(
        self, stage: Stage, stores: dict[str, store.Store], augment: step_lib.Augment | None, *, epochs: int
    ) -> loop.Plan:
        size = self.settings.train.batch_size
        training = pipeline.training_dataset(
            stores["train"],
            self._targets("train"),
            batch_size=size,
            seed=self.settings.seed,
            epochs=stage.first_epoch + epochs,
            first_epoch=stage.first_epoch,
        )
        validation = None
        if not self.stops:
            targets = self._targets("validation")
            validation = pipeline.evaluation_dataset(stores["validation"], targets, batch_size=size)
        return loop.Plan(
            batches=training,
            steps_per_epoch=self._steps(),
            epochs=stage.first_epoch + epochs,
            validation=validation,
            initial_epoch=stage.first_epoch,
            augment=augment,
        )

    def _callbacks(self, stage: Stage) -> Sequence[keras.callbacks.Callback]:
        return (
            *(() if self.stops else (callbacks.BestWeights(patience=stage.settings.patience),)),
            callbacks.HistoryCSV(self.folder / HISTORY),
            callbacks.TensorBoardScalars(self.folder / "tensorboard"),
            progress.Progress(terminal.CONSOLE),
        )

    def _augment(
        self, images: tf.Tensor, targets: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self.augmenter(images, targets, random.example_seeds(self.settings.seed, epoch, index))

    def _features(self, prefix: keras.Model, split: str) -> store.Store:
        """Runs the frozen layers over a split once."""
        members = self.data.stores[split].cases
        size = self.settings.train.batch_size
        run = tf.function(lambda image: prefix(tf.cast(image, tf.float32), training=False), reduce_retracing=True)
        batches = pipeline.evaluation_dataset(self.data.stores[split], self._targets(split), batch_size=size)
        steps = order.steps_per_epoch(len(members), size)
        features = np.empty((len(members), *prefix.output.shape[1:]), np.float32)
        for batch in terminal.track(batches, steps, f"Frozen layers over {split}"):
            features[batch["index"].numpy()] = run(batch["image"]).numpy()
        return store.from_array(members, features)

    def _targets(self, split: str) -> np.ndarray:
        return self.task.targets(self.data.stores[split].cases)

    def _steps(self) -> int:
        return order.steps_per_epoch(len(self.data.stores["train"].cases), self.settings.train.batch_size)


def best(history: Sequence[dict[str, float]], stage: Stage) -> tuple[int, float]:
    """Returns how many epochs of a stage led to its best weights, and their validation loss."""
    rows = [row for row in history if stage.first_epoch <= row["epoch"] < stage.last_epoch]
    found = min(rows, key=lambda row: row["val_loss"])
    return int(found["epoch"]) - stage.first_epoch + 1, found["val_loss"]


def read_history(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the rows of `history.csv`."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
