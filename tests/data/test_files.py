"""DICOM and NIfTI files where image files may stand: tables, class folders, single files."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import pathlib

import numpy as np
import pydicom.data
import pytest

from medkeras import config, errors
from medkeras.data import files, folder, headers, prepare, table
from tests.data import hostile_files, images

SOURCE = files.FileImages()
BUNDLED = pathlib.Path(pydicom.data.__file__).parent / "test_files"
STORED = np.arange(256, dtype=np.float32).reshape(16, 16, 1)


def test_a_dicom_file_keeps_hounsfield_units_whatever_its_name(tmp_path):
    case = images.case(images.write(tmp_path, hostile_files.dicom(), "scan.png"))
    header = SOURCE.header(case)
    assert (header.height, header.width, header.channels, header.dtype) == (16, 16, 1, "float32")
    assert (header.units, header.depth, header.native) == ("HU", 0, False)
    np.testing.assert_array_equal(SOURCE.read(case, 1), STORED - 1024)
    np.testing.assert_array_equal(SOURCE.read(case, 3), np.repeat(STORED - 1024, 3, -1))


def test_frames_of_a_file_are_cases_or_a_volume(tmp_path):
    pixels = np.arange(3 * 256, dtype="<u2").tobytes()
    contents = hostile_files.dicom({0x00280008: (b"IS", b"3"), 0x7FE00010: (b"OW", pixels)})
    whole = images.case(images.write(tmp_path, contents))
    assert SOURCE.header(whole).depth == 3
    volume = SOURCE.read(whole, 1)
    assert volume.shape == (3, 16, 16, 1)
    for frame in range(3):
        case = dataclasses.replace(whole, frame=frame)
        assert SOURCE.header(case).depth == 0
        np.testing.assert_array_equal(SOURCE.read(case, 1), volume[frame])
    with pytest.raises(errors.BadInputError, match="frames are counted from 0 to 2. Received: 3"):
        SOURCE.header(dataclasses.replace(whole, frame=3))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_nifti_file_is_a_volume_or_its_slices(pack, tmp_path):
    whole = images.case(images.write(tmp_path, pack(hostile_files.nifti())))
    header, volume = SOURCE.header(whole), SOURCE.read(whole, 1)
    assert (header.depth, header.height, header.width, 1) == volume.shape == (6, 5, 4, 1)
    assert header.dtype == volume.dtype
    case = dataclasses.replace(whole, frame=2)
    assert SOURCE.header(case).depth == 0
    np.testing.assert_array_equal(SOURCE.read(case, 1), volume[2])


def test_a_nifti_file_of_one_slice_is_a_plane(tmp_path):
    contents = hostile_files.nifti(dim=(2, 10, 12, 1, 1, 1, 1, 1))
    case = images.case(images.write(tmp_path, contents))
    assert SOURCE.header(case).depth == 0
    assert SOURCE.read(case, 1).shape == (12, 10, 1)


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.dcm")), ids=lambda path: path.name)
def test_every_dicom_file_is_identified(path):
    if path.name == "no_meta.dcm":
        pytest.skip("lacks the first bytes of its first element")
    assert headers.identify(str(path)) == "DICOM"


@pytest.mark.parametrize(
    "contents",
    [
        b"\2\0\0\0" + bytes(100),
        b"\x08\0\5",
        b"\x08\0\5\0\xff\xff\xff\xff" + bytes(100),
        b"\0\x08\0\5" + bytes(100),
        gzip.compress(b"x" * 400),
    ],
)
def test_what_only_begins_like_a_medical_file(contents, tmp_path):
    with pytest.raises(errors.BadInputError, match="are read. Received: a file that"):
        headers.identify(str(images.write(tmp_path, contents)))


def test_a_table_of_many_formats_reaches_the_batch(tmp_path):
    magnetic = {0x00080060: (b"CS", b"MR"), 0x00281052: None, 0x00281053: None}
    formats = (
        hostile_files.dicom(magnetic),
        images.encoded(images.pillow(images.picture(16, 16, 1)), "PNG"),
        images.tiff(np.full((16, 16), 60_000, np.uint16)),
    )
    rows = []
    for number in range(12):
        images.write(tmp_path, formats[number % 3], f"{number}.bin")
        split = ("train", "validation", "test")[number // 6 + number // 9]
        rows.append((f"{number}.bin", "ab"[number // 3 % 2], split))
    with open(tmp_path / "cases.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    case_set = table.load(str(tmp_path / "cases.csv"), config.DataConfig())
    data = prepare.prepare(case_set, config.DataConfig(image_size=16, cache="memory"), folder=tmp_path)
    assert (data.canvas.dtype, data.canvas.channels) == ("uint16", 1)
    assert data.value_range == (0.0, 60_000.0)


def test_class_folders_of_dicom_files_say_that_patients_are_not_known(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        images.write(tmp_path / name, hostile_files.dicom(), "scan.DCM")
    case_set = folder.load(str(tmp_path))
    assert len(case_set.cases) == 2
    assert case_set.notes == ("2 DICOM files are read without their patients; dicom:DIR keeps patients together.",)
    assert list(folder.image_paths(tmp_path)) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_luma_fits_its_32_bits(dtype):
    random = np.random.default_rng(0)
    pixels = random.integers(0, np.iinfo(dtype).max, (50, 40, 3), dtype, endpoint=True)
    pixels[0] = np.iinfo(dtype).max
    exact = (pixels.astype(np.int64) @ np.array(headers.LUMA) + 2**15) // 2**16
    luma = files.with_channels(pixels, 1)
    assert luma.dtype == dtype
    np.testing.assert_array_equal(luma[..., 0], exact)
