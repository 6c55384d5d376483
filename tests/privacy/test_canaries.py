"""Nothing that was planted is left in the bytes of a file, for the profile and for each of its options."""

from __future__ import annotations

import datetime
import pathlib

import pydicom
import pydicom.datadict
import pytest

from medkeras.privacy import file, options
from tests.privacy import canaries

KEY = bytes(range(32))
KEPT_BY_DEVICE = {"Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName", "SoftwareVersions",
                  "ConvolutionKernel", "GantryID", "DetectorID", "DeviceUID"}  # fmt: skip
NEVER_BY_DEVICE = {"PatientName", "InstitutionName", "StudyDescription", "OperatorsName", "AccessionNumber"}
KEPT_BY_INSTITUTION = {
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialCoordinatingCenterName", "ClinicalTrialProtocolEthicsCommitteeName"),
}
KEPT_BY_PATIENT = {"PatientSize", "PatientWeight"}


def cleaned(dataset: pydicom.FileDataset, folder: pathlib.Path, *chosen: str) -> pathlib.Path:
    """Writes a dataset, cleans it, and returns the new file."""
    source, target = canaries.save(dataset, folder / "in.dcm"), folder / "out.dcm"
    done = file.deidentify_file(str(source), str(target), relative="in.dcm", key=KEY, chosen=frozenset(chosen))
    assert done.reason == ""
    return target


def planted(name: str, planter: str) -> tuple[pydicom.FileDataset, canaries.Canaries]:
    found = canaries.Canaries()
    dataset = canaries.base(name)
    getattr(canaries, planter)(dataset, found)
    if planter == "by_the_table":
        canaries.around(dataset, found)
        if name == "SR":
            canaries.report(dataset, found)
    return dataset, found


def holders(path: pathlib.Path, found: canaries.Canaries) -> set[str]:
    """Returns the keywords of the elements, at every level, that hold a canary."""
    needles = set().union(*found.found.values())
    elements = (element for element in pydicom.dcmread(path).iterall() if element.VR != "SQ")
    held = ((element.keyword, str(element.value).lower().encode()) for element in elements)
    return {keyword for keyword, value in held if any(needle in value for needle in needles)}


@pytest.fixture(autouse=True)
def unruly():
    with canaries.unruly():
        yield


@pytest.mark.parametrize("name", canaries.BASES)
def test_nothing_of_the_table_is_left(name, tmp_path) -> None:
    dataset, found = planted(name, "by_the_table")
    options_needed = ["clean_pixel_data"] if name == "US" else []
    target = cleaned(dataset, tmp_path, *options_needed)
    before = canaries.searchable((tmp_path / "in.dcm").read_bytes())
    assert found.count() > 1500
    assert all(needle in before for needles in found.found.values() for needle in needles)
    assert found.left(target.read_bytes()) == {}


@pytest.mark.parametrize("name", ["CT", "MR implicit", "SR"])
def test_nothing_of_the_dictionary_is_left(name, tmp_path) -> None:
    dataset, found = planted(name, "by_the_dictionary")
    target = cleaned(dataset, tmp_path)
    before = canaries.searchable((tmp_path / "in.dcm").read_bytes())
    assert found.count() > 2800
    assert all(needle in before for needles in found.found.values() for needle in needles)
    assert found.left(target.read_bytes()) == {}


@pytest.mark.parametrize("said", ["UN", "OB", "LO", "UT", "CS", "UI"])
def test_a_wrong_vr_hides_nothing(said, tmp_path) -> None:
    found = canaries.Canaries()
    dataset = canaries.base("CT")
    canaries.by_the_dictionary(dataset, found, said)
    dataset.add_new("SOPInstanceUID", "UI", "1.2.3")
    target = cleaned(dataset, tmp_path, "clean_descriptors", "clean_graphics")
    assert found.left(target.read_bytes()) == {}


@pytest.mark.parametrize(
    "option", ["clean_pixel_data", "clean_graphics", "clean_structured_content", "clean_descriptors",
               "retain_safe_private"]
)  # fmt: skip
@pytest.mark.parametrize("planter", ["by_the_table", "by_the_dictionary"])
def test_cleaning_leaves_no_canary(option, planter, tmp_path) -> None:
    dataset, found = planted("SR", planter)
    assert found.left(cleaned(dataset, tmp_path, option).read_bytes()) == {}


def test_patient_characteristics_alone_stay(tmp_path) -> None:
    dataset, found = planted("CT", "by_the_table")
    assert holders(cleaned(dataset, tmp_path, "retain_patient_characteristics"), found) == KEPT_BY_PATIENT


def test_the_institution_alone_stays(tmp_path) -> None:
    dataset, found = planted("CT", "by_the_table")
    assert holders(cleaned(dataset, tmp_path, "retain_institution"), found) == KEPT_BY_INSTITUTION


def test_the_device_alone_stays(tmp_path) -> None:
    dataset, found = planted("CT", "by_the_dictionary")
    left = holders(cleaned(dataset, tmp_path, "retain_device_identity"), found)
    assert left >= KEPT_BY_DEVICE
    assert not left & NEVER_BY_DEVICE


@pytest.mark.parametrize("planter", ["by_the_table", "by_the_dictionary"])
def test_unique_identifiers_alone_stay(planter, tmp_path) -> None:
    dataset, found = planted("CT", planter)
    left = holders(cleaned(dataset, tmp_path, "retain_uids"), found)
    assert {"StudyInstanceUID", "FrameOfReferenceUID"} <= left
    assert {pydicom.datadict.dictionary_VR(keyword) for keyword in left} == {"UI"}
    assert "DigitalSignatureUID" not in left


def test_dates_alone_stay_and_all_go_back_by_as_many_days(tmp_path) -> None:
    dataset, found = planted("CT", "by_the_table")
    shifted = pydicom.dcmread(cleaned(dataset, tmp_path, "retain_longitudinal_modified_dates"))
    differences = set()
    for new in shifted:
        if new.VR == "DA" and new.value:
            old = dataset[new.tag].value
            differences.add((datetime.date.fromisoformat(old) - datetime.date.fromisoformat(new.value)).days)
    assert len(differences) == 1
    assert 1 <= differences.pop() <= 3650
    assert sum(element.VR == "DA" for element in shifted) > 50
    assert shifted.PatientBirthDate == ""
    texts = {element.keyword for element in shifted if element.VR not in ("DA", "DT", "TM")}
    assert not texts & holders(tmp_path / "out.dcm", found)


def test_every_option_is_tested_here() -> None:
    tested = {"clean_pixel_data", "clean_graphics", "clean_structured_content", "clean_descriptors"}
    tested |= {"retain_safe_private", "retain_patient_characteristics", "retain_institution", "retain_uids"}
    assert set(options.OPTIONS) == tested | {"retain_device_identity", "retain_longitudinal_modified_dates"}


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO 2022 IR 87", "ISO_IR 144", "GB18030"])
def test_names_in_other_scripts_are_gone(charset, tmp_path) -> None:
    name = {"ISO_IR 144": "Люкceмбypг", "GB18030": "王小东"}.get(charset, "山田太郎")
    dataset = canaries.base("MR")
    dataset.SpecificCharacterSet = ["", charset] if charset.startswith("ISO 2022") else charset
    for keyword in ("PatientName", "OperatorsName", "StudyDescription", "SeriesDescription", "Manufacturer"):
        setattr(dataset, keyword, name)
    target = cleaned(dataset, tmp_path, "clean_descriptors")
    codes = {"ISO_IR 144": "iso8859_5", "GB18030": "gb18030", "ISO 2022 IR 87": "iso2022_jp"}
    encoded = name.encode(codes.get(charset, "utf-8"))
    assert encoded[3:9] in (tmp_path / "in.dcm").read_bytes()
    assert encoded[3:9] not in target.read_bytes()


def test_a_deflated_file_holds_nothing_inside(tmp_path) -> None:
    dataset, found = planted("CT", "by_the_table")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    target = cleaned(dataset, tmp_path)
    assert pydicom.dcmread(target).file_meta.TransferSyntaxUID == pydicom.uid.DeflatedExplicitVRLittleEndian
    assert sum(map(len, found.left((tmp_path / "in.dcm").read_bytes()).values())) == found.count()
    assert found.left(target.read_bytes()) == {}
