"""DICOM files made for a test, and those that come with pydicom."""

from __future__ import annotations

import pathlib
import struct

import numpy as np
import pydicom
from pydicom import dataset as datasets
from pydicom import encaps, uid

BUNDLED = pathlib.Path(pydicom.__file__).parent / "data" / "test_files"


def bundled(name: str) -> str:
    return str(BUNDLED / name)


def ramp(rows: int = 6, columns: int = 8, *, low: int = 0, high: int = 4095, dtype: type = np.uint16) -> np.ndarray:
    """Returns a ramp from the lowest to the highest value, `[rows, columns]`."""
    return np.linspace(low, high, rows * columns).round().astype(dtype).reshape(rows, columns)


def image(pixels: np.ndarray, **elements: object) -> pydicom.Dataset:
    """Returns an uncompressed image of `[rows, columns]` or `[rows, columns, 3]`; None removes an element."""
    made = datasets.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3.4"
    made.Modality = "OT"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    made.add_new(0x7FE00010, "OW", data + bytes(len(data) % 2))
    for name, value in elements.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def write(made: pydicom.Dataset, path: pathlib.Path, syntax: str = uid.ExplicitVRLittleEndian) -> str:
    """Writes a data set as a file, and returns its name."""
    made.file_meta = datasets.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.save_as(path, enforce_file_format=True)
    return str(path)


def compressed(made: pydicom.Dataset, frames: list[bytes], path: pathlib.Path, syntax: str) -> str:
    """Writes an image with compressed frames, and returns its name."""
    made.add_new(0x7FE00010, "OB", encaps.encapsulate(frames))
    made["PixelData"].is_undefined_length = True
    return write(made, path, syntax)


def raw(path: pathlib.Path, body: bytes, syntax: str = uid.ExplicitVRLittleEndian, preamble: bytes = bytes(128)) -> str:
    """Writes a file around the bytes of a data set, and returns its name."""
    value = syntax.encode() + bytes(len(syntax) % 2)
    meta = struct.pack("<HH2sH", 2, 16, b"UI", len(value)) + value
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    path.write_bytes(preamble + b"DICM" + length + meta + body)
    return str(path)


def item(**elements: object) -> pydicom.Dataset:
    """Returns the item of a sequence."""
    made = datasets.Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def lut(values: list[int], first: int = 0, bits: int = 16, **elements: object) -> pydicom.Dataset:
    """Returns the item of a LUT sequence."""
    made = item(**elements)
    made.add_new("LUTDescriptor", "US", [len(values), first, bits])
    made.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    return made
