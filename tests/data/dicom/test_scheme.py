"""`dicom:`: files told by their content, labels by every key, and nothing lost in silence."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pydicom
import pytest

from medkeras import config, errors
from medkeras.data import cases, dicom, labels, schemes
from tests.data.dicom import scans

PATIENTS = {"ann": "sick", "bob": "well", "cid": "sick", "dan": "well"}


@pytest.fixture
def study(tmp_path) -> pathlib.Path:
    """Four patients, a study each, two slices each, `PATIENT/N.dcm`."""
    for patient in PATIENTS:
        for number in range(2):
            scans.write(tmp_path / patient / f"{number}.dcm", scans.plain(number), **names(patient, number))
    return tmp_path


def names(patient: str, number: int) -> dict[str, object]:
    return {
        "PatientID": f"ID-{patient}",
        "PatientName": f"Doe^{patient}",
        "StudyInstanceUID": scans.uid("study", patient),
        "SeriesInstanceUID": scans.uid("series", patient),
        "SOPInstanceUID": scans.uid("sop", patient, number),
        "ImagePositionPatient": [0, 0, 3 * number],
    }


def load(place: pathlib.Path, **settings: object) -> cases.CaseSet:
    chosen = config.Config().override({f"data.{key}": str(value) for key, value in settings.items()})
    return dicom.load(str(place), chosen.data)


def write_table(path: pathlib.Path, header: str, *rows: str) -> pathlib.Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


KEYS = {
    "sop_instance_uid": [(scans.uid("sop", p, n), p) for p in PATIENTS for n in range(2)],
    "SOPInstanceUID": [(scans.uid("sop", p, n), p) for p in PATIENTS for n in range(2)],
    "SeriesInstanceUID": [(scans.uid("series", p), p) for p in PATIENTS],
    "study_instance_uid": [(scans.uid("study", p), p) for p in PATIENTS],
    "StudyInstanceUID": [(scans.uid("study", p), p) for p in PATIENTS],
    "PatientID": [(f"ID-{p}", p) for p in PATIENTS],
    "patient_id": [(f"ID-{p}", p) for p in PATIENTS],
    "path": [(f"{p}/{n}.dcm", p) for p in PATIENTS for n in range(2)],
    "Path": [(f"{p}\\{n}.dcm", p) for p in PATIENTS for n in range(2)],
    "case_id": [(f"{p}/{n}.dcm", p) for p in PATIENTS for n in range(2)],
}


@pytest.mark.parametrize("key", KEYS)
def test_labels_are_found_by_every_key(study, key) -> None:
    write_table(study / "labels.csv", f"{key},label", *(f"{value},{PATIENTS[p]}" for value, p in KEYS[key]))
    found = load(study)
    assert found.problems == ()
    assert found.classes == ("sick", "well")
    assert {case.case_id: case.label for case in found.cases} == {
        f"{patient}/{number}.dcm": label for patient, label in PATIENTS.items() for number in range(2)
    }
    assert found.patients_known
    assert {case.patient_id for case in found.cases} == {f"ID-{patient}" for patient in PATIENTS}


def test_a_row_may_name_a_folder(study) -> None:
    write_table(study / "labels.csv", "path,label,split", "ann,sick,train", "bob/1.dcm,well,test", "bob/,odd,train")
    found = load(study)
    assert {case.case_id: (case.label, case.split) for case in found.cases} == {
        "ann/0.dcm": ("sick", "train"),
        "ann/1.dcm": ("sick", "train"),
        "bob/0.dcm": ("odd", "train"),
        "bob/1.dcm": ("well", "test"),
    }


def test_volumes_take_the_labels_of_their_images(study) -> None:
    rows = [f"{value},{PATIENTS[p]}" for value, p in KEYS["SOPInstanceUID"]]
    rows[1] = rows[1].replace("sick", "well")
    write_table(study / "labels.csv", "SOPInstanceUID,label", *rows)
    found = load(study, view="volumes")
    assert {case.case_id: case.label for case in found.cases} == {"bob": "well", "cid": "sick", "dan": "well"}
    (problem,) = found.problems
    assert problem.path == str(study / "ann")
    assert problem.reason == "one case has one label. Received: labels.csv, lines 2, 3"


def test_several_labels_a_split_and_a_patient_of_the_table(study) -> None:
    write_table(study / "labels.csv", "PatientID,labels,split", "ID-ann,a|b,train", "ID-bob,,test", "ID-cid,b,val")
    found = load(study)
    assert found.multilabel
    assert found.classes == ("a", "b")
    assert {(case.patient_id, case.labels, case.split) for case in found.cases} == {
        ("ID-ann", ("a", "b"), "train"),
        ("ID-bob", (), "test"),
        ("ID-cid", ("b",), "validation"),
    }
    write_table(study / "labels.csv", "path,label,PatientID", "ann,x,one", "bob,y,one", "cid,y,", "dan,x,two")
    patients = {case.case_id[:3]: case.patient_id for case in load(study).cases}
    assert patients == {"ann": "one", "bob": "one", "cid": "ID-cid", "dan": "two"}


def test_a_table_that_parts_a_patient_of_the_images_is_told(study) -> None:
    write_table(study / "labels.csv", "path,label,patient_id", "ann/0.dcm,x,one", "ann/1.dcm,x,two", "bob,y,three")
    found = load(study)
    assert {case.case_id: case.patient_id for case in found.cases}["ann/1.dcm"] == "two"
    assert found.notes[-1].startswith("1 patients of the images are several in labels.csv, which is believed")


def test_a_name_with_a_hash_is_no_frame(study) -> None:
    for name in ("scan", "scan#1.dcm"):
        shutil.copy(study / "ann" / "0.dcm", study / "ann" / name)
    write_table(study / "labels.csv", "path,label", "ann/scan,x", "ann/0.dcm,y")
    assert {case.case_id: case.label for case in load(study).cases} == {"ann/scan": "x", "ann/0.dcm": "y"}


def test_what_has_no_partner_is_told_and_names_nobody(study) -> None:
    table = write_table(study / "labels.csv", "patient_id,label", "ID-ann,x", "ID-bob,y", "ID-gone,x", "ID-cid,y")
    found = load(study)
    assert len(found.cases) == 6
    assert found.problems == (
        cases.Problem(str(study / "dan" / "0.dcm"), "unpaired", "has no label in labels.csv"),
        cases.Problem(str(study / "dan" / "1.dcm"), "unpaired", "has no label in labels.csv"),
        cases.Problem(str(table), "unpaired", "line 4: no image has this patient_id"),
    )
    assert found.notes[-2:] == (
        "2 cases have no label and were left out; --mode=audit lists them.",
        "1 labels have no image and were left out; --mode=audit lists them.",
    )


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("sop_uid,label", ["1,x"], "has one of the columns sop_instance_uid, path, .*is 'sop_uid' meant"),
        ("patient_id,lable", ["1,x"], "has the column 'label'; is 'lable' meant"),
        (
            "PatientID,label",
            ["1,x", "1,y"],
            "each patient_id has one label. Received: lines 2 and 3, labelled 'x' and 'y'",
        ),
        ("path,label,split", ["a,x,train", "a,x,test"], "lines 2 and 3, with another split or patient"),
        ("path,label", ["a,x", "b,"], "'label' is filled in every row. Received: line 3"),
        ("path,label", ["a,x", ",y"], "'path' is filled in every row. Received: line 3"),
        ("path,label", ["a,x", "b"], "as many cells as the header. Received: line 3"),
        ("path,label", ["a,x", "b,y,z"], "as many cells as the header. Received: line 3"),
        ("path,Path,label", ["a,a,x"], "each column stands once. Received: 'path' and 'Path'"),
        ("path,label,split", ["a,x,later"], "a split is train, validation or test"),
        ("path,label", [], "has a header and at least one row"),
        ("path,label", ["nowhere.dcm,x"], "labels find images by their path. Received: 1 rows that find none"),
    ],
)
def test_a_table_that_cannot_be_used(study, header, rows, sentence) -> None:
    table = write_table(study / "other.csv", header, *rows)
    with pytest.raises(errors.BadInputError, match=sentence):
        load(study, labels=table)


def test_rows_that_say_the_same_twice_are_one(study) -> None:
    table = write_table(study / "labels.csv", "PatientID,label", "ID-ann,x", "ID-ann,x", "ID-bob,y")
    assert [row.line for row in labels.read(table).unused([])] == [2, 4]


def test_no_such_table(study) -> None:
    with pytest.raises(errors.DataError, match="data.labels names a CSV file that exists"):
        load(study, labels=study / "gone.csv")


def test_patients_folders_are_not_classes(study) -> None:
    found = load(study)
    assert (len(found.cases), found.classes, {case.label for case in found.cases}) == (8, (), {""})
    assert "No labels were found" in found.notes[-1]
    settings = config.Config().override({"data.source": f"dicom:{study}"})
    with pytest.raises(errors.DataError, match="Images need labels"):
        schemes.load(settings.data, seed=0)


@pytest.mark.parametrize("above", ["", "train"])
def test_class_folders(study, above) -> None:
    for patient, label in PATIENTS.items():
        shutil.move(study / patient, study / above / label / patient)
    shutil.copy(study / above / "sick" / "ann" / "0.dcm", study / above / "stray.dcm")
    found = load(study)
    assert found.classes == ("sick", "well")
    assert {case.label for case in found.cases if "bob" in case.case_id} == {"well"}
    assert {case.split for case in found.cases} == {above}
    stray = [problem.kind for problem in found.problems if problem.path.endswith("stray.dcm")]
    assert stray == ["unpaired"]


def test_files_are_told_by_their_content(study) -> None:
    (study / "ann" / "0.dcm").rename(study / "ann" / "IM0001")
    (study / "README").write_text("not an image")
    (study / "notes.txt").write_text("not an image")
    (study / ".hidden.dcm").write_text("not seen")
    (study / "broken.dcm").write_text("not an image either")
    (study / "cut.dcm").write_bytes((study / "bob" / "0.dcm").read_bytes()[:700])
    report = pydicom.dcmread(study / "bob" / "1.dcm")
    del report.PixelData
    report.save_as(study / "report.dcm")
    shutil.copy(pydicom.data.get_testdata_file("DICOMDIR"), study / "DICOMDIR")
    found = load(study)
    assert len(found.cases) == 8
    assert "ann/IM0001" in {case.case_id for case in found.cases}
    assert {(pathlib.Path(problem.path).name, problem.kind) for problem in found.problems} == {
        ("broken.dcm", "unreadable"),
        ("cut.dcm", "unreadable"),
    }
    assert "1 DICOM files hold no image" in found.notes[0]


def test_wherever_a_header_is_cut_the_file_is_told(tmp_path) -> None:
    """Cut between two elements it looks like an object without an image; within one, even its tag, it is damaged."""
    scans.write(tmp_path / "whole.dcm")
    whole = (tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "set").mkdir()
    shutil.copy(tmp_path / "whole.dcm", tmp_path / "set")
    reasons = []
    for size in range(500, 560):
        (tmp_path / "set" / "cut.dcm").write_bytes(whole[:size])
        found = load(tmp_path / "set")
        reasons += [problem.reason for problem in found.problems] or [
            note for note in found.notes if "no image" in note
        ]
    assert len(reasons) == 60
    assert reasons.count("the file ends within an element") > 50


@pytest.mark.parametrize(("limit", "stops"), [(0.05, True), (0.2, False)])
def test_unreadable_files_stop_a_training_unless_they_may_be_skipped(study, limit, stops) -> None:
    write_table(study / "labels.csv", "PatientID,label", *(f"ID-{p},{label}" for p, label in PATIENTS.items()))
    (study / "broken.dcm").write_text("no image")
    case_set = load(study)
    settings = config.Config().override({"data.max_errors": limit}).data
    with pytest.raises(errors.BadInputError, match=r"broken.dcm: .*data.on_error=skip"):
        schemes.refuse_unusable(case_set, settings)
    skipping = config.Config().override({"data.max_errors": limit, "data.on_error": "skip"}).data
    if stops:
        with pytest.raises(errors.DataError, match="At most 5.0% of the files may be unreadable"):
            schemes.refuse_unusable(case_set, skipping)
    else:
        schemes.refuse_unusable(case_set, skipping)


def test_frames_are_cases(tmp_path) -> None:
    scans.enhanced(tmp_path, [0.0, 6.0, 3.0])
    found = load(tmp_path)
    assert [(case.case_id, case.frame) for case in found.cases] == [(f"enhanced.dcm#{n}", n) for n in range(3)]
    for case, value in zip(found.cases, (100, 160, 130), strict=True):
        header = found.images.header(case)
        assert (header.height, header.width, header.channels, header.dtype, header.depth) == (6, 5, 1, "uint16", 0)
        np.testing.assert_array_equal(found.images.read(case, 1)[..., 0], scans.plain(value))
    write_table(tmp_path / "labels.csv", "path,label", "enhanced.dcm#1,x", "enhanced.dcm,y")
    assert [case.label for case in load(tmp_path).cases] == ["y", "x", "y"]


def test_one_file(study) -> None:
    found = load(study / "ann" / "1.dcm")
    assert [case.case_id for case in found.cases] == ["1.dcm"]
    assert found.classes == ()


def test_a_patient_without_a_name_is_known_by_the_study(tmp_path) -> None:
    for number in range(2):
        scans.write(tmp_path / f"a{number}.dcm", **names("ann", number) | {"PatientID": ""})
        scans.write(tmp_path / f"b{number}.dcm", **names("bob", number))
        nobody = dict.fromkeys(("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
        scans.write(tmp_path / f"c{number}.dcm", **names("cid", number) | nobody)
    found = load(tmp_path)
    patients = {case.case_id: case.patient_id for case in found.cases}
    assert patients["a0.dcm"] == patients["a1.dcm"] == scans.uid("study", "ann")
    assert patients["b0.dcm"] == patients["b1.dcm"] == "ID-bob"
    assert (patients["c0.dcm"], patients["c1.dcm"]) == ("c0.dcm", "c1.dcm")
    assert found.notes[0].startswith("2 of 6 DICOM files name no patient: those of one study")
    assert found.notes[1].startswith("2 of 6 DICOM files name neither patient nor study")


@pytest.mark.parametrize(
    ("issuers", "patients"), [(("north", "south"), 2), (("north", "south", None), 1), (("a", None), 1)]
)
def test_an_issuer_tells_patients_apart_only_where_all_files_state_one(tmp_path, issuers, patients) -> None:
    for issuer in issuers:
        scans.write(tmp_path / f"{issuer}.dcm", **names("ann", 0) | {"IssuerOfPatientID": issuer})
    assert len({case.patient_id for case in load(tmp_path).cases}) == patients


def test_a_file_without_an_identifier_is_of_the_patient_of_its_study(tmp_path) -> None:
    for number in range(2):
        scans.write(tmp_path / f"{number}.dcm", **names("ann", number) | ({"PatientID": ""} if number else {}))
    assert {case.patient_id for case in load(tmp_path).cases} == {"ID-ann"}


def test_names_are_told_without_being_repeated(tmp_path) -> None:
    """A file that says that nobody is named in it, and names somebody, is what passes a desk unseen."""
    for number, name in enumerate(("Doe^Jane", "ID-ann", "ID^ann", "")):
        scans.write(tmp_path / "one" / f"{number}.dcm", **names("ann", number) | {"PatientName": name},
                    PatientIdentityRemoved="YES")  # fmt: skip
    scans.write(tmp_path / "two" / "0.dcm", **names("bob", 0), PatientIdentityRemoved="NO")
    found = load(tmp_path)
    assert "2 of 5 DICOM files hold a patient's name; --mode=deidentify takes it out." in found.notes
    assert found.problems == (
        cases.Problem(
            str(tmp_path / "one"),
            "identity",
            "1 of 4 files say that the patient's identity was removed, and hold a name",
        ),
    )


@pytest.mark.parametrize(("place", "sentence"), [("gone", "that exists"), ("empty", "needs a DICOM image")])
def test_places_that_hold_nothing(tmp_path, place, sentence) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DataError, match=sentence):
        load(tmp_path / place)


def test_no_identifier_is_in_a_case_but_the_patients(study) -> None:
    for case in load(study).cases + load(study, view="volumes").cases:
        assert "Doe" not in f"{case.case_id} {case.path}"
        assert "1.2.826" not in case.case_id


def test_frames_and_series_without_patient_and_study_never_part(tmp_path) -> None:
    nobody = {"PatientID": "", "PatientName": "", "StudyInstanceUID": ""}
    for number in range(2):
        scans.write(tmp_path / f"{number}.dcm", scans.plain(number), **nobody, SeriesInstanceUID="2.25.1")
    scans.write(tmp_path / "alone.dcm", scans.plain(3), **nobody, SeriesInstanceUID="")
    by_file = {case.path: set() for case in load_unlabelled(tmp_path)}
    for case in load_unlabelled(tmp_path):
        by_file[case.path].add(case.patient_id)
    assert list(by_file.values()) == [{"2.25.1"}, {"2.25.1"}, {"alone.dcm"}]


def test_two_patients_who_share_a_series_are_two_volumes(tmp_path) -> None:
    for patient in "ab":
        for number in range(3):
            place = [0, 0, number + 3 * (patient == "b")]
            keys = {"PatientID": patient, "SeriesInstanceUID": "2.25.2", "ImagePositionPatient": place}
            scans.write(tmp_path / patient / f"{number}.dcm", scans.plain(number), **keys)
    data = dicom.read(str(tmp_path), config.DataConfig(view="volumes"))
    assert [(item.case.case_id, item.case.patient_id) for item in data.items] == [("a", "a"), ("b", "b")]
    assert [data.images.header(item.case).depth for item in data.items] == [3, 3]


def load_unlabelled(folder: pathlib.Path) -> list[cases.Case]:
    return [item.case for item in dicom.read(str(folder), config.DataConfig()).items]
