import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics

from medkeras.evaluation import classification, intervals, subgroups


def with_sex(table, share=0.5, seed=0):
    sex = np.random.default_rng(seed).random(table.patients.max() + 1) < share
    return dataclasses.replace(table, metadata={"sex": tuple("F" if sex[p] else "M" for p in table.patients)})


@pytest.mark.parametrize(("k", "multilabel"), [(2, False), (3, False), (3, True)])
def test_a_group_has_the_metrics_of_its_cases_alone(make_table, k, multilabel):
    table = with_sex(make_table(300, k, multilabel=multilabel))
    found = subgroups.evaluate(table, resamples=20)["sex"]
    assert not found["bands"]
    women, men = found["groups"]
    for group, name in ((women, "F"), (men, "M")):
        part = table.take(np.array(table.metadata["sex"]) == name)
        alone = classification.evaluate(part, resamples=2)
        assert (group["name"], group["n"], group["n_patients"]) == (name, len(part), alone["n_patients"])
        assert group["suppressed"] is None
        for metric in ("accuracy", "balanced_accuracy", "auroc_macro"):
            assert group["metrics"][metric]["value"] == pytest.approx(alone["metrics"][metric]["value"], abs=1e-12)
    for metric, gap in women["gaps"].items():
        assert gap["value"] == pytest.approx(women["metrics"][metric]["value"] - men["metrics"][metric]["value"])
        assert gap["value"] == pytest.approx(-men["gaps"][metric]["value"])
        assert gap["low"] < gap["value"] < gap["high"]


def test_two_classes_have_sensitivity_and_specificity(make_table):
    table = with_sex(make_table(300, 2, per_patient=1))
    women = subgroups.evaluate(table, resamples=10)["sex"]["groups"][0]["metrics"]
    part = table.take(np.array(table.metadata["sex"]) == "F")
    truth, named = part.target[:, 1], part.decisions[:, 1]
    assert women["sensitivity"]["value"] == metrics.recall_score(truth, named)
    assert women["specificity"]["value"] == metrics.recall_score(truth, named, pos_label=0)
    hits = (truth * named).sum()
    limits = women["sensitivity"]["low"], women["sensitivity"]["high"]
    assert limits == pytest.approx(intervals.wilson(hits, truth.sum()))


def test_a_gap_that_is_there_is_found_and_one_that_is_not_is_not(make_table):
    table = with_sex(make_table(800, 2, per_patient=1))
    women = np.array(table.metadata["sex"]) == "F"
    flipped = np.where(
        (np.arange(800) % 3 == 0)[:, None] & women[:, None], table.probabilities[:, ::-1], table.probabilities
    )
    real = subgroups.evaluate(dataclasses.replace(table, probabilities=flipped), resamples=200)["sex"]["groups"][0]
    none = subgroups.evaluate(table, resamples=200)["sex"]["groups"][0]
    for metric in ("accuracy", "auroc_macro", "sensitivity", "specificity"):
        assert real["gaps"][metric]["high"] < -0.05, metric
        assert none["gaps"][metric]["low"] < 0 < none["gaps"][metric]["high"], metric


def test_a_gap_is_as_wide_as_theory_says(make_table):
    table = with_sex(make_table(2000, 2, per_patient=1))
    women, men = subgroups.evaluate(table, resamples=2000)["sex"]["groups"]
    variances = [
        g["metrics"]["accuracy"]["value"] * (1 - g["metrics"]["accuracy"]["value"]) / g["n"] for g in (women, men)
    ]
    gap = women["gaps"]["accuracy"]
    assert (gap["high"] - gap["low"]) / 2 == pytest.approx(1.96 * np.sqrt(sum(variances)), rel=0.08)


def test_few_patients_are_told_and_not_judged(make_table):
    table = make_table(200, 2, per_patient=1)
    site = tuple("small" if i < 9 else "large" for i in range(200))
    small, large = subgroups.evaluate(dataclasses.replace(table, metadata={"site": site}), resamples=5)["site"][
        "groups"
    ][::-1]
    assert (small["name"], small["n"], small["n_patients"]) == ("small", 9, 9)
    assert (small["metrics"], small["gaps"]) == ({}, {})
    assert small["suppressed"].startswith("fewer than 10 patients")
    assert large["metrics"]["accuracy"]["value"] is not None
    assert large["gaps"] == {}


@pytest.mark.parametrize("multilabel", [False, True])
def test_few_cases_of_a_class_leave_the_accuracy_alone(make_table, multilabel):
    target = np.eye(2)[[1] * 4 + [0] * 46 + [0, 1] * 50]
    table = make_table(150, 2, per_patient=1, multilabel=multilabel, target=target)
    site = tuple("x" if i < 50 else "y" for i in range(150))
    first, second = subgroups.evaluate(dataclasses.replace(table, metadata={"site": site}), resamples=5)["site"][
        "groups"
    ]
    assert list(first["metrics"]) == ["accuracy"] == list(first["gaps"])
    assert first["suppressed"] == "fewer than 5 cases of a class: the accuracy alone is stated"
    assert len(second["metrics"]) > 2
    assert list(second["gaps"]) == ["accuracy"]


def test_few_cases_without_a_label_are_said_to_be_the_reason(make_table):
    target = np.stack([np.arange(100) >= 3, np.arange(100) % 2], axis=1).astype(np.int8)
    table = make_table(100, 2, per_patient=1, multilabel=True, target=target, metadata={"site": ("x",) * 100})
    (group,) = subgroups.evaluate(table, resamples=5)["site"]["groups"]
    assert group["suppressed"] == "fewer than 5 cases without a class: the accuracy alone is stated"


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("site", ["b", "a", "", "10", "9"], ["9", "10", "a", "b", "not known"]),
        ("grade", ["3", "1", "2"], ["1", "2", "3"]),
        ("age", [str(x) for x in range(0, 100, 5)], ["0-17", "18-39", "40-64", "65-79", "80+"]),
        ("PatientAge", [f"{x:03d}Y" for x in range(50, 70)] + ["009M"], ["0-17", "40-64", "65-79"]),
        ("dose", [str(x) for x in range(100)], ["0 to under 25", "25 to under 50", "50 to under 75", "75 to 99"]),
        ("dose", ["0"] * 60 + [str(x) for x in range(40)], ["0 to under 15", "15 to 39"]),
        ("t", [str(-x) for x in range(9)], ["-8 to under -6", "-6 to under -4", "-4 to under -2", "-2 to 0"]),
        ("dose", [*"123456789", "high"], [*"123456789", "high"]),
    ],
)
def test_groups_of_a_column(column, values, expected):
    names, banded = subgroups.grouped(column, values)
    assert subgroups._ordered(names) == expected
    assert banded == ("0" in expected[0] or "to" in expected[0])


def test_a_band_holds_its_lower_end():
    names, _ = subgroups.grouped("age_years", ["17.9", "18", "39", "40", "64", "65", "79.5", "80", "99"])
    assert names == ["0-17", "18-39", "18-39", "40-64", "40-64", "65-79", "65-79", "80+", "80+"]


def test_of_many_names_the_rare_are_one_group():
    names, banded = subgroups.grouped("scanner", [f"s{i}" for i in range(20)] + ["s3", "s4"])
    assert not banded
    assert len(set(names)) == 12
    assert names.count("9 other values") == 9
    assert names[3] == "s3"
    assert subgroups._ordered(names)[-1] == "9 other values"


def test_images_of_one_patient_widen_every_gap(make_table, reordered):
    table = make_table(150, 3, per_patient=1)
    copied = reordered(table, np.repeat(np.arange(150), 4))
    alone = dataclasses.replace(copied, patient_id=copied.case_id)
    sex = tuple("FM"[i // 4 % 2] for i in range(600))
    grouped, naive = (
        subgroups.evaluate(dataclasses.replace(t, metadata={"sex": sex}), resamples=300)["sex"]["groups"][0]["gaps"]
        for t in (copied, alone)
    )
    for name, gap in grouped.items():
        assert gap["high"] - gap["low"] == pytest.approx(2 * (naive[name]["high"] - naive[name]["low"]), rel=0.35), name


@pytest.mark.parametrize("interval", ["percentile", "bca"])
@pytest.mark.parametrize("constant", [False, True])
def test_everyone_in_one_group_and_constant_scores_are_no_crash(make_table, interval, constant):
    changes = {"probabilities": np.full((60, 2), 0.5)} if constant else {}
    table = dataclasses.replace(make_table(60, 2, **changes), metadata={"sex": ("F",) * 60, "site": ("",) * 60})
    found = subgroups.evaluate(table, resamples=20, interval=interval)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["site"]["groups"][0]["name"] == "not known"
    assert found["sex"]["groups"][0]["gaps"] == {}
    assert subgroups.evaluate(make_table(60, 2)) == {}
