"""What an audit found, as numbers and sentences: `audit.json`, the summary on the terminal, what would spoil a test."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medkeras import errors, version
from medkeras.audit import copies, counting, facts, groups, shortcuts, survey, suspects
from medkeras.data import cases

FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """All that an audit found.

    Attributes:
        case_set: The cases, their splits as the data give them.
        seen: What one pass over the images saw.
        exact: Groups of identical pictures.
        near: Groups of near copies.
        suspects: Kind to the cases that a person should look at.
        shortcuts: What tells the classes apart without anatomy.
        facts: Case id to what its header says of the machine.
        settings: The settings of the audit.
        seed: Root of its random numbers.
    """

    case_set: cases.CaseSet
    seen: survey.Survey
    exact: copies.Copies
    near: copies.Copies
    suspects: Mapping[str, Sequence[suspects.Suspect]]
    shortcuts: Sequence[shortcuts.Shortcut]
    facts: Mapping[str, Mapping[str, str]]
    settings: Mapping[str, Any]
    seed: int

    @functools.cached_property
    def patients(self) -> dict[str, list[cases.Case]]:
        """Patients who stand in two splits, with their cases."""
        return groups.patients_across_splits(self.case_set)

    @functools.cached_property
    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of each file that cannot be read."""
        found = [(error.path, error.reason) for error in self.seen.unreadable]
        return found + [(each.path, each.reason) for each in self.of_kind("unreadable")]

    @functools.cached_property
    def headers(self) -> list[tuple[str, str]]:
        """Path and reason of each header that contradicts another, the standard or the pixels."""
        windows = facts.poor_windows(self.seen.records, self.facts)
        return [(each.path, each.reason) for each in self.of_kind("header")] + windows

    @functools.cached_property
    def invalidating(self) -> tuple[str, ...]:
        """What would invalidate a test result, a sentence each."""
        return tuple(_invalidating(self))

    @functools.cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look into before training, a sentence each."""
        return tuple(_warnings(self))

    def of_kind(self, kind: str) -> list[cases.Problem]:
        """Returns what the reader of the data set found of one kind."""
        return [each for each in self.case_set.problems if each.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Returns what `audit.json` holds."""
        return {
            "format": FORMAT,
            "medkeras": version.VERSION,
            "data": self.case_set.name,
            "cases": len(self.case_set.cases),
            "classes": list(self.case_set.classes),
            "fingerprint": groups.fingerprint(self.seen.records),
            "invalidating": list(self.invalidating),
            "warnings": list(self.warnings),
            "notes": list(self.case_set.notes),
            "unreadable": _listed(self.unreadable),
            "unpaired": _listed((each.path, each.reason) for each in self.of_kind("unpaired")),
            "series": _listed((each.path, each.reason) for each in self.of_kind("series")),
            "identity": _listed((each.path, each.reason) for each in self.of_kind("identity")),
            "headers": _listed(self.headers),
            "masks": _listed((each.path, each.reason) for each in self.of_kind("mask")),
            "exact_duplicates": self.exact.to_json(),
            "near_duplicates": self.near.to_json(),
            "patients_across_splits": [
                {"patient_id": patient, "cases": groups.by_split(members)} for patient, members in self.patients.items()
            ],
            "shortcuts": {each.feature: each.auroc for each in self.shortcuts},
            "shortcut_details": [_detail(each) for each in self.shortcuts],
            "suspects": {
                kind: [dataclasses.asdict(each) for each in members] for kind, members in self.suspects.items()
            },
            "counts": counting.count(self.case_set, self.seen, self.facts),
            "seed": self.seed,
            "settings": dict(self.settings),
        }


def _listed(rows: Any) -> list[dict[str, str]]:
    return [{"path": errors.printable(path), "reason": reason} for path, reason in rows]


def _detail(each: shortcuts.Shortcut) -> dict[str, Any]:
    return dataclasses.asdict(each) | {"content": each.content, "warns": each.warns}


def _invalidating(found: Findings) -> Iterator[str]:
    for name, kind in _kinds(found):
        across = kind.across_splits
        if across:
            yield f"Groups of {name} in two splits: {len(across):,} ({groups.spread(across)})."
        odd = [group for group in kind.conflicting_labels if {"test", "validation"} & set(group.splits)]
        if odd:
            yield f"Groups of {name} with two labels, test or validation among them: {len(odd):,}."
    if found.patients:
        yield f"Patients in two splits: {len(found.patients):,}, with {sum(map(len, found.patients.values())):,} cases."
    yield from _unseen_classes(found.case_set)


def _kinds(found: Findings) -> tuple[tuple[str, copies.Copies], ...]:
    return ("identical pictures", found.exact), ("near copies", found.near)


def _unseen_classes(case_set: cases.CaseSet) -> Iterator[str]:
    present = {
        split: {label for case in case_set.of_split(split) for label in counting.labels_of(case)}
        for split in cases.SPLITS
    }
    for split in ("test", "validation"):
        unseen = sorted(present[split] - present["train"])
        if present["train"] and unseen:
            yield f"Classes of the {split} split that training never sees: {', '.join(unseen)}."


def _warnings(found: Findings) -> Iterator[str]:
    for what, count in (
        ("Files that cannot be read", len(found.unreadable)),
        ("Images without a label or a mask, labels or masks without an image", len(found.of_kind("unpaired"))),
        ("Faults of series of slices", len(found.of_kind("series"))),
        ("Series that claim to name nobody, and do", len(found.of_kind("identity"))),
        ("Headers that contradict each other, the standard or the pixels", len(found.headers)),
        ("Faults of masks", len(found.of_kind("mask"))),
    ):
        if count:
            yield f"{what}: {count:,}."
    for name, kind in _kinds(found):
        within = [group for group in kind.groups if not group.across_splits]
        odd = sum(group.conflicting_labels for group in within)
        if within:
            yield f"Groups of {name} within a split: {len(within):,}{f', {odd:,} with two labels' if odd else ''}."
    for each in found.shortcuts:
        if each.warns:
            yield (
                f"The property {each.feature!r} alone tells the classes apart with an AUROC of {each.auroc:.2f} "
                f"({each.told!r} from the others: {each.told_auroc:.2f}); a network may learn it and not the disease."
            )
    for suspected, members in found.suspects.items():
        if members:
            yield f"Pictures that may be wrong, {suspected.replace('_', ' ')}: {len(members):,}."
    if not found.case_set.patients_known:
        yield "The data name no patients: whether one patient stands in two splits cannot be told."
