"""A table of labels beside files that are de-identified: it finds the new ones, and says nothing else."""

from __future__ import annotations

import collections
import csv
import pathlib
import shutil
from collections.abc import Callable

import nibabel
import numpy as np
import pytest

from medkeras import config
from medkeras.data import cases, dicom, nifti, phantom, table
from medkeras.privacy import names, pseudonyms, values
from medkeras.workflows import deidentify
from tests.privacy import canaries

SETTINGS = config.DataConfig(metadata="sex,age")
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> pathlib.Path:
    """Returns DICOM files of 6 patients, of 2 slices each, with a table of labels by path."""
    place = tmp_path_factory.mktemp("scans") / "in"
    phantom.write(phantom.slices(patients=6, slices_per_patient=2, image_size=16), str(place), layout="dicom")
    return place


def write_table(place: pathlib.Path, rows: list[dict[str, str]]) -> None:
    with open(place / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def run(place: pathlib.Path, **others: object) -> tuple[deidentify.Deidentified, pathlib.Path]:
    key, output = place.parent / "key", place.parent / "out"
    key.write_bytes(KEY)
    return deidentify.deidentify([place], output=output, key=key, **others), output


def entry(done: deidentify.Deidentified) -> dict:
    return next(each for each in done.report["files"] if each["kind"] == "table")


def said(case_set: cases.CaseSet) -> list[tuple]:
    """Returns what is to be told of each case, and how many cases its patient has, whatever anything is called."""
    sizes = collections.Counter(case.patient_id for case in case_set.cases)
    return sorted((case.label, case.split, case.metadata, sizes[case.patient_id]) for case in case_set.cases)


def dicom_rows(place: pathlib.Path, key: Callable[[str, dict], str], column: str) -> list[dict[str, str]]:
    """Returns a row a file by some column, with metadata, a name and a date beside the label."""
    by_patient = {row["path"]: row for row in table.read_rows(place / "labels.csv")}
    found = dicom.find(str(place)).files
    return [
        {
            column: key(name, facts),
            "label": by_patient[name.split("/")[0]]["label"],
            "split": by_patient[name.split("/")[0]]["split"],
            "sex": "F" if number % 2 else "unheard of",
            "age": "93",
            "name": "DOE^JANE",
            "born": "1971-03-12",
        }
        for number, (name, facts) in enumerate(found.items())
    ]


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("path", lambda name, facts: name),
        ("case_id", lambda name, facts: name),
        ("SOPInstanceUID", lambda name, facts: facts["sop_uid"]),
    ],
)
def test_each_file_finds_its_label_and_its_split_by(column, key, scans, tmp_path) -> None:
    place = tmp_path / "in"
    shutil.copytree(scans, place)
    write_table(place, dicom_rows(place, key, column))
    done, output = run(place)
    assert done.held_back == 0
    actions = {"rows": 12, "rows_dropped": 0, "columns_dropped": 2, "cells_emptied": 6}
    assert entry(done)["actions"] == actions
    before, after = (dicom.load(str(folder), SETTINGS) for folder in (place, output))
    kept = {"unheard of": "", "F": "F", "93": "90"}
    old = [(*each[:2], tuple((name, kept[value]) for name, value in each[2]), each[3]) for each in said(before)]
    assert sorted(old) == said(after)
    written = (output / "labels.csv").read_text(encoding="utf-8")
    assert not [word for word in ("DOE", "1971", "name", "born", "phantom", "unheard") if word in written]


@pytest.mark.parametrize("fact", ["series_uid", "study_uid", "patient_id"])
def test_one_row_for_many_files_stays_one(fact, scans, tmp_path) -> None:
    column = {"series_uid": "SeriesInstanceUID", "study_uid": "study_instance_uid", "patient_id": "PatientID"}[fact]
    place = tmp_path / "in"
    shutil.copytree(scans, place)
    rows = {row[column]: row for row in dicom_rows(place, lambda name, facts: facts[fact], column)}
    write_table(place, list(rows.values()))
    done, output = run(place)
    assert entry(done)["actions"]["rows"] == len(table.read_rows(output / "labels.csv")) == 6
    before, after = (dicom.load(str(folder), config.DataConfig()) for folder in (place, output))
    assert said(before) == said(after)


def test_a_folder_s_row_becomes_one_of_each_file(scans, tmp_path) -> None:
    place = tmp_path / "in"
    shutil.copytree(scans, place)
    done, output = run(place)
    assert (done.written, done.held_back) == (13, 0)
    assert entry(done)["actions"]["rows"] == 6
    rows = table.read_rows(output / "labels.csv")
    assert sorted(row["path"] for row in rows) == [row["path"] for row in rows]
    assert {row["path"] for row in rows} == {path.relative_to(output).as_posix() for path in output.rglob("*.dcm")}
    before, after = (dicom.load(str(folder), config.DataConfig()) for folder in (place, output))
    assert said(before) == said(after)
    assert "6 rows translated" in done.sentences[-1]


def test_rows_of_files_that_are_held_back_are_left_out_and_counted(scans, tmp_path) -> None:
    place = tmp_path / "in"
    shutil.copytree(scans, place)
    patient = sorted(path for path in place.iterdir() if path.is_dir())[0]
    for path in patient.iterdir():
        path.write_bytes(path.read_bytes()[:200])
    done, output = run(place)
    assert done.held_back == 2
    assert entry(done)["actions"] | {"cells_emptied": 0} == {
        "rows": 5,
        "rows_dropped": 1,
        "columns_dropped": 0,
        "cells_emptied": 0,
    }
    assert len(table.read_rows(output / "labels.csv")) == 10


def test_identifiers_that_stay_find_their_labels_too(scans, tmp_path) -> None:
    place = tmp_path / "in"
    shutil.copytree(scans, place)
    write_table(place, dicom_rows(place, lambda name, facts: facts["sop_uid"], "sop_instance_uid"))
    old = {row["sop_instance_uid"] for row in table.read_rows(place / "labels.csv")}
    _, output = run(place, options=["retain_uids"])
    assert {row["sop_instance_uid"] for row in table.read_rows(output / "labels.csv")} == old


def save_volume(path: pathlib.Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(np.full((2, 3, 4), value, np.uint8), np.eye(4)).to_filename(path)


@pytest.mark.parametrize(
    ("files", "rows", "patients"),
    [
        (["a.nii", "sub/b.nii.gz"], [("path", "a.nii"), ("path", "sub")], 2),
        (["a.nii", "a_seg.nii", "b.nii"], [("patient_id", "a"), ("patient_id", "b")], 2),
        (["sub-1/ses-1/sub-1_ses-1_T1w.nii", "sub-1/ses-2/sub-1_ses-2_T1w.nii"], [("patient_id", "sub-1")], 1),
        (["sub-1_ses-1.nii", "sub-1_ses-2.nii"], [("path", "sub-1_ses-1.nii"), ("path", "sub-1_ses-2.nii")], 1),
        (["images/a.nii", "images/b.nii", "labels/a.nii"], [("path", "a.nii"), ("path", "images/b.nii")], 2),
        (["imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "labelsTr/a.nii"], [("patient_id", "a")], 1),
        (["imagesTr/a_0000.nii", "imagesTr/b_0000.nii"], [("path", "a_0000.nii"), ("path", "b_0000.nii#1")], 2),
    ],
)
def test_volumes_keep_labels_patients_and_masks(files, rows, patients, tmp_path) -> None:
    place = tmp_path / "in"
    for number, name in enumerate(files):
        save_volume(place / name, number)
    write_table(place, [{column: key, "label": "xy"[n % 2]} for n, (column, key) in enumerate(rows)])
    done, output = run(place)
    assert done.held_back == 0
    before, after = (nifti.load(str(folder), config.DataConfig()) for folder in (place, output))
    assert said(before) == said(after)
    assert len({case.patient_id for case in after.cases}) == patients
    assert sorted(problem.kind for problem in before.problems) == sorted(problem.kind for problem in after.problems)
    found = [nifti.find(str(folder)) for folder in (place, output)]
    assert len(found[0].masks) == len(found[1].masks)
    assert "sub-1" not in " ".join(str(path) for path in output.rglob("*"))


def test_the_patient_of_a_row_becomes_the_pseudonym_that_its_files_have(tmp_path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    shutil.copy(canaries.FILES / "CT_small.dcm", place / "a.dcm")
    write_table(place, [{"path": "a.dcm", "label": "x", "patient_id": "1CT1"}])
    _, output = run(place)
    (row,) = table.read_rows(output / "labels.csv")
    assert row["patient_id"] == pseudonyms.pseudonym(KEY, "1CT1") == row["path"].split("/")[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,label\na.dcm,Citizen\n", "a label holds a word of a patient's name"),
        ("path,label\nother.dcm,x\n", "no row of the table finds a file"),
        ("path,lable\na.dcm,x\n", "cannot be read as one"),
        ("path,label\na.dcm,x\na.dcm,SECRET\n", "cannot be read as one"),
        ("", "cannot be read as one"),
    ],
)
def test_a_table_is_held_back_where(text, reason, tmp_path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    source = canaries.base("CT")
    source.PatientName = "Citizen^Jan"
    with canaries.unruly():
        canaries.save(source, place / "a.dcm")
    (place / "labels.csv").write_text(text, encoding="utf-8")
    done, output = run(place)
    held = [each for each in done.report["files"] if each["held_back"]]
    assert len(held) == 1
    assert reason in held[0]["reason"] or (not text and "empty" in held[0]["reason"])
    assert "SECRET" not in (output / "deidentify.json").read_text(encoding="utf-8")
    assert not (output / "labels.csv").exists()


def test_of_two_tables_none_is_taken_and_one_below_counts_from_its_folder(scans, tmp_path) -> None:
    place = tmp_path / "in"
    shutil.copytree(scans, place / "ward")
    done, output = run(place)
    assert entry(done)["actions"]["rows"] == 6
    assert len(dicom.load(str(output), config.DataConfig()).cases) == 12
    shutil.copytree(scans, place / "second")
    shutil.rmtree(output)
    done, output = run(place)
    reasons = [each["reason"] for each in done.report["files"] if each["held_back"]]
    assert [reason.split(":")[0] for reason in reasons] == ["of several labels.csv none is translated"] * 2
    assert not list(output.rglob("labels.csv"))


def test_class_folders_of_dicom_files_stay_and_patients_folders_do_not(scans, tmp_path) -> None:
    place = tmp_path / "in"
    for number, path in enumerate(sorted(scans.rglob("*.dcm"))):
        target = place / ("Training" if number < 8 else "Testing") / ("healthy" if number % 4 < 2 else "glioma") / "Doe"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    done, output = run(place)
    assert done.held_back == 0
    before, after = (dicom.load(str(folder), config.DataConfig()) for folder in (place, output))
    assert said(before) == said(after)
    assert len(set(after.classes)) == 2
    assert names.classes("White/a.dcm", frozenset({"white"})) == ()


@pytest.mark.parametrize(
    ("text", "age"),
    [("44.2", "44"), ("1.96", "2.0"), ("0", "0.0"), ("90", "90"), ("130", "90"), ("131", ""), ("-1", ""), ("nan", "")],
)
def test_an_age_is_a_number_of_years(text, age) -> None:
    assert values.years(text) == age
