"""One DICOM file: read, cleaned into a new dataset, checked for burned-in text, and written with a file meta of ours.

Reference:
    DICOM PS3.15, annex E; PS3.10, 7.1 (the preamble and the File Meta Information).
"""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pydicom
from pydicom import config, dataset, uid

from medkeras import version
from medkeras.privacy import dataset as datasets
from medkeras.privacy import held, options, patients, pixels, pseudonyms, suspects

IMPLEMENTATION = "2.25.145498206116463571911563245108742051423"
"""Names medkeras as the writer of a file."""

LARGEST_INFLATED = 2**27
"""Bytes of a deflated dataset."""

_DEFLATED = str(uid.DeflatedExplicitVRLittleEndian).encode("ascii")
_PIECE = 2**20
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")
_ELEMENTS = tuple(place for low in (0, 1, 5, 8) for place in (bytes((low, 0)), bytes((0, low))))


def looks_like(head: bytes) -> bool:
    """Whether the first 132 bytes or more of a file may begin a DICOM file, with or without preamble."""
    # Without a preamble a file begins with an element of group 0002 or 0008, in either byte order.
    return head[128:132] == b"DICM" or (head[:2] in _GROUPS and head[2:4] in _ELEMENTS)


def identify(path: str) -> patients.Identity:
    """Returns what a file says of its patient; raises `HeldBackError` where it cannot be read."""
    with _lenient():
        return datasets.identity(_read(path, list(datasets.IDENTITY)))


def deidentify(
    path: str, target: str, *, key: bytes, chosen: frozenset[str], patient: str = ""
) -> tuple[str, dict[str, int]]:
    """Writes a DICOM file without identity.

    Args:
        path: The file, left as it is.
        target: Where the new file goes.
        key: The secret.
        chosen: Options of the profile.
        patient: What names the patient, from all files that are cleaned together; empty to look at this one alone.

    Returns:
        The name of the new file below the output folder, by pseudonyms of patient, study, series and instance; and how
        often each action was taken.

    Raises:
        HeldBackError: The file must not be passed on.
    """
    with _lenient():
        source = _read(path)
        suspects.check(source, chosen)
        given = datasets.subject(source, key, chosen=chosen, patient=patient)
        new = datasets.clean(source, given)
        if not new.get("SOPInstanceUID"):
            raise held.HeldBackError("an object has a SOP Instance UID")
        _pixels(source, new, given)
        _mark(new, given)
        name = _name(source, new, given)
        new.save_as(target, enforce_file_format=True)
    return name, {action: count for action, count in sorted(given.counts.items()) if count}


@contextlib.contextmanager
def _lenient() -> Iterator[None]:
    """Values that break a rule are read, and cleaned or removed; what pydicom says of them would quote them."""
    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes


def _read(path: str, keywords: list[str] | None = None) -> pydicom.FileDataset:
    with open(path, "rb") as file:
        head = file.read(132)
        if head[128:] == b"DICM" and head.startswith(_PROGRAMS):
            raise held.HeldBackError("the preamble is the beginning of a program")
        file.seek(0)
        _check_inflated(file)
        try:
            return pydicom.dcmread(file, force=head[128:] != b"DICM", specific_tags=keywords)
        except (MemoryError, RecursionError):
            raise
        except Exception:
            raise held.HeldBackError("the DICOM data are damaged, or end early") from None


def _check_inflated(file: BinaryIO) -> None:
    """Refuses a deflated dataset that inflates to more than `LARGEST_INFLATED` bytes, before pydicom inflates it."""
    head = file.read(4096)
    file.seek(0)
    length = int.from_bytes(head[140:144], "little")
    if head[132:140] != b"\x02\0\0\0UL\x04\0" or _DEFLATED not in head[: 144 + length]:
        return
    file.seek(144 + length)
    inflating, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while piece := file.read(_PIECE):
        while piece and not inflating.eof:
            try:
                size += len(inflating.decompress(piece, _PIECE))
            except zlib.error:
                raise held.HeldBackError("the deflated data are damaged") from None
            piece = inflating.unconsumed_tail
            if size > LARGEST_INFLATED:
                raise held.HeldBackError(f"a deflated data set is at most {LARGEST_INFLATED} bytes long")
    file.seek(0)


def _syntax(source: pydicom.FileDataset) -> uid.UID:
    named = source.file_meta.get("TransferSyntaxUID")
    if named is not None:
        if not uid.UID(named).is_transfer_syntax or uid.UID(named).is_private:
            raise held.HeldBackError("the transfer syntax is none of the standard's")
        return uid.UID(named)
    implicit, little = source.original_encoding
    if implicit and little:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _pixels(source: pydicom.FileDataset, new: pydicom.Dataset, given: datasets.Subject) -> None:
    syntax = _syntax(source)
    new.file_meta = dataset.FileMetaDataset()
    new.file_meta.TransferSyntaxUID = syntax
    why = suspects.reason(source)
    if why and "clean_pixel_data" not in given.options:
        hint = "; --option=clean_pixel_data blanks what lies outside its regions"
        raise held.HeldBackError(why + hint * ("SequenceOfUltrasoundRegions" in source))
    try:
        done = pixels.tidy(source, new, syntax=syntax)
        if done:
            given.counts[done] += 1
        if why:
            pixels.mask(source, new)
            given.counts["pixels_masked"] += 1
    except (held.HeldBackError, MemoryError):
        raise
    except Exception:
        raise held.HeldBackError("the pixel data do not fit their description") from None


def _mark(new: pydicom.Dataset, given: datasets.Subject) -> None:
    """Says in the file what was done to it, and rebuilds its file meta."""
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = f"medkeras {version.VERSION}, DICOM PS3.15 annex E"
    new.DeidentificationMethodCodeSequence = []
    untrue = frozenset() if given.counts["pixels_masked"] else frozenset(("clean_pixel_data",))
    for option in options.codes(given.options - untrue):
        item = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = option.code, "DCM", option.meaning[:64]
        new.DeidentificationMethodCodeSequence.append(item)
    shifted = "retain_longitudinal_modified_dates" in given.options
    new.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"
    new.PatientName = new.PatientID = given.patient
    meta = new.file_meta
    meta.MediaStorageSOPClassUID = new.SOPClassUID
    meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    meta.ImplementationClassUID = uid.UID(IMPLEMENTATION)
    meta.ImplementationVersionName = "MEDKERAS"
    new.preamble = bytes(128)


def _name(source: pydicom.Dataset, new: pydicom.Dataset, given: datasets.Subject) -> str:
    places = (("StudyInstanceUID", "st"), ("SeriesInstanceUID", "se"), ("SOPInstanceUID", "i"))
    parts = (pseudonyms.pseudonym(given.key, str(source.get(word, "")), prefix=letter) for word, letter in places)
    return "/".join((given.patient, *parts)) + ".dcm"
