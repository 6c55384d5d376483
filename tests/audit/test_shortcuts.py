"""Shortcuts: areas against scikit-learn, planted properties, patients on one side, and what cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from medkeras.audit import shortcuts

COUNT = 400


def labels(classes: int = 2) -> list[tuple[str, ...]]:
    return [(f"class{index % classes}",) for index in range(COUNT)]


def patients() -> list[str]:
    return [f"p{index}" for index in range(COUNT)]


def found(columns, names=None, owners=None, seed=0) -> dict[str, shortcuts.Shortcut]:
    results = shortcuts.find(columns, names or labels(), owners or patients(), seed=seed)
    return {each.feature: each for each in results}


def pooled(scores, target, groups) -> tuple[float, float, float]:
    return shortcuts.mean_area(*shortcuts.areas_within(scores, target, np.zeros(len(scores), int)), groups)


def test_areas_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(300, 3)), 1)
    target = np.eye(3)[rng.integers(0, 3, 300)]
    area, low, high = pooled(scores, target, np.arange(300))
    assert area == pytest.approx(metrics.roc_auc_score(target, scores, average="macro"), abs=1e-12)
    assert low < area < high


def test_the_interval_of_independent_cases_is_delongs() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(200) % 4 == 0
    scores = rng.normal(size=200) + truth
    wins = (scores[truth][:, np.newaxis] > scores[~truth]).astype(float)
    variance = wins.mean(1).var(ddof=1) / truth.sum() + wins.mean(0).var(ddof=1) / (~truth).sum()
    area, low, high = pooled(scores[:, np.newaxis], truth[:, np.newaxis].astype(float), np.arange(200))
    assert area == pytest.approx(wins.mean())
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(variance), rel=0.01)


def test_copies_of_a_patient_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(2)
    truth = (np.arange(60) % 2).astype(float)
    scores = rng.normal(size=60) + truth
    once = pooled(scores[:, np.newaxis], truth[:, np.newaxis], np.arange(60))
    tenfold = pooled(
        np.repeat(scores, 10)[:, np.newaxis], np.repeat(truth, 10)[:, np.newaxis], np.repeat(np.arange(60), 10)
    )
    assert tenfold == pytest.approx(once)


def test_planted_properties_are_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "width": [224.0 if index % 2 else 256.0 for index in range(COUNT)],
        "file_format": ["PNG" if (index % 2) ^ (rng.random() < 0.1) else "JPEG" for index in range(COUNT)],
        "noise": rng.random(COUNT).tolist(),
        "height": [100.0] * COUNT,
    }
    results = found(columns)
    assert results["width"].auroc == 1.0
    right = np.mean([(name == "PNG") == (index % 2 == 1) for index, name in enumerate(columns["file_format"])])
    assert results["file_format"].auroc == pytest.approx(right, abs=0.005)
    assert results["noise"].low < 0.5 < results["noise"].high
    assert [name for name, each in results.items() if each.warns] == ["width", "file_format"]
    assert (results["height"].auroc, results["height"].reason) == (None, "the same for every case")
    assert list(results)[:2] == [shortcuts.JOINT, "width"]


def test_all_together_see_what_one_alone_does_not() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 2, (2, COUNT))
    names = [(f"class{value}",) for value in one ^ two]
    results = found({"width": one.astype(float).tolist(), "height": two.astype(float).tolist()}, names)
    assert results["width"].high < 0.65
    assert results[shortcuts.JOINT].auroc > 0.95


def test_one_class_given_away_among_many_warns() -> None:
    columns = {"channels": ["3" if index % 8 == 5 else "1" for index in range(COUNT)]}
    each = found(columns, labels(8))["channels"]
    assert each.auroc < shortcuts.WARN_FROM
    assert (each.told, each.told_auroc, each.warns) == ("class5", 1.0, True)


def test_what_the_picture_shows_does_not_warn() -> None:
    columns = {"mean": [float(index % 2) for index in range(COUNT)]}
    each = found(columns)["mean"]
    assert (each.auroc, each.content, each.warns) == (1.0, True, False)


def test_patients_stay_on_one_side() -> None:
    """A number that only names the patient gives nothing away, though it would if cases of one parted."""
    together, apart = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        owner = np.arange(COUNT) // 10
        names = [(f"class{value}",) for value in rng.integers(0, 2, COUNT // 10)[owner]]
        columns = {"file_bytes": rng.random(COUNT // 10)[owner].tolist()}
        together.append(found(columns, names, [f"p{number}" for number in owner])["file_bytes"].auroc)
        apart.append(found(columns, names)["file_bytes"].auroc)
    assert np.mean(together) == pytest.approx(0.5, abs=0.1)
    assert np.mean(apart) > 0.75


def test_a_missing_value_is_a_value() -> None:
    columns = {"modality": ["MR" if index % 2 else None for index in range(COUNT)], "file_bytes": [None] * COUNT}
    results = found(columns)
    assert results["modality"].auroc == 1.0
    assert results["file_bytes"].auroc is None


@pytest.mark.parametrize(
    "names", [[("one",)] * COUNT, [("",)] * COUNT, [(f"c{index // 5}",) for index in range(COUNT)]]
)
def test_too_little_to_measure_is_said(names) -> None:
    results = found({"width": [1.0, 2.0] * (COUNT // 2)}, names)
    assert {each.reason for each in results.values()} == {"this takes two classes with 10 patients each"}


def test_several_labels_a_case_and_none() -> None:
    names = [
        ("a", "b") if index % 4 == 0 else ("a",) if index % 4 == 1 else ("b",) if index % 4 == 2 else ()
        for index in range(COUNT)
    ]
    columns = {"width": [float(index % 4 < 2) for index in range(COUNT)]}
    each = found(columns, names)["width"]
    assert (each.told, each.told_auroc) == ("a", 1.0)
    assert each.auroc == pytest.approx(0.75, abs=0.03)


def test_the_seed_decides() -> None:
    columns = {"width": np.random.default_rng(0).random(COUNT).tolist()}
    assert found(columns, seed=3) == found(columns, seed=3)
    assert found(columns, seed=3) != found(columns, seed=4)
