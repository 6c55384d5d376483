"""Splitting by patient: existing splits are kept, missing ones are carved."""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence

import sklearn.model_selection

from medkeras import errors
from medkeras.data import cases

NO_PATIENTS = "The data name no patients: every case counts as a patient of its own."
KEEPS = ("train", "validation", "test")
"""Where cases that belong together stand in two splits, the later one keeps its own; no split counts as training."""

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def split_name(text: str) -> str | None:
    """Returns `train`, `validation` or `test` for the spellings in use, else None.

    >>> split_name("Training"), split_name("val"), split_name("glioma")
    ('train', 'validation', None)
    """
    return _SPLIT_NAMES.get(text.strip().lower())


def complete(case_set: cases.CaseSet, *, validation: float, test: float, seed: int) -> cases.CaseSet:
    """Returns the set with every case in a split.

    Cases that name a split keep it. A missing test split is carved from the training cases, then a missing
    validation split is. Carving is by patient, stratified by class, and a function of the seed and of the patients'
    names, or the cases' where no patients are known; their order does not matter.

    Args:
        case_set: The cases; `split` is empty where the data do not say.
        validation: Share of the training patients that validate.
        test: Share of the patients that test.
        seed: Root of the random choice.

    Raises:
        DataError: A patient stands in two splits, a class is missing from training, or too few patients are left.
    """
    refuse_shared_patients(case_set)
    given = {case.split for case in case_set.cases}
    rows = [dataclasses.replace(case, split=case.split or "train") for case in case_set.cases]
    notes = []
    for name, share in (("test", test), ("validation", validation)):
        if name not in given:
            rows = _carve(rows, name, share, seed)
            notes.append(_carving_note(case_set, rows, name))
    if not case_set.patients_known:
        notes.append(NO_PATIENTS)
    notes.extend(_absences(case_set.classes, rows))
    result = case_set.replace_cases(rows, *notes)
    refuse_unlearnable(result)
    return result


def without_shared_patients(case_set: cases.CaseSet) -> cases.CaseSet:
    """Returns the set with each patient in one split: test keeps its cases, then validation, and training loses.

    The cases that are gone stand among the problems, of kind `leakage`.
    """
    if not case_set.patients_known:
        return case_set
    home: dict[str, str] = {}
    for case in case_set.cases:
        home[case.patient_id] = max(home.get(case.patient_id, "train"), case.split or "train", key=KEEPS.index)
    gone = [case for case in case_set.cases if (case.split or "train") != home[case.patient_id]]
    if not gone:
        return case_set
    kept = [case for case in case_set.cases if (case.split or "train") == home[case.patient_id]]
    problems = [
        cases.Problem(case.path, "leakage", f"left out of {case.split or 'training'}: its patient is in "
                      f"{home[case.patient_id]}") for case in gone
    ]  # fmt: skip
    patients = len({case.patient_id for case in gone})
    note = f"{len(gone)} cases of {patients} patients who stand in a later split too were left out (data.leakage=drop)."
    return dataclasses.replace(case_set, problems=(*case_set.problems, *problems)).replace_cases(kept, note)


def refuse_unlearnable(case_set: cases.CaseSet) -> None:
    """Refuses splits that hold a class which training does not; raises `DataError`."""
    present = {
        split: {label for case in case_set.of_split(split) for label in (case.labels or (case.label,))} - {""}
        for split in cases.SPLITS
    }
    for split in ("validation", "test"):
        for label in case_set.classes:
            if label in present[split] and label not in present["train"]:
                raise errors.DataError(
                    f"Every class of the {split} split stands in training too. Received: {label!r} in {split} only"
                )


def write_csv(case_set: cases.CaseSet, path: str | os.PathLike[str]) -> None:
    """Writes case, patient, split and label of every case, in order."""
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("case_id", "patient_id", "split", "label", "path"))
        for case in case_set.cases:
            label = "|".join(case.labels) if case_set.multilabel else case.label
            writer.writerow((case.case_id, case.patient_id, case.split, label, case.path))


def _carve(rows: Sequence[cases.Case], name: str, share: float, seed: int) -> list[cases.Case]:
    chosen = _choose_patients([case for case in rows if case.split == "train"], share, seed, name)
    return [
        dataclasses.replace(case, split=name) if case.split == "train" and case.patient_id in chosen else case
        for case in rows
    ]


def _choose_patients(rows: Iterable[cases.Case], share: float, seed: int, name: str) -> set[str]:
    strata = patient_strata(rows)
    frequency = collections.Counter(strata.values())
    # In order of their names, for scikit-learn chooses by position.
    patients = sorted(patient for patient in strata if frequency[strata[patient]] > 1)
    if len(patients) * min(share, 1 - share) < len({strata[patient] for patient in patients}) or not patients:
        raise errors.DataError(
            f"The {name} split needs a patient of every class: more patients, or a larger data.{name}. "
            f"Received: {len(strata)} patients, {len(frequency)} classes, data.{name}={share:g}"
        )
    _, chosen = sklearn.model_selection.train_test_split(
        patients, test_size=share, random_state=seed, stratify=[strata[patient] for patient in patients]
    )
    return set(chosen)


def patient_strata(rows: Iterable[cases.Case]) -> dict[str, str]:
    """Returns the class that stands for each patient: the rarest one that the patient's cases have."""
    labels = {case.case_id: (case.labels or (case.label,), case.patient_id) for case in rows}
    frequency = collections.Counter(label for names, _ in labels.values() for label in names)
    strata: dict[str, str] = {}
    for names, patient in labels.values():
        candidates = (*names, strata[patient]) if patient in strata else names
        strata[patient] = min(candidates, key=lambda label: (frequency[label], label))
    return strata


def _absences(classes: Sequence[str], rows: Sequence[cases.Case]) -> Iterator[str]:
    """Yields a sentence for each split that lacks a class."""
    for name in ("validation", "test"):
        present = {label for case in rows if case.split == name for label in (case.labels or (case.label,))}
        lacking = [label for label in classes if label not in present]
        if lacking:
            yield f"The {name} split holds no case of {', '.join(lacking)}: nothing is measured on that class."


def _carving_note(case_set: cases.CaseSet, rows: Sequence[cases.Case], name: str) -> str:
    number = sum(case.split == name for case in rows)
    unit = "patient" if case_set.patients_known else "case"
    return f"The data hold no {name} split: {number} cases were taken from training, by {unit}, stratified by class."


def refuse_shared_patients(case_set: cases.CaseSet) -> None:
    """Refuses patients who stand in two splits, no split counting as training; raises `DataError`."""
    if not case_set.patients_known:
        return
    first: dict[str, cases.Case] = {}
    clashes = []
    for case in case_set.cases:
        other = first.setdefault(case.patient_id, case)
        if (other.split or "train") != (case.split or "train"):
            clashes.append((other, case))
    if clashes:
        one, two = clashes[0]
        raise errors.DataError(
            f"A patient's cases stay in one split. Received: {errors.printable(one.case_id)!r} "
            f"({one.split or 'no split'}) and {errors.printable(two.case_id)!r} ({two.split or 'no split'}) of one "
            f"patient; {len(clashes)} cases stand apart from their patient's first one; data.leakage=drop takes such "
            "cases out of training"
        )
