"""The table of docs/dicom.md: every file with pixels that comes with pydicom, and what becomes of it.

`python -m tests.data.dicom.bundled_table` prints it.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pydicom
from pydicom import pixels as dicom_pixels

from medkeras import errors
from medkeras.data.readers import dicom
from tests.data.dicom import making

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
HEAD = ("file", "transfer syntax", "photometric interpretation", "values", "outcome")
# pydicom has no decoder of a permissive licence for these: a lossless twin, or dcmtk in test_pixels.py, stands in.
NO_REFERENCE = ("JPEG-lossy.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm")


def reference(path: str) -> np.ndarray | None:
    """Returns pydicom's values, as float64 and with modality LUT, palette and RGB; None where it has no decoder."""
    made = pydicom.dcmread(path)
    if path.endswith(NO_REFERENCE):
        return None
    values = made.pixel_array
    if made.PhotometricInterpretation == "PALETTE COLOR":
        values = dicom_pixels.apply_color_lut(values, made)
    elif made.SamplesPerPixel == 1:
        values = dicom_pixels.apply_modality_lut(values, made)
    return values.astype(np.float64)


def expected(path: str, facts: dict) -> np.ndarray | None:
    """Returns what `read` must give: the reference, mirrored for MONOCHROME1, in the data type of the facts."""
    values = reference(path)
    if values is None:
        return None
    values = values if facts["mirror"] is None else facts["mirror"] - values
    grey = (facts["frames"],) if facts["frames"] > 1 else ()
    return values.astype(facts["dtype"]).reshape(*grey, facts["rows"], facts["columns"], facts["channels"])


def padded(path: str) -> np.ndarray:
    """Returns which pixels are padding: `PixelPaddingValue`, and in CT what lies below a negative one."""
    made = pydicom.dcmread(path)
    values, value = made.pixel_array, made.get("PixelPaddingValue")
    if value is None:
        return np.zeros((*values.shape, 1), bool)
    return ((values == value) | (values <= value) & (value < 0 and made.Modality == "CT"))[..., None]


def names() -> list[str]:
    found = []
    for path in sorted(making.BUNDLED.rglob("*")):
        if path.is_file():
            try:
                made = pydicom.dcmread(path, force=True, stop_before_pixels=False)
            except Exception:
                continue
            if any(keyword in made for keyword in PIXELS):
                found.append(path.relative_to(making.BUNDLED).as_posix())
    return found


def row(name: str) -> tuple[str, ...]:
    path = making.bundled(name)
    made = pydicom.dcmread(path, force=True)
    syntax = str(made.file_meta.get("TransferSyntaxUID", "")) or "none"
    photometric = str(made.get("PhotometricInterpretation", "none"))
    try:
        facts, values = dicom.inspect(path), dicom.read(path)
    except errors.RefusalError as refusal:
        return name, syntax, photometric, "", f"refused: {refusal}"
    form = f"{facts['dtype']} {' × '.join(map(str, values.shape))}{facts['units'] and ', '}{facts['units']}"
    return name, syntax, photometric, form, outcome(path, facts, values)


def outcome(path: str, facts: dict, values: np.ndarray) -> str:
    wanted = expected(path, facts)
    if wanted is None:
        return "read; pydicom has no decoder"
    if facts["photometric_interpretation"] in ("MONOCHROME1", "MONOCHROME2") and padded(path).any():
        same = (values == wanted)[~padded(path)].all()
        return "equal, padding apart" if same else "different"
    if not np.array_equal(values, wanted):
        return "different"
    return "equal, inverted" if facts["mirror"] is not None else "equal"


def table() -> list[str]:
    lines = [HEAD, ("---",) * len(HEAD), *map(row, names())]
    return [f"| {' | '.join(line)} |" for line in lines]


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout.write("\n".join(table()) + "\n")
