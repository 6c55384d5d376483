"""How well the input gate tells what the model was trained on from what it was not."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn import metrics

from medkeras import config, errors
from medkeras.data import store
from medkeras.evaluation import intervals, predictions
from medkeras.export import saved_model
from medkeras.workflows import questions, terminal

IMAGES = 100
"""Images of each foreign family, at most."""
_SMALL, _BYTE = 16.0, 255.0


def check(folders: str) -> None:
    """Refuses what `evaluation.foreign` cannot mean, before a training rather than after it.

    Raises:
        DataError: What it names is no folder, or one without images.
    """
    for path in _named(folders).values():
        if not path.is_dir():
            raise errors.DataError(
                f"evaluation.foreign names folders of images, separated by commas. Received: {errors.printable(path)!r}"
            )
        questions.expand([path], config.DataConfig())


def measure(
    served: saved_model.Served,
    images: store.Store,
    table: predictions.Predictions,
    fitted: Mapping[str, Any],
    folders: str,
) -> dict[str, Any]:
    """Returns what `metrics.json` says of the input gate.

    Args:
        served: The exported model.
        images: The test split, from which images are made that the model must not know.
        table: What the model said of the test split.
        fitted: What the card says was fitted: the familiarity below which the model abstains.
        folders: Folders of images of anything else, separated by commas.

    Returns:
        `auroc` (family to area under the ROC curve of familiarity, test cases against the family), `flagged` (family to
        the share that the gate refuses), `false_alarm_rate` (share of test cases that it refuses), its
        `false_alarm_interval`, `level`, `images` (of each family) and `unreadable` (of each folder, left out).

    Raises:
        DataError: A folder holds no image that can be read.
    """
    level = float(fitted["abstain"]["familiarity"])
    familiar = np.asarray(table.familiarity)
    found = _found(served, folders)
    families = dict(_made(served, images)) | {name: answers for name, (answers, _) in found.items()}
    alarms = familiar < level
    low, high = intervals.proportion(alarms, np.ones(len(alarms)), table.patients)
    return {
        "auroc": {name: _auroc(familiar, family) for name, family in families.items()},
        "flagged": {name: float(np.mean(family < level)) for name, family in families.items()},
        "false_alarm_rate": float(alarms.mean()),
        "false_alarm_interval": [low, high],
        "level": level,
        "images": {name: len(family) for name, family in families.items()},
        "unreadable": {name: unreadable for name, (_, unreadable) in found.items()},
    }


def _noise(images: np.ndarray) -> np.ndarray:
    low, high = float(images.min()), float(images.max())
    return np.random.default_rng(0).uniform(low, high, images.shape)


def _inverted(images: np.ndarray) -> np.ndarray:
    return float(images.max()) + float(images.min()) - images


def _wrong_scale(images: np.ndarray) -> np.ndarray:
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / ((high - low) or 1.0)
    return scaled if high - low > _SMALL else scaled * _BYTE


def _rotated(images: np.ndarray) -> np.ndarray:
    return np.rot90(images, axes=(1, 2))


FAMILIES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"noise": _noise, "inverted": _inverted, "wrong_scale": _wrong_scale, "rotated": _rotated}
)
"""What is made of test images: uniform noise, inverted values, values brought to 0…1 (to 0…255 where they are about
as small themselves), a quarter turn."""


def _made(served: saved_model.Served, images: store.Store) -> Iterator[tuple[str, np.ndarray]]:
    chosen = np.unique(np.linspace(0, len(images.cases) - 1, IMAGES).astype(np.int64))
    (batch,) = images.attach(tf.data.Dataset.from_tensors({"index": chosen}))
    stored = batch["image"].numpy().astype(np.float32)
    for name, change in terminal.track(FAMILIES.items(), len(FAMILIES), "Asking about foreign images"):
        yield name, _familiarity(served, np.ascontiguousarray(change(stored), np.float32))


def _familiarity(served: saved_model.Served, images: np.ndarray) -> np.ndarray:
    parts = np.array_split(images, -(-len(images) // 32))
    return np.concatenate([served.predict(part)["familiarity"] for part in parts])


def _found(served: saved_model.Served, folders: str) -> dict[str, tuple[np.ndarray, int]]:
    return {name: _of_folder(served, path) for name, path in _named(folders).items()}


def _named(folders: str) -> dict[str, pathlib.Path]:
    """Returns the folders by their last names; by their whole paths where that is another family's too."""
    paths = [pathlib.Path(text.strip()) for text in folders.split(",") if text.strip()]
    taken = [*FAMILIES, *(path.name for path in paths)]
    return {errors.printable(path.name if path.name and taken.count(path.name) == 1 else path): path for path in paths}


def _of_folder(served: saved_model.Served, folder: pathlib.Path) -> tuple[np.ndarray, int]:
    """Returns the familiarity of a folder's images, and how many of those chosen cannot be read."""
    asked = questions.expand([folder], config.DataConfig())
    some = [asked[k] for k in np.unique(np.linspace(0, len(asked) - 1, IMAGES).astype(np.int64))]
    found = []
    for one in terminal.track(some, len(some), f"Asking about {folder.name}"):
        if one.images is None:
            continue
        try:
            image = one.images.read(one.case, served.channels)
        except errors.BadInputError:
            continue
        found.append(served.predict(image[np.newaxis])["familiarity"][0])
    if not found:
        raise errors.DataError(
            f"evaluation.foreign names folders of images. Received: {errors.printable(folder)!r}, without one that can "
            "be read"
        )
    unreadable = len(some) - len(found)
    if unreadable:
        terminal.say(f"Note: {unreadable} of {len(some)} images of {errors.printable(folder)} cannot be read.")
    return np.array(found), unreadable


def _auroc(familiar: np.ndarray, foreign: np.ndarray) -> float:
    truth = np.concatenate([np.ones(len(familiar)), np.zeros(len(foreign))])
    return float(metrics.roc_auc_score(truth, np.concatenate([familiar, foreign])))
