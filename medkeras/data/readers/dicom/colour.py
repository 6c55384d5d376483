"""Colours: luminance and chrominance become red, green and blue.

Reference:
    PS3.3 section C.7.6.3.1.2 (photometric interpretation); ITU-T T.871 (JFIF).
"""

from __future__ import annotations

import numpy as np
from pydicom import pixels as dicom_pixels

from medkeras import errors
from medkeras.data.readers.dicom import codestream
from medkeras.data.readers.dicom import form as forms


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
        raise errors.RefusalError("luminance and chrominance have 8 bits a sample")
    return dicom_pixels.convert_color_space(samples, "YBR_FULL", "RGB")
