"""Compressed frames become samples: which decoder reads which transfer syntax, and what it may be given.

One decoder a transfer syntax, chosen here and called by name, so that no result depends on what else is installed. A
frame's own header is compared with the data set's before its decoder sees it.

Reference:
    PS3.5 section 8.2 and annex A.4; PS3.6 table A-1.
"""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import jpeg_ls
import numpy as np
import pydicom.uid

from medkeras import errors
from medkeras.data.readers.dicom import codestream, native, rle
from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import source as sources

NATIVE = (
    pydicom.uid.ImplicitVRLittleEndian,
    pydicom.uid.ExplicitVRLittleEndian,
    pydicom.uid.ExplicitVRBigEndian,
    pydicom.uid.DeflatedExplicitVRLittleEndian,
)
RLE = pydicom.uid.RLELossless
# JPEG frame markers that each transfer syntax allows: baseline, extended, lossless; JPEG-LS; JPEG 2000.
PROCESSES = {
    pydicom.uid.JPEGBaseline8Bit: (0xC0, 0xC1),
    pydicom.uid.JPEGExtended12Bit: (0xC0, 0xC1),
    pydicom.uid.JPEGLossless: (0xC3,),
    pydicom.uid.JPEGLosslessSV1: (0xC3,),
    pydicom.uid.JPEGLSLossless: (0xF7,),
    pydicom.uid.JPEGLSNearLossless: (0xF7,),
    pydicom.uid.JPEG2000Lossless: (0x51,),
    pydicom.uid.JPEG2000: (0x51,),
    pydicom.uid.HTJ2KLossless: (0x51,),
    pydicom.uid.HTJ2KLosslessRPCL: (0x51,),
    pydicom.uid.HTJ2K: (0x51,),
}
# A frame of more bytes than LARGE that shrinks by more than MAX_RATIO holds no picture.
LARGE = 2**25
MAX_RATIO = 2000
_JPEG = (0xC0, 0xC1, 0xC3, 0xF7)
LOSSY = (
    pydicom.uid.JPEGBaseline8Bit,
    pydicom.uid.JPEGExtended12Bit,
    pydicom.uid.JPEGLSNearLossless,
    pydicom.uid.JPEG2000,
    pydicom.uid.HTJ2K,
)


def check(syntax: str) -> None:
    """Refuses a transfer syntax that is not read, by its name."""
    if syntax not in (*NATIVE, RLE, *PROCESSES):
        raise errors.RefusalError(
            "pixels are read uncompressed, deflated, or compressed by RLE, JPEG, JPEG-LS, JPEG 2000 or HTJ2K. "
            f"Received: {sources.syntax_name(syntax)}"
        )


def frame(data: bytes, syntax: str, form: forms.Form) -> np.ndarray:
    """Decodes one frame.

    Returns:
        Samples as they are stored, `[rows, columns, samples]`; YCbCr is not yet RGB, except in JPEG 2000.

    Raises:
        RefusalError: The frame contradicts the data set, or cannot be decoded.
    """
    if _is_bomb(data, form):
        raise errors.RefusalError(f"a large frame takes at least a byte in {MAX_RATIO}. Received: {len(data)} bytes")
    if syntax == RLE:
        return native.masked(_decoded(rle.decode, data, form), form)
    found = compare(data, syntax, form)
    samples = _decoded(_DECODERS[found.process], data, form)
    if samples.size != form.rows * form.columns * form.samples:
        raise errors.RefusalError("a compressed frame does not hold the pixels that it declares")
    return _values(samples.reshape(form.rows, form.columns, form.samples), form, found, lossy=syntax in LOSSY)


def compare(data: bytes, syntax: str, form: forms.Form) -> codestream.Header:
    """Compares a frame's own header with the data set's.

    Raises:
        RefusalError: They contradict each other.
    """
    found = codestream.header(data)
    if found.process not in PROCESSES[pydicom.uid.UID(syntax)]:
        raise errors.RefusalError(
            f"a frame is compressed as the transfer syntax says, {sources.syntax_name(syntax)}. "
            f"Received: a frame of marker {found.process:02X}"
        )
    if found.process in _JPEG and not _ends(data):
        raise errors.RefusalError("a compressed frame ends with its end-of-image marker")
    own, declared = (found.rows, found.columns, found.components), (form.rows, form.columns, form.samples)
    if own != declared:
        raise errors.RefusalError(
            "a frame has the rows, columns and samples that the data set declares, "
            f"{declared[0]}, {declared[1]} and {declared[2]}. Received: {own[0]}, {own[1]} and {own[2]}"
        )
    if not 1 <= found.precision <= max(form.allocated, 8):
        raise errors.RefusalError(
            f"a compressed sample fits the {form.allocated} bits allocated. Received: {found.precision} bits"
        )
    return found


def _is_bomb(data: bytes, form: forms.Form) -> bool:
    size = form.rows * form.columns * form.samples * max(form.allocated // 8, 1)
    return size > LARGE and size > MAX_RATIO * len(data)


def _ends(data: bytes) -> bool:
    """Returns whether a JPEG or JPEG-LS frame is whole.

    Of one that is cut, libjpeg fills the missing part with grey in silence, and CharLS takes twenty seconds to refuse
    the smallest.
    """
    return data[-64:].rstrip(b"\x00\xff").endswith(b"\xff\xd9")


def _decoded(decoder: Callable[[bytes, forms.Form], np.ndarray], data: bytes, form: forms.Form) -> np.ndarray:
    try:
        return decoder(data, form)
    except MemoryError:
        raise
    except Exception:
        raise errors.RefusalError("a compressed frame is damaged: its decoder refuses it") from None


def _values(samples: np.ndarray, form: forms.Form, found: codestream.Header, *, lossy: bool) -> np.ndarray:
    """Gives decoded samples the sign and the stored bits of the data set."""
    if found.signed:
        return samples
    bits = min(found.precision, form.stored)
    if form.signed:
        shift = 8 * samples.dtype.itemsize - bits
        return np.right_shift(np.left_shift(samples.view(f"i{samples.dtype.itemsize}"), shift), shift)
    if found.precision <= form.stored:
        return samples
    return np.minimum(samples, form.highest) if lossy else samples & form.highest


def _jpeg(data: bytes, form: forms.Form) -> np.ndarray:
    if form.samples == 1:
        return imagecodecs.jpeg8_decode(data)
    return imagecodecs.jpeg8_decode(data, colorspace="YCBCR", outcolorspace="YCBCR")


def _jpeg_lossless(data: bytes, form: forms.Form) -> np.ndarray:
    if form.samples == 1:
        return imagecodecs.jpeg8_decode(data)
    return imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")


def _jpeg_ls(data: bytes, form: forms.Form) -> np.ndarray:
    decoded, found = jpeg_ls.decode_pixel_data(data)
    samples = np.frombuffer(decoded, np.uint8 if found["bits_per_sample"] <= 8 else np.uint16)
    if form.samples == 3 and found["interleave_mode"] == 0:
        return samples.reshape(3, form.rows, form.columns).transpose(1, 2, 0)
    return samples


def _jpeg2000(data: bytes, form: forms.Form) -> np.ndarray:
    return imagecodecs.jpeg2k_decode(data)


_DECODERS: dict[int, Callable[[bytes, forms.Form], np.ndarray]] = {
    0xC0: _jpeg, 0xC1: _jpeg, 0xC3: _jpeg_lossless, 0xF7: _jpeg_ls, 0x51: _jpeg2000,
}  # fmt: skip
