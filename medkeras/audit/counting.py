"""How many cases there are of each kind: the tables of an audit."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.audit import survey
from medkeras.data import cases

NO_SPLIT, NO_LABEL = "no split", "no label"
MOST_SIZES = 50


def labels_of(case: cases.Case) -> tuple[str, ...]:
    """Returns the class names of a case; of a case that names none, nothing."""
    return case.labels or ((case.label,) if case.label else ())


def count(case_set: cases.CaseSet, seen: survey.Survey, facts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Returns the tables of `counts` in `audit.json`, the largest number first.

    Args:
        case_set: All cases; those that cannot be read count in the tables of classes, splits and patients.
        seen: What was seen of them.
        facts: Case id to what its header says of the machine.
    """
    records = seen.records
    everything = case_set.cases
    return {
        "class": _table(label for case in everything for label in labels_of(case) or (NO_LABEL,)),
        "split": _table(case.split or NO_SPLIT for case in everything),
        "split_class": _split_class(everything),
        "patient": _patients(case_set),
        "size": _table(map(_size, records), MOST_SIZES),
        "modality": _table(facts.get(each.case.case_id, {}).get("modality", "") or "unknown" for each in records),
        "bit_depth": _table(each.header.dtype for each in records),
        "channels": _table(str(each.header.channels) for each in records),
        "format": _table(each.file_format or "none" for each in records),
    }


def _table(values: Iterable[str], most: int | None = None) -> dict[str, int]:
    counter = collections.Counter(values)
    rows = sorted(counter.items(), key=lambda row: (-row[1], row[0]))
    table = dict(rows[:most])
    if most is not None and len(rows) > most:
        table["others"] = sum(number for _, number in rows[most:])
    return table


def _split_class(everything: Sequence[cases.Case]) -> dict[str, dict[str, int]]:
    order = (*cases.SPLITS, "")
    present = sorted({case.split for case in everything}, key=order.index)
    return {
        split or NO_SPLIT: _table(
            label for case in everything if case.split == split for label in labels_of(case) or (NO_LABEL,)
        )
        for split in present
    }


def _patients(case_set: cases.CaseSet) -> dict[str, Any]:
    if not case_set.patients_known:
        return {"known": False}
    sizes = collections.Counter(case.patient_id for case in case_set.cases)
    by_split: dict[str, set[str]] = {}
    for case in case_set.cases:
        by_split.setdefault(case.split or NO_SPLIT, set()).add(case.patient_id)
    numbers = np.array(list(sizes.values()) or [0])
    return {
        "known": True,
        "patients": len(sizes),
        "by_split": {split: len(members) for split, members in sorted(by_split.items())},
        "cases_per_patient": {
            "fewest": int(numbers.min()),
            "median": float(np.median(numbers)),
            "most": int(numbers.max()),
        },
    }


def _size(record: survey.Record) -> str:
    header = record.header
    plane = f"{header.height}x{header.width}"
    return f"{header.depth}x{plane}" if header.depth else plane
