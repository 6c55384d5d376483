"""Brain tumour MRI, four classes: a pretrained EfficientNet-Lite0, first its head, then its last blocks.

Command:    python main.py --mode=train --recipe=brain_mri --data=folder:DIR
Hardware:   two CPU cores
Measured:   wall time and score: see benchmarks/results.md

Data: "Brain Tumor MRI Dataset" (M. Nickparvar, Kaggle, CC0), unpacked as it comes: `DIR/Training/CLASS/*.jpg` and
`DIR/Testing/CLASS/*.jpg`. Without --data, DIR is `$MEDKERAS_DATA/brain_mri`. The set names no patients.

Without augmentation the frozen layers see the same images every epoch: each stage computes them once.
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
            "data.source": f"folder:{pipelines.data_place('brain_mri')}",
            "model.name": "efficientnet_lite0",
            "train.epochs": 20,
            "train.unfreeze": 6,
            "train.finetune_epochs": 8,
            **pipelines.NO_AUGMENTATION,
        }
    )


def smoke() -> config.Config:
    """Returns a version that only shows that everything runs."""
    return get_config().override({"data.image_size": 32, "train.epochs": 1, "train.finetune_epochs": 1})


def run(output: str = "saved_models", workdir: str = "runs") -> Any:
    """Trains, publishes under `output` and returns what `medkeras.train` does."""
    return medkeras.train(get_config(), output=output, workdir=workdir)
