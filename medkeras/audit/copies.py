"""Copies of one picture among the cases of a data set: which there are, and which must leave training."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from medkeras.audit import fingerprints
from medkeras.data import cases

_RANKS = {"validation": 1, "test": 2}


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases that show one picture.

    Attributes:
        members: At least two, in the order of the data set.
    """

    members: tuple[cases.Case, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the members stand in, sorted; cases without a split do not count."""
        return tuple(sorted({case.split for case in self.members} - {""}))

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The different labels of the members, sorted; cases without a label do not count."""
        return tuple(sorted({case.labels or (case.label,) for case in self.members} - {("",)}))

    @property
    def across_splits(self) -> bool:
        """Whether the members stand in more than one split."""
        return len(self.splits) > 1

    @property
    def conflicting_labels(self) -> bool:
        """Whether the members have more than one label."""
        return len(self.labels) > 1

    def to_json(self) -> dict[str, Any]:
        """Returns the group as `audit.json` holds it."""
        return {
            "case_ids": [case.case_id for case in self.members],
            "splits": [case.split for case in self.members],
            "labels": ["|".join(case.labels) or case.label for case in self.members],
        }


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two cases that show one picture, differently.

    Attributes:
        first: The one that comes first in the data set.
        second: The other one.
        score: How alike they are, 0..1.
        kind: How they differ: `altered` (compression, size, brightness, contrast, noise), `shifted` (cropped or padded
            too), or the turn that brings one onto the other.
    """

    first: cases.Case
    second: cases.Case
    score: float
    kind: str

    @property
    def across_splits(self) -> bool:
        """Whether the two stand in different splits."""
        return Group((self.first, self.second)).across_splits

    def to_json(self) -> dict[str, Any]:
        """Returns the pair as `audit.json` holds it."""
        ids = [self.first.case_id, self.second.case_id]
        return {"case_ids": ids, "score": round(self.score, 4), "kind": self.kind}


@dataclasses.dataclass(frozen=True)
class Copies:
    """The copies of one kind that a data set holds.

    Attributes:
        groups: In the order of their first members; no case is in two.
        pairs: Of near copies, what tied the groups together, the most alike first; a picture that has exact copies is
            named once.
    """

    groups: tuple[Group, ...] = ()
    pairs: tuple[Pair, ...] = ()

    @property
    def across_splits(self) -> tuple[Group, ...]:
        """The groups that span two splits."""
        return tuple(group for group in self.groups if group.across_splits)

    @property
    def conflicting_labels(self) -> tuple[Group, ...]:
        """The groups with two labels."""
        return tuple(group for group in self.groups if group.conflicting_labels)

    def to_json(self) -> dict[str, Any]:
        """Returns what `audit.json` holds: counts, the members of every group, and the pairs."""
        return {
            "groups": len(self.groups),
            "cases": sum(len(group.members) for group in self.groups),
            "across_splits": len(self.across_splits),
            "conflicting_labels": len(self.conflicting_labels),
            "members": [group.to_json() for group in self.groups],
            "pairs": [pair.to_json() for pair in self.pairs],
        }


def exact(members: Sequence[cases.Case], prints: Sequence[fingerprints.Fingerprint]) -> Copies:
    """Finds the cases whose decoded pixels are equal, whatever files hold them.

    Args:
        members: The cases.
        prints: Their fingerprints, in the same order.
    """
    return Copies(tuple(Group(tuple(members[row] for row in rows)) for rows in same_pixels(prints) if len(rows) > 1))


def same_pixels(prints: Sequence[fingerprints.Fingerprint]) -> list[list[int]]:
    """Returns the positions of equal pictures together, those that stand alone too, in order of the first."""
    rows: dict[bytes, list[int]] = collections.defaultdict(list)
    for position, each in enumerate(prints):
        rows[each.digest].append(position)
    return list(rows.values())


def drop_from_training(
    members: Sequence[cases.Case], *found: Copies
) -> tuple[tuple[cases.Case, ...], tuple[cases.Case, ...]]:
    """Parts the cases into those that stay and those that leave, so that no picture is in two splits.

    Of a group that spans splits the test cases stay, or where there are none the validation cases. Copies within one
    split stay, with one label or two: they bias no result, and which label is right the pixels do not say.

    Args:
        members: The cases.
        *found: Copies of any kind; groups that share a case count as one.

    Returns:
        The cases that stay and those that leave, each in order. A test case never leaves.
    """
    position = {case.case_id: row for row, case in enumerate(members)}
    edges = [
        (position[group.members[0].case_id], position[case.case_id])
        for each in found
        for group in each.groups
        for case in group.members[1:]
    ]
    leaving: set[int] = set()
    for rows in together(edges, len(members)):
        ranks = {row: _RANKS.get(members[row].split, 0) for row in rows}
        leaving.update(row for row, rank in ranks.items() if rank < max(ranks.values()))
    kept = tuple(case for row, case in enumerate(members) if row not in leaving)
    return kept, tuple(case for row, case in enumerate(members) if row in leaving)


def together(edges: Iterable[tuple[int, int]], count: int) -> list[list[int]]:
    """Returns the positions 0 to `count` that edges tie together, two or more, sorted, in order of the first."""
    ends = np.array(sorted(edges), np.int64).reshape(-1, 2)
    graph = scipy.sparse.coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    rows: dict[int, list[int]] = collections.defaultdict(list)
    for row, name in enumerate(component.tolist()):
        rows[name].append(row)
    return [each for each in rows.values() if len(each) > 1]
