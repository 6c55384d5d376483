"""PneumoniaMNIST, chest X-rays of 28 x 28 pixels, normal or pneumonia: four convolutions from scratch.

Command:    python main.py --mode=train --recipe=pneumonia --data=npz:FILE
Hardware:   two CPU cores
Measured:   wall time and score: see benchmarks/results.md

Data: `pneumoniamnist.npz` of MedMNIST v2 (CC BY 4.0), with its own train, val and test splits. Without --data, FILE is
`$MEDKERAS_DATA/pneumoniamnist_subset.npz`, the same test split and a smaller training split. Class 0 is normal,
1 pneumonia. One training image in ten is normal and more than one test image in three: the loss weighs the classes.
`cnn` and not `resnet_small` because its validation loss was the lower one.
"""

from __future__ import annotations

from typing import Any

import medkeras
import pipelines
from medkeras import config


def get_config() -> config.Config:
    """Returns the settings of the published score."""
    return config.Config().override(
        {
            "data.source": f"npz:{pipelines.data_place('pneumoniamnist_subset.npz')}",
            "model.name": "cnn",
            "model.dropout": 0.5,
            "train.loss": "weighted",
            "train.epochs": 15,
            "train.batch_size": 64,
        }
    )


def smoke() -> config.Config:
    """Returns a version that only shows that everything runs."""
    return get_config().override({"data.image_size": 16, "train.epochs": 1, "train.batch_size": 128})


def run(output: str = "saved_models", workdir: str = "runs") -> Any:
    """Trains, publishes under `output` and returns what `medkeras.train` does."""
    return medkeras.train(get_config(), output=output, workdir=workdir)
