"""The cases behind a conversion: training cases that ranges are measured on, and unseen ones that judge it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.data import cases, pipeline, prepare, schemes, store
from medkeras.workflows import fitting, opening, seen, terminal

_OWN = ("data.on_error", "data.max_errors", "data.cache")
"""Settings that are those of the conversion and not of the training."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Cases of one store that serve one purpose.

    Attributes:
        images: The store, pictures as the device gives them.
        positions: int `[N]`, of the cases in it.
    """

    images: store.Store
    positions: np.ndarray

    @property
    def members(self) -> tuple[cases.Case, ...]:
        """The cases."""
        return tuple(self.images.cases[position] for position in self.positions)

    def arrays(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the pictures `[N, H, W, C]` of these rows of the pool."""
        found = [
            batch["image"].numpy()[batch["weight"].numpy() > 0]
            for batch in pipeline.some(self.images, self.positions[rows], batch_size=32)
        ]
        return np.concatenate(found)

    def drawn(self, count: int, seed: int) -> np.ndarray:
        """Returns at most `count` pictures, as many of each class as there are, drawn by the seed."""
        return self.arrays(stratified([_class(case) for case in self.members], count, seed))

    def by_class(self) -> list[np.ndarray]:
        """Returns the rows of each class that the pool holds, classes in order of their names."""
        names = np.array([_class(case) for case in self.members])
        return [np.flatnonzero(names == name) for name in np.unique(names)]

    def epochs(self, task: Any, *, batch_size: int, seed: int) -> Callable[[], Iterable[Mapping[str, Any]]]:
        """Returns a function that gives the batches of an epoch, each time in another order."""
        targets = task.targets(self.images.cases)
        random = np.random.default_rng(seed)

        def batches() -> Iterable[Mapping[str, Any]]:
            for batch in pipeline.some(self.images, random.permutation(self.positions), batch_size=batch_size):
                yield {**batch, "target": targets[batch["index"].numpy()]}

        return batches


@dataclasses.dataclass(frozen=True)
class DeviceCases:
    """What a conversion has to go by.

    Attributes:
        training: Cases that the model was trained on.
        judging: Cases that it was not trained on: its validation split.
        notes: What a reader of the result must know of them.
    """

    training: Pool
    judging: Pool
    notes: tuple[str, ...]


def read(
    opened: opening.Opened,
    settings: config.Config,
    *,
    source: str,
    canvas: store.Canvas,
    folder: pathlib.Path,
    key: str | os.PathLike[str] | None,
) -> DeviceCases:
    """Reads the training and the validation split of a model's own data; the test split is not looked at.

    Args:
        opened: The model.
        settings: How files are read.
        source: Where the data are now; empty: where they were when the model was trained.
        canvas: What pictures are brought onto: as the device gives them.
        folder: Where a cache on disk goes.
        key: File of the secret that patients' identifiers are hashed with.

    Raises:
        UserError: The data cannot be read, or hold no case of the model's training, or none to judge by.
    """
    given = _data_settings(opened, settings, source)
    case_set = schemes.load(given, seed=opened.card.training["settings"]["seed"], key=key)
    kept = [case for case in case_set.cases if case.split in ("train", "validation")]
    case_set = dataclasses.replace(case_set.replace_cases(kept), classes=opened.task.classes)
    data = prepare.prepare(case_set, given, canvas=canvas, folder=folder, track=terminal.track)
    fitting.refuse_other_data(opened, given.source, data)
    return _parted(opened, data)


def stratified(names: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Returns at most `count` positions in ascending order, drawn in turn from each class until it has no more."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(names))
    turns: dict[str, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for position in order.tolist():
        turn = turns[names[position]] = turns.get(names[position], 0) + 1
        ranked.append((turn, len(ranked), position))
    return np.sort([position for *_, position in sorted(ranked)[:count]]).astype(np.int64)


def _data_settings(opened: opening.Opened, settings: config.Config, source: str) -> config.DataConfig:
    """Returns the settings that the model's data were read with, the splits they were carved into included."""
    trained = {name: value for name, value in opened.card.training["settings"].items() if name in config.fields()}
    mine = {name: value for name, value in settings.flat().items() if name in _OWN}
    more = {"data.source": source} if source else {}
    return config.Config().override({**trained, **mine, **more}).data


def _parted(opened: opening.Opened, data: prepare.Prepared) -> DeviceCases:
    members = {split: np.arange(len(data.stores[split].cases)) for split in ("train", "validation")}
    notes: tuple[str, ...] = ()
    if seen.NAME in opened.card.files:
        members, notes = _known(seen.read(opened.folder), data)
    elif data.fingerprint != opened.card.training["fingerprint"]:
        notes = (f"This model keeps no {seen.NAME}: that these are the cases it was trained on is taken on trust.",)
    if not len(members["train"]):
        raise errors.DataError(
            "A model is converted with the data that it was trained on. Received: data without a case of its training"
        )
    training = Pool(data.stores["train"], members["train"])
    if not len(members["validation"]):
        return DeviceCases(training, training, (*notes, _NONE_LEFT))
    return DeviceCases(training, Pool(data.stores["validation"], members["validation"]), notes)


_NONE_LEFT = (
    "This model was trained without a validation split: the gate judges by training cases, on which a loss shows less."
)


def _known(known: seen.Seen, data: prepare.Prepared) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the positions of training cases that trained the model, and of validation cases that did not."""
    trained = np.array([digest in known.training for digest in data.digests["train"]], bool)
    copies = np.array([digest in known.training for digest in data.digests["validation"]], bool)
    notes = []
    if not trained.all():
        notes.append(f"{np.sum(~trained):,} of {len(trained):,} training cases did not train this model: left out.")
    if copies.any():
        notes.append(f"{np.sum(copies):,} of {len(copies):,} validation cases show training pictures: left out.")
    found = {"train": np.flatnonzero(trained), "validation": np.flatnonzero(~copies)}
    return found, tuple(notes)


def _class(case: cases.Case) -> str:
    return case.label or "|".join(case.labels)
