"""The larger files of the package pydicom-data (1.0.0, MIT), where it is installed."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom import pixels as dicom_pixels

from medkeras.data.readers import dicom

SPEC = importlib.util.find_spec("data_store")
FILES = {} if SPEC is None or SPEC.origin is None else {
    path.name: str(path) for path in pathlib.Path(SPEC.origin).parent.rglob("*.dcm")
}  # fmt: skip
TWINS = [
    ("693_UNCR.dcm", "693_J2KR.dcm"),
    ("MR2_UNCR.dcm", "MR2_J2KR.dcm"),
    ("RG1_UNCR.dcm", "RG1_J2KR.dcm"),
    ("RG3_UNCR.dcm", "RG3_J2KR.dcm"),
    ("US1_UNCR.dcm", "US1_J2KR.dcm"),
    # What a lossy encoder made, and what its own decoder made of that.
    ("MR2_UNCI.dcm", "MR2_J2KI.dcm"),
    ("RG1_UNCI.dcm", "RG1_J2KI.dcm"),
    ("RG3_UNCI.dcm", "RG3_J2KI.dcm"),
    ("US1_UNCI.dcm", "US1_J2KI.dcm"),
    # pydicom reads the palettes of big endian files in the wrong order.
    ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),
    ("OBXXXX1A_2frame.dcm", "OBXXXX1A_expb_2frame.dcm"),
    ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"),
    ("OBXXXX1A_2frame.dcm", "OBXXXX1A_rle_2frame.dcm"),
    # Segmented palettes.
    ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"),
    ("liver.dcm", "liver_expb.dcm"),
    ("emri_small.dcm", "emri_small_big_endian.dcm"),
    ("emri_small.dcm", "emri_small_RLE.dcm"),
    ("emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm"),
    ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"),
    ("SC_rgb.dcm", "SC_rgb_expb.dcm"),
    ("SC_rgb_16bit.dcm", "SC_rgb_expb_16bit.dcm"),
    ("SC_rgb_16bit_2frame.dcm", "SC_rgb_expb_16bit_2frame.dcm"),
    ("SC_rgb_32bit.dcm", "SC_rgb_expb_32bit.dcm"),
    ("SC_rgb_32bit_2frame.dcm", "SC_rgb_expb_32bit_2frame.dcm"),
    ("color-px.dcm", "color-pl.dcm"),
]
pytestmark = [
    pytest.mark.skipif(not FILES, reason="the package pydicom-data is not installed"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom"),
]


@pytest.mark.parametrize(("plain", "encoded"), TWINS)
def test_twins_have_equal_pixels(plain, encoded) -> None:
    np.testing.assert_array_equal(dicom.read(FILES[plain]), dicom.read(FILES[encoded]))


def test_enhanced_ct_is_rescaled_by_its_functional_groups() -> None:
    values, facts = dicom.read(FILES["eCT_Supplemental.dcm"]), dicom.inspect(FILES["eCT_Supplemental.dcm"])
    assert (values.min(), values.max(), values.shape) == (-1024, 172, (2, 512, 512, 1))
    assert facts["units"] == ""  # its rescale type is US, unspecified: a map of blood flow
    assert [position[2] for position in facts["positions"]] == [-159, -149]


def test_a_modality_lut_is_applied() -> None:
    made = pydicom.dcmread(FILES["mlut_18.dcm"])
    values = dicom.read(FILES["mlut_18.dcm"])
    np.testing.assert_array_equal(values[..., 0], dicom_pixels.apply_modality_lut(made.pixel_array, made))
    assert (values.min(), values.max()) == (0, 65535)


def test_a_monochrome1_radiograph_is_inverted() -> None:
    made = pydicom.dcmread(FILES["RG1_UNCR.dcm"])
    meant = dicom_pixels.apply_modality_lut(made.pixel_array, made).astype(float)
    assert np.corrcoef(dicom.read(FILES["RG1_UNCR.dcm"]).ravel(), meant.ravel())[0, 1] == pytest.approx(-1)
    assert dicom.inspect(FILES["RG1_UNCR.dcm"])["spacing"] is None


@pytest.mark.parametrize("name", ["vlut_04.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm"])
def test_what_a_file_wants_to_look_like(name) -> None:
    made = pydicom.dcmread(FILES[name])
    values, facts = dicom.read(FILES[name]), dicom.inspect(FILES[name])
    wanted = dicom_pixels.apply_voi_lut(made.pixel_array, made, prefer_lut=True).astype(float)
    shown = dicom.voi(values, facts)[..., 0]
    low, high = (0, 2 ** facts["voi_lut"]["bits"] - 1) if facts["voi_lut"] else (0, 2 ** facts["bits_stored"] - 1)
    np.testing.assert_allclose(shown, (wanted - low) * 255 / (high - low), atol=0.51)
