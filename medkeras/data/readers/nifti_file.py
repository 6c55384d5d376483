"""The header and the voxels of a NIfTI-1 or NIfTI-2 file, plain or gzipped, as they are stored.

nibabel interprets the header; sizes are checked before anything is inflated or allocated, and the voxels are taken
here, so that no more is read than the header declares.

Reference:
    The NIfTI-1 data format (nifti1.h) and NIfTI-2 (nifti2.h): https://nifti.nimh.nih.gov
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import nibabel
import numpy as np

from medkeras import errors
from medkeras.data import volume

MAX_VOXELS = 2**27
"""Of one volume: 512 x 512 x 512."""
MAX_BYTES = 2**29
"""Of the voxels of one file, inflated."""
MAX_SLICES = 2**20
"""Of one file."""

# Between the header and the voxels lie extensions; after the voxels nothing should.
_MAX_OFFSET = 2**24
_MAX_TRAILING = 2**16
_CHUNK = 2**18
_HEADER_BYTES = 540
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
_COLOURS = {128: 3, 2304: 4}
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_NOT_READ = {0: "unknown", 1: "binary", 32: "complex", 1536: "float128", 1792: "complex", 2048: "complex"}


@dataclasses.dataclass(frozen=True)
class Header:
    """What a header declares, checked.

    Attributes:
        shape: Voxels along the three stored axes.
        times: Volumes in the file.
        channels: 1, or 3 for colour.
        samples: Stored values a voxel: as channels, or 4 with alpha.
        stored: Dtype of a stored value, in the file's byte order.
        offset: Bytes before the voxels.
        slope: Of the values that the file means; None: stored values.
        inter: The same, its intercept.
        affine: From stored index to LPS mm.
        notes: Sentences on what was assumed.
    """

    shape: tuple[int, int, int]
    times: int
    channels: int
    samples: int
    stored: np.dtype
    offset: int
    slope: float | None
    inter: float
    affine: np.ndarray
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels as they are stored."""
        return math.prod(self.shape) * self.times * self.samples * self.stored.itemsize

    @property
    def dtype(self) -> str:
        """Of the values that are given: the narrowest of three that holds them."""
        plain = self.slope is None and self.stored.kind == "u" and self.stored.itemsize <= 2
        return self.stored.newbyteorder("=").name if plain else "float32"


def header(file: BinaryIO) -> Header:
    """Reads and checks the header of a file opened at its start.

    Raises:
        RefusalError: The rule that the header breaks.
    """
    parsed = _parsed(b"".join(_bytes(file, _HEADER_BYTES)))
    shape, times, notes = _sizes(parsed)
    code = int(parsed["datatype"])
    if code in _NOT_READ or code not in {**_TYPES, **_COLOURS}:
        known = "voxels are whole or floating-point numbers of up to 64 bits, or 8-bit RGB"
        raise errors.RefusalError(f"{known}. Received: {_NOT_READ.get(code, f'NIfTI datatype {code}')}")
    order = parsed.endianness
    stored = np.dtype(f"{order}{_TYPES.get(code, 'u1')}")
    slope, inter, scaling = _scaling(parsed, code)
    affine, place = _affine(parsed)
    found = Header(
        shape=shape,
        times=times,
        channels=3 if code in _COLOURS else 1,
        samples=_COLOURS.get(code, 1),
        stored=stored,
        offset=_offset(parsed),
        slope=slope,
        inter=inter,
        affine=affine,
        notes=(*notes, *scaling, *place),
    )
    if found.nbytes > MAX_BYTES:
        raise errors.RefusalError(f"a NIfTI file holds at most {MAX_BYTES} bytes of voxels. Received: {found.nbytes}")
    return found


def _parsed(head: bytes) -> Any:
    """Returns nibabel's header of the first 540 bytes."""
    if len(head) < 348:
        raise errors.RefusalError("the NIfTI header is cut short")
    kinds = {348: (nibabel.Nifti1Header, 348, b"n+1\x00", 344), 540: (nibabel.Nifti2Header, 540, b"n+2\x00", 4)}
    size = next((size for order in "<>" for size in struct.unpack(f"{order}i", head[:4]) if size in kinds), 0)
    if not size:
        raise errors.RefusalError(f"a NIfTI file begins with its header's size. Received: {head[:4].hex(' ')}")
    kind, length, magic, place = kinds[size]
    found = head[place : place + 4]
    if found in (b"ni1\x00", b"ni2\x00"):
        raise errors.RefusalError("pairs of a .hdr and an .img file are not read: convert them to .nii")
    if found != magic:
        raise errors.RefusalError("the header bears no NIfTI mark: ANALYZE files, which do not say left, are not read")
    if len(head) < length:
        raise errors.RefusalError("the NIfTI header is cut short")
    order = "<" if struct.unpack("<i", head[:4])[0] == size else ">"
    return kind(head[:length], endianness=order, check=False)


def _sizes(parsed: Any) -> tuple[tuple[int, int, int], int, tuple[str, ...]]:
    dims = parsed["dim"].tolist()
    rank, sizes = dims[0], dims[1 : 1 + max(0, min(dims[0], 7))]
    if not 2 <= rank <= 7 or min(sizes) < 1:
        raise errors.RefusalError(f"a volume has 2 to 7 dimensions of at least 1. Received: {sizes or rank}")
    if math.prod(sizes[4:]) > 1:
        raise errors.RefusalError(
            f"volumes have three dimensions, and time the fourth; vectors and tensors are not read. Received: {sizes}"
        )
    first, second, third, times = (*sizes, 1, 1)[:4]
    require_size((first, second, third))
    if max(first, second, third) * times > MAX_SLICES:
        raise errors.RefusalError(f"a file holds at most {MAX_SLICES} slices. Received: {sizes}")
    notes = (f"The file holds {times} volumes.",) if times > 1 else ()
    return (first, second, third), times, notes


def _offset(parsed: Any) -> int:
    offset = float(parsed["vox_offset"])
    least = int(parsed["sizeof_hdr"]) + 4
    if not least <= offset <= _MAX_OFFSET:
        raise errors.RefusalError(f"voxels begin {least} to {_MAX_OFFSET} bytes into a file. Received: {offset:g}")
    return int(offset)


def _scaling(parsed: Any, code: int) -> tuple[float | None, float, tuple[str, ...]]:
    """Returns slope (None: values are as stored), intercept and notes; colour is never scaled."""
    slope, inter = float(parsed["scl_slope"]), float(parsed["scl_inter"])
    if code in _COLOURS or slope == 0 or (slope, inter) == (1, 0) or (math.isnan(slope) and not math.isinf(inter)):
        return None, 0.0, ()
    if not math.isfinite(slope):
        return None, 0.0, ("The scaling of the values is no finite number; stored values are taken.",)
    if not math.isfinite(inter):
        raise errors.RefusalError("values are scaled by finite numbers; scl_inter is not one")
    return slope, inter, ()


def _affine(parsed: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the affine to LPS mm: that of the sform, else of the qform, else of the voxel size alone."""
    sizes = np.asarray(parsed["pixdim"][1 : 1 + min(3, int(parsed["dim"][0]))], np.float64)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise errors.RefusalError(f"voxels have a positive, finite size. Received: {sizes.tolist()}")
    notes = []
    if parsed["sform_code"] > 0:
        affine = np.asarray(parsed.get_sform(), np.float64)
        if parsed["qform_code"] > 0 and not np.allclose(_qform(parsed), affine, rtol=1e-2, atol=1e-2 * sizes.max()):
            notes.append("The two places that the file gives (sform, qform) differ; the sform is taken.")
    elif parsed["qform_code"] > 0:
        affine = _qform(parsed)
    else:
        affine = np.asarray(parsed.get_base_affine(), np.float64)
        notes.append("The file does not say where left is (no sform, no qform); radiological order is assumed.")
    affine = volume.RAS_TO_LPS @ affine
    affine[:3] *= _MILLIMETRES.get(int(parsed["xyzt_units"]) & 7, 1.0)
    sentence = volume.fault(affine)
    if sentence:
        raise errors.RefusalError(sentence)
    return affine, tuple(notes)


def _qform(parsed: Any) -> np.ndarray:
    try:
        return np.asarray(parsed.get_qform(), np.float64)
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        return np.full((4, 4), np.nan)


def require_size(shape: tuple[int, int, int]) -> None:
    """Raises `RefusalError` for a volume of more voxels than are read."""
    if math.prod(shape) > MAX_VOXELS:
        raise errors.RefusalError(f"a volume has at most {MAX_VOXELS} voxels. Received: {' x '.join(map(str, shape))}")


def voxels(file: BinaryIO, declared: Header) -> np.ndarray:
    """Returns the stored values `[X, Y, Z, T, C]` of a file opened at its start, mapped where they are not gzipped.

    Raises:
        RefusalError: The file holds fewer or more bytes than its header declares, or its gzip data are damaged.
    """
    data = _inflated(file, declared) if _gzipped(file) else _mapped(file, declared)
    shape = (declared.samples, *declared.shape, declared.times)
    stored = data.view(declared.stored).reshape(shape, order="F")
    return np.moveaxis(stored[: declared.channels], 0, -1)


def _mapped(file: BinaryIO, declared: Header) -> np.ndarray:
    size, end = os.fstat(file.fileno()).st_size, declared.offset + declared.nbytes
    if size < end:
        raise errors.RefusalError(f"the voxels end early: the file is truncated. Received: {size} of {end} bytes")
    return np.memmap(file, np.uint8, "r", declared.offset, (declared.nbytes,))


def _inflated(file: BinaryIO, declared: Header) -> np.ndarray:
    data, skip, filled = np.empty(declared.nbytes, np.uint8), declared.offset, 0
    for part in _bytes(file, declared.offset + declared.nbytes + _MAX_TRAILING, entire=True):
        fresh = np.frombuffer(part, np.uint8)[skip:][: declared.nbytes - filled]
        skip = max(0, skip - len(part))
        data[filled : filled + len(fresh)] = fresh
        filled += len(fresh)
    if filled < declared.nbytes:
        raise errors.RefusalError("the voxels end early: the file is truncated")
    return data


def _gzipped(file: BinaryIO) -> bool:
    head = file.read(2)
    file.seek(0)
    return head == b"\x1f\x8b"


def _bytes(file: BinaryIO, most: int, *, entire: bool = False) -> Iterator[bytes]:
    """Yields the first `most` bytes of a file, inflated if it is gzipped.

    Raises:
        RefusalError: The gzip data are damaged; or, where they are to be read entirely, are truncated or do not end.
    """
    if not _gzipped(file):
        yield file.read(most)
        return
    inflater, left = zlib.decompressobj(wbits=31), most
    try:
        while left:
            packed = inflater.unconsumed_tail or inflater.unused_data or file.read(_CHUNK)
            if inflater.eof and packed.strip(b"\x00"):
                inflater = zlib.decompressobj(wbits=31)
            elif inflater.eof or not packed:
                break
            part = inflater.decompress(packed, min(left, 16 * _CHUNK))
            left -= len(part)
            yield part
    except zlib.error:
        raise errors.RefusalError("the gzip data are damaged") from None
    if entire and not inflater.eof:
        state = "end early: the file is truncated" if left else "inflate to more than the header declares"
        raise errors.RefusalError(f"the gzip data {state}")
