"""Cases that belong together: what is told of copies, and the cases of one patient."""

from __future__ import annotations

import collections
import hashlib
import itertools
from collections.abc import Iterable, Sequence

from medkeras.audit import copies, counting, survey
from medkeras.data import cases


def telling_pair(group: copies.Group, found: copies.Copies) -> copies.Pair:
    """Returns the two members that show best what is wrong: of two labels, then of two splits, then the most alike.

    Args:
        group: A group of `found`.
        found: Its pairs tell which members were compared; without any, all members are equal.
    """
    ids = {case.case_id for case in group.members}
    pairs = [pair for pair in found.pairs if pair.first.case_id in ids and pair.second.case_id in ids]
    if not pairs:
        strangest = {(case.split, counting.labels_of(case)): case for case in reversed(group.members)}
        chosen = list(strangest.values())[::-1] if len(strangest) > 1 else group.members[:2]
        pairs = [copies.Pair(one, two, 1.0, "equal") for one, two in itertools.combinations(chosen[:12], 2)]
    return max(pairs, key=_gravity)


def _gravity(pair: copies.Pair) -> tuple[bool, bool, float]:
    return copies.Group((pair.first, pair.second)).conflicting_labels, pair.across_splits, pair.score


def spread(found: Sequence[copies.Group]) -> str:
    """Returns how many cases of the groups stand in each split, as in `cases: 12 train, 9 test`."""
    counter = collections.Counter(case.split for group in found for case in group.members)
    rows = [f"{counter[name]:,} {name or counting.NO_SPLIT}" for name in (*cases.SPLITS, "") if counter[name]]
    return "cases: " + ", ".join(rows)


def patients_across_splits(case_set: cases.CaseSet) -> dict[str, list[cases.Case]]:
    """Returns the patients who stand in two splits, with their cases; nothing where the data name no patients."""
    if not case_set.patients_known:
        return {}
    owned: dict[str, list[cases.Case]] = {}
    for case in case_set.cases:
        owned.setdefault(case.patient_id, []).append(case)
    # A case without a split is carved with the training cases of its patient.
    apart = {patient for patient, members in owned.items() if len({case.split or "train" for case in members}) > 1}
    return {patient: members for patient, members in owned.items() if patient in apart}


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
