"""Colours: palettes expanded, luminance and chrominance turned into red, green and blue.

Reference:
    PS3.3 section C.7.6.3.1.2 (photometric interpretation), C.7.6.3.1.5 and C.7.9 (palettes); ITU-T T.871 (JFIF).
"""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom import pixels as dicom_pixels

from medkeras.data import headers
from medkeras.data.readers.dicom import codestream, tables, tags
from medkeras.data.readers.dicom import form as forms

_COLOURS = ("Red", "Green", "Blue")


def palette(dataset: pydicom.Dataset, form: forms.Form) -> tuple[tables.Table, ...]:
    """Reads the palette of an image.

    Returns:
        The tables of red, green and blue, of equal depth.

    Raises:
        RefusalError: A table is missing, segmented, or not as long as it says.
    """
    if any(tags.value(dataset, f"Segmented{name}PaletteColorLookupTableData") is not None for name in _COLOURS):
        raise headers.RefusalError("a palette is stored entry by entry. Received: a segmented one")
    prefixes = [f"{name}PaletteColorLookupTable" for name in _COLOURS]
    found = tuple(tables.table(dataset, f"{one}Descriptor", f"{one}Data", form.signed) for one in prefixes)
    if len({one.bits for one in found}) > 1:
        raise headers.RefusalError("the three tables of a palette have equal depths")
    return found


def expand(stored: np.ndarray, colours: tuple[tables.Table, ...]) -> np.ndarray:
    """Looks up the colours of a palette: `[rows, columns, 1]` becomes `[rows, columns, 3]`."""
    return np.concatenate([colour.apply(stored) for colour in colours], axis=-1)


def is_ybr(form: forms.Form, frame: codestream.Header | None) -> bool:
    """Returns whether decoded samples are luminance and chrominance.

    A JPEG frame says so itself, by an Adobe or a JFIF marker or by its component names; where it says nothing the
    data set is believed. JPEG 2000 decoders undo the colour transform themselves.
    """
    if frame is None or frame.process in (0xC3, 0xF7, 0x51):
        return form.photometric in ("YBR_FULL", "YBR_FULL_422")
    if frame.adobe is not None:
        return frame.adobe == 1
    if frame.identifiers in (b"RGB", b"rgb"):
        return False
    return frame.jfif or form.photometric != "RGB"


def rgb(samples: np.ndarray) -> np.ndarray:
    """Turns YBR_FULL into RGB, uint8 `[rows, columns, 3]`."""
    if samples.dtype != np.uint8:
        raise headers.RefusalError("luminance and chrominance have 8 bits a sample")
    return dicom_pixels.convert_color_space(samples, "YBR_FULL", "RGB")
