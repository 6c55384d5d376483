"""The networks: one table, one builder, and transfer in stages."""

from medkeras.models.table import MODELS, BuiltModel, Family, build_model
from medkeras.models.transfer import block_outputs, freeze, split
from medkeras.models.weights import WeightsReport

__all__ = [
    "MODELS",
    "BuiltModel",
    "Family",
    "WeightsReport",
    "block_outputs",
    "build_model",
    "freeze",
    "split",
]
