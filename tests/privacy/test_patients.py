"""Whose a file is: one rule for reading and for de-identification, told from all files at once."""

from __future__ import annotations

import datetime
import itertools
import pathlib
import random

import pydicom
import pytest
from pydicom.dataset import Dataset

from medkeras.data import dicom
from medkeras.privacy import patients, pseudonyms, values
from medkeras.workflows import deidentify
from tests.privacy import canaries

KEY = bytes(range(32))
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate")


def identity(text: str) -> patients.Identity:
    """Returns an identity from `ID ISSUER STUDY SERIES NAME`, a hyphen for what is not stated."""
    return patients.Identity(*("" if word == "-" else word for word in text.split()))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["7 - s - -"], ["7"]),
        (["7 A s - -"], ["A\\7"]),
        (["7 A s - -", "7 B t - -"], ["A\\7", "B\\7"]),
        (["7 A s - -", "7 - s - -", "7 - t - -"], ["A\\7", "A\\7", "A\\7"]),
        (["7 A s - -", "7 B t - -", "7 - t - -"], ["A\\7", "B\\7", "B\\7"]),
        (["7 A s - -", "7 B t - -", "7 - u - -"], ["7", "7", "7"]),
        (["7 A s - -", "8 - t - -"], ["A\\7", "8"]),
        (["7 A s - -", "- - s - -", "- - t - -"], ["A\\7", "A\\7", "t"]),
        (["7 - s q -", "- - - q -", "- - - r -"], ["7", "7", "r"]),
        (["- - s - N", "- - t - N", "- - t - -"], ["N", "N", "N"]),
        (["7 - s - N", "- - s - M"], ["7", "7"]),
        (["- - - - N", "- - - - -"], ["N", ""]),
        (["7 - s - -", "8 - s - -", "- - s - -"], ["7", "8", "7"]),
    ],
)
def test_one_patient_is_never_taken_for_two(files, expected) -> None:
    for order in itertools.permutations(range(len(files))):
        named = patients.of_files({str(number): identity(files[number]) for number in order})
        assert [named[str(number)] for number in range(len(files))] == expected


def test_more_files_change_no_name_that_issuer_and_number_gave() -> None:
    draw = random.Random(7)
    for _ in range(200):
        # One hospital: each number has one issuer, which some files leave out.
        files = {
            str(number): patients.Identity(
                draw.choice("123"), draw.choice(("North", "")), f"s{draw.randrange(6)}", f"q{draw.randrange(9)}"
            )
            for number in range(12)
        }
        whole = patients.of_files(files)
        some = dict(draw.sample(sorted(files.items()), 6))
        named = patients.of_files(some)
        assert all(named[name] == whole[name] for name, one in some.items() if one.issuer)
        assert all(
            len({named[other] for other, it in some.items() if it.patient_id == one.patient_id}) == 1
            for one in some.values()
        )


def written(folder: pathlib.Path, name: str, **changes: object) -> None:
    dataset = canaries.base("CT")
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    folder.mkdir(exist_ok=True)
    canaries.save(dataset, folder / f"{name}.dcm")


def key_file(folder: pathlib.Path) -> pathlib.Path:
    (folder / "key").write_bytes(KEY)
    return folder / "key"


def outcome(folder: pathlib.Path, out: pathlib.Path, *options: str) -> dict[str, pydicom.FileDataset]:
    """Cleans a folder; returns what became of each file, by its place in the order."""
    done = deidentify.deidentify([folder], output=out, key=key_file(folder.parent), options=options)
    assert done.held_back == 0
    names = sorted(path.stem for path in folder.iterdir())
    return {
        name: pydicom.dcmread(out / entry["output"]) for name, entry in zip(names, done.report["files"], strict=True)
    }


def archive(folder: pathlib.Path) -> pathlib.Path:
    """Writes a patient's three studies: with issuer, without, and one whose report names nobody; and a stranger."""
    own = {"PatientID": "007", "PatientName": "Doe^Jane"}
    studies = (("1.2.1", "20200301"), ("1.2.2", "20200311"), ("1.2.3", "20210311"))
    for number, (study, date) in enumerate(studies):
        issuer = {"IssuerOfPatientID": "North"} if number == 0 else {}
        dates = dict.fromkeys(DATES, date)
        uids = {"StudyInstanceUID": study, "SOPInstanceUID": f"{study}.1"}
        written(folder, f"own{number}", **own, **issuer, **dates, **uids)
    nameless = {"PatientID": "", "PatientName": "", "StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.2"}
    written(folder, "own3", **nameless, **dict.fromkeys(DATES, "20210312"))
    written(folder, "stranger", PatientID="008", StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1")
    return folder


def test_a_patient_whom_some_files_name_by_half_has_one_pseudonym_and_one_shift(tmp_path) -> None:
    made = outcome(archive(tmp_path / "in"), tmp_path / "out", "retain_longitudinal_modified_dates")
    own = [made[f"own{number}"] for number in range(4)]
    assert {file.PatientID for file in own} == {pseudonyms.pseudonym(KEY, "North\\007")}
    assert made["stranger"].PatientID == pseudonyms.pseudonym(KEY, "008")
    days = datetime.timedelta(days=values.days_of(KEY, "North\\007"))
    old = ["20200301", "20200311", "20210311", "20210312"]
    for keyword in DATES:
        dates = [datetime.datetime.strptime(file[keyword].value, "%Y%m%d") for file in own]
        assert [f"{date + days:%Y%m%d}" for date in dates] == old


def test_reading_and_de_identification_give_the_same_pseudonyms(tmp_path) -> None:
    folder = archive(tmp_path / "in")
    made = outcome(folder, tmp_path / "out")
    read = dicom.find(str(folder)).patients
    assert {name: str(file.PatientID) for name, file in made.items()} == {
        name.removesuffix(".dcm"): pseudonyms.pseudonym(KEY, patient) for name, patient in read.items()
    }


def test_an_identifier_of_two_values_is_the_same_for_both(tmp_path) -> None:
    with canaries.unruly():
        written(tmp_path / "in", "a", PatientID="7\\8")
    made = outcome(tmp_path / "in", tmp_path / "out")
    assert made["a"].PatientID == pseudonyms.pseudonym(KEY, dicom.find(str(tmp_path / "in")).patients["a.dcm"])


def test_dates_go_back_alike_at_every_level_and_in_every_form(tmp_path) -> None:
    item = Dataset()
    item.ScheduledProcedureStepStartDate = "20200302"
    inner = Dataset()
    inner.AcquisitionDateTime = "20200303101112.123456+0530"
    inner.DateTime, inner.Date, inner.Time = "20200304", "20200305", "101112.5"
    item.ReferencedImageSequence = [inner]
    changes = {"PatientID": "7", "StudyDate": "20200301", "AcquisitionDateTime": "20200302235959.999999-1200"}
    written(tmp_path / "in", "a", **changes, SourceImageSequence=[item], PatientBirthDate="19710312")
    made = outcome(tmp_path / "in", tmp_path / "out", "retain_longitudinal_modified_dates")["a"]
    shift = datetime.timedelta(days=values.days_of(KEY, "7"))
    nested = made.SourceImageSequence[0]
    deep = nested.ReferencedImageSequence[0]

    def back(text: str) -> str:
        return f"{datetime.datetime.strptime(text, '%Y%m%d') - shift:%Y%m%d}"

    assert made.StudyDate == back("20200301")
    assert made.AcquisitionDateTime == back("20200302") + "235959.999999-1200"
    assert nested.ScheduledProcedureStepStartDate == back("20200302")
    assert deep.AcquisitionDateTime == back("20200303") + "101112.123456+0530"
    assert (deep.DateTime, deep.Date, deep.Time) == (back("20200304"), back("20200305"), "101112.5")
    assert made.PatientBirthDate == ""
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
