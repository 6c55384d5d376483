import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras import errors
from medkeras.training import strategy


@pytest.mark.parametrize("name", ["auto", "one"])
def test_without_gpus_one_device_is_the_default_strategy(name, monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    assert strategy.make_strategy(name) is tf.distribute.get_strategy()


@pytest.mark.parametrize("name", ["auto", "mirrored"])
def test_two_gpus_are_mirrored(name, monkeypatch):
    gpus = [tf.config.LogicalDevice(f"/device:GPU:{number}", "GPU") for number in range(2)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus if kind == "GPU" else [])
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", list)
    assert strategy.make_strategy(name) == ["/device:GPU:0", "/device:GPU:1"]


def test_one_of_two_gpus_is_enough_when_asked(monkeypatch):
    gpus = [tf.config.LogicalDevice(f"/device:GPU:{number}", "GPU") for number in range(2)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus)
    assert strategy.make_strategy("one") is tf.distribute.get_strategy()


def test_an_unknown_strategy_is_told_with_the_nearest_one():
    with pytest.raises(errors.ConfigError, match="did you mean 'mirrored'"):
        strategy.make_strategy("mirror")


def test_a_seed_sets_every_generator():
    def draw(seed):
        strategy.seed_everything(seed, deterministic=False)
        weights = keras.layers.Dense(2)
        weights.build((None, 3))
        return [random.random(), *np.random.rand(2), *tf.random.normal([2]).numpy(), *weights.kernel.numpy().ravel()]

    first = draw(3)
    assert draw(3) == first
    assert not set(draw(4)) & set(first)
