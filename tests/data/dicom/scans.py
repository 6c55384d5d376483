"""Tiny DICOM files, made with pydicom: a series whose slices hold their own height in the body."""

from __future__ import annotations

import pathlib

import numpy as np
import pydicom
import pydicom.uid
from pydicom.dataset import Dataset, FileMetaDataset

AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)
MR, CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4.1"
SIZE = (6, 5)


def uid(*names: object) -> str:
    """A valid UID, the same for the same names."""
    return pydicom.uid.generate_uid(entropy_srcs=[str(name) for name in names])


def plain(value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint16, brighter to the right and brighter still downwards, from `value` on."""
    rows, columns = np.indices(size)
    return (value + 10 * rows + columns).astype(np.uint16)


def dataset(pixels: np.ndarray, **attributes: object) -> Dataset:
    """An MR image of one plane `[H, W]` or of frames `[F, H, W]`; an attribute of None is left out."""
    values = {
        "SOPClassUID": MR,
        "SOPInstanceUID": uid("sop", attributes, pixels.tobytes()),
        "StudyInstanceUID": uid("study"),
        "SeriesInstanceUID": uid("series"),
        "Modality": "MR",
        "PatientName": "Doe^Jane",
        "PatientID": "007",
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": [0, 0, 0],
        "PixelSpacing": [2, 0.5],
        "SliceThickness": 3,
        "InstanceNumber": 1,
        "PatientBirthDate": "",
        "PatientSex": "",
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": uid("frame"),
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTime": 10,
        "EchoTrainLength": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        **attributes,
    }
    made = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(made, keyword, value)
    made.PixelData = pixels.astype("<u2").tobytes()
    return made


def save(made: Dataset, path: pathlib.Path) -> Dataset:
    """Writes a file, explicit VR little endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)
    return made


def write(path: pathlib.Path, pixels: np.ndarray | None = None, **attributes: object) -> Dataset:
    """Writes one image and returns its data set."""
    return save(dataset(plain(0) if pixels is None else pixels, **attributes), path)


def write_series(
    folder: pathlib.Path,
    heights: list[float],
    *,
    orientation: tuple[float, ...] = AXIAL,
    shuffle: int = 1,
    **attributes: object,
) -> None:
    """Writes a slice at each distance (mm) along the normal; names and numbers have nothing to do with the order.

    The slice at a height holds `plain(100 + 10 * height)`.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    order = np.random.default_rng(shuffle).permutation(len(heights))
    for name, index in enumerate(order):
        height = heights[index]
        options = {
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": [float(value) for value in normal * height],
            "InstanceNumber": name + 1,
            "SeriesInstanceUID": uid("series", folder.name),
            **attributes,
        }
        write(folder / f"{name:03d}.dcm", plain(int(100 + 10 * height)), **options)


def enhanced(folder: pathlib.Path, heights: list[float]) -> None:
    """Writes one multi-frame object whose frames lie at these heights, in this order."""
    made = dataset(np.stack([plain(int(100 + 10 * height)) for height in heights]), SOPClassUID=ENHANCED_MR,
                   ImageOrientationPatient=None, ImagePositionPatient=None, PixelSpacing=None, SliceThickness=None,
                   NumberOfFrames=len(heights))  # fmt: skip
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [2, 0.5], 3
    plane.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    made.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for height in heights:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, height]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = frames
    save(made, folder / "enhanced.dcm")
