"""The pixels of a DICOM file, as the values that they mean."""

from __future__ import annotations

import numpy as np

from medkeras import errors
from medkeras.data.readers.dicom import picture
from medkeras.data.readers.dicom import source as sources


def read(path: str, frame: int | None = None) -> np.ndarray:
    """Reads one frame, or all of them.

    Args:
        path: The file.
        frame: Position of a frame, from 0; None: all of them.

    Returns:
        `[H, W, C]` of a frame or of a file with one frame, else `[F, H, W, C]`; C is 1 or 3. Hounsfield units for a
        rescaled CT, else the stored values after the modality LUT; uint8, uint16 or float32, as `inspect` says.

    Raises:
        RefusalError: Why the file is not read.
    """
    with sources.refusing():
        opened = picture.open_picture(path)
        form = opened.form
        if frame is not None and not 0 <= frame < form.frames:
            raise errors.RefusalError(f"a frame lies between 0 and {form.frames - 1}. Received: {frame}")
        if frame is not None or form.frames == 1:
            return np.ascontiguousarray(opened.frame(frame or 0))
        shape = (form.frames, form.rows, form.columns, opened.channels)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(opened.dtype).itemsize
        if size > picture.MAX_DECODED:
            raise errors.RefusalError(f"frames take at most {picture.MAX_DECODED} bytes in memory. Received: {size}")
        values = np.empty(shape, opened.dtype)
        for index in range(form.frames):
            values[index] = opened.frame(index)
        return values
