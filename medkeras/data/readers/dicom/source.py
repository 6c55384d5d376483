"""A DICOM file, opened within bounds: its header parsed, its pixel data found and left where they are."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import mmap
import re
import warnings
import zlib
from collections.abc import Iterator

import pydicom
import pydicom.uid
from pydicom import filereader

from medkeras import errors
from medkeras.data import headers
from medkeras.data.readers.dicom import scan

PREAMBLE = 132
# A header of more bytes is refused: the largest of an enhanced object takes some megabytes.
MAX_HEADER = 2**27
MAX_INFLATED = 2**27
_STEP = 2**20
_EXECUTABLES = (b"MZ", b"\x7fELF", b"#!", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"PK\x03\x04")
_UID = re.compile(r"[0-9.]{1,64}")


@dataclasses.dataclass(frozen=True)
class Source:
    """An open file.

    Attributes:
        dataset: The elements before the pixel data.
        transfer_syntax: Its UID.
        data: The bytes of the file, or of the inflated data set.
        layout: Where the elements and the pixel data lie in `data`.
    """

    dataset: pydicom.Dataset
    transfer_syntax: str
    data: scan.Buffer
    layout: scan.Layout

    @property
    def pixels(self) -> scan.Pixels:
        """Returns where the pixel data lie; raises `RefusalError` where there are none."""
        if self.layout.pixels is None:
            raise errors.RefusalError(f"a DICOM image has pixel data. Received: {class_name(self.dataset)} without any")
        return self.layout.pixels


def open_source(path: str) -> Source:
    """Opens a file.

    Raises:
        RefusalError: Why it is not read.
    """
    with headers.open_regular(path) as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _check_preamble(data)
    value, start = scan.meta(data, PREAMBLE)
    syntax = _syntax(value)
    body: scan.Buffer = data
    if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
        body, start = _inflate(data, start), 0
    layout = scan.layout(body, start, _declared(syntax))
    if layout.end - layout.start > MAX_HEADER:
        raise errors.RefusalError(f"a DICOM header has at most {MAX_HEADER} bytes")
    return Source(_parse(body, layout), syntax, body, layout)


def _check_preamble(data: scan.Buffer) -> None:
    if data[128:PREAMBLE] != b"DICM":
        raise errors.RefusalError("a DICOM file has DICM after its preamble of 128 bytes")
    if data[:8].startswith(_EXECUTABLES):
        raise errors.RefusalError("the preamble of this DICOM file is that of a program; such files are not opened")


def _syntax(value: bytes) -> str:
    """Returns the transfer syntax that the file meta information states (PS3.10 section 7.1)."""
    syntax = value.rstrip(b"\x00 ").decode("ascii", "replace")
    if not _UID.fullmatch(syntax):
        raise errors.RefusalError("a DICOM file names its transfer syntax in the file meta information")
    return syntax


def _declared(syntax: str) -> scan.Encoding:
    return scan.Encoding(
        implicit=syntax == pydicom.uid.ImplicitVRLittleEndian, little=syntax != pydicom.uid.ExplicitVRBigEndian
    )


def _inflate(data: scan.Buffer, start: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = bytearray()
    try:
        for position in range(start, len(data), _STEP):
            part = data[position : position + _STEP]
            # Step by step, since a result of unknown size is allocated twice over.
            while part and not inflater.eof:
                inflated += inflater.decompress(part, _STEP)
                part = inflater.unconsumed_tail
                if len(inflated) > MAX_INFLATED:
                    raise errors.RefusalError(f"a deflated data set is at most {MAX_INFLATED} bytes long")
        inflated += inflater.flush()
    except zlib.error:
        raise errors.RefusalError("the deflated data set is damaged") from None
    if not inflater.eof:
        raise errors.RefusalError("a deflated data set is complete")
    return bytes(inflated)


def _parse(data: scan.Buffer, layout: scan.Layout) -> pydicom.Dataset:
    header = io.BytesIO(data[layout.start : layout.end])
    try:
        return filereader.read_dataset(header, layout.encoding.implicit, layout.encoding.little)
    except Exception:
        raise errors.RefusalError("the header of this DICOM file is damaged") from None


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turns what a library raises into a refusal, and keeps it from warning and logging: all quote values."""
    logger = logging.getLogger("pydicom")
    was, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except (errors.RefusalError, MemoryError, OSError):
        raise
    except Exception:
        raise errors.RefusalError("this DICOM file is damaged") from None
    finally:
        logger.disabled = was


def class_name(dataset: pydicom.Dataset) -> str:
    """Returns the name of the object's SOP class, where the standard knows it."""
    uid = pydicom.uid.UID(str(dataset.get("SOPClassUID", "")))
    return uid.name if uid in pydicom.uid.UID_dictionary else "an object of an unknown class"


def syntax_name(uid: str) -> str:
    """Returns the name of a transfer syntax with its UID."""
    known = pydicom.uid.UID_dictionary.get(uid)
    return f"{known[0]} ({uid})" if known else uid
