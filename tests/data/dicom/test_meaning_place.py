"""Where an image lies, how it wants to be looked at, and what is said of it."""

from __future__ import annotations

import itertools

import numpy as np
import pydicom
import pytest
from pydicom import pixels as dicom_pixels

from medkeras.data.readers import dicom
from tests.data.dicom import making

CT = {"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "-1024"}
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def opened(tmp_path, pixels: np.ndarray, **elements: object):
    """Writes an image, and returns what is read and what is said of it."""
    path = making.write(making.image(pixels, **elements), tmp_path / "made.dcm")
    return dicom.read(path), dicom.inspect(path)


# Geometry


def test_spacing_that_is_not_positive_is_none(tmp_path) -> None:
    for wrong in ([0, 0], [-1, 1], [1, 0]):
        _, facts = opened(tmp_path, making.ramp(), PixelSpacing=wrong)
        assert facts["spacing"] is None
        assert "PixelSpacing is no pair of positive numbers: there is no spacing" in facts["notes"]


def test_spacing_is_that_of_rows_then_of_columns(tmp_path) -> None:
    _, facts = opened(tmp_path, making.ramp(), PixelSpacing=[0.5, 0.25])
    assert facts["spacing"] == [0.5, 0.25]


@pytest.mark.parametrize("wrong", [[0] * 6, [1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 2, 0], [1, 0, 0]])
def test_an_orientation_that_is_none_leaves_no_geometry(wrong, tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(), ImageOrientationPatient=wrong, ImagePositionPatient=[1, 2, 3])
    assert facts["orientation"] == [None]
    assert facts["positions"] == [[1, 2, 3]]
    assert any("there is no geometry" in note for note in facts["notes"])
    np.testing.assert_array_equal(values[..., 0], making.ramp())


def region(delta: float, units: int = 3) -> pydicom.Dataset:
    return making.item(PhysicalUnitsXDirection=units, PhysicalUnitsYDirection=units,
                PhysicalDeltaX=delta, PhysicalDeltaY=2 * delta)  # fmt: skip


@pytest.mark.parametrize(("regions", "spacing"), [
    ([region(0.05)], [1.0, 0.5]), ([region(0.05)] * 2, [1.0, 0.5]), ([region(0.05), region(0.06)], None),
    ([region(0.05, units=4)], None), ([region(-0.05)], None), ([], None),
])  # fmt: skip
def test_ultrasound_is_calibrated_by_its_regions(regions, spacing, tmp_path) -> None:
    _, facts = opened(tmp_path, making.ramp(), Modality="US", SequenceOfUltrasoundRegions=regions)
    assert facts["spacing"] == spacing
    assert any(("calibrated ultrasound region" if spacing else "not calibrated") in note for note in facts["notes"])


def test_pixels_that_are_not_square_are_noted(tmp_path) -> None:
    _, facts = opened(tmp_path, making.ramp(), PixelAspectRatio=[4, 3])
    assert any("the aspect ratio is 4 to 3" in note for note in facts["notes"])


# Display


def test_a_window_of_width_zero_is_ignored(tmp_path) -> None:
    elements = {"WindowCenter": [40, 50], "WindowWidth": [0, 100], "WindowCenterWidthExplanation": ["A", "B"]}
    values, facts = opened(tmp_path, making.ramp(), **elements)
    assert facts["windows"] == [[50, 100, "B"]]
    assert "a window without a positive width is ignored" in facts["notes"]
    assert dicom.voi(values, facts).dtype == np.uint8


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_is_applied_for_display_as_pydicom_does(function, tmp_path) -> None:
    elements = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 300, "WindowWidth": 800, "VOILUTFunction": function}
    path = making.write(making.image(making.ramp(20, 20), **elements, **CT), tmp_path / "made.dcm")
    values, made = dicom.read(path), pydicom.dcmread(path)
    wanted = dicom_pixels.apply_windowing(dicom_pixels.apply_modality_lut(made.pixel_array, made), made)
    low, high = -1024, 4095 - 1024
    shown = dicom.voi(values, dicom.inspect(path))[..., 0]
    np.testing.assert_allclose(shown, (wanted - low) * 255 / (high - low), atol=0.51)


def test_a_voi_lut_is_applied_for_display_alone(tmp_path) -> None:
    entries = np.linspace(65535, 0, 4096).round().astype(int).tolist()
    values, facts = opened(tmp_path, making.ramp(), VOILUTSequence=[making.lut(entries)])
    np.testing.assert_array_equal(values[..., 0], making.ramp())
    np.testing.assert_allclose(dicom.voi(values, facts)[..., 0], 255 - making.ramp() / 4095 * 255, atol=0.51)


def test_a_voi_lut_that_is_cut_short_is_ignored_and_noted(tmp_path) -> None:
    table = making.lut([1, 2, 3])
    table.LUTDescriptor = [500, 0, 16]
    _, facts = opened(tmp_path, making.ramp(), VOILUTSequence=[table])
    assert facts["voi_lut"] is None
    assert "the VOI LUT is damaged and is ignored" in facts["notes"]


def test_an_inverted_image_is_shown_by_the_window_that_its_file_means(tmp_path) -> None:
    elements = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 1000, "WindowWidth": 500}
    shown = []
    for name in ("MONOCHROME1", "MONOCHROME2"):
        values, facts = opened(tmp_path, making.ramp(20, 20), PhotometricInterpretation=name, **elements)
        shown.append(dicom.voi(values, facts).astype(int))
    np.testing.assert_array_equal(shown[0], 255 - shown[1])


def test_an_image_without_a_window_is_shown_over_its_range(tmp_path) -> None:
    values, facts = opened(tmp_path, making.ramp(low=500, high=1500))
    assert (dicom.voi(values, facts).min(), dicom.voi(values, facts).max()) == (0, 255)
    flat = dicom.voi(np.full((4, 4, 1), 7, np.uint16), facts)
    assert set(flat.ravel()) == {0}


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (32, np.uint32)])
def test_colours_are_shown_from_black_to_the_highest_value(bits, dtype, tmp_path) -> None:
    colours = np.repeat(making.ramp(high=2**bits - 1, dtype=dtype)[..., None], 3, -1)
    values, facts = opened(tmp_path, colours, BitsStored=bits, HighBit=bits - 1)
    shown = dicom.voi(values, facts)
    np.testing.assert_allclose(shown, colours * (255 / (2**bits - 1)), atol=0.51)


def test_no_window_touches_what_a_model_reads(tmp_path) -> None:
    plain, _ = opened(tmp_path, making.ramp())
    windowed, _ = opened(tmp_path, making.ramp(), WindowCenter=40, WindowWidth=80)
    np.testing.assert_array_equal(plain, windowed)


def test_facts_are_json_and_sentences_hold_no_identity(tmp_path) -> None:
    elements = {"PatientName": "SENTINEL^NAME", "PatientID": "SENTINEL", "BurnedInAnnotation": "YES"}
    _, facts = opened(tmp_path, making.ramp(), PatientSex="F", PatientAge="042Y", InstanceNumber=7, **elements)
    assert (facts["patient_id"], facts["burned_in"], facts["sex"]) == ("SENTINEL", True, "F")
    assert (facts["age"], facts["instance_number"]) == ("042Y", 7)
    assert all("SENTINEL" not in note for note in facts["notes"])
    assert all(type(one) in (str, int, float, bool, list, dict, type(None)) for one in facts.values())
    flat = itertools.chain(*(one for one in facts["positions"] + facts["orientation"] if one))
    assert all(type(one) is float for one in flat)
