"""CIFAR-10 with the classic network of four convolutions and plain gradient descent: a benchmark, not medicine.

Command:    python main.py --mode=train --recipe=cifar10 --data=folder:DIR
Hardware:   two CPU cores
Measured:   wall time and score: see benchmarks/results.md

Data: CIFAR-10 (A. Krizhevsky, 2009) as image files, `DIR/train/CLASS/*.jpg` and `DIR/test/CLASS/*.jpg`. Without
--data, DIR is `$MEDKERAS_DATA/cifar10`; an archive is unpacked with

    mkdir cifar10 && tar -xzf cifar10_jpeg.tar.gz -C cifar10

`--data=tfds:cifar10` downloads the set instead.
"""

from __future__ import annotations

from typing import Any

import medkeras
import pipelines
from medkeras import config


def get_config() -> config.Config:
    """Returns the settings of the published score: SGD of rate 0.01, no augmentation, no dropout."""
    return config.Config().override(
        {
            "data.source": f"folder:{pipelines.data_place('cifar10')}",
            "model.name": "cnn",
            "model.dropout": 0.0,
            "train.optimizer": "sgd",
            "train.learning_rate": 0.01,
            "train.schedule": "constant",
            "train.epochs": 10,
            "train.batch_size": 8,
            "train.clip_norm": 0.0,
            "data.validation": 0.05,
            **pipelines.NO_AUGMENTATION,
        }
    )


def smoke() -> config.Config:
    """Returns a version that only shows that everything runs."""
    return get_config().override({"data.image_size": 8, "train.epochs": 1, "train.batch_size": 512})


def run(output: str = "saved_models", workdir: str = "runs") -> Any:
    """Trains, publishes under `output` and returns what `medkeras.train` does."""
    return medkeras.train(get_config(), output=output, workdir=workdir)
