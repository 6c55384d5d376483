"""Compares one device with two logical CPUs, and one run with its repetition; writes JSON on standard output.

A process of its own, because the number of logical devices and op determinism cannot be taken back.
"""

from __future__ import annotations

import json
import sys

import conftest
import keras
import numpy as np
import tensorflow as tf

from medkeras import config
from medkeras.training import loop, optimizers
from medkeras.training import strategy as strategies

SETTINGS = {
    "clipped": config.TrainConfig(optimizer="momentum", schedule="constant", learning_rate=0.1, clip_norm=0.05),
    "adamw": config.TrainConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.1, clip_norm=0.0),
}


def as_dataset(batches):
    return tf.data.Dataset.from_tensor_slices({key: np.stack([b[key] for b in batches]) for key in batches[0]})


def shift(image, target, epoch, index):
    """Adds to each image what its index and the epoch say."""
    number = tf.cast(index, tf.float32) * 0.01 + tf.cast(epoch, tf.float32) * 0.1
    return image + number[:, None, None, None], target


def train(strategy, settings, *, form=as_dataset):
    batches, validation = conftest.make_batches(), conftest.make_batches(2, seed=1)
    with strategy.scope():
        model = conftest.make_model(penalty=0.01)
        optimizer = optimizers.make_optimizer(settings, steps=9)
    plan = loop.Plan(form(batches), 3, 3, validation=form(validation), augment=shift)
    history = loop.fit(model, plan, task=conftest.TinyTask(auc=True), optimizer=optimizer)
    return model.get_weights(), history.history


def length_of_a_clipped_step(strategy):
    """Returns the norm of what one SGD step at rate 1 changes when the gradient's is limited to 0.05."""
    settings = config.TrainConfig(optimizer="sgd", schedule="constant", learning_rate=1.0, clip_norm=0.05)
    with strategy.scope():
        model = conftest.make_model()
        optimizer = optimizers.make_optimizer(settings, steps=1)
        before = model.get_weights()
        loop.fit(model, loop.Plan(conftest.make_batches(1), 1, 1), task=conftest.TinyTask(), optimizer=optimizer)
    change = [(new - old).ravel() for new, old in zip(model.get_weights(), before, strict=True)]
    return float(np.linalg.norm(np.concatenate(change)))


def difference(one, two):
    weights = max(np.abs(a - b).max() for a, b in zip(one[0], two[0], strict=True))
    numbers = max(np.abs(np.subtract(one[1][name], two[1][name])).max() for name in one[1])
    return {"weights": float(weights), "numbers": float(numbers), "keys": sorted(two[1])}


def train_with_dropout(seed):
    strategies.seed_everything(seed, deterministic=True)
    hidden = [keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    model = conftest.make_model(hidden=hidden)
    optimizer = optimizers.make_optimizer(SETTINGS["adamw"], steps=6)
    plan = loop.Plan(conftest.make_batches(padded=0), 3, 2)
    loop.fit(model, plan, task=conftest.TinyTask(), optimizer=optimizer)
    return b"".join(weight.tobytes() for weight in model.get_weights()[:-1])


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one, two = strategies.make_strategy("one"), strategies.make_strategy("mirrored")
    results = {"replicas": two.num_replicas_in_sync}
    alone = {name: train(one, settings) for name, settings in SETTINGS.items()}
    for name, settings in SETTINGS.items():
        results[name] = difference(alone[name], train(two, settings))
    results["arrays"] = difference(alone["clipped"], train(two, SETTINGS["clipped"], form=list))
    results["clipped_step"] = length_of_a_clipped_step(two)
    first, again, other = train_with_dropout(5), train_with_dropout(5), train_with_dropout(6)
    results["deterministic"] = {"same": first == again, "other": first == other}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
