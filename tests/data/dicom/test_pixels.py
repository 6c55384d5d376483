"""Pixels of real files: as pydicom reads them, and the same from every lossless encoding."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import time

import numpy as np
import pydicom
import pytest

from medkeras import errors
from medkeras.data.readers import dicom
from medkeras.data.readers.dicom import picture
from tests.data.dicom import bundled_table, making

ROOT = pathlib.Path(__file__).parents[3]
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "rows, columns and samples",
    "MR_truncated.dcm": "8192 bytes. Received: 8130",
    "badVR.dcm": "NumberOfFrames is a number",
    "meta_missing_tsyntax.dcm": "names its transfer syntax",
    "nested_priv_SQ.dcm": "states its BitsAllocated",
}
# Files of the same pixels, without loss: native, big endian, RLE, JPEG lossless, JPEG-LS, JPEG 2000.
TWINS = [
    ("MR_small.dcm", "MR_small_bigendian.dcm"),
    ("MR_small.dcm", "MR_small_expb.dcm"),
    ("MR_small.dcm", "MR_small_implicit.dcm"),
    ("MR_small.dcm", "MR_small_padded.dcm"),
    ("MR_small.dcm", "MR_small_RLE.dcm"),
    ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm"),
    ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
    ("liver_1frame.dcm", "liver_expb_1frame.dcm"),
    ("rtdose.dcm", "rtdose_expb.dcm"),
    ("rtdose.dcm", "rtdose_rle.dcm"),
    ("rtdose_1frame.dcm", "rtdose_expb_1frame.dcm"),
    ("rtdose_1frame.dcm", "rtdose_rle_1frame.dcm"),
]
ENCODERS = [
    (("dcmcrle",), "1.2.840.10008.1.2.5"),
    (("dcmcjpeg", "+el"), "1.2.840.10008.1.2.4.57"),
    (("dcmcjpeg", "+e1"), "1.2.840.10008.1.2.4.70"),
    (("dcmcjpls", "+el"), "1.2.840.10008.1.2.4.80"),
    (("dcmconv", "+td"), "1.2.840.10008.1.2.1.99"),
]
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def test_there_are_as_many_bundled_files_as_the_table_was_made_for() -> None:
    assert len(bundled_table.names()) == 95


@pytest.mark.parametrize("name", bundled_table.names())
def test_bundled_file_is_read_as_pydicom_reads_it_or_refused(name) -> None:
    *_, form, outcome = bundled_table.row(name)
    if name in REFUSED:
        assert outcome.startswith("refused: ")
        assert REFUSED[name] in outcome
    elif name in bundled_table.NO_REFERENCE:
        assert outcome.startswith("read")
    else:
        assert outcome.split(",")[0] == "equal", form


def test_the_table_in_the_docs_is_what_the_code_does() -> None:
    page = (ROOT / "docs" / "dicom.md").read_text(encoding="utf-8").splitlines()
    start = page.index(f"| {' | '.join(bundled_table.HEAD)} |")
    assert page[start : start + 97] == bundled_table.table()


@pytest.mark.parametrize(("plain", "encoded"), TWINS)
def test_lossless_twins_have_equal_pixels(plain, encoded) -> None:
    np.testing.assert_array_equal(dicom.read(making.bundled(plain)), dicom.read(making.bundled(encoded)))


def test_extended_jpeg_of_twelve_bits_is_the_picture_of_its_jpeg_2000_twin() -> None:
    lossy, other = (dicom.read(making.bundled(name)) for name in ("JPGExtended.dcm", "JPEG2000.dcm"))
    assert lossy.dtype == np.uint16
    assert np.corrcoef(lossy.ravel(), other.ravel())[0, 1] > 0.9


def tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"dcmtk's {name} is not installed")
    return found


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_extended_jpeg_of_twelve_bits_equals_dcmtk(name, tmp_path) -> None:
    subprocess.run([tool("dcmdjpeg"), making.bundled(name), tmp_path / "plain.dcm"], check=True, capture_output=True)
    np.testing.assert_array_equal(dicom.read(making.bundled(name)), dicom.read(str(tmp_path / "plain.dcm")))


@pytest.mark.parametrize(("command", "syntax"), ENCODERS, ids=[syntax for _, syntax in ENCODERS])
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "examples_rgb_color.dcm"])
def test_what_dcmtk_compresses_without_loss_is_read_without_loss(name, command, syntax, tmp_path) -> None:
    made = tmp_path / "made.dcm"
    subprocess.run([tool(command[0]), *command[1:], making.bundled(name), made], check=True, capture_output=True)
    assert dicom.inspect(str(made))["transfer_syntax_uid"] == syntax
    np.testing.assert_array_equal(dicom.read(str(made)), dicom.read(making.bundled(name)))


@pytest.mark.parametrize("name", ["rtdose.dcm", "SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
def test_a_frame_is_the_same_alone_and_among_all(name) -> None:
    path = making.bundled(name)
    values = dicom.read(path)
    for index in range(len(values)):
        np.testing.assert_array_equal(dicom.read(path, frame=index), values[index])


def test_a_frame_that_is_not_there_is_refused() -> None:
    with pytest.raises(errors.RefusalError, match="between 0 and 14. Received: 15"):
        dicom.read(making.bundled("rtdose.dcm"), frame=15)


def test_real_scans_are_read(real_data) -> None:
    paths = sorted((real_data / "dicom_mri").rglob("*.dcm"))
    assert len(paths) == 113
    for path in paths:
        facts, values = dicom.inspect(str(path)), dicom.read(str(path))
        assert values.shape == (facts["rows"], facts["columns"], 1)
        made = pydicom.dcmread(path)
        np.testing.assert_array_equal(values[..., 0], made.pixel_array)
        assert facts["positions"] == [list(map(float, made.ImagePositionPatient))]
        assert facts["spacing"] == list(map(float, made.PixelSpacing))
        assert facts["patient_id"] == made.PatientID


def fastest(call, count: int = 5) -> float:
    seconds = []
    for _ in range(count):
        picture.forget()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_a_slice_of_512_is_read_in_ten_milliseconds(tmp_path) -> None:
    elements = {"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "-1024", "BitsStored": 12, "HighBit": 11}
    path = making.write(making.image(making.ramp(512, 512), **elements), tmp_path / "ct.dcm")
    assert fastest(lambda: dicom.inspect(path)) < 0.005
    assert fastest(lambda: dicom.read(path)) < 0.010
