"""Splits: kept where given, carved by patient where not."""

from __future__ import annotations

import collections
import csv
import dataclasses

import numpy as np
import pytest

from medkeras import config, errors
from medkeras.data import arrays, cases, schemes, split


def make(rows: list[tuple[str, str, str]], *, patients_known: bool = True) -> cases.CaseSet:
    """Returns a set of (patient, label, split) rows."""
    members = tuple(
        cases.Case(case_id=f"c{i}", path=f"c{i}", patient_id=patient, split=name, label=label)
        for i, (patient, label, name) in enumerate(rows)
    )
    classes = tuple(sorted({label for _, label, _ in rows}))
    return cases.CaseSet("made", members, classes, arrays.ArrayImages({}), patients_known=patients_known)


def carve(case_set: cases.CaseSet, seed: int = 0) -> cases.CaseSet:
    return split.complete(case_set, validation=0.15, test=0.2, seed=seed)


def test_carving_is_by_patient_stratified_and_seeded() -> None:
    rows = [(f"p{i // 5}", "ab"[(i // 5) % 2], "") for i in range(1000)]
    done = carve(make(rows))
    owner = collections.defaultdict(set)
    for case in done.cases:
        owner[case.patient_id].add(case.split)
    assert all(len(splits) == 1 for splits in owner.values())
    counts = cases.counts(done.cases)
    assert counts == {
        "train": {"a": 340, "b": 340},
        "validation": {"a": 60, "b": 60},
        "test": {"a": 100, "b": 100},
    }
    assert [case.split for case in carve(make(rows)).cases] == [case.split for case in done.cases]
    assert [case.split for case in carve(make(rows), seed=1).cases] != [case.split for case in done.cases]
    assert [case.case_id for case in done.cases] == [f"c{i}" for i in range(1000)]


def test_a_class_of_one_patient_stays_in_training_and_is_told() -> None:
    rows = [(f"p{i}", "ab"[i % 2], "") for i in range(40)] + [("alone", "odd", "")] * 3
    done = carve(make(rows))
    assert [case.split for case in done.cases if case.label == "odd"] == ["train"] * 3
    for name in ("validation", "test"):
        assert f"The {name} split holds no case of odd: nothing is measured on that class." in done.notes
    assert cases.counts(done.cases)["test"] == {"a": 4, "b": 4}


def test_a_split_without_room_for_a_patient_of_every_other_class_is_refused() -> None:
    rows = [(f"p{i}", "abcde"[i % 5], "") for i in range(20)] + [("alone", "odd", "")]
    with pytest.raises(errors.DataError, match=r"needs a patient of every class.*21 patients, 6 classes"):
        carve(make(rows))


def shuffled(case_set: cases.CaseSet, seed: int) -> cases.CaseSet:
    order = np.random.default_rng(seed).permutation(len(case_set.cases)).tolist()
    return case_set.replace_cases(case_set.cases[row] for row in order)


def renamed(case_set: cases.CaseSet, seed: int) -> cases.CaseSet:
    """Gives every case another name and path; patients keep theirs."""
    names = np.random.default_rng(seed).permutation(len(case_set.cases)).tolist()
    pairs = zip(case_set.cases, names, strict=True)
    return case_set.replace_cases(dataclasses.replace(case, case_id=f"n{n}", path=f"n{n}") for case, n in pairs)


def homes(case_set: cases.CaseSet) -> dict[str, str]:
    return {case.patient_id: case.split for case in case_set.cases}


def uneven(seed: int) -> cases.CaseSet:
    """120 patients with 1 to 6 cases of 3 classes, of which some patients have two."""
    rng = np.random.default_rng(seed)
    kinds = {f"p{patient}": rng.choice(["aab", "bbc", "ccc", "aaa"]) for patient in range(120)}
    return make(
        [(who, str(rng.choice(list(kind))), "") for who, kind in kinds.items() for _ in range(rng.integers(1, 7))]
    )


@pytest.mark.parametrize("seed", range(20))
def test_neither_the_order_of_cases_nor_their_names_move_a_patient(seed) -> None:
    case_set = uneven(seed)
    expected = homes(carve(case_set, seed))
    assert set(expected.values()) == set(cases.SPLITS)
    assert homes(carve(shuffled(case_set, seed + 100), seed)) == expected
    assert homes(carve(shuffled(renamed(case_set, seed), seed + 200), seed)) == expected


def test_a_table_parts_its_patients_alike_whatever_its_rows_its_paths_and_the_key(tmp_path) -> None:
    found = []
    for number in range(3):
        rng = np.random.default_rng(number)
        (tmp_path / "key").write_bytes(rng.bytes(32))
        whose = dict(enumerate(rng.permutation(np.repeat(np.arange(60), 3)).tolist()))
        rows = [f"{number}-{name}.png,{'ab'[patient % 2]},Name{patient}" for name, patient in whose.items()]
        (tmp_path / "cases.csv").write_text("\n".join(["path,label,patient_id", *rows]) + "\n")
        settings = config.DataConfig(source=f"csv:{tmp_path / 'cases.csv'}")
        members = schemes.load(settings, seed=4, key=tmp_path / "key").cases
        found.append({whose[int(case.case_id.split("-")[1].removesuffix(".png"))]: case.split for case in members})
    assert collections.Counter(found[0].values()) == {"train": 40, "validation": 8, "test": 12}
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_moves_no_case_where_patients_are_not_known_or_labels_are_many(seed) -> None:
    single = make([(f"c{i}", "abc"[i % 3], ("", "train")[i % 2]) for i in range(90)], patients_known=False)
    members = tuple(
        dataclasses.replace(case, label="", labels=("a", "b")[: 1 + (i % 4 == 0)])
        for i, case in enumerate(single.cases)
    )
    many = dataclasses.replace(single, cases=members, classes=("a", "b"), multilabel=True)
    for case_set in (single, many):
        assert homes(carve(shuffled(case_set, seed), seed)) == homes(carve(case_set, seed))


def test_splits_of_data_in_alphabetical_order_are_those_they_always_were() -> None:
    done = carve(make([(f"p{i:02d}", "ab"[i % 2], "") for i in range(20)]), seed=3)
    order = "".join({"train": ".", "validation": "v", "test": "T"}[case.split] for case in done.cases)
    assert order == "v.v...T....T.v.TT..."


def test_given_splits_are_kept_and_validation_is_carved_from_training_alone() -> None:
    rows = [(f"p{i}", "ab"[i % 2], "train" if i < 80 else "test") for i in range(100)]
    case_set = make(rows, patients_known=False)
    done = carve(case_set)
    assert [case.split for case in done.cases[80:]] == ["test"] * 20
    assert {case.split for case in done.cases[:80]} == {"train", "validation"}
    assert any("no validation split" in note for note in done.notes)
    assert any("names no patients" in note or "name no patients" in note for note in done.notes)


def test_all_three_splits_given_change_nothing() -> None:
    rows = [(f"p{i}", "ab"[i % 2], cases.SPLITS[i % 3]) for i in range(60)]
    done = carve(make(rows))
    assert [case.split for case in done.cases] == [name for _, _, name in rows]
    assert done.notes == ()


def test_a_patient_in_two_splits_is_refused_without_naming_the_patient() -> None:
    rows = [("secret", "a", "train"), ("secret", "b", "test"), ("q", "a", "train"), ("r", "b", "train")]
    with pytest.raises(errors.DataError, match=r"stay in one split.*'c0' \(train\) and 'c1' \(test\)") as caught:
        carve(make(rows))
    assert "secret" not in str(caught.value)


def test_a_case_without_a_split_goes_with_its_patients_training_cases() -> None:
    rows = [(f"p{i // 2}", "ab"[i // 2 % 2], ("train", "")[i % 2]) for i in range(80)]
    rows += [(f"t{i}", "ab"[i % 2], "test") for i in range(8)]
    kept = split.without_shared_patients(make(rows))
    assert kept.problems == ()
    owner = collections.defaultdict(set)
    for case in carve(kept).cases:
        owner[case.patient_id].add(case.split)
    assert len(owner) == 48
    assert all(len(splits) == 1 for splits in owner.values())
    apart = split.without_shared_patients(make([*rows, ("t0", "a", "")]))
    assert [(problem.path, problem.kind) for problem in apart.problems] == [("c88", "leakage")]


def test_a_class_of_the_test_split_that_training_lacks_is_refused() -> None:
    rows = [(f"p{i}", "ab"[i % 2], "train") for i in range(40)] + [("z", "c", "test")]
    with pytest.raises(errors.DataError, match="Received: 'c' in test only"):
        carve(make(rows))


def test_too_few_patients_to_carve_is_refused_with_the_numbers() -> None:
    with pytest.raises(errors.DataError, match="Received: 2 patients, 2 classes"):
        carve(make([("p", "a", ""), ("q", "b", "")]))


def test_a_patient_with_two_classes_counts_as_the_rarer_one() -> None:
    rows = [(f"p{i}", "common", "") for i in range(40)]
    rows += [(f"p{i}", "rare", "") for i in range(10)]
    done = carve(make(rows))
    rare = collections.Counter(case.split for case in done.cases if case.label == "rare")
    assert rare == {"train": 7, "validation": 1, "test": 2}


def test_the_written_split_reads_back(tmp_path) -> None:
    done = carve(make([(f"p{i}", "ab"[i % 2], "") for i in range(100)]))
    split.write_csv(done, tmp_path / "split.csv")
    with open(tmp_path / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case_id"], row["split"]) for row in rows] == [(case.case_id, case.split) for case in done.cases]


def test_multilabel_cases_are_carved_by_their_rarest_label() -> None:
    base = make([(f"p{i}", "", "") for i in range(100)])
    members = [
        dataclasses.replace(case, labels=("a", "b") if i % 10 == 0 else ("a",)) for i, case in enumerate(base.cases)
    ]
    done = carve(dataclasses.replace(base, cases=tuple(members), classes=("a", "b"), multilabel=True))
    both = collections.Counter(case.split for case in done.cases if "b" in case.labels)
    assert both == {"train": 7, "validation": 1, "test": 2}
