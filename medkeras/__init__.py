"""medkeras: medical image analysis on TensorFlow and Keras, from a folder of scans to a served model.

The public names load what they need when they are first used, so that a settings file is checked, or a table of
predictions evaluated, without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from medkeras.version import VERSION

__version__ = VERSION

_HOMES = {
    "BadInputError": "medkeras.errors",
    "Config": "medkeras.config",
    "ConfigError": "medkeras.errors",
    "DataError": "medkeras.errors",
    "DivergedError": "medkeras.errors",
    "InternalError": "medkeras.errors",
    "MODELS": "medkeras.models",
    "MedkerasError": "medkeras.errors",
    "ModelError": "medkeras.errors",
    "UserError": "medkeras.errors",
    "audit_data": "medkeras.workflows.audit",
    "benchmark": "medkeras.workflows.benchmark",
    "compare": "medkeras.workflows.compare",
    "convert": "medkeras.workflows.convert",
    "crossval": "medkeras.workflows.crossval",
    "deidentify": "medkeras.workflows.deidentify",
    "deploy": "medkeras.workflows.deploy",
    "evaluate": "medkeras.workflows.evaluate",
    "evaluate_predictions": "medkeras.workflows.judging",
    "export_model": "medkeras.workflows.export",
    "predict": "medkeras.workflows.predict",
    "serve": "medkeras.workflows.serving",
    "train": "medkeras.workflows.train",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medkeras' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
