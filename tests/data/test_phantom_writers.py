"""What is written comes back: PNG by Pillow, DICOM by pydicom, NIfTI by nibabel."""

import csv

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from medkeras import errors
from medkeras.data import phantom
from medkeras.data.phantom import writers


@pytest.fixture(scope="module")
def drawn():
    return list(phantom.slices(patients=4, slices_per_patient=3, image_size=40, seed=2))


def test_folder_names_split_and_class(drawn, tmp_path):
    phantom.write(drawn, tmp_path, layout="folder")
    assert len(list(tmp_path.rglob("*.png"))) == len(drawn)
    for one in drawn:
        with Image.open(tmp_path / one.split / one.label / f"{one.case_id}.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), np.rint(one.image))


def test_csv_holds_the_truth(drawn, tmp_path):
    phantom.write(iter(drawn), tmp_path, layout="csv")
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == writers.COLUMNS
    for one, row in zip(drawn, rows, strict=True):
        assert (row["case_id"], row["split"], row["label"]) == (one.case_id, one.split, one.label)
        assert (int(row["grade"]), float(row["time"]), int(row["event"])) == (one.grade, one.time, one.event)
        with Image.open(tmp_path / row["path"]) as image:
            np.testing.assert_array_equal(np.asarray(image), one.stored())
        with Image.open(tmp_path / "masks" / f"{one.case_id}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), one.mask)


def test_dicom_keeps_values_and_geometry(drawn, tmp_path):
    phantom.write(drawn, tmp_path, layout="dicom")
    files = {one.case_id: pydicom.dcmread(tmp_path / one.patient_id / f"{one.case_id}.dcm") for one in drawn}
    for one in drawn:
        file = files[one.case_id]
        np.testing.assert_array_equal(file.pixel_array, np.rint(one.image * writers.DICOM_SCALE))
        assert file.file_meta.MediaStorageSOPClassUID.name == "MR Image Storage"
        assert file.SOPInstanceUID.is_valid
        assert float(file.PixelSpacing[0]) == pytest.approx(one.spacing_mm[0], abs=1e-6)
        assert float(file.ImagePositionPatient[2]) == pytest.approx(one.position_mm, abs=1e-6)
    assert len({file.SOPInstanceUID for file in files.values()}) == len(drawn)
    assert len({file.SeriesInstanceUID for file in files.values()}) == 4
    lowest = sorted((files[one.case_id] for one in drawn[:3]), key=lambda file: file.InstanceNumber)
    assert [file.SliceLocation for file in lowest] == sorted(file.SliceLocation for file in lowest)


def test_dicom_identifiers_depend_on_the_seed_alone(drawn, tmp_path):
    for name in ("first", "second"):
        phantom.write(drawn[:1], tmp_path / name, layout="dicom")
    first, second = (pydicom.dcmread(next((tmp_path / name).rglob("*.dcm"))) for name in ("first", "second"))
    assert first == second
    other = next(phantom.slices(patients=1, image_size=40, seed=3))
    phantom.write([other], tmp_path / "other", layout="dicom")
    assert pydicom.dcmread(next((tmp_path / "other").rglob("*.dcm"))).StudyInstanceUID != first.StudyInstanceUID


def test_nifti_stacks_slices_from_low_to_high(drawn, tmp_path):
    phantom.write(drawn, tmp_path, layout="nifti")
    stack = sorted(drawn[:3], key=lambda one: one.position_mm)
    volume = nibabel.load(tmp_path / f"{stack[0].patient_id}.nii.gz")
    labels = nibabel.load(tmp_path / f"{stack[0].patient_id}_labels.nii.gz")
    for depth, one in enumerate(stack):
        np.testing.assert_array_equal(np.asarray(volume.dataobj)[:, :, depth].T, one.image)
        np.testing.assert_array_equal(np.asarray(labels.dataobj)[:, :, depth].T, one.mask)
        assert (volume.affine @ [0, 0, depth, 1])[2] == pytest.approx(one.position_mm, abs=1e-4)
    assert labels.get_data_dtype() == np.uint8
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
    np.testing.assert_allclose(volume.affine @ [19.5, 19.5, 0, 1], [0, 0, stack[0].position_mm, 1], atol=1e-4)


@pytest.mark.parametrize(("layout", "ending"), [("dicom", ""), ("nifti", ".nii.gz")])
def test_scans_come_with_a_table_of_their_labels(drawn, tmp_path, layout, ending):
    phantom.write(drawn, tmp_path, layout=layout)
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row, one in zip(rows, drawn[::3], strict=True):
        assert row == {
            "path": one.patient_id + ending,
            "patient_id": one.patient_id,
            "split": one.split,
            "label": one.label,
        }
        assert (tmp_path / row["path"]).exists()
    assert all(one.label == drawn[number // 3 * 3].label for number, one in enumerate(drawn))


def test_dicom_and_nifti_place_a_pixel_alike(drawn, tmp_path):
    one = drawn[0]
    phantom.write([one], tmp_path, layout="dicom")
    phantom.write([one], tmp_path, layout="nifti")
    file = pydicom.dcmread(next(tmp_path.rglob("*.dcm")))
    x, y, z = (float(value) for value in file.ImagePositionPatient)
    affine = nibabel.load(tmp_path / f"{one.patient_id}.nii.gz").affine
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], [-x, -y, z, 1], atol=1e-4)


def test_uneven_slices_are_no_nifti_volume(tmp_path):
    with pytest.raises(errors.UserError, match="evenly spaced .* Received: slices_per_patient=6"):
        phantom.write(phantom.slices(patients=1, slices_per_patient=6, image_size=16), tmp_path, layout="nifti")


def test_an_unknown_layout_names_the_nearest(tmp_path):
    with pytest.raises(errors.UserError, match="did you mean 'folder'"):
        phantom.write([], tmp_path, layout="folders")
