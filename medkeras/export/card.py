"""`card.json`: all that a server, an auditor or a later run must know of a model."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import errors, version

NAME = "card.json"
FORMAT = 1
LIBRARIES = ("tensorflow", "keras", "numpy", "scikit-learn")
LIMITS = (
    "This is research software, not a medical device: no decision about a patient may rest on it.",
    "It answers for images like those it was trained on; for any other it answers too, and means nothing.",
    "Its figures are those of the test split named here; another hospital, scanner or population needs its own.",
    "A heatmap shows what moved the network's answer, which need not be the disease.",
)


@dataclasses.dataclass(frozen=True)
class Card:
    """What `card.json` holds.

    Attributes:
        name: Name of the model.
        version: Its version.
        task: The task's own description.
        input: Canvas of the model: `height`, `width`, `channels`, `dtype`, `resize`, `value_range`, `units`, and
            `stored`, the dtypes of the files that it was trained on.
        model: Network, number of parameters, where its weights began.
        training: Data source and fingerprint, counts by split and class, settings, notes.
        leakage: What of the training data stands in two splits: numbers and sentences, and what was left out for it.
        fitted: What was fitted on validation: `calibration`, `conformal`, `abstain` and `operating_points`.
        metrics: The headline metrics of the exported model on the test split.
        files: Relative path to SHA-256 of every file beside the card.
        created: Time of writing, ISO 8601, UTC.
        libraries: Versions of the libraries that made it.
        limits: What the model must not be used for.
    """

    name: str
    version: int
    task: Mapping[str, Any]
    input: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    leakage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fitted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    created: str = ""
    libraries: Mapping[str, str] = dataclasses.field(default_factory=dict)
    limits: tuple[str, ...] = LIMITS
    format: int = FORMAT


def write(card: Card, folder: str | os.PathLike[str]) -> Card:
    """Writes the card beside the files that it lists, and returns it filled in."""
    folder = pathlib.Path(folder)
    card = dataclasses.replace(
        card,
        files=checksums(folder),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        libraries={"medkeras": version.VERSION} | {name: importlib.metadata.version(name) for name in LIBRARIES},
    )
    save(card, folder)
    return card


def save(card: Card, folder: str | os.PathLike[str]) -> None:
    """Writes the card as it is."""
    text = json.dumps(dataclasses.asdict(card), indent=2, ensure_ascii=False)
    # Backslashes: a path whose bytes are not UTF-8 becomes an escape that JSON knows.
    pathlib.Path(folder, NAME).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read(folder: str | os.PathLike[str]) -> Card:
    """Returns the card of a model folder.

    Raises:
        ModelError: The folder is missing, or holds no card that medkeras wrote.
    """
    path = pathlib.Path(folder, NAME)
    if not path.parent.is_dir():
        raise errors.ModelError(f"A model is a folder that exists. Received: {errors.printable(folder)!r}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["limits"] = tuple(values["limits"])
        card = Card(**values)
        if not isinstance(card.files, dict):
            raise TypeError(card.files)
    except FileNotFoundError:
        raise errors.ModelError(
            f"A medkeras model holds {NAME}. Received: {errors.printable(folder)!r}, without one"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise errors.ModelError(
            f"{errors.printable(path)}: is not a card that medkeras wrote ({type(error).__name__})"
        ) from None
    if card.format != FORMAT:
        raise errors.ModelError(f"{errors.printable(path)}: this medkeras reads cards of format {FORMAT}. "
                                f"Received: format {card.format}")  # fmt: skip
    return card


def verify(card: Card, folder: str | os.PathLike[str]) -> None:
    """Compares every file with its checksum.

    Raises:
        ModelError: A file is missing or differs.
    """
    for name, expected in card.files.items():
        path = pathlib.Path(folder, name)
        if not path.is_file():
            raise errors.ModelError(f"{errors.printable(path)}: is listed in the card and missing from the folder")
        if _sha256(path) != expected:
            raise errors.ModelError(f"{errors.printable(path)}: does not have the SHA-256 that the card gives")


def checksums(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder but the card, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
