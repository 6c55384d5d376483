"""One SOPInstanceUID, one image: copies are kept once, and a clash is told."""

from __future__ import annotations

import pathlib
import shutil

import imagecodecs
import numpy as np
import pydicom.uid
import pytest

from medkeras import config
from medkeras.data import cases, dicom
from tests.data.dicom import making, scans

HEIGHTS = [0.0, 3.0, 6.0, 9.0]
COPIES = "of the same SOPInstanceUID and with the same pixels, left out"


def load(place: pathlib.Path, **settings: object) -> cases.CaseSet:
    chosen = config.Config().override({f"data.{key}": str(value) for key, value in settings.items()})
    return dicom.load(str(place), chosen.data)


def problems(found: cases.CaseSet) -> list[tuple[str, str, str]]:
    return [(pathlib.Path(each.path).name, each.kind, each.reason) for each in found.problems]


def ids(found: cases.CaseSet) -> list[str]:
    return [case.case_id for case in found.cases]


def table(place: pathlib.Path, *rows: str) -> None:
    (place / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n", encoding="utf-8")


def test_a_file_twice_is_one_case(tmp_path) -> None:
    scans.write_series(tmp_path / "scan", HEIGHTS)
    shutil.copy(tmp_path / "scan" / "001.dcm", tmp_path / "scan" / "copy.dcm")
    found = load(tmp_path)
    assert ids(found) == [f"scan/{number:03d}.dcm" for number in range(4)]
    assert problems(found) == [("copy.dcm", "header", f"a copy, {COPIES}")]
    assert "1 cases are copies of others and were left out; --mode=audit lists them." in found.notes
    volumes = load(tmp_path, view="volumes")
    assert problems(volumes) == problems(found)
    assert [volumes.images.header(case).depth for case in volumes.cases] == [4]


def test_a_series_in_two_folders_is_one_volume(tmp_path) -> None:
    scans.write_series(tmp_path / "all" / "one", HEIGHTS)
    shutil.copytree(tmp_path / "all" / "one", tmp_path / "all" / "two")
    found = load(tmp_path, view="volumes")
    assert ids(found) == ["all/one"]
    assert problems(found) == [("two", "header", f"a copy, {COPIES}")]
    assert found.images.read(found.cases[0], 1).shape == (4, 6, 5, 1)
    slices = load(tmp_path)
    assert ids(slices) == [f"all/one/{number:03d}.dcm" for number in range(4)]
    assert problems(slices) == [("two", "header", f"4 copies, {COPIES}")]


def test_a_part_of_a_series_twice(tmp_path) -> None:
    scans.write_series(tmp_path / "all" / "one", HEIGHTS)
    (tmp_path / "all" / "two").mkdir()
    for name in ("000.dcm", "002.dcm"):
        shutil.copy(tmp_path / "all" / "one" / name, tmp_path / "all" / "two")
    found = load(tmp_path, view="volumes")
    assert ids(found) == ["all/one"]
    assert problems(found) == [("two", "header", f"2 copies, {COPIES}")]


def test_copies_of_a_multi_frame_object(tmp_path) -> None:
    scans.enhanced(tmp_path / "all" / "one", HEIGHTS)
    shutil.copytree(tmp_path / "all" / "one", tmp_path / "all" / "two")
    assert ids(load(tmp_path)) == [f"all/one/enhanced.dcm#{number}" for number in range(4)]
    assert ids(load(tmp_path, view="volumes")) == ["all/one/enhanced.dcm"]


@pytest.mark.parametrize(
    ("row", "kept"), [("two,ill,train", 1), ("two,well,train", 2), ("two,ill,test", 2)], ids=["same", "label", "split"]
)
def test_copies_that_are_labelled_otherwise_stay_for_the_audit(tmp_path, row, kept) -> None:
    scans.write_series(tmp_path / "one", HEIGHTS)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    table(tmp_path, "one,ill,train", row)
    for view, per_series in (("slices", 4), ("volumes", 1)):
        assert len(load(tmp_path, view=view).cases) == kept * per_series


def test_another_compression_is_a_copy_all_the_same(tmp_path) -> None:
    (tmp_path / "all").mkdir()
    pixels = making.ramp()
    keys = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "PatientID": "7"}
    making.write(making.image(pixels, **keys), tmp_path / "all" / "a.dcm")
    frame = imagecodecs.jpeg2k_encode(pixels, level=0)
    making.compressed(making.image(pixels, **keys), [frame], tmp_path / "all" / "b.dcm", pydicom.uid.JPEG2000Lossless)
    found = load(tmp_path)
    assert ids(found) == ["all/a.dcm"]
    np.testing.assert_array_equal(found.images.read(found.cases[0], 1)[..., 0], pixels)


@pytest.mark.parametrize(
    ("pixels", "others", "patients"),
    [
        (0, {"PatientID": "008"}, "2 patients"),
        (1, {}, "1 patient"),
        (0, {"ImagePositionPatient": [0, 0, 3]}, "1 patient"),
    ],
)
@pytest.mark.parametrize("view", ["slices", "volumes"])
def test_one_identifier_of_two_images_is_told_and_both_stay(tmp_path, view, pixels, others, patients) -> None:
    """The same image under two patients is as much a clash as two pictures under one identifier."""
    uid = scans.uid("clash")
    for name, number, more in (("a", 0, {}), ("b", pixels, others)):
        scans.write(tmp_path / name / "0.dcm", scans.plain(number), SOPInstanceUID=uid, **more)
        scans.write(tmp_path / name / "1.dcm", scans.plain(5), **{"ImagePositionPatient": [0, 0, 9], **more})
    found = load(tmp_path, view=view)
    clash = [each for each in found.problems if "names one image" in each.reason]
    assert [(each.path, each.kind, each.reason) for each in clash] == [
        (
            str(tmp_path / "a" / "0.dcm"),
            "header",
            f"a SOPInstanceUID names one image. Received: 1 that stand in 2 files of {patients}, whose images differ",
        )
    ]
    if view == "slices":
        assert {"a/0.dcm", "b/0.dcm"} <= set(ids(found))


def test_clashes_are_gathered_by_folder(tmp_path) -> None:
    for name in "ab":
        for number in range(3):
            scans.write(tmp_path / name / f"{number}.dcm", scans.plain(ord(name)), SOPInstanceUID=scans.uid(number))
    (clash,) = (each for each in load(tmp_path).problems if "names one image" in each.reason)
    assert clash.path == str(tmp_path / "a")
    assert clash.reason.endswith("Received: 3 that stand in 6 files of 1 patient, whose images differ")


def test_phases_stay_as_they_are(tmp_path) -> None:
    """Two images at each place, each with an identifier of its own, are no copies of one another."""
    scans.write_series(tmp_path / "scan", [height for height in HEIGHTS for _ in "12"], TemporalPositionIdentifier=1)
    for number, path in enumerate(sorted((tmp_path / "scan").iterdir())):
        made = pydicom.dcmread(path)
        made.SOPInstanceUID = scans.uid("phase", number)
        made.save_as(path)
    found = load(tmp_path, view="volumes")
    assert found.cases == ()
    assert "2 to 2 at every place, as a series of several echoes" in found.problems[0].reason
    assert len(load(tmp_path).cases) == 8


def test_damaged_copies_are_read_by_their_bytes(tmp_path) -> None:
    """Pixels that cannot be decoded are no reason to stop: files of equal bytes are copies."""
    (tmp_path / "all").mkdir()
    frame = bytearray(imagecodecs.jpeg2k_encode(making.ramp(64, 64), level=0))
    frame[200:400] = bytes(200)
    made = making.image(making.ramp(64, 64), SeriesInstanceUID="1.2.3")
    making.compressed(made, [bytes(frame[:300])], tmp_path / "all" / "a.dcm", pydicom.uid.JPEG2000Lossless)
    shutil.copy(tmp_path / "all" / "a.dcm", tmp_path / "all" / "b.dcm")
    assert ids(load(tmp_path)) == ["all/a.dcm"]
