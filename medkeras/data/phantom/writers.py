"""Phantoms on disk: class folders, a table, DICOM series, NIfTI volumes.

Reference:
    DICOM PS3.3 C.8.3 (MR image) and C.7.6.2 (image plane); the NIfTI-1 data format.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import pathlib
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import nibabel
import numpy as np
import pydicom
import pydicom.uid
from PIL import Image

from medkeras import errors
from medkeras.data.phantom import generator

COLUMNS = ("case_id", "path", "patient_id", "split", "label", "grade", "treatment", "age", "sex", "time", "event")
LABEL_COLUMNS = ("path", "patient_id", "split", "label")
"""Of `labels.csv` beside DICOM series and NIfTI volumes."""
DICOM_SCALE = 16
"""Stored value of a DICOM file for one grey level of the 8-bit image."""

_DICOM_CONSTANTS: types.MappingProxyType[str, Any] = types.MappingProxyType(
    {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "Modality": "MR",
        "Manufacturer": "medkeras",
        "ManufacturerModelName": "phantom",
        "SeriesDescription": "phantom",
        "PatientBirthDate": "",
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "",
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "RepetitionTime": None,
        "EchoTime": None,
        "EchoTrainLength": None,
        "BodyPartExamined": "HEAD",
        "PatientPosition": "HFS",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": 128 * DICOM_SCALE,
        "WindowWidth": 256 * DICOM_SCALE,
    }
)
"""What every file says: a magnitude image of the MR Image Storage class, axial, head first, supine."""


def write(slices: Iterable[generator.PhantomSlice], directory: str | pathlib.Path, *, layout: str) -> None:
    """Writes slices, patient by patient, into a directory that is made where it is missing.

    Args:
        slices: Slices in the order of `phantom.slices`; they are taken one patient at a time.
        directory: Where to write; files of the same name are replaced.
        layout: `folder`: `SPLIT/CLASS/CASE.png`; `csv`: `cases.csv`, `images/CASE.png` and `masks/CASE.png` (0 none,
            1 core, 2 oedema); `dicom`: `PATIENT/CASE.dcm`, one series a patient; `nifti`: `PATIENT.nii.gz` and
            `PATIENT_labels.nii.gz`, float32 and uint8 volumes. These two come with `labels.csv`, a row a patient:
            `path` (the folder, or the volume), `patient_id`, `split`, `label`.

    Raises:
        UserError: The layout is unknown, or a NIfTI volume has unevenly spaced slices.
    """
    if layout not in _WRITERS:
        raise errors.UserError(errors.unknown("layout", layout, _WRITERS))
    _WRITERS[layout](slices, pathlib.Path(directory))


def _write_folder(slices: Iterable[generator.PhantomSlice], directory: pathlib.Path) -> None:
    for one in slices:
        _save_png(one.stored(), directory / one.split / one.label / f"{one.case_id}.png")


def _write_csv(slices: Iterable[generator.PhantomSlice], directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for one in slices:
            path = f"images/{one.case_id}.png"
            _save_png(one.stored(), directory / path)
            _save_png(one.mask, directory / "masks" / f"{one.case_id}.png")
            table.writerow({"path": path, **{name: getattr(one, name) for name in COLUMNS if name != "path"}})


def _write_dicom(slices: Iterable[generator.PhantomSlice], directory: pathlib.Path) -> None:
    rows = []
    for patient_id, stack in _by_patient(slices):
        rows.append(_label_row(patient_id, stack))
        folder = directory / patient_id
        folder.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(stack, start=1):
            header = pydicom.Dataset()
            for keyword, value in _dicom_attributes(one, stack, number).items():
                setattr(header, keyword, value)
            header.file_meta = pydicom.dataset.FileMetaDataset()
            header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            header.save_as(folder / f"{one.case_id}.dcm", enforce_file_format=True)
    _write_labels(rows, directory)


def _write_nifti(slices: Iterable[generator.PhantomSlice], directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient_id, stack in _by_patient(slices):
        affine = _affine(stack)
        rows.append(_label_row(f"{patient_id}.nii.gz", stack))
        for name, planes in (("", [one.image for one in stack]), ("_labels", [one.mask for one in stack])):
            volume = nibabel.Nifti1Image(np.stack([plane.T for plane in planes], axis=-1), affine)
            volume.header.set_xyzt_units("mm")
            nibabel.save(volume, directory / f"{patient_id}{name}.nii.gz")
    _write_labels(rows, directory)


def _label_row(path: str, stack: list[generator.PhantomSlice]) -> tuple[str, ...]:
    """Returns a row of `LABEL_COLUMNS`: the slices of a patient share the label."""
    return path, stack[0].patient_id, stack[0].split, stack[0].label


def _write_labels(rows: Iterable[tuple[str, ...]], directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([LABEL_COLUMNS, *rows])


def _by_patient(slices: Iterable[generator.PhantomSlice]) -> Iterator[tuple[str, list[generator.PhantomSlice]]]:
    """Yields each patient's slices from the lowest to the highest."""
    for patient_id, stack in itertools.groupby(slices, key=lambda one: one.patient_id):
        yield patient_id, sorted(stack, key=lambda one: one.position_mm)


def _gap(stack: list[generator.PhantomSlice]) -> float:
    """Returns the mean distance of neighbouring slices in mm, 5 for a single one."""
    if len(stack) == 1:
        return 5.0
    return (stack[-1].position_mm - stack[0].position_mm) / (len(stack) - 1)


def _affine(stack: list[generator.PhantomSlice]) -> np.ndarray:
    """Returns the voxel-to-mm matrix `[4, 4]` in RAS+: columns run to the patient's left, rows to the back."""
    gap, (row, column) = _gap(stack), stack[0].spacing_mm
    gaps = np.diff([one.position_mm for one in stack])
    if not np.allclose(gaps, gap, atol=1e-6):
        raise errors.UserError(
            "A NIfTI volume needs evenly spaced slices, as 1 to 5, 9 or 17 slices a patient are. "
            f"Received: slices_per_patient={len(stack)}"
        )
    left, back = _corner(stack[0])
    return np.array(
        [
            [-column, 0.0, 0.0, -left],
            [0.0, -row, 0.0, -back],
            [0.0, 0.0, gap, stack[0].position_mm],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def _corner(one: generator.PhantomSlice) -> tuple[float, float]:
    """Returns the centre of the first pixel in mm, to the left and to the back, the field's centre being zero."""
    (height, width), (row, column) = one.image.shape, one.spacing_mm
    return -column * (width - 1) / 2.0, -row * (height - 1) / 2.0


def _dicom_attributes(one: generator.PhantomSlice, stack: list[generator.PhantomSlice], number: int) -> dict[str, Any]:
    study, gap, (left, back) = f"{one.patient_id}-{one.image.shape[0]}", _gap(stack), _corner(one)
    return {
        **_DICOM_CONSTANTS,
        "SOPInstanceUID": _uid(f"{study}-{one.case_id}"),
        "StudyInstanceUID": _uid(f"{study}-study"),
        "SeriesInstanceUID": _uid(f"{study}-series"),
        "FrameOfReferenceUID": _uid(f"{study}-frame"),
        "PatientName": f"Phantom^{one.patient_id}",
        "PatientID": one.patient_id,
        "PatientSex": one.sex,
        "PatientAge": f"{round(one.age):03d}Y",
        "InstanceNumber": number,
        "ImagePositionPatient": [f"{value:.6f}" for value in (left, back, one.position_mm)],
        "PixelSpacing": [f"{value:.6f}" for value in one.spacing_mm],
        "SliceThickness": f"{gap:.6f}",
        "SpacingBetweenSlices": f"{gap:.6f}",
        "SliceLocation": f"{one.position_mm:.6f}",
        "Rows": one.image.shape[0],
        "Columns": one.image.shape[1],
        "PixelData": np.rint(one.image * DICOM_SCALE).astype("<u2").tobytes(),
    }


def _uid(name: str) -> str:
    """Returns the DICOM UID of a name, of the UUID-derived form (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], 'big')}"


def _save_png(pixels: np.ndarray, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


_WRITERS: types.MappingProxyType[str, Callable[[Iterable[generator.PhantomSlice], pathlib.Path], None]]
_WRITERS = types.MappingProxyType(
    {"folder": _write_folder, "csv": _write_csv, "dicom": _write_dicom, "nifti": _write_nifti}
)
