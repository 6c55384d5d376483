"""What stays outside the table: numbers that are no demographics, coded strings of known words, options as stated."""

from __future__ import annotations

import pathlib
import warnings

import pydicom
import pydicom._private_dict
import pydicom.datadict
import pytest
from pydicom.dataset import Dataset

from medkeras.privacy import allowed, file, options, table, terms
from tests.privacy import canaries

KEY = bytes(range(32))
CODES = {option.code: name for name, option in options.OPTIONS.items()}


@pytest.fixture
def ct() -> pydicom.FileDataset:
    return canaries.base("CT")


def cleaned(dataset: pydicom.FileDataset, folder: pathlib.Path, *chosen: str) -> pydicom.FileDataset:
    with canaries.unruly():
        source = canaries.save(dataset, folder / "in.dcm")
    done = file.deidentify_file(str(source), str(folder / "out.dcm"), relative="in", key=KEY, chosen=frozenset(chosen))
    assert done.reason == ""
    return pydicom.dcmread(folder / "out.dcm")


BODY = {"PatientBodyMassIndex": "24.2", "MeasuredAPDimension": "231", "MeasuredLateralDimension": "352"}


def test_numbers_that_follow_from_size_and_weight_go_with_them(ct, tmp_path) -> None:
    protocol = Dataset()
    for level in (ct, protocol):
        level.PatientSize, level.PatientWeight, level.ExaminedBodyThickness = "1.71", "70.8", 231.0
        for keyword, value in BODY.items():
            setattr(level, keyword, value)
    ct.SourceImageSequence = [protocol]
    new = cleaned(ct, tmp_path)
    for level in (new, new.SourceImageSequence[0]):
        assert not any(keyword in level for keyword in (*BODY, "ExaminedBodyThickness", "PatientSize", "PatientWeight"))
    kept = cleaned(ct, tmp_path, "retain_patient_characteristics")
    assert {keyword: str(kept[keyword].value) for keyword in BODY} == BODY
    assert (kept.PatientSize, kept.ExaminedBodyThickness) == (1.71, 231.0)


def test_no_number_of_the_patients_group_stays() -> None:
    kept = [
        keyword
        for tag, (vr, _, _, _, keyword) in pydicom.datadict.DicomDictionary.items()
        if tag >> 16 in (0x0010, 0x0032, 0x0038, 0x4008) and vr != "SQ" and tag not in table.ACTIONS
        and allowed.action(tag, vr, options=frozenset(options.OPTIONS) - {"retain_patient_characteristics"}) != "X"
    ]  # fmt: skip
    assert kept == ["SubjectRelativePositionInImage", "QualityControlSubject", "AnatomicalOrientationType"]


@pytest.mark.parametrize(
    ("value", "stays"),
    [
        *(
            (term, True)
            for term in ("HEAD", "LUNG", "HFS", "AXIAL", "ISO_10918_1", "14INX17IN", "REL_ELEC_DENSITY", "")
        ),
        *((term, True) for term in ("FS", "M", "WHOLEBODY", "BQML", "P10", "MONOCHROME2")),
        *((term, False) for term in ("DOE JOHN", "SMITHJONES", "JANE", "19710312", "123_456_789", "head", "A^B")),
    ],
)
def test_coded_strings_are_made_of_known_words(value, stays) -> None:
    assert (terms.clean(value) == value) is stays


def test_coded_strings_that_nobody_defined_are_emptied_at_every_level(ct, tmp_path) -> None:
    found = canaries.Canaries()
    inner = Dataset()
    for level, place in ((ct, "top"), (inner, "nested")):
        for tag, (vr, *_) in pydicom.datadict.DicomDictionary.items():
            if vr == "CS" and tag >> 16 > 6 and tag not in (0x00280004, 0x00080005, 0x00080064):
                level.add_new(tag, "CS", found.value(place, "CS"))
    ct.SourceImageSequence = [inner]
    ct.Modality, ct.BodyPartExamined, ct.ImageType = "CT", "DOE JOHN", ["ORIGINAL", "JANE", "AXIAL"]
    cleaned(ct, tmp_path)
    assert found.count() > 1200
    assert found.left((tmp_path / "out.dcm").read_bytes()) == {}
    new = pydicom.dcmread(tmp_path / "out.dcm")
    assert (new.Modality, new.BodyPartExamined, list(new.ImageType)) == ("CT", "", ["ORIGINAL", "", "AXIAL"])


def test_coded_strings_of_pydicoms_files_stay() -> None:
    kept, lost = 0, set()
    for path in canaries.FILES.rglob("*"):
        for value in coded(path):
            if terms.clean(value) == value:
                kept += 1
            else:
                lost.add(value)
    assert kept > 1100
    assert lost <= {"QCSUCCESS", "0001", "QIICR QIN IOWA", "MEDCOM OOG 2", "ISO 2022 IR 13", "ISO 2022 IR 87"}


def coded(path: pathlib.Path) -> list[str]:
    """Returns the coded strings of a file that is no directory."""
    try:
        with canaries.unruly(), warnings.catch_warnings(action="ignore"):
            dataset = pydicom.dcmread(path)
            list(dataset.iterall())
        if "DirectoryRecordSequence" in dataset:
            return []
        elements = [one for one in dataset.iterall() if one.VR == "CS" and int(one.tag) not in table.ACTIONS]
    except Exception:
        return []
    return [str(value).strip() for one in elements for value in (one.value if one.VM > 1 else [one.value]) if value]


@pytest.mark.parametrize(
    ("vr", "value"), [("IS", "12345678901"), ("IS", "1.5"), ("IS", "7e3"), ("DS", "0x7"), ("DS", "nan")]
)
def test_what_is_no_number_is_emptied(vr, value, ct, tmp_path) -> None:
    keyword = {"IS": "SeriesNumber", "DS": "SliceThickness"}[vr]
    with canaries.unruly():
        ct.add(canaries._raw(pydicom.datadict.tag_for_keyword(keyword), vr, value))
    assert cleaned(ct, tmp_path)[keyword].is_empty


def test_values_of_any_other_attribute_go(ct, tmp_path) -> None:
    item = Dataset()
    item.SelectorISValue, item.SelectorUSValue, item.SelectorFDValue = "19710312", 1971, 70.8
    ct.SourceImageSequence = [item]
    assert len(cleaned(ct, tmp_path).SourceImageSequence[0]) == 0


def number(concept: tuple[str, str, str], value: str) -> Dataset:
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = concept
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", "NUM", [name]
    measured = Dataset()
    measured.NumericValue = value
    item.MeasuredValueSequence = [measured]
    return item


def test_a_report_keeps_measurements_and_not_who_was_measured(tmp_path) -> None:
    report = canaries.base("SR")
    who = (("121033", "DCM", "Subject Age"), ("8302-2", "LN", "Patient Height"), ("27113001", "SCT", "Body weight"),
           ("X1", "99SITE", "Patient's Sex"))  # fmt: skip
    lesion = (("410668003", "SCT", "Length"), ("11727-5", "LN", "Estimated Weight"))
    report.ContentSequence = [number(concept, str(7130 + place)) for place, concept in enumerate((*who, *lesion))]
    new = cleaned(report, tmp_path, "clean_structured_content")
    values = [item.MeasuredValueSequence[0].NumericValue for item in new.ContentSequence]
    assert values == [7134, 7135]
    kept = cleaned(report, tmp_path, "clean_structured_content", "retain_patient_characteristics")
    assert len(kept.ContentSequence) == 6


def test_each_safe_private_attribute_is_a_number_of_pydicoms_dictionary() -> None:
    known = pydicom._private_dict.private_dictionaries
    kinds = [known[creator][f"{group:04X}xx{offset:02X}"][0] for creator, group, offset in allowed._SAFE_PRIVATE]
    assert len(kinds) == 11
    assert set(kinds) <= {"DS", "IS", "FL", "FD", "SL", "SS", "US", "UL"}


@pytest.mark.parametrize("chosen", [(), *((name,) for name in options.OPTIONS), tuple(options.OPTIONS)])
def test_the_codes_say_what_was_done(chosen, ct, tmp_path) -> None:
    new = cleaned(ct, tmp_path, *chosen)
    codes = [item.CodeValue for item in new.DeidentificationMethodCodeSequence]
    # The pixels of a CT were not touched, whatever was asked for.
    assert codes == ["113100", *sorted(options.OPTIONS[name].code for name in chosen if name != "clean_pixel_data")]
    shifted = "retain_longitudinal_modified_dates" in chosen
    assert new.LongitudinalTemporalInformationModified == ("MODIFIED" if shifted else "REMOVED")
    assert new.PatientIdentityRemoved == "YES"
    assert bool(new.StudyDate) is shifted


def test_masked_pixels_are_stated(tmp_path) -> None:
    new = cleaned(canaries.base("US"), tmp_path, "clean_pixel_data")
    assert [item.CodeValue for item in new.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert new.get("BurnedInAnnotation", "") != "NO"


def test_a_title_of_a_server_is_no_device(ct, tmp_path) -> None:
    ct.ScheduledStationAETitle, ct.StationName, ct.GPSTimeStamp = "QZ1XJ", "QZ2XJ", "101112"
    new = cleaned(ct, tmp_path, "retain_device_identity", "retain_longitudinal_modified_dates", "retain_uids")
    assert new.StationName == "QZ2XJ"
    assert not new.get("ScheduledStationAETitle")
    assert "GPSTimeStamp" not in new


def test_a_group_of_people_is_told_in_known_words(ct, tmp_path) -> None:
    ct.EthnicGroup, ct.PatientSex, ct.PatientAge = "Caucasian, Doe", "F", "097Y"
    new = cleaned(ct, tmp_path, "retain_patient_characteristics")
    assert (new.EthnicGroup, new.PatientSex, new.PatientAge) == ("Caucasian", "F", "090Y")
    bare = cleaned(ct, tmp_path)
    assert not any(bare.get(keyword) for keyword in ("EthnicGroup", "PatientSex", "PatientAge"))
