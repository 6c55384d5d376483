"""Headers that contradict each other, the standard, or belief: told by series, and never a reason to refuse."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pydicom
import pytest

from medkeras import config
from medkeras.audit import facts as stated
from medkeras.audit import survey
from medkeras.data import dicom
from medkeras.data.readers.dicom import inspect
from medkeras.workflows import audit
from tests.data.dicom import scans

MADE_UP = {"PixelSpacing": [1, 1], "SliceThickness": 1, "FrameOfReferenceUID": scans.uid("one frame")}
TILTED = (1.0, 0.0, 0.0, 0.0, 0.96, 0.28)


def told(folder: pathlib.Path, view: str = "slices") -> list[str]:
    found = dicom.load(str(folder), config.DataConfig(view=view))
    return [f"{pathlib.Path(each.path).name}: {each.reason}" for each in found.problems if each.kind == "header"]


@pytest.mark.parametrize("view", ["slices", "volumes"])
def test_geometry_that_a_program_made_up(tmp_path, view) -> None:
    scans.write_series(tmp_path / "crop", [1.0, 2.0, 3.0], **MADE_UP)
    (alone,) = told(tmp_path, view)
    assert alone == (
        "crop: the geometry looks made up: corners at 0, 0 of the patient, no tilt, pixels and steps of exactly 1 mm"
    )
    scans.write_series(tmp_path / "scan", [0.0, 3.0, 6.0], orientation=TILTED, FrameOfReferenceUID=scans.uid("other"))
    assert told(tmp_path, view) == [alone]
    frame = MADE_UP["FrameOfReferenceUID"]
    scans.write_series(tmp_path / "scan", [0.0, 3.0, 6.0], orientation=TILTED, FrameOfReferenceUID=frame)
    assert told(tmp_path, view) == [f"{alone}; and the frame of reference is that of a series that is tilted"]


@pytest.mark.parametrize(
    ("heights", "attributes"),
    [
        ([0.0, 3.0, 6.0], {}),
        ([0.0, 1.0, 3.0], {"PixelSpacing": [1, 1]}),
        ([0.0, 1.0, 2.0], {"PixelSpacing": [1, 0.98]}),
        ([0.0, 1.0, 2.0], {"PixelSpacing": [1, 1], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
        ([1.0], {"PixelSpacing": [1, 1]}),
    ],
)
def test_geometry_that_may_be_true(tmp_path, heights, attributes) -> None:
    scans.write_series(tmp_path / "scan", heights, **attributes)
    assert told(tmp_path) == []


def located(folder: pathlib.Path, locations: list[float], orientation: tuple[float, ...] = scans.AXIAL) -> None:
    """Slices 3 mm apart, and what SliceLocation says of each."""
    normal = np.cross(orientation[:3], orientation[3:])
    for number, location in enumerate(locations):
        scans.write(
            folder / f"{number}.dcm",
            scans.plain(number),
            ImageOrientationPatient=list(orientation),
            ImagePositionPatient=[f"{value:.4f}" for value in 3 * number * normal],
            SliceLocation=f"{location:.4f}",
        )


@pytest.mark.parametrize(
    ("locations", "step"),
    [
        ([0.0, 3.0, 6.0, 9.0], ""),
        ([52.5, 55.51, 58.5, 61.5], ""),
        ([9.0, 6.0, 3.0, 0.0], ""),
        ([0.0, 2.88, 5.76, 8.64], "a step of 2.88 mm where they are 3 mm apart"),
        ([0.0, 6.0, 3.0, 9.0], "a step of -3 mm where they are 3 mm apart"),
        ([0.0, 0.0, 0.0, 0.0], "a step of 0 mm where they are 3 mm apart"),
    ],
)
@pytest.mark.parametrize("orientation", [scans.AXIAL, TILTED])
def test_slice_location(tmp_path, locations, step, orientation) -> None:
    located(tmp_path / "scan", locations, orientation)
    sentence = f"scan: SliceLocation contradicts the positions, which are believed: {step}"
    assert told(tmp_path) == ([sentence] if step else [])


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ({"PatientPosition": None}, "PatientPosition"),
        ({"EchoTime": None, "PatientSex": None}, "PatientSex, EchoTime"),
        ({"ScanOptions": ""}, ""),
        ({"SOPClassUID": scans.CT}, "RescaleIntercept, RescaleSlope, KVP"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "PatientPosition": None}, ""),
    ],
)
def test_what_a_class_requires(tmp_path, absent, words) -> None:
    scans.write(tmp_path / "scan" / "0.dcm", **absent)
    scans.write(tmp_path / "scan" / "1.dcm", ImagePositionPatient=[0, 0, 3], SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    expected = [f"0.dcm: 1 of 2 files lack what their class requires: {words}"] if words else []
    assert [line.replace("scan:", "0.dcm:") for line in told(tmp_path)] == expected


def test_an_oriented_table_needs_no_patient_position(tmp_path) -> None:
    made = scans.dataset(scans.plain(0), PatientPosition=None)
    made.PatientOrientationCodeSequence = [scans.Dataset()]
    scans.save(made, tmp_path / "0.dcm")
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("dates", "is_told"),
    [
        ({"StudyDate": "20200119", "AcquisitionDate": "19970117"}, True),
        ({"StudyDate": "20200119", "AcquisitionDate": "20200120"}, False),
        ({"StudyDate": "20200119", "AcquisitionDate": ""}, False),
        ({"StudyDate": "20200119", "AcquisitionDate": "1997"}, False),
        ({"AcquisitionDate": "19970117"}, False),
    ],
)
def test_an_acquisition_belongs_to_its_study(tmp_path, dates, is_told) -> None:
    with pydicom.config.disable_value_validation():
        scans.write(tmp_path / "0.dcm", **dates)
    sentence = "0.dcm: 1 of 1 files were acquired more than a day before or after their study began"
    assert told(tmp_path) == ([sentence] if is_told else [])


@pytest.mark.parametrize(
    ("times", "is_told"), [(("112200", "010313"), True), (("112200", "112200.00"), False), (("112200", ""), False)]
)
def test_a_study_begins_once(tmp_path, times, is_told) -> None:
    for name, time in zip("ab", times, strict=True):
        scans.write_series(tmp_path / name, [0.0, 3.0], StudyDate="20200119", StudyTime=time)
    sentence = "a: a study begins once. Received: its files state 2 dates and times"
    assert told(tmp_path) == ([sentence] if is_told else [])


def test_dates_are_not_repeated(tmp_path) -> None:
    scans.write(tmp_path / "0.dcm", StudyDate="20200119", AcquisitionDate="19970117", PatientPosition=None)
    assert "2020" not in " ".join(told(tmp_path))
    assert "1997" not in " ".join(told(tmp_path))


def records_of(folder: pathlib.Path) -> list[survey.Record]:
    case_set = dicom.load(str(folder), config.DataConfig())
    return list(survey.survey(case_set).records)


def windowed(folder: pathlib.Path, center: object, width: object, **attributes: object) -> None:
    """Values of 100 to 214: 100 to 154 in the first slice."""
    for number in range(3):
        scans.write(
            folder / f"{number}.dcm",
            scans.plain(100 + 30 * number),
            **{
                "ImagePositionPatient": [0, 0, 3 * number],
                "WindowCenter": center,
                "WindowWidth": width,
                "InstanceNumber": number,
                **attributes,
            },
        )


@pytest.mark.parametrize(
    ("center", "width", "attributes", "poor"),
    [
        (157, 115, {}, 0),
        (200, 30, {"SOPClassUID": scans.CT, "Modality": "CT"}, 0),
        (470, 950, {}, 3),
        (50, 20, {}, 3),
        ([470, 157], [950, 115], {}, 0),
        (130, 40, {}, 3),
        (130, 40, {"SOPClassUID": scans.CT, "Modality": "CT"}, 0),
        (157, 115, {"PhotometricInterpretation": "MONOCHROME1"}, 0),
        (3938, 115, {"PhotometricInterpretation": "MONOCHROME1"}, 3),
        (None, None, {}, 0),
    ],
)
def test_windows_that_hide_the_picture(tmp_path, center, width, attributes, poor) -> None:
    """One centred among the values of the series hides none of its images; CT windows are narrow."""
    windowed(tmp_path / "scan", center, width, **attributes)
    records = records_of(tmp_path)
    taken = stated.take(records)
    assert sum(stated.POOR_WINDOW in each for each in taken.values()) == poor
    told_of = stated.poor_windows(records, taken)
    if not poor:
        assert told_of == []
    else:
        ((path, reason),) = told_of
        assert path == str(tmp_path / "scan")
        assert reason.endswith("Received: 3 of 100 to 214" if "PhotometricInterpretation" not in attributes else "95")


def test_a_series_is_described_by_its_first_dicom_file(tmp_path) -> None:
    scans.write_series(tmp_path / "scan", [0.0, 3.0, 6.0], Manufacturer="Maker")
    (tmp_path / "scan" / "0.txt").write_text("notes that sort before the images")
    case_set = dicom.load(str(tmp_path), config.DataConfig(view="volumes"))
    taken = stated.take(survey.survey(case_set).records)
    assert taken == {
        "scan": {
            "modality": "MR",
            "manufacturer": "Maker",
            "photometric_interpretation": "MONOCHROME2",
            "bits_stored": "12",
        }
    }


def test_facts_of_a_header_without_any(tmp_path) -> None:
    scans.write(tmp_path / "0.dcm", SliceLocation="", PatientPosition=None)
    found = inspect(str(tmp_path / "0.dcm"))
    assert (found["slice_location"], found["study_began"], found["acquired_apart"]) == (None, "", False)
    assert found["lacking"] == ["PatientPosition"]


def test_every_fault_of_real_studies_is_told(real_data, tmp_path) -> None:
    """A script of its own and dciodvfy found these: both crops claim a window of 470 ± 475, and no tilt."""
    place = real_data / "dicom_mri"
    settings = config.Config().override({"data.source": f"dicom:{place}", "data.view": "volumes"})
    audit.audit_data(settings, output=tmp_path / "audit")
    found = json.loads((tmp_path / "audit" / audit.JSON).read_text(encoding="utf-8"))
    lines = [f"{pathlib.Path(each['path']).name}: {each['reason']}" for each in found["headers"]]
    for name, words in (
        ("13_HCropVolume", "geometry looks made up"),
        ("13_HCropVolume", "the frame of reference is that of a series that is tilted"),
        ("14_HCropVolume", "geometry looks made up"),
        ("13_HCropVolume", "32 of 32 files lack what their class requires: PatientBirthDate, PatientSex, PatientPos"),
        ("14_HCropVolume", "35 of 35 files lack what their class requires: PatientBirthDate, PatientSex, PatientPos"),
        ("12-T1post-05670", "a step of 6.265 mm where they are 6.5 mm apart"),
        ("12-T1post-05670", "22 of 22 files were acquired more than a day"),
        ("12-T1post-05670", "a study begins once"),
        ("14-T1post-22014", "a study begins once"),
        ("13_HCropVolume", "a window shows the values"),
        ("14_HCropVolume", "a window shows the values"),
    ):
        assert any(line.startswith(f"{name}: ") and words in line for line in lines), (name, words)
    assert len(lines) == 10
    assert len(found["identity"]) == 2
