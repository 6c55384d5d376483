"""Recipes: one file a data set, its settings, and the command that repeats its published score."""

from __future__ import annotations

import os
import pathlib
import types

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"

NO_AUGMENTATION = types.MappingProxyType(
    {f"augment.{name}": 0.0 for name in ("rotation", "zoom", "translation", "intensity", "noise")}
)


def data_place(name: str) -> str:
    """Returns where a recipe looks for its data: `$MEDKERAS_DATA/NAME`, or `../shared/data/NAME` beside the repository.

    Where there is neither, the place keeps the variable's name, so that the reader's error says what to set.
    """
    root = os.environ.get("MEDKERAS_DATA") or (str(SHARED) if SHARED.is_dir() else "$MEDKERAS_DATA")
    return f"{root}/{name}"
