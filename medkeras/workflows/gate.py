"""The gate before training: copies across the splits, in what was prepared, warned of or taken out."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from medkeras import config
from medkeras.audit import fingerprints, groups
from medkeras.data import cases, order, pipeline, prepare
from medkeras.workflows import terminal

NAME = "leakage.json"
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Leakage:
    """What stands in two splits and should not.

    Attributes:
        exact: Groups of identical pictures, as the network sees them.
        near: Groups of near copies.
        dropped: Split to the ids of its cases that were left out for a copy in a later split.
        patients: How many cases were left out for their patient.
    """

    exact: groups.Copies
    near: groups.Copies
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
    case_set: cases.CaseSet, settings: config.DataConfig, *, folder: pathlib.Path
) -> tuple[prepare.Prepared, Leakage]:
    """Prepares a data set and looks for copies in it.

    With `data.leakage` at `drop`, cases of training that have a copy in validation or test, and cases of validation
    that have one in test, are left out, and the rest is prepared as though they had never been there.

    Raises:
        UserError: The data cannot be prepared, or nothing is left of a split.
    """
    data = prepare.prepare(case_set, settings, folder=folder, track=terminal.track)
    patients = sum(problem.kind == "leakage" for problem in case_set.problems)
    found = dataclasses.replace(look(data), patients=patients)
    dropped = groups.to_drop(found.exact, found.near) if settings.leakage == "drop" else {}
    if dropped:
        gone = {case_id for ids in dropped.values() for case_id in ids}
        del data
        rest = case_set.replace_cases(case for case in case_set.cases if case.case_id not in gone)
        data = prepare.prepare(rest, settings, folder=folder, track=terminal.track)
    return data, dataclasses.replace(found, dropped=dropped)


def report(found: Leakage, run: pathlib.Path) -> None:
    """Tells of leaks on the terminal, loudly, and leaves them in the folder of the run."""
    found.write(run)
    for sentence in found.sentences:
        terminal.say(f"WARNING, data leakage: {sentence}")


def look(data: prepare.Prepared) -> Leakage:
    """Returns the copies among the prepared images."""
    total = sum(len(store.cases) for store in data.stores.values())
    seen = list(terminal.track(_seen(data), total, "Looking for copies"))
    exact, near = groups.copies(seen)
    return Leakage(exact, near)


def _seen(data: prepare.Prepared) -> Iterator[groups.Look]:
    for images in data.stores.values():
        nothing = np.zeros((len(images.cases), 1), np.float32)
        positions = order.slots(np.arange(len(images.cases)), _BATCH)
        batches = pipeline.evaluation_dataset(images, nothing, batch_size=_BATCH).as_numpy_iterator()
        for slots, batch in zip(positions, batches, strict=True):
            real = slots.weight > 0
            for position, image in zip(slots.index[real].tolist(), batch["image"][real], strict=True):
                yield groups.Look(images.cases[position], fingerprints.take(image))


def _numbers(copies: groups.Copies) -> dict[str, int]:
    return {name: value for name, value in copies.to_json().items() if isinstance(value, int)}


def _sentences(found: Leakage) -> Iterator[str]:
    if found.patients:
        yield f"Cases left out because their patient is in a later split too: {found.patients:,}."
    if found.dropped:
        parts = ", ".join(f"{len(ids):,} of {split}" for split, ids in found.dropped.items())
        yield f"Cases left out because a copy of them is in a later split: {parts}; the test split lost none."
    for name, copies in (("identical pictures", found.exact), ("near copies", found.near)):
        across = [group for group in copies.groups if group.across_splits]
        if across and not found.dropped:
            yield (
                f"Groups of {name} in two splits: {len(across):,} ({groups.spread(across)}). What is measured on them "
                "is memory; data.leakage=drop takes them out of training."
            )
        if copies.conflicting_labels:
            yield f"Groups of {name} with two labels: {copies.conflicting_labels:,}."
