"""RLE: each byte of each sample is a segment of its own, packed as PackBits.

Segments that unpack to exactly the bytes of a frame are put together here, some sixty times as fast as pydicom does;
anything else is left to pydicom's decoder.

Reference:
    PS3.5 annex G.
"""

from __future__ import annotations

import itertools
import struct
from typing import Any

import imagecodecs
import numpy as np
import pydicom.encaps
import pydicom.uid
from pydicom import pixels as dicom_pixels

from medkeras import errors
from medkeras.data.readers.dicom import form as forms

_HEADER = struct.Struct("<16I")


def decode(data: bytes, form: forms.Form) -> np.ndarray:
    """Decodes one frame into cells of `form.allocated` bits, unsigned, `[rows, columns, samples]`."""
    planes = _planes(data, form)
    if planes is None and len(data) > _longest(form):
        raise errors.RefusalError("an RLE frame holds no more than its pixels")
    if planes is None:
        return _decode_slowly(data, form)
    size = form.allocated // 8
    cells = np.stack(planes, axis=-1).reshape(form.rows, form.columns, form.samples, size)
    return np.ascontiguousarray(cells[..., ::-1]).view(f"<u{size}")[..., 0]


def _longest(form: forms.Form) -> int:
    """Returns the bytes of a frame that is packed as badly as can be: every byte as a run of its own."""
    return _HEADER.size + 2 * form.rows * form.columns * form.samples * form.allocated // 8 + 1024


def _planes(data: bytes, form: forms.Form) -> list[np.ndarray] | None:
    """Returns the bytes of each segment, the most significant first; None where they are not as they should be."""
    count, *offsets = _HEADER.unpack_from(data)
    if count != form.samples * form.allocated // 8 or count > 15:
        return None
    edges = [*offsets[:count], len(data)]
    if edges[0] < _HEADER.size or edges != sorted(edges) or edges[-2] >= len(data):
        return None
    pixels = form.rows * form.columns
    try:
        planes = [imagecodecs.packbits_decode(data[start:end], out=pixels) for start, end in itertools.pairwise(edges)]
    except imagecodecs.PackbitsError:
        return None
    if any(len(plane) != pixels for plane in planes):
        return None
    return [np.frombuffer(plane, np.uint8) for plane in planes]


def _decode_slowly(data: bytes, form: forms.Form) -> np.ndarray:
    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "samples_per_pixel": form.samples,
        "bits_allocated": form.allocated,
        "bits_stored": form.allocated,
        "number_of_frames": 1,
        "pixel_representation": 0,
        "planar_configuration": 0,
        "photometric_interpretation": "RGB" if form.samples == 3 else "MONOCHROME2",
    }
    decoder = dicom_pixels.get_decoder(pydicom.uid.RLELossless)
    encapsulated = pydicom.encaps.encapsulate([data])
    cells, _ = decoder.as_array(encapsulated, raw=True, decoding_plugin="pydicom", **options)
    return cells.reshape(form.rows, form.columns, form.samples)
