"""Folds of patients: nobody in two, classes spread evenly, and nothing but the seed decides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import model_selection

from medkeras import errors
from medkeras.data import cases, folds

SHARES = (0.55, 0.35, 0.1)


def clustered(patients: int, *, seed: int = 0, most: int = 6) -> list[cases.Case]:
    """Patients of one to `most` cases each; nine of ten cases have their patient's class."""
    rng = np.random.default_rng(seed)
    members = []
    for patient in range(patients):
        label = rng.choice(3, p=SHARES)
        for _ in range(rng.integers(1, most + 1)):
            own = label if rng.random() < 0.9 else rng.choice(3)
            members.append(cases.Case(f"c{len(members):04}", "x.png", f"p{patient}", label="abc"[own]))
    return members


def unevenness(members: list[cases.Case], home: np.ndarray, count: int) -> float:
    """Standard deviation over folds of each class's share of its cases, the mean of the classes."""
    table = np.array(
        [[np.sum([c.label == k for c in np.array(members)[home == f]]) for k in "abc"] for f in range(count)]
    )
    return float((table / table.sum(0)).std(0).mean())


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_no_patient_stands_in_two_folds_and_no_fold_is_empty(count) -> None:
    members = clustered(60)
    home = folds.assign(members, folds=count, seed=3)
    owners = {case.patient_id: set() for case in members}
    for case, fold in zip(members, home, strict=True):
        owners[case.patient_id].add(int(fold))
    assert {len(found) for found in owners.values()} == {1}
    assert set(home.tolist()) == set(range(count))


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_as_even_as_scikit_learn_makes_them(seed) -> None:
    members = clustered(80, seed=seed)
    labels, groups = [case.label for case in members], [case.patient_id for case in members]
    other = np.empty(len(members), int)
    splitter = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        other[held_out] = fold
    ours = unevenness(members, folds.assign(members, folds=5, seed=seed), 5)
    assert ours <= 1.1 * unevenness(members, other, 5)
    assert ours < 0.05


def test_one_case_a_patient_gives_each_fold_as_many_of_a_class() -> None:
    members = [cases.Case(f"c{i}", "x.png", f"c{i}", label="ab"[i % 4 == 0]) for i in range(100)]
    home = folds.assign(members, folds=5, seed=1)
    for label, each in (("a", 15), ("b", 5)):
        found = np.bincount([fold for case, fold in zip(members, home, strict=True) if case.label == label])
        assert found.tolist() == [each] * 5


def test_neither_the_order_of_cases_nor_the_names_of_patients_matter_and_the_seed_does() -> None:
    members = clustered(50)
    home = folds.assign(members, folds=4, seed=2)
    shuffled = np.random.default_rng(5).permutation(len(members))
    again = folds.assign([members[i] for i in shuffled], folds=4, seed=2)
    np.testing.assert_array_equal(again, home[shuffled])
    renamed = [dataclasses.replace(case, patient_id=f"{hash(case.patient_id)}") for case in members]
    np.testing.assert_array_equal(folds.assign(renamed, folds=4, seed=2), home)
    assert (folds.assign(members, folds=4, seed=3) != home).any()


def test_several_labels_are_spread_and_none_is_one_too() -> None:
    rng = np.random.default_rng(0)
    members = [
        cases.Case(f"c{i:03}", "x.png", f"p{i // 2}", labels=tuple(k for k in "abc" if rng.random() < 0.3))
        for i in range(200)
    ]
    home = folds.assign(members, folds=4, seed=0)
    for label in ("a", "b", "c"):
        found = np.bincount([fold for case, fold in zip(members, home, strict=True) if label in case.labels])
        assert found.max() - found.min() <= 3
    empty = np.bincount([fold for case, fold in zip(members, home, strict=True) if not case.labels])
    assert empty.max() - empty.min() <= 3


def test_too_few_patients_are_refused() -> None:
    members = [cases.Case(f"c{i}", "x.png", f"p{i % 3}", label="ab"[i % 2]) for i in range(12)]
    with pytest.raises(errors.DataError, match="Received: 3 patients, 4 folds"):
        folds.assign(members, folds=4, seed=0)
    lone = [*members, cases.Case("last", "x.png", "p9", label="rare")]
    with pytest.raises(errors.DataError, match="2 patients or more. Received: 'rare' of 1"):
        folds.assign(lone, folds=2, seed=0)


def test_a_smaller_share_is_part_of_a_larger_one_and_has_every_class() -> None:
    members = clustered(90)
    before: frozenset[str] = frozenset()
    for share in (0.05, 0.2, 0.5, 0.9, 1.0):
        chosen = folds.some(members, share, seed=4, least=2)
        assert before <= chosen
        assert {case.label for case in members if case.patient_id in chosen} == set("abc")
        before = chosen
    assert before == {case.patient_id for case in members}


@pytest.mark.parametrize(("patients", "taken"), [(1, 0), (2, 1), (3, 1), (10, 2), (100, 15)])
def test_validation_takes_its_share_and_never_the_last_patient_of_a_class(patients, taken) -> None:
    members = [cases.Case(f"c{i}", "x.png", f"p{i}", label="a") for i in range(patients)]
    assert len(folds.some(members, 0.15, seed=0, least=1, spared=1)) == taken
