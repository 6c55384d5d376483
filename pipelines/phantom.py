"""Phantom head slices in four classes: the embedded default, nothing to download.

Command:    python main.py --mode=train --recipe=phantom    (the same as without --recipe)
Hardware:   two CPU cores
Measured:   wall time and score: see benchmarks/results.md

Data: generated from `seed`, see docs/phantom.md.
"""

from __future__ import annotations

from typing import Any

import medkeras
from medkeras import config


def get_config() -> config.Config:
    """Returns the settings of the published score: every default."""
    return config.Config()


def smoke() -> config.Config:
    """Returns a version that only shows that everything runs."""
    return get_config().override({"data.image_size": 32, "train.epochs": 1})


def run(output: str = "saved_models", workdir: str = "runs") -> Any:
    """Trains, publishes under `output` and returns what `medkeras.train` does."""
    return medkeras.train(get_config(), output=output, workdir=workdir)
