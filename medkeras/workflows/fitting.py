"""Whether a model can mean anything by its answer for an image: the values that it knows, on their scale."""

from __future__ import annotations

import numpy as np

from medkeras import errors
from medkeras.data import cases, prepare
from medkeras.workflows import opening, publishing, questions

BYTE = 255.0
OTHER_SCALE = 8.0
"""Values that span an eighth of those of the training, all of them, are on another scale."""


def read(opened: opening.Described, one: questions.Question) -> np.ndarray:
    """Returns the stored values `[H, W, C]` that a question is about.

    Raises:
        BadInputError: The file cannot be read, or the model cannot answer for it.
    """
    if one.images is None:
        raise errors.BadInputError(one.case.path, one.fault)
    refuse_other_kind(opened, one.case.path, one.images.header(one.case))
    image = one.images.read(one.case, opened.canvas.channels)
    refuse_other_scale(opened, one.case.path, (float(image.min()), float(image.max())))
    return image


def refuse_other_kind(opened: opening.Described, path: str, header: cases.ImageHeader) -> None:
    """Refuses an image whose values are of another kind than those that the model was trained on.

    Raises:
        BadInputError: They do not fit the canvas, are in another unit, or have 8 bits where no training image had.
    """
    given = opened.card.input
    opened.canvas.require(path, header.dtype)
    units = publishing.UNITS[header.units]
    if units != given["units"]:
        raise errors.BadInputError(path, f"the model was trained on {given['units']}. Received: {units}")
    stored = given.get("stored", [header.dtype])
    if header.dtype == "uint8" and "uint8" not in stored and given["value_range"][1] > 2 * BYTE:
        low, high = given["value_range"]
        raise errors.BadInputError(
            path, f"the model was trained on values from {low:g} to {high:g}. Received: 8 bits, on another scale"
        )


def refuse_other_scale(opened: opening.Described, path: str, found: tuple[float, float]) -> None:
    """Refuses values that lie farther beyond those of the training than those are apart.

    Args:
        opened: The model.
        path: What holds the values.
        found: The lowest and the highest of them.

    Raises:
        BadInputError: They are on another scale.
    """
    low, high = opened.card.input["value_range"]
    if found[0] < low - (high - low) or found[1] > high + (high - low):
        raise errors.BadInputError(path, _scales(opened, found))


def refuse_other_data(opened: opening.Described, name: str, data: prepare.Prepared) -> None:
    """Refuses a data set whose values are in another unit, or on another scale: far beyond, or all close together.

    Raises:
        BadInputError: The model's answers would mean nothing.
    """
    given, units = opened.card.input, publishing.UNITS[data.units]
    if units != given["units"]:
        raise errors.BadInputError(name, f"the model was trained on {given['units']}. Received: {units}")
    refuse_other_scale(opened, name, data.value_range)
    low, high = given["value_range"]
    if data.value_range[1] - data.value_range[0] < (high - low) / OTHER_SCALE:
        raise errors.BadInputError(name, _scales(opened, data.value_range))


def _scales(opened: opening.Described, found: tuple[float, float]) -> str:
    low, high = opened.card.input["value_range"]
    return (
        f"the model was trained on values from {low:g} to {high:g}. "
        f"Received: {found[0]:g} to {found[1]:g}, on another scale"
    )
