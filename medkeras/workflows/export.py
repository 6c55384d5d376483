"""`--mode=export`: a published model exported again, from its `model.keras`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil

import keras
import numpy as np

from medkeras import errors
from medkeras.export import card, saved_model, versions
from medkeras.preprocessing import preprocessor  # noqa: F401  makes Keras know the layers that a file may hold
from medkeras.workflows import opening, publishing, seen, terminal

TOLERANCE = 1e-5
METHOD = "gradcam"
"""How models are explained whose card does not say how."""
_KEPT = (publishing.METRICS, publishing.PREDICTIONS, publishing.REPORT)


def export_model(model: str | os.PathLike[str], *, output: str | os.PathLike[str] = "saved_models") -> pathlib.Path:
    """Writes a new version from `model.keras`, with the signatures that this release of medkeras writes.

    The new SavedModel must answer as the old one does, so that its metrics, predictions and report stay true and
    go with it.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        output: Folder of the models.

    Returns:
        Folder of the new version.

    Raises:
        ModelError: The folder is not a medkeras model, or the two exports differ.
    """
    opened = opening.open_model(model)
    network = load_keras(opened.folder / publishing.KERAS_FILE)
    base = pathlib.Path(output, opened.card.name)
    version = versions.next_version(base)
    with versions.new_version(base, version) as folder:
        method = opened.card.model.get("explained_by", METHOD)
        saved_model.write(network, folder, task=opened.task, canvas=opened.canvas, method=method)
        _compare(opened, saved_model.Served(folder))
        for name in (publishing.KERAS_FILE, *_KEPT, *({seen.NAME} & {*opened.card.files})):
            shutil.copy2(opened.folder / name, folder / name)
        origin = {"exported_from": opened.card.version, **opened.card.model}
        card.write(dataclasses.replace(opened.card, version=version, model=origin), folder)
    return base / str(version)


def load_keras(path: pathlib.Path) -> keras.Model:
    """Loads `model.keras` in Keras's safe mode.

    Raises:
        ModelError: It is missing, damaged, or wants to run code.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise errors.ModelError(f"{errors.printable(path)}: cannot be loaded ({type(error).__name__})") from None


def _compare(opened: opening.Opened, served: saved_model.Served) -> None:
    low, high = opened.card.input["value_range"]
    images = np.random.default_rng(0).uniform(low, high, (4, *opened.canvas.shape)).astype(np.float32)
    old, new = (each.predict(images) for each in (opened.served, served))
    pairs = [(old[name].astype(np.float64), new[name].astype(np.float64)) for name in opened.task.outputs]
    difference = max(float(np.abs(before - after).max()) for before, after in pairs)
    if difference > TOLERANCE:
        raise errors.ModelError(
            f"A second export answers as the first one within {TOLERANCE:g}. Received: a difference of {difference:.2g}"
        )
    terminal.say(f"The new export answers as the old one: largest difference {difference:.1e}.")
