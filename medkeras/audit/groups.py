"""Groups of cases that should not have parted: copies, and the cases of one patient."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from medkeras.audit import counting, fingerprints, survey
from medkeras.data import cases, split


class Seen(Protocol):
    """A case and its fingerprint: a record of a survey is one."""

    @property
    def case(self) -> cases.Case:
        """The case."""

    @property
    def fingerprint(self) -> fingerprints.Fingerprint:
        """What its copies are known by."""


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A case and its fingerprint, and nothing else."""

    case: cases.Case
    fingerprint: fingerprints.Fingerprint


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two cases that show the same.

    Attributes:
        first: One of them.
        second: The other.
        score: How alike they are, 0..1; identical ones have 1.
    """

    first: cases.Case
    second: cases.Case
    score: float = 1.0

    @property
    def across_splits(self) -> bool:
        """Whether they stand in two splits."""
        return self.first.split != self.second.split

    @property
    def conflicting(self) -> bool:
        """Whether they carry two labels."""
        return conflicting((self.first, self.second))


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases that show the same, directly or one by one.

    Attributes:
        members: The cases, in the order of the data set.
        pairs: Which of them were found to be alike, the most alike first.
    """

    members: tuple[cases.Case, ...]
    pairs: tuple[Pair, ...]

    @functools.cached_property
    def splits(self) -> frozenset[str]:
        """The splits that it reaches into."""
        return frozenset(case.split for case in self.members)

    @property
    def across_splits(self) -> bool:
        """Whether it reaches into two splits."""
        return len(self.splits) > 1

    @functools.cached_property
    def conflicting(self) -> bool:
        """Whether it carries two labels."""
        return conflicting(self.members)

    @property
    def telling_pair(self) -> Pair:
        """The pair that shows best what is wrong: of two labels, then of two splits, then the most alike."""
        return max(self.pairs, key=lambda pair: (pair.conflicting, pair.across_splits, pair.score))


@dataclasses.dataclass(frozen=True)
class Copies:
    """The groups of one kind of copies."""

    groups: tuple[Group, ...]

    @property
    def cases(self) -> int:
        """Cases that have a copy."""
        return sum(len(group.members) for group in self.groups)

    @property
    def across_splits(self) -> int:
        """Groups that reach into two splits."""
        return sum(group.across_splits for group in self.groups)

    @property
    def conflicting_labels(self) -> int:
        """Groups that carry two labels."""
        return sum(group.conflicting for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Returns numbers, the members of each group, and the pairs with their scores."""
        return {
            "groups": len(self.groups),
            "cases": self.cases,
            "across_splits": self.across_splits,
            "conflicting_labels": self.conflicting_labels,
            "members": [[case.case_id for case in group.members] for group in self.groups],
            "details": [
                {
                    "splits": sorted(group.splits),
                    "labels": sorted({"|".join(counting.labels_of(case)) for case in group.members}),
                    "across_splits": group.across_splits,
                    "conflicting_labels": group.conflicting,
                }
                for group in self.groups
            ],
            "pairs": [
                [pair.first.case_id, pair.second.case_id, round(pair.score, 4)]
                for group in self.groups
                for pair in group.pairs
            ],
        }


def copies(records: Sequence[Seen]) -> tuple[Copies, Copies]:
    """Returns the groups of identical pictures, and those of near copies."""
    owned: dict[bytes, list[cases.Case]] = {}
    for record in records:
        owned.setdefault(record.fingerprint.digest, []).append(record.case)
    exact = [_chained(tuple(members)) for members in owned.values() if len(members) > 1]
    return Copies(tuple(exact)), Copies(())


def _chained(members: tuple[cases.Case, ...]) -> Group:
    """Returns a group of identical cases; a pair of two labels, or of two splits, stands for the others."""
    pairs = [Pair(members[0], other) for other in members[1:]]
    return Group(members, tuple(pairs))


def conflicting(members: Iterable[cases.Case]) -> bool:
    """Whether cases carry two labels; a case that carries none contradicts nothing."""
    return len({frozenset(counting.labels_of(case)) for case in members} - {frozenset()}) > 1


def spread(found: Sequence[Group]) -> str:
    """Returns how many cases of the groups stand in each split, as in `cases: 12 train, 9 test`."""
    counter = collections.Counter(case.split for group in found for case in group.members)
    rows = [f"{counter[name]:,} {name or counting.NO_SPLIT}" for name in (*cases.SPLITS, "") if counter[name]]
    return "cases: " + ", ".join(rows)


def to_drop(exact: Copies, near: Copies) -> dict[str, list[str]]:
    """Returns the cases to leave out so that no copies stand in two splits, by split; test never loses a case.

    Identical cases: all but those in the latest split of their group. Near copies: of each pair, the one in the
    earlier split; what is alike by way of a third case alone may stay.
    """
    gone: dict[str, cases.Case] = {}
    for group in exact.groups:
        latest = max((case.split for case in group.members), key=split.KEEPS.index)
        gone |= {case.case_id: case for case in group.members if case.split != latest}
    for pair in (pair for group in near.groups for pair in group.pairs if pair.across_splits):
        earlier = min(pair.first, pair.second, key=lambda case: split.KEEPS.index(case.split))
        gone[earlier.case_id] = earlier
    return by_split(gone.values())


def patients_across_splits(case_set: cases.CaseSet) -> dict[str, list[cases.Case]]:
    """Returns the patients who stand in two splits, with their cases; nothing where the data name no patients."""
    if not case_set.patients_known:
        return {}
    owned: dict[str, list[cases.Case]] = {}
    for case in case_set.cases:
        owned.setdefault(case.patient_id, []).append(case)
    return {patient: members for patient, members in owned.items() if len({case.split for case in members}) > 1}


def by_split(members: Iterable[cases.Case]) -> dict[str, list[str]]:
    """Returns the case ids of each split."""
    found: dict[str, list[str]] = {}
    for case in members:
        found.setdefault(case.split or counting.NO_SPLIT, []).append(case.case_id)
    return found


def fingerprint(records: Sequence[survey.Record]) -> str:
    """Returns a SHA-256 over every readable case's name, split, labels and pixels."""
    rows = sorted(
        f"{each.case.case_id}\0{each.case.split}\0{'|'.join(counting.labels_of(each.case))}\0"
        f"{each.fingerprint.digest.hex()}"
        for each in records
    )
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
