"""Opening a published model."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from medkeras import config, errors
from medkeras.data import store
from medkeras.export import card, saved_model, versions
from medkeras.tasks import classification


@dataclasses.dataclass(frozen=True)
class Described:
    """What the card of a published model says: its folder, the card itself, task and canvas."""

    folder: pathlib.Path
    card: card.Card
    task: classification.Classification
    canvas: store.Canvas

    def viewing(self, settings: config.DataConfig) -> config.DataConfig:
        """Returns settings under which a case is what it was in the training: a slice, or a volume of a spacing."""
        trained = self.card.training["settings"]
        kept = {name: trained.get(f"data.{name}", getattr(settings, name)) for name in ("view", "spacing")}
        return dataclasses.replace(settings, units=settings.units or trained.get("data.units", ""), **kept)


@dataclasses.dataclass(frozen=True)
class Opened(Described):
    """A published model, and the SavedModel itself."""

    served: saved_model.Served


def locate(model: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the version that a path means: the folder itself, or the newest version in it.

    Raises:
        ModelError: The folder is missing, or neither it nor a version in it holds a card.
    """
    folder = pathlib.Path(model)
    if not folder.is_dir():
        raise errors.ModelError(f"A model is a folder that exists. Received: {errors.printable(folder)!r}")
    newest = versions.latest(folder)
    if newest is None and not (folder / card.NAME).is_file():
        _hint_at_models(folder)
    return newest if newest and not (folder / card.NAME).is_file() else folder


def _hint_at_models(folder: pathlib.Path) -> None:
    """Raises `ModelError` with the models that a folder of models holds."""
    models = sorted(each.name for each in folder.iterdir() if each.is_dir() and versions.latest(each))
    if models:
        raise errors.ModelError(
            f"A model is one folder. Received: {errors.printable(folder)!r}, which holds {len(models)}: "
            f"{', '.join(models[:5])}{', …' * (len(models) > 5)}"
        )


def open_model(model: str | os.PathLike[str]) -> Opened:
    """Opens a version after its files were compared with the card.

    Raises:
        ModelError: The folder is not a medkeras model, or a file is not the one that was published.
    """
    folder = locate(model)
    described = describe(folder)
    card.verify(described.card, folder)
    return Opened(folder, described.card, described.task, described.canvas, saved_model.Served(folder))


def describe(folder: pathlib.Path) -> Described:
    """Reads the card of a version, and nothing else of it.

    Raises:
        ModelError: There is no card, or not one that medkeras wrote.
    """
    model_card = card.read(folder)
    given = model_card.input
    try:
        canvas = store.Canvas(
            size=(given["height"], given["width"]),
            channels=given["channels"],
            dtype=given["dtype"],
            mode=given["resize"],
        )
        return Described(folder, model_card, classification.from_description(model_card.task), canvas)
    except (KeyError, TypeError) as error:
        raise errors.ModelError(
            f"{errors.printable(folder / card.NAME)}: is not a card that medkeras wrote ({type(error).__name__})"
        ) from None
