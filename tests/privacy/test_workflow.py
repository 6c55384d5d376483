"""The whole mode: what lies in the output folder, what the report says, and what no file can do to the others."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
import shutil
import time

import numpy as np
import PIL.Image
import pydicom
import pytest

from medkeras import errors
from medkeras.privacy import options as profile
from medkeras.privacy import pseudonyms
from medkeras.workflows import deidentify
from tests.privacy import canaries

SECRET = "QZ17SECRETXJ"


@pytest.fixture
def key(tmp_path) -> pathlib.Path:
    path = tmp_path / "key"
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Returns a folder of two DICOM files, a picture, a table and an ultrasound, all under a name that tells."""
    place = tmp_path / "in"
    (place / SECRET).mkdir(parents=True)
    shutil.copy(canaries.FILES / "CT_small.dcm", place / SECRET / f"{SECRET}.dcm")
    shutil.copy(canaries.FILES / "MR_small.dcm", place / SECRET / "mr.dcm")
    shutil.copy(canaries.FILES / "examples_palette.dcm", place / "us.dcm")
    PIL.Image.fromarray(np.eye(16, dtype=np.uint8)).save(place / SECRET / f"{SECRET}.png")
    (place / "labels.csv").write_text(f"{SECRET}.png,glioma\n", encoding="utf-8")
    return place


def digests(folder: pathlib.Path) -> dict[str, tuple[str, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


def test_files_are_written_or_held_back_and_originals_stay(folder, key, tmp_path) -> None:
    before = digests(folder)
    done = deidentify.deidentify([folder], output=tmp_path / "out", key=key)
    assert (done.written, done.held_back) == (3, 2)
    assert digests(folder) == before
    report = json.loads((tmp_path / "out" / "deidentify.json").read_text(encoding="utf-8"))
    assert report == done.report
    assert sum(report["reasons"].values()) == report["held_back"] == 2
    written = {entry["output"] for entry in report["files"] if not entry["held_back"]}
    assert written == digests(tmp_path / "out").keys() - {"deidentify.json"}
    assert all(entry["reason"] for entry in report["files"] if entry["held_back"])
    dicom = [entry for entry in report["files"] if entry["kind"] == "DICOM" and not entry["held_back"]]
    assert all(entry["actions"]["uids"] > 3 for entry in dicom)


def test_no_name_is_left_anywhere(folder, key, tmp_path) -> None:
    deidentify.deidentify([folder], output=tmp_path / "out", key=key)
    for path in (tmp_path / "out").rglob("*"):
        assert SECRET not in path.name
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
        assert path.is_dir() or key.read_bytes() not in path.read_bytes()
    report = (tmp_path / "out" / "deidentify.json").read_text(encoding="utf-8")
    assert "CT1" not in report
    assert str(tmp_path) not in report


def test_the_same_key_gives_the_same_bytes_and_another_shares_no_name(folder, key, tmp_path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(32))
    for name, secret in (("a", key), ("b", key), ("c", other)):
        deidentify.deidentify([folder / SECRET], output=tmp_path / name, key=secret)
    first, again, third = (
        {name: digest for name, (digest, _) in digests(tmp_path / place).items()} for place in ("a", "b", "c")
    )
    assert first == again
    assert set(first) & set(third) == {"deidentify.json"}


def test_two_files_of_one_instance_are_both_written(key, tmp_path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for name in ("a.dcm", "b.dcm"):
        shutil.copy(canaries.FILES / "CT_small.dcm", place / name)
    done = deidentify.deidentify([place], output=tmp_path / "out", key=key)
    names = sorted(entry["output"] for entry in done.report["files"])
    assert done.written == 2
    assert names[1] == names[0].replace(".dcm", "_2.dcm")


def test_a_study_stays_a_study(key, tmp_path, real_data) -> None:
    source = real_data / "dicom_mri"
    done = deidentify.deidentify([source], output=tmp_path / "out", key=key)
    assert done.held_back == 0
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "PatientID"):
        old, new = (_values(place, keyword) for place in (source, tmp_path / "out"))
        assert len(set(old)) == len(set(new))
        assert not set(old) & set(new)
        assert sorted(map(old.count, set(old))) == sorted(map(new.count, set(new)))
    names = {path.parent for path in (tmp_path / "out").rglob("*.dcm")}
    assert len(names) == len(set(_values(source, "SeriesInstanceUID")))


def _values(folder: pathlib.Path, keyword: str) -> list[str]:
    paths = sorted(folder.rglob("*.dcm"))
    return [str(pydicom.dcmread(path, specific_tags=[keyword]).get(keyword, "")) for path in paths]


@pytest.mark.parametrize("place", ["in/out", "in", "."])
def test_an_output_around_or_within_an_input_is_refused(place, folder, key, tmp_path) -> None:
    before = digests(folder)
    with pytest.raises(errors.DataError, match="output"):
        deidentify.deidentify([folder], output=tmp_path / place, key=key)
    assert digests(folder) == before


def test_nothing_is_overwritten(folder, key, tmp_path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine", encoding="utf-8")
    for output in ("file", "full"):
        with pytest.raises(errors.DataError, match="nothing is overwritten"):
            deidentify.deidentify([folder], output=tmp_path / output, key=key)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(errors.DataError, match="output"):
        deidentify.deidentify([folder], output=tmp_path / "link" / "out", key=key)


def test_an_output_that_cannot_be_written_is_told(folder, key, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.DataError, match=r"can be written to\. Received: .*Not a directory"):
        deidentify.deidentify([folder], output=tmp_path / "file" / "out", key=key)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(deidentify, "_write", full)
    with pytest.raises(errors.DataError, match="No space left on device"):
        deidentify.deidentify([folder], output=tmp_path / "out", key=key)
    assert not list((tmp_path / "out").iterdir())


def test_mistakes_are_told(key, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    for inputs, message in (
        ([], "at least one"),
        ([tmp_path / "none"], "a file or a folder"),
        ([tmp_path / "empty"], "no file"),
    ):
        with pytest.raises(errors.UserError, match=message):
            deidentify.deidentify(inputs, output=tmp_path / "out", key=key)
    with pytest.raises(errors.ConfigError, match="retain_uids"):
        deidentify.deidentify([tmp_path], output=tmp_path / "out", key=key, options=["retain_uid"])
    assert not (tmp_path / "out").exists()


def test_pipes_links_and_folders_that_lead_back_do_not_hang(folder, key, tmp_path) -> None:
    os.mkfifo(folder / "pipe.dcm")
    (folder / "nowhere.dcm").symlink_to(tmp_path / "missing")
    (folder / "back").symlink_to(folder)
    done = deidentify.deidentify([folder], output=tmp_path / "out", key=key)
    assert done.written == 3
    assert done.held_back == 5
    assert done.report["reasons"]["a folder that is a link, or that cannot be opened, is not searched"] == 1


def test_every_option_runs_through_the_worker(folder, key, tmp_path) -> None:
    done = deidentify.deidentify([folder], output=tmp_path / "out", key=key, options=list(profile.OPTIONS))
    assert done.written == 4
    assert [option["code"] for option in done.report["options"]] == [
        option.code for option in profile.codes(frozenset(profile.OPTIONS))
    ]


@pytest.fixture
def fragile(monkeypatch) -> None:
    monkeypatch.setattr(deidentify, "_MODULE", "tests.privacy.fragile")


def pictures(folder: pathlib.Path, *names: str) -> pathlib.Path:
    folder.mkdir()
    for name in names:
        PIL.Image.fromarray(np.eye(16, dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.mark.usefixtures("fragile")
def test_a_file_that_brings_its_worker_down_is_held_back_and_no_other(key, tmp_path) -> None:
    names = ["a", "fill", "kill", "panic", "slow", "z"]
    done = deidentify.deidentify([pictures(tmp_path / "in", *names)], output=tmp_path / "out", key=key)
    assert [entry["reason"] for entry in done.report["files"]] == [
        *("", "there is too little memory for the file", "the file brought its reader down, or used too much memory"),
        *("the file is damaged", "", ""),
    ]
    secret = key.read_bytes()
    assert [entry["file"] for entry in done.report["files"]] == [
        pseudonyms.pseudonym(secret, f"{name}.png", prefix="f") for name in names
    ]
    assert [entry["output"] for entry in done.report["files"] if entry["output"]] == [
        f"{pseudonyms.pseudonym(secret, name, prefix='n')}.png" for name in ("a", "slow", "z")
    ]


@pytest.mark.usefixtures("fragile")
def test_a_file_that_takes_too_long_is_held_back(key, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(deidentify, "_DEADLINE", 1.0)
    begin = time.monotonic()
    done = deidentify.deidentify([pictures(tmp_path / "in", "hang", "z")], output=tmp_path / "out", key=key)
    assert [entry["reason"] for entry in done.report["files"]] == ["the file takes too long", ""]
    assert time.monotonic() - begin < 30


@pytest.mark.usefixtures("fragile")
def test_an_interruption_does_not_wait_for_the_files_at_work(key, tmp_path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deidentify, "_placed", interrupted)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        deidentify.deidentify([pictures(tmp_path / "in", "a", "hang", "z")], output=tmp_path / "out", key=key)
    assert time.monotonic() - begin < 30
    assert not list((tmp_path / "out").iterdir())


def test_a_large_file_may_take_longer(tmp_path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 50_000_000)
    assert deidentify._limits(str(tmp_path / "large")).wall == 65.0
    assert deidentify._limits(str(tmp_path / "none")).wall == 60.0


def test_a_name_that_is_not_utf_8_reaches_the_worker(key, tmp_path) -> None:
    place = pictures(tmp_path / "in", "a")
    os.rename(os.fsencode(place / "a.png"), os.fsencode(place) + b"/\xe9.png")
    done = deidentify.deidentify([place], output=tmp_path / "out", key=key)
    assert done.written == 1


def test_a_deflate_bomb_is_held_back(tmp_path, key) -> None:
    dataset = canaries.base("CT")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00081030, "UN", bytes(130 * 2**20))
    place = tmp_path / "in"
    place.mkdir()
    with canaries.unruly():
        canaries.save(dataset, place / "bomb.dcm")
    assert (place / "bomb.dcm").stat().st_size < 2**20
    done = deidentify.deidentify([place], output=tmp_path / "out", key=key)
    assert done.held_back == 1
    assert "deflated" in done.report["files"][0]["reason"]


def test_an_interruption_leaves_nothing(folder, key, tmp_path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deidentify, "_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deidentify.deidentify([folder], output=tmp_path / "out", key=key)
    assert not list((tmp_path / "out").iterdir())


def test_the_page_lists_every_option_with_its_code() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
    for name, option in profile.OPTIONS.items():
        assert f"| `{name}` | {option.code} |" in page
