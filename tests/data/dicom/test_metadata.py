"""What subgroups are made of: by the header, by the table of labels, and nothing that was not asked for."""

from __future__ import annotations

import pathlib

import pytest

from medkeras import config, errors
from medkeras.data import cases, dicom, dicom_metadata, schemes
from tests.data.dicom import scans

ANN = {"PatientID": "ann", "PatientSex": "F", "PatientAge": "045Y", "Manufacturer": "Maker", "InstitutionName": "Here"}
BOB = {
    "PatientID": "bob",
    "PatientSex": "M",
    "PatientAge": "006M",
    "ManufacturerModelName": "Two",
    "ViewPosition": "PA",
}


@pytest.fixture
def study(tmp_path) -> pathlib.Path:
    """Two patients with a series each, and what their headers say."""
    scans.write_series(tmp_path / "ann", [0.0, 3.0], StudyInstanceUID="1.1", **ANN)
    scans.write_series(tmp_path / "bob", [0.0, 3.0], StudyInstanceUID="1.2", **BOB)
    return tmp_path


def load(place: pathlib.Path, metadata: str, view: str = "volumes") -> cases.CaseSet:
    return dicom.load(str(place), config.DataConfig(view=view, metadata=metadata))


def by_patient(found: cases.CaseSet) -> dict[str, tuple[tuple[str, str], ...]]:
    return {case.patient_id: case.metadata for case in found.cases}


@pytest.mark.parametrize("view", ["slices", "volumes"])
def test_headers_give_what_is_asked_for(study, view) -> None:
    found = load(study, "age, sex,view,manufacturer", view)
    assert by_patient(found) == {
        "ann": (("age", "45"), ("sex", "F"), ("view", ""), ("manufacturer", "Maker")),
        "bob": (("age", "0.5"), ("sex", "M"), ("view", "PA"), ("manufacturer", "")),
    }
    assert len(found.cases) == (4 if view == "slices" else 2)
    assert set(by_patient(load(study, "", view)).values()) == {()}


def test_every_name_is_known(study) -> None:
    found = load(study, ",".join(dicom_metadata.NAMES))
    assert by_patient(found)["bob"] == (
        ("sex", "M"), ("age", "0.5"), ("modality", "MR"), ("manufacturer", ""), ("model", "Two"), ("view", "PA"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("age", "years"),
    [
        *(("045Y", "45"), ("006M", "0.5"), ("018M", "1.5"), ("052W", "0.9966"), ("003D", "0.008214"), ("000D", "0")),
        *(("45Y", "45"), ("", ""), ("045", ""), ("45 years", ""), ("-45Y", "")),
    ],
)
def test_age_in_years(age, years) -> None:
    assert dicom_metadata.years(age) == years


def test_columns_of_the_table_are_kept_and_go_before_headers(study) -> None:
    rows = ["PatientID,label,site,sex,notes", "ann,ill,north,X,one", "bob,well,south,,two"]
    (study / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert by_patient(load(study, "sex,site,age")) == {
        "ann": (("sex", "X"), ("site", "north"), ("age", "45")),
        "bob": (("sex", ""), ("site", "south"), ("age", "0.5")),
    }


def test_rows_of_one_volume_that_differ_say_nothing(study) -> None:
    names = [f"{patient}/{number:03d}.dcm" for patient in ("ann", "bob") for number in range(2)]
    rows = ["path,label,site", *(f"{name},ill,{site}" for name, site in zip(names, "nnns", strict=True))]
    (study / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert by_patient(load(study, "site")) == {"ann": (("site", "n"),), "bob": (("site", ""),)}
    (study / "labels.csv").write_text("path,label,site\nann,ill,n\nann,ill,s\nbob,well,n\n", encoding="utf-8")
    with pytest.raises(errors.BadInputError, match="lines 2 and 3, with another split or patient, or other metadata"):
        load(study, "site")


@pytest.mark.parametrize("name", ["institution", "site", "sop_instance_uid", "StudyInstanceUID"])
@pytest.mark.parametrize("labelled", [True, False])
def test_what_neither_table_nor_headers_give(study, name, labelled) -> None:
    if labelled:
        (study / "labels.csv").write_text("PatientID,StudyInstanceUID,label\nann,1.1,x\nbob,1.2,y\n", encoding="utf-8")
    with pytest.raises(errors.ConfigError, match=rf"data.metadata: Unknown name.*Received: '{name}'"):
        load(study, name)


@pytest.mark.parametrize("name", ["patient_id", "label"])
def test_what_names_the_case_is_no_metadata(study, name) -> None:
    with pytest.raises(errors.ConfigError, match="not the case itself"):
        load(study, name)


@pytest.mark.parametrize(("issuer", "written"), [("", "007"), ("north", "north\\007")])
def test_a_patient_of_a_table_and_of_a_header_is_one(tmp_path, issuer, written) -> None:
    """A table names the issuer where the files do."""
    (tmp_path / "key").write_bytes(bytes(range(32)))
    scans.write(tmp_path / "set" / "0.dcm", PatientID="007", IssuerOfPatientID=issuer)
    (tmp_path / "table.csv").write_text(f"path,label,patient_id\nset/0.dcm,ill,{written}\n", encoding="utf-8")
    patients = {
        schemes.read(config.DataConfig(source=source), seed=0, key=tmp_path / "key").cases[0].patient_id
        for source in (f"dicom:{tmp_path / 'set'}", f"csv:{tmp_path / 'table.csv'}")
    }
    assert len(patients) == 1
    assert "007" not in patients.pop()


def test_one_identifier_of_two_issuers_finds_no_label(tmp_path) -> None:
    for issuer, identifier in (("north", "007"), ("south", "007"), ("south", "008")):
        scans.write(
            tmp_path / f"{issuer}{identifier}.dcm",
            scans.plain(len(issuer + identifier) + int(identifier)),
            PatientID=identifier,
            IssuerOfPatientID=issuer,
            StudyInstanceUID=scans.uid(issuer, identifier),
            SeriesInstanceUID=scans.uid(issuer, identifier, "series"),
            SOPInstanceUID=scans.uid(issuer, identifier, "image"),
        )
    (tmp_path / "labels.csv").write_text("PatientID,label\n007,ill\n008,well\n", encoding="utf-8")
    found = load(tmp_path, "", "slices")
    assert [(case.case_id, case.label) for case in found.cases] == [("south008.dcm", "well")]
    assert [(pathlib.Path(each.path).name, each.kind, each.reason) for each in found.problems] == [
        (
            f"{issuer}007.dcm",
            "unpaired",
            "a PatientID that two issuers gave is that of two patients: labels find their images by path, or by a UID, "
            "not by patient_id. Received: labels.csv, lines 2",
        )
        for issuer in ("north", "south")
    ]
    (tmp_path / "south008.dcm").unlink()
    with pytest.raises(errors.BadInputError, match="two issuers gave.*Received: 2 such images, and no other"):
        load(tmp_path, "", "slices")
