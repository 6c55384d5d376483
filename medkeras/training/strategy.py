"""Where training runs, and how it is made repeatable."""

from __future__ import annotations

import keras
import tensorflow as tf

from medkeras import errors

STRATEGIES = ("auto", "one", "mirrored")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy in whose scope the model and the optimizer are made.

    Args:
        name: `one` is one device, the first GPU or else the CPU; `mirrored` is every GPU, or every
            logical CPU where there is no GPU; `auto` is `mirrored` with two or more GPUs, else `one`.

    Raises:
        errors.ConfigError: The name is unknown.
    """
    if name not in STRATEGIES:
        raise errors.ConfigError(errors.unknown("strategy", name, STRATEGIES))
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seeds Python, NumPy, TensorFlow and Keras, before the model is made.

    Args:
        seed: Root of every random number, 0…2³²-1.
        deterministic: Also make TensorFlow use its deterministic kernels, for the rest of the
            process: the same seed then gives the same weights on the same machine.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
