"""The gate in training: what is in two splits is told, kept, and taken out on request; clean data change nothing."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.data import schemes
from medkeras.workflows import gate
from tests.audit import scenes


def save(path: pathlib.Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scenes.scene(index)).save(path)


def leaky(root: pathlib.Path) -> str:
    """Writes 24 scenes in three splits; train and validation hold copies of test, train one of validation."""
    for index in range(24):
        split = ("train", "train", "validation", "test")[index % 4]
        save(root / split / ("a", "b")[index // 4 % 2] / f"{index}.png", index)
    save(root / "train" / "a" / "of_test.png", 3)
    save(root / "validation" / "b" / "of_test.png", 3)
    save(root / "train" / "a" / "of_validation.png", 2)
    save(root / "train" / "a" / "of_train.png", 0)
    return f"folder:{root}"


def checked(source: str, folder: pathlib.Path, **changes: str):
    settings = config.Config().override({"data.source": source, "data.cache": "memory", **changes})
    case_set = schemes.load(settings.data, seed=0)
    return gate.prepare_checked(case_set, settings.data, folder=folder)


def test_leaks_are_told_and_everything_stays(tmp_path, capsys) -> None:
    data, found = checked(leaky(tmp_path / "scans"), tmp_path)
    assert len(data.case_set.cases) == 28
    assert len(found.exact.groups) == 3
    assert len(found.exact.across_splits) == 2
    assert found.dropped == {}
    assert found.sentences[0].startswith(
        "Groups of identical pictures in two splits: 2 (cases: 2 train, 2 validation, 1 test). "
    )
    assert "Groups of identical pictures with two labels: 1." in found.sentences
    gate.report(found, tmp_path)
    assert capsys.readouterr().err.count("WARNING, data leakage: ") == len(found.sentences)


def test_training_loses_then_validation_and_never_test(tmp_path) -> None:
    source = leaky(tmp_path / "scans")
    data, found = checked(source, tmp_path, **{"data.leakage": "drop"})
    assert found.dropped == {
        "train": ["train/a/of_test.png", "train/a/of_validation.png"],
        "validation": ["validation/b/of_test.png"],
    }
    left = {case.case_id for case in data.case_set.cases}
    assert left.isdisjoint(name for ids in found.dropped.values() for name in ids)
    assert "train/a/of_train.png" in left
    assert len(data.case_set.of_split("test")) == 6
    assert "2 of train, 1 of validation; the test split lost none" in found.sentences[0]
    again, second = gate.look(data), found
    assert again.exact.across_splits == ()
    assert second.exact.across_splits
    gate.report(found, tmp_path)
    written = json.loads((tmp_path / gate.NAME).read_text())
    assert written["dropped"] == {"train": 2, "validation": 1}
    assert written["dropped_cases"] == found.dropped
    assert written["exact"] == {"groups": 3, "cases": 7, "across_splits": 2, "conflicting_labels": 1}


@pytest.mark.parametrize(
    ("copied", "into", "rule"),
    [
        ("a", "train", r"Received: 'a' in validation only, after data.leakage=drop left copies out$"),
        ("ab", "validation", r"Every split keeps a case after .* Received: validation with such cases only$"),
    ],
)
def test_no_class_and_no_split_is_lost_without_a_word(tmp_path, copied, into, rule) -> None:
    index = 0
    for split in ("test", "train", "validation"):
        for label in "ab":
            for number in range(2):
                index += 1
                path = tmp_path / "scans" / split / label / f"{number}.png"
                leaks = split == into and label in copied
                save(path, 1 + number + 2 * (label == "b") if leaks else index)
    with pytest.raises(errors.DataError, match=rule):
        checked(f"folder:{tmp_path / 'scans'}", tmp_path, **{"data.leakage": "drop"})


def test_clean_data_are_prepared_as_ever(tmp_path, source) -> None:
    data, found = checked(source, tmp_path)
    assert found.sentences == ()
    dropping, _ = checked(source, tmp_path, **{"data.leakage": "drop"})
    assert data.fingerprint == dropping.fingerprint
    assert data.case_set.cases == dropping.case_set.cases


def patients(root: pathlib.Path) -> str:
    rows = ["path,label,patient_id,split"]
    for index in range(20):
        save(root / f"{index}.png", index)
        split = ("train", "train", "validation", "test")[index % 4]
        rows.append(f"{index}.png,{'ab'[index // 4 % 2]},{'shared' if index in (3, 4, 6) else index},{split}")
    (root / "table.csv").write_text("\n".join(rows))
    return f"csv:{root / 'table.csv'}"


def test_patients_in_two_splits_are_refused_or_leave_training(tmp_path) -> None:
    source = patients(tmp_path)
    with pytest.raises(errors.DataError, match=r"stay in one split\..*data\.leakage=drop takes such"):
        checked(source, tmp_path)
    data, found = checked(source, tmp_path, **{"data.leakage": "drop"})
    names = {case.case_id for case in data.case_set.cases}
    assert {f"{index}.png" for index in range(20)} - names == {"4.png", "6.png"}
    assert found.patients == 2
    assert found.sentences[0] == "Cases left out because their patient is in a later split too: 2."


def test_a_training_keeps_what_was_found(tmp_path, fit) -> None:
    root = tmp_path / "scans"
    for index in range(16):
        split = ("train", "train", "validation", "test")[index % 4]
        save(root / split / ("down", "up")[index // 4 % 2] / f"{index}.png", index)
    save(root / "train" / "up" / "copy.png", 3)
    trained = fit(tmp_path, data__source=f"folder:{root}", data__image_size=16, train__epochs=1)
    folder = trained.published.folder
    card = json.loads((folder / "card.json").read_text())
    assert card["leakage"]["exact"] == {"groups": 1, "cases": 2, "across_splits": 1, "conflicting_labels": 1}
    page = (folder / "report.html").read_text()
    assert "Data check" in page
    assert "Groups of identical pictures in two splits: 1" in page
    assert json.loads((trained.published.run / gate.NAME).read_text())["dropped"] == {}


def test_a_clean_training_says_so(trained) -> None:
    card = json.loads((trained.published.folder / "card.json").read_text())
    assert card["leakage"]["sentences"] == []
    assert "No copies of a picture were found in two splits" in (trained.published.folder / "report.html").read_text()


def test_what_is_seen_is_what_the_stores_hold(tmp_path, source) -> None:
    data, _ = checked(source, tmp_path)
    seen = dict(gate._prints(data))
    assert list(seen) == [case for images in data.stores.values() for case in images.cases]
    assert len({each.digest for each in seen.values()}) == len(np.unique([case.case_id for case in seen]))


@pytest.mark.parametrize(("low", "high"), [(-3.5, -3.5), (0.0, 1e-40), (-3e38, 3e38)])
def test_values_that_nothing_can_be_learnt_from_are_refused(tmp_path, low, high) -> None:
    for index in range(12):
        values = np.linspace(low, high, 64).astype(np.float32).reshape(8, 8)
        path = tmp_path / ("train", "validation", "test")[index % 3] / ("a", "b")[index // 3 % 2] / f"{index}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    with pytest.raises(errors.DataError, match="lie 1e-30 to 1e.30 apart. Received: [-0-9.e+]+ and [-0-9.e+]+$"):
        checked(f"folder:{tmp_path}", tmp_path)
