"""From settings and a prepared data set to a model that can learn."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from medkeras import config, errors, models
from medkeras.data import order, prepare
from medkeras.evaluation import operating
from medkeras.export import versions
from medkeras.preprocessing import preprocessor
from medkeras.tasks import classification
from medkeras.training import strategy
from medkeras.workflows import strangers

AUTO, LARGE = "auto", 128
STATISTICS_IMAGES = 256


def begin(settings: config.Config, *places: str | os.PathLike[str]) -> None:
    """Refuses what no data set could make right, before anything slow begins, and seeds everything.

    Args:
        settings: Settings of the run.
        places: Folders that will be written into.

    Raises:
        ConfigError: The network, the window or the rule of operating points is unknown, the name is no folder's, or
            cases are volumes.
        DataError: `evaluation.foreign` names no folders of images.
        ModelError: A folder cannot be written.
    """
    check(settings)
    operating.check_rule(settings.evaluation.operating_point)
    strangers.check(settings.evaluation.foreign)
    for place in places:
        versions.require_writable(place)
    strategy.seed_everything(settings.seed, deterministic=settings.train.deterministic)


def check(settings: config.Config) -> None:
    """Refuses a model that could not be built; raises `ConfigError`."""
    if (
        pathlib.PurePath(settings.name).name != settings.name
        or settings.name == ".."
        or not settings.name.isprintable()
    ):
        raise errors.ConfigError(f"name is that of one folder. Received: {settings.name!r}")
    if settings.data.view == "volumes":
        raise errors.ConfigError("Networks for volumes are to come: train with data.view=slices. Received: volumes")
    if settings.model.name not in (AUTO, *models.MODELS):
        raise errors.ConfigError(errors.unknown("model", settings.model.name, (AUTO, *models.MODELS)))
    _layers(choose_network(settings, (LARGE, LARGE)), channels=3, value_range=(0.0, 255.0))


def choose_network(settings: config.Config, size: tuple[int, int]) -> config.Config:
    """Returns the settings with `model.name=auto` replaced by the network for a canvas of this height and width.

    Features of photographs help where there is detail to see; below that, and at a fraction of the cost, a small
    network learns its own.
    """
    if settings.model.name != AUTO:
        return settings
    return settings.override({"model.name": "efficientnet_lite0" if min(size) >= LARGE else "resnet_small"})


def build(settings: config.Config, data: prepare.Prepared, task: classification.Classification) -> models.BuiltModel:
    """Builds preprocessing, network and head as one functional model; call it in the scope of the strategy.

    Raises:
        ConfigError: The network does not take images of the canvas.
    """
    mean, std = _statistics(settings, data) if settings.preprocessing.normalise == "dataset" else (None, None)
    layers = _layers(settings, channels=data.canvas.channels, value_range=data.value_range, mean=mean, std=std)
    return models.build_model(
        settings.model.name,
        image_shape=(*data.canvas.size, data.canvas.channels),
        preprocessing=layers,
        head=task.head,
        weights=settings.model.weights,
        dropout=settings.model.dropout,
    )


def _statistics(settings: config.Config, data: prepare.Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation `[C]` of what the normalisation gets, over up to 256 training images."""
    plain = dataclasses.replace(settings, preprocessing=dataclasses.replace(settings.preprocessing, normalise="none"))
    layers = _layers(plain, channels=data.canvas.channels, value_range=data.value_range)
    training = data.stores["train"]
    chosen = order.permutation(len(training.cases), seed=settings.seed, epoch=0)[:STATISTICS_IMAGES]
    (batch,) = training.attach(tf.data.Dataset.from_tensors({"index": chosen}))
    values = tf.cast(batch["image"], tf.float32)
    for layer in layers:
        values = layer(values)
    return values.numpy().mean((0, 1, 2)), values.numpy().std((0, 1, 2))


def _layers(
    settings: config.Config,
    *,
    channels: int,
    value_range: tuple[float, float],
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
) -> tuple[keras.layers.Layer, ...]:
    return preprocessor.layers_for(
        settings.preprocessing,
        channels=channels,
        value_range=value_range,
        mean=[0.0] * channels if mean is None else mean.tolist(),
        std=[1.0] * channels if std is None else std.tolist(),
        network_normalise=models.MODELS[settings.model.name].normalise,
    )
