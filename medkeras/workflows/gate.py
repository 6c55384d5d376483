"""The gate before training: copies across the splits, in what was prepared, warned of or taken out."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.audit import copies, fingerprints, groups, near
from medkeras.data import cases, order, pipeline, prepare, split, store
from medkeras.workflows import terminal

NAME = "leakage.json"
_BATCH = 32
# Within them, float32 has room for what preprocessing and augmentation calculate.
_SPANS = (1e-30, 1e30)


@dataclasses.dataclass(frozen=True)
class Leakage:
    """What stands in two splits and should not.

    Attributes:
        exact: Groups of identical pictures, as the network sees them.
        near: Groups of near copies.
        dropped: Split to the ids of its cases that were left out for a copy in a later split.
        patients: How many cases were left out for their patient.
    """

    exact: copies.Copies
    near: copies.Copies
    dropped: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    patients: int = 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the user must know, the grave things first; nothing where there is nothing."""
        return tuple(_sentences(self))

    def to_json(self) -> dict[str, Any]:
        """Returns what the card holds: numbers and sentences."""
        return {
            "exact": _numbers(self.exact),
            "near": _numbers(self.near),
            "dropped": {split: len(ids) for split, ids in self.dropped.items()},
            "dropped_for_their_patient": self.patients,
            "sentences": list(self.sentences),
        }

    def write(self, folder: pathlib.Path) -> None:
        """Writes `leakage.json`: the numbers, every group, and every case that was left out."""
        values = self.to_json() | {
            "exact_duplicates": self.exact.to_json(),
            "near_duplicates": self.near.to_json(),
            "dropped_cases": self.dropped,
        }
        text = json.dumps(values, indent=2, ensure_ascii=False)
        (folder / NAME).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def prepare_checked(
    case_set: cases.CaseSet, settings: config.DataConfig, *, folder: pathlib.Path, canvas: store.Canvas | None = None
) -> tuple[prepare.Prepared, Leakage]:
    """Prepares a data set and looks for copies in it.

    With `data.leakage` at `drop`, cases of training that have a copy in validation or test, and cases of validation
    that have one in test, are left out, and the rest is prepared as though they had never been there. What batches
    look like follows from the data, or is the `canvas` given.

    Raises:
        UserError: The data cannot be prepared, or nothing is left of a split, or of a class in training, or nothing can
            be learnt from the values.
    """
    data = _prepared(case_set, settings, folder=folder, canvas=canvas)
    patients = sum(problem.kind == "leakage" for problem in case_set.problems)
    found = dataclasses.replace(look(data), patients=patients)
    if settings.leakage != "drop":
        return data, found
    kept, gone = copies.drop_from_training(case_set.cases, found.exact, found.near)
    if gone:
        del data
        left = case_set.replace_cases(kept)
        _refuse_lost(case_set, left)
        data = _prepared(left, settings, folder=folder, canvas=canvas)
    return data, dataclasses.replace(found, dropped=groups.by_split(gone))


def _prepared(
    case_set: cases.CaseSet, settings: config.DataConfig, *, folder: pathlib.Path, canvas: store.Canvas | None
) -> prepare.Prepared:
    data = prepare.prepare(case_set, settings, canvas=canvas, folder=folder, track=terminal.track)
    low, high = data.value_range
    if not _SPANS[0] <= high - low <= _SPANS[1]:
        raise errors.DataError(
            f"The lowest and the highest value of the training images lie {_SPANS[0]:g} to {_SPANS[1]:g} apart. "
            f"Received: {low:g} and {high:g}"
        )
    return data


def _refuse_lost(before: cases.CaseSet, after: cases.CaseSet) -> None:
    lost = {case.split for case in before.cases} - {case.split for case in after.cases}
    if lost:
        raise errors.DataError(
            "Every split keeps a case after those with a copy in a later split were left out (data.leakage=drop). "
            f"Received: {', '.join(sorted(lost))} with such cases only"
        )
    try:
        split.refuse_unlearnable(after)
    except errors.DataError as error:
        raise errors.DataError(f"{error}, after data.leakage=drop left copies out") from None


def report(found: Leakage, run: pathlib.Path) -> None:
    """Tells of leaks on the terminal, loudly, and leaves them in the folder of the run."""
    found.write(run)
    for sentence in found.sentences:
        terminal.say(f"WARNING, data leakage: {sentence}")


def look(data: prepare.Prepared) -> Leakage:
    """Returns the copies among the prepared images."""
    total = sum(len(store.cases) for store in data.stores.values())
    seen = list(terminal.track(_prints(data), total, "Looking for copies"))
    members, prints = [case for case, _ in seen], [each for _, each in seen]
    known = data.case_set.patients_known
    return Leakage(copies.exact(members, prints), near.find(members, prints, patients_known=known))


def _prints(data: prepare.Prepared) -> Iterator[tuple[cases.Case, fingerprints.Fingerprint]]:
    for images in data.stores.values():
        nothing = np.zeros((len(images.cases), 1), np.float32)
        positions = order.slots(np.arange(len(images.cases)), _BATCH)
        batches = pipeline.evaluation_dataset(images, nothing, batch_size=_BATCH).as_numpy_iterator()
        for slots, batch in zip(positions, batches, strict=True):
            real = slots.weight > 0
            for position, image in zip(slots.index[real].tolist(), batch["image"][real], strict=True):
                yield images.cases[position], fingerprints.take(image)


def _numbers(found: copies.Copies) -> dict[str, int]:
    return {name: value for name, value in found.to_json().items() if isinstance(value, int)}


def _sentences(found: Leakage) -> Iterator[str]:
    if found.patients:
        yield f"Cases left out because their patient is in a later split too: {found.patients:,}."
    if found.dropped:
        parts = ", ".join(f"{len(ids):,} of {split}" for split, ids in found.dropped.items())
        yield f"Cases left out because a copy of them is in a later split: {parts}; the test split lost none."
    for name, kind in (("identical pictures", found.exact), ("near copies", found.near)):
        across = kind.across_splits
        if across and not found.dropped:
            yield (
                f"Groups of {name} in two splits: {len(across):,} ({groups.spread(across)}). What is measured on them "
                "is memory; data.leakage=drop takes them out of training."
            )
        if kind.conflicting_labels:
            yield f"Groups of {name} with two labels: {len(kind.conflicting_labels):,}."
