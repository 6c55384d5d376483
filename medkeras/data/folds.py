"""Folds of patients: each patient in one, every class spread as evenly as the patients allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medkeras import errors
from medkeras.data import cases, split

LEAST = 2
"""Patients of a class: one to learn from while another is held out."""


def assign(members: Sequence[cases.Case], *, folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each case, int64 `[N]` in 0…folds - 1.

    Patients are dealt one by one, those whose cases are the most uneven first and equal ones by chance, each to the
    fold that has least of the patient's classes. The order of the cases and the names of the patients do not matter:
    a patient is known by the first of the names of the patient's cases.

    Args:
        members: The cases, with their labels and patients.
        folds: Number of folds, at least 2.
        seed: Root of the random choice.

    Raises:
        DataError: There are fewer patients than folds, or of a class fewer than 2.
    """
    patients = _patients(members)
    if len(patients) < folds:
        raise errors.DataError(f"Every fold holds a patient. Received: {len(patients)} patients, {folds} folds")
    counts = _counts(members, patients)
    dealt = np.random.default_rng((seed, folds)).permutation(len(patients))
    # Stable: among patients alike, chance decides.
    dealt = dealt[np.argsort(-counts[dealt].std(axis=1), kind="stable")]
    home = np.empty(len(patients), np.int64)
    weight = 1.0 / np.maximum(counts.sum(axis=0), 1.0) ** 2
    held, sizes = np.zeros((folds, counts.shape[1])), np.zeros(folds)
    for patient in dealt:
        best = np.lexsort((sizes, np.round(held @ (counts[patient] * weight), 12)))[0]
        home[patient] = best
        held[best] += counts[patient]
        sizes[best] += counts[patient].sum()
    return np.array([home[patients[case.patient_id]] for case in members], np.int64)


def some(members: Sequence[cases.Case], share: float, *, seed: int, least: int = 0, spared: int = 0) -> frozenset[str]:
    """Returns some of the patients, of each class a share; with the same seed a smaller share is part of a larger one.

    Args:
        members: The cases, with their labels and patients.
        share: Share of the patients of each class, rounded.
        seed: Root of the random choice.
        least: Patients of each class that are taken at least, where there are as many.
        spared: Patients of each class that are left at least, which counts more than `least`.
    """
    strata = split.patient_strata(members)
    patients = _patients(members)
    order = np.random.default_rng(seed).permutation(len(patients))
    shuffled = [list(patients)[number] for number in order]
    chosen: list[str] = []
    for stratum in sorted(set(strata.values())):
        of_class = [patient for patient in shuffled if strata[patient] == stratum]
        wanted = max(least, math.floor(share * len(of_class) + 0.5))
        chosen += of_class[: max(0, min(wanted, len(of_class) - spared))]
    return frozenset(chosen)


def _patients(members: Sequence[cases.Case]) -> dict[str, int]:
    """Returns a number for each patient, in the order of their first cases' names."""
    numbers: dict[str, int] = {}
    for case in sorted(members, key=lambda case: case.case_id):
        numbers.setdefault(case.patient_id, len(numbers))
    return numbers


def _counts(members: Sequence[cases.Case], patients: dict[str, int]) -> np.ndarray:
    """Returns each patient's cases by class `[P, K]`, a case without a label being of a class of its own."""
    classes = sorted({label for case in members for label in case.labels or (case.label,)})
    counts = np.zeros((len(patients), len(classes)))
    for case in members:
        for label in case.labels or (case.label,):
            counts[patients[case.patient_id], classes.index(label)] += 1
    owners = (counts > 0).sum(axis=0)
    for name, owned in zip(classes, owners, strict=True):
        if name and owned < LEAST:
            raise errors.DataError(
                f"A class that is learnt and held out in turn has {LEAST} patients or more. Received: {name!r} of 1"
            )
    return counts
