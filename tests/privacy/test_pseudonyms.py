"""Keyed names for patients: what they are, where the key comes from, and that nothing follows from what they are."""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import hmac
import os
import pathlib
import re
import stat

import numpy as np
import pytest

from medkeras import config, errors
from medkeras.audit import shortcuts
from medkeras.data import phantom, schemes, split
from medkeras.evaluation import classification, predictions
from medkeras.privacy import pseudonyms

KEY = bytes(range(32))


@pytest.fixture
def home(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def test_a_pseudonym_is_the_beginning_of_an_hmac() -> None:
    found = pseudonyms.pseudonym(KEY, "DOE^JANE")
    digest = hmac.new(KEY, b"p\0DOE^JANE", hashlib.sha256).digest()
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    number = int.from_bytes(digest[:10], "big")
    assert found == "p-" + "".join(alphabet[number >> shift & 31] for shift in range(75, -1, -5))


def test_key_text_and_prefix_each_change_it_and_nothing_else_does() -> None:
    texts = ("", " ", "7", "007", "doe^jane", "DOE^JANE", "Müller^Jörg", "山田^太郎", "\udce9 not UTF-8")
    found = {
        pseudonyms.pseudonym(key, text, prefix=prefix) for key in (KEY, KEY[:16]) for text in texts for prefix in "ps"
    }
    assert len(found) == 2 * len(texts) * 2
    assert all(re.fullmatch("[ps]-[a-z2-7]{16}", name) for name in found)
    assert pseudonyms.pseudonym(KEY, "7") == pseudonyms.pseudonym(bytes(KEY), "7")


def test_ten_thousand_patients_have_ten_thousand_names() -> None:
    assert len({pseudonyms.pseudonym(KEY, str(number)) for number in range(10_000)}) == 10_000


def test_the_users_own_key_is_made_once_and_is_theirs_alone(home) -> None:
    first = pseudonyms.load_key(None)
    path = home / "medkeras" / "key"
    assert len(first) == 32
    assert path.read_bytes() == first == pseudonyms.load_key(None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_two_homes_have_two_keys(home, monkeypatch, tmp_path) -> None:
    first = pseudonyms.load_key(None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert pseudonyms.load_key(None) != first


def test_without_the_variable_or_with_a_relative_one_it_lies_below_home(home, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    key = pseudonyms.load_key(None)
    assert (tmp_path / "me" / ".config" / "medkeras" / "key").read_bytes() == key
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    assert pseudonyms.load_key(None) == key


def test_whoever_comes_at_the_same_time_gets_the_same_key(home) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = set(pool.map(pseudonyms.load_key, [None] * 64))
    assert len(found) == 1


def test_whoever_comes_second_keeps_the_first_ones_key(home, monkeypatch) -> None:
    first = pseudonyms.load_key(None)
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: False)
    assert pseudonyms.load_key(None) == first
    assert [path.name for path in (home / "medkeras").iterdir()] == ["key"]


@pytest.mark.parametrize("size", [16, 32, 4096])
def test_a_key_file_is_taken_as_it_is(tmp_path, size) -> None:
    (tmp_path / "key").write_bytes(b"\n" * size)
    assert pseudonyms.load_key(tmp_path / "key") == b"\n" * size


@pytest.mark.parametrize(("size", "received"), [(0, "0 bytes"), (15, "15 bytes"), (4097, "more")])
def test_a_key_file_of_another_size_is_refused(tmp_path, size, received) -> None:
    (tmp_path / "key").write_bytes(bytes(size))
    with pytest.raises(
        errors.UserError, match=f"A key file holds 16 to 4096 bytes. Received: '.*key' with {received}$"
    ):
        pseudonyms.load_key(tmp_path / "key")


def test_a_key_file_that_cannot_be_read_is_refused(home, tmp_path) -> None:
    for path, reason in ((tmp_path / "no", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(errors.UserError, match=rf"--key names a file that can be read. .*\({reason}\)"):
            pseudonyms.load_key(path)
    assert not home.exists()


def test_a_home_that_takes_no_key_names_the_flag(home, monkeypatch, tmp_path) -> None:
    home.write_text("in the way")
    with pytest.raises(errors.UserError, match="--key names another file.*cannot be made"):
        pseudonyms.load_key(None)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(errors.UserError, match="without a home .* --key"):
        pseudonyms.load_key(None)


def test_a_failed_making_leaves_nothing(home, monkeypatch) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    with pytest.raises(errors.UserError, match="Operation not permitted"):
        pseudonyms.load_key(None)
    assert list((home / "medkeras").iterdir()) == []


def table(folder: pathlib.Path) -> config.DataConfig:
    """A table of 60 cases of 30 patients; the rows of a patient do not stand together."""
    rows = [f"{case}.png,{'xyz'[case % 30 % 3]},Name^{case % 30}" for case in range(60)]
    (folder / "t.csv").write_text("\n".join(["path,label,patient_id", *rows]) + "\n")
    return config.DataConfig(source=f"csv:{folder / 't.csv'}")


def key_file(folder: pathlib.Path, seed: int) -> pathlib.Path:
    path = folder / f"key{seed}"
    path.write_bytes(np.random.default_rng(seed).bytes(32))
    return path


def test_the_door_leaves_no_patient_behind_and_joins_and_parts_none(tmp_path) -> None:
    settings, key = table(tmp_path), key_file(tmp_path, 0)
    found = schemes.load(settings, seed=0, key=key)
    assert found.patients_known
    assert "Name" not in repr(found)
    assert [case.patient_id for case in found.cases] == [
        pseudonyms.pseudonym(key.read_bytes(), f"Name^{case % 30}") for case in range(60)
    ]


def test_the_door_hashes_without_being_asked(home, tmp_path) -> None:
    found = schemes.read(table(tmp_path), seed=0)
    expected = pseudonyms.pseudonym((home / "medkeras" / "key").read_bytes(), "Name^0")
    assert found.cases[0].patient_id == expected


def test_data_without_patients_and_invented_ones_need_no_key(home, monkeypatch, tmp_path) -> None:
    home.write_text("in the way")
    (tmp_path / "t.csv").write_text("path,label\na.png,x\nb.png,y\n")
    found = schemes.read(config.DataConfig(source=f"csv:{tmp_path / 't.csv'}"), seed=0)
    assert [case.patient_id for case in found.cases] == ["a.png", "b.png"]
    monkeypatch.setattr(phantom, "load", functools.partial(phantom.load, patients=1, image_size=16))
    assert schemes.read(config.DataConfig(), seed=0).cases[0].patient_id == "phantom0-00000"


def test_a_key_that_is_missing_is_refused_even_where_none_is_needed(tmp_path) -> None:
    with pytest.raises(errors.UserError, match="--key names a file"):
        schemes.read(config.DataConfig(), seed=0, key=tmp_path / "no")


@pytest.mark.parametrize("seed", [0, 1])
def test_split_and_numbers_are_the_same_whatever_the_key(tmp_path, seed) -> None:
    rows, numbers = [], []
    for number in range(4):
        found = schemes.load(table(tmp_path), seed=seed, key=key_file(tmp_path, number))
        split.write_csv(found, tmp_path / "split.csv")
        with open(tmp_path / "split.csv", newline="", encoding="utf-8") as file:
            rows.append([{**row, "patient_id": ""} for row in csv.DictReader(file)])
        numbers.append(classification.evaluate(scored(found), resamples=100, seed=seed))
    assert len({case["split"] for case in rows[0]}) == 3
    assert all(each == rows[0] for each in rows)
    assert all(each == numbers[0] for each in numbers)


def test_shortcuts_are_the_same_whatever_the_key() -> None:
    rng = np.random.default_rng(0)
    labels = [("xy"[case % 40 % 2],) for case in range(120)]
    columns = {"width": list(rng.normal(size=120) + [label == ("x",) for label in labels])}
    keys = [rng.bytes(32) for _ in range(3)]
    names = [[pseudonyms.pseudonym(key, str(case % 40)) for case in range(120)] for key in keys]
    found = [shortcuts.find(columns, labels, each, seed=0) for each in names]
    assert found[0][0].auroc is not None
    assert found[1] == found[0]
    assert found[2] == found[0]


def scored(case_set) -> predictions.Predictions:
    """Every case with probabilities of its own, right more often than not."""
    count = len(case_set.cases)
    rng = np.random.default_rng(0)
    target = np.eye(3, dtype=np.int8)[[case_set.classes.index(case.label) for case in case_set.cases]]
    noise = np.exp(rng.normal(size=(count, 3)) + 1.5 * target)
    columns = {
        name: tuple(getattr(case, name) for case in case_set.cases)
        for name in ("case_id", "patient_id", "path", "split")
    }
    return predictions.Predictions(
        **columns, classes=case_set.classes, target=target, probabilities=noise / noise.sum(axis=1, keepdims=True)
    )


def test_patients_are_counted_by_their_cases_and_not_by_their_names() -> None:
    names = ("z", "a", "m", "z", "a")
    table = predictions.Predictions(
        case_id=("5", "4", "3", "2", "1"),
        patient_id=names,
        path=("",) * 5,
        split=("",) * 5,
        classes=("x", "y"),
        target=None,
        probabilities=np.full((5, 2), 0.5),
    )
    assert table.patients.tolist() == [1, 0, 2, 1, 0]
    renamed = dataclasses.replace(table, patient_id=tuple({"z": "1", "a": "2", "m": "0"}[name] for name in names))
    assert renamed.patients.tolist() == table.patients.tolist()
