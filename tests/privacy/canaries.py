"""Two independent planters of unique strings, and a search that finds them in the bytes of a file, encoded or not.

`by_the_table` follows the standard's list of attributes, `by_the_dictionary` every attribute that can hold text,
whatever the standard says of it.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import importlib
import io
import itertools
import pathlib
import re
import warnings
import zlib
from collections.abc import Iterator

import pydicom
import pydicom.config
import pydicom.data
import pydicom.datadict
import pydicom.uid
from pydicom.dataset import Dataset

FILES = pathlib.Path(pydicom.data.__file__).parent / "test_files"
BASES = {
    "CT": "CT_small.dcm",
    "MR": "MR_small.dcm",
    "MR implicit": "MR_small_implicit.dcm",
    "MR JPEG 2000": "MR_small_jp2klossless.dcm",
    "MR overlays": "examples_overlay.dcm",
    "US": "examples_palette.dcm",
    "RTPLAN": "rtplan.dcm",
    "RTDOSE": "rtdose.dcm",
    "SR": "reportsi.dcm",
    "SEG": "liver_1frame.dcm",
    "CR": "dicomdirtests/77654033/CR1/6154",
    "ECG": "waveform_ecg.dcm",
}
TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT")
_TABLE = importlib.import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")


@dataclasses.dataclass
class Canaries:
    """Values by the place that they were planted in; a needle is what is looked for, in small letters."""

    found: dict[str, set[bytes]] = dataclasses.field(default_factory=dict)
    numbers: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    def value(self, place: str, vr: str) -> object:
        """Returns a new value of a VR, unique as far as the VR has room, and remembers it."""
        number = next(self.numbers)
        name = f"QZ{number:05d}XJ"
        texts: dict[str, str] = {
            "AE": name,
            "AS": f"{number % 900 + 100:03d}Y",
            "DA": f"{1800 + number // 336 % 60}{number // 28 % 12 + 1:02d}{number % 28 + 1:02d}",
            "DS": f"-{number}.5718273",
            "DT": f"18{number % 60 + 10}0101101112.{number:05d}7",
            "IS": str(1918270000 + number),
            "PN": f"{name}^Jane",
            "TM": f"101112.{number:05d}7",
            "UI": f"1.2.777.{number}.61728",
            "UR": f"http://{name}.org",
        }
        text = texts.get(vr, name)
        if vr != "AS":
            self.found.setdefault(place, set()).add(text.lower().encode())
        return text.encode() + b"\0" * (len(text) % 2) if vr in ("OB", "OW", "UN") else text

    def left(self, contents: bytes) -> dict[str, set[bytes]]:
        """Returns the canaries that the bytes of a file still hold, by place."""
        text = searchable(contents)
        left = {place: {needle for needle in needles if needle in text} for place, needles in self.found.items()}
        return {place: needles for place, needles in left.items() if needles}

    def count(self) -> int:
        return sum(map(len, self.found.values()))


def searchable(contents: bytes) -> bytes:
    """Returns bytes in small letters, and what they are without zeros (UTF-16), inflated, and out of base 64."""
    pieces = [contents, contents.replace(b"\0", b"")]
    try:
        dataset = pydicom.dcmread(io.BytesIO(contents))
        if dataset.file_meta.TransferSyntaxUID == pydicom.uid.DeflatedExplicitVRLittleEndian:
            pieces.append(zlib.decompress(contents[144 + dataset.file_meta.FileMetaInformationGroupLength :], -15))
    except Exception:
        pass
    pieces += [base64.b64decode(run[: len(run) // 4 * 4]) for run in re.findall(rb"[A-Za-z0-9+/]{16,}", contents)]
    return b"\n".join(pieces).lower()


def by_the_table(dataset: Dataset, canaries: Canaries) -> None:
    """Plants in every row of PS3.15 table E.1-1: at the top, and two levels deep in sequences that are kept."""
    _rows(dataset, canaries, "table, top")
    deep = Dataset()
    _rows(deep, canaries, "table, nested twice")
    shallow = Dataset()
    _rows(shallow, canaries, "table, nested")
    shallow.add_new(0x00289110, "SQ", [deep])
    dataset.add_new(0x52009229, "SQ", [shallow])
    _places(dataset, canaries)


def _rows(dataset: Dataset, canaries: Canaries, place: str) -> None:
    for row in _TABLE.ALL_TAGS:
        tag = pydicom.tag.Tag(row[0], row[1])
        if len(row) == 4 or tag.group in (0, 2) or tag in _STRUCTURE:
            continue
        known = pydicom.datadict.dictionary_has_tag(tag)
        vr = pydicom.datadict.dictionary_VR(tag) if known else "LO"
        if vr == "SQ":
            item = Dataset()
            item.add_new(0x00080104, "LO", canaries.value(f"{place}, in sequences", "LO"))
            item.add_new(0x00100010, "PN", canaries.value(f"{place}, in sequences", "PN"))
            item.add_new(0x00081030, "LO", canaries.value(f"{place}, in sequences", "LO"))
            dataset.add_new(tag, "SQ", [item])
        elif vr not in ("US", "SS", "FD", "FL", "UL", "SL"):
            dataset.add_new(tag, vr, canaries.value(f"{place}, {'UID' if vr == 'UI' else 'attribute'}", vr))


# What a search by study and the file meta need to be told apart by; planted as UIDs of their own below.
_STRUCTURE = (0x00080016, 0x0040A730, 0x00420011, 0x00700001, 0x00880200, 0xFFFCFFFC)


def _places(dataset: Dataset, canaries: Canaries) -> None:
    """Plants where the table's first column does not reach."""
    _private(dataset, canaries)
    inner = Dataset()
    _private(inner, canaries)
    dataset.add_new(0x00082218, "SQ", [inner])
    for group in (0x5000, 0x501E, 0x6000, 0x601E):
        name = "overlay" if group > 0x5FFF else "curve"
        for element, vr in ((0x0022, "LO"), (0x1500, "LO"), (0x3000, "OB"), (0x4000, "LT")):
            dataset.add_new(group << 16 | element, vr, canaries.value(name, vr))
    icon = Dataset()
    icon.PixelData = canaries.value("icon", "OB")
    icon["PixelData"].VR = "OB"
    dataset.IconImageSequence = [icon]
    dataset.GraphicAnnotationSequence = [_graphic(canaries)]
    dataset.add_new(0xFFFCFFFC, "OB", canaries.value("trailing padding", "OB"))
    dataset.add_new(0x00080FF1, "LO", canaries.value("unknown public tag", "LO"))
    dataset.add_new(0x0018FFF2, "UN", canaries.value("unknown public tag", "UN"))
    for tag, vr in ((0x00080010, "SH"), (0x00283111, "SH"), (0x00205000, "LT"), (0x00183107, "LO"), (0x00080042, "CS")):
        dataset.add_new(tag, vr, canaries.value("retired text", vr))


def _private(dataset: Dataset, canaries: Canaries) -> None:
    dataset.add_new(0x00110010, "LO", canaries.value("private", "LO"))
    for element, vr in ((0x1001, "LO"), (0x1002, "UN"), (0x1003, "PN"), (0x1004, "UI"), (0x1005, "DA")):
        dataset.add_new(0x00110000 | element, vr, canaries.value("private", vr))
    dataset.add_new(0x00190010, "LO", "GEMS_ACQU_01")
    dataset.add_new(0x00191023, "LO", canaries.value("private, safe creator", "LO"))
    dataset.add_new(0x001910E2, "LO", canaries.value("private, safe creator", "LO"))


def _graphic(canaries: Canaries) -> Dataset:
    text = Dataset()
    text.UnformattedTextValue = canaries.value("graphic text", "ST")
    item = Dataset()
    item.TextObjectSequence = [text]
    item.GraphicLayer = "LAYER"
    return item


def report(dataset: Dataset, canaries: Canaries) -> None:
    """Plants in the content of a structured report, nested once."""
    nested = Dataset()
    nested.ValueType = "CONTAINER"
    nested.ContentSequence = [_content(canaries, kind) for kind in ("TEXT", "PNAME", "UIDREF", "DATE", "CODE")]
    dataset.ContentSequence = [*(_content(canaries, kind) for kind in ("TEXT", "PNAME", "UIDREF", "DATE")), nested]


def _content(canaries: Canaries, kind: str) -> Dataset:
    item = Dataset()
    item.ValueType, item.RelationshipType = kind, "CONTAINS"
    keyword, vr = {
        "TEXT": ("TextValue", "UT"),
        "PNAME": ("PersonName", "PN"),
        "UIDREF": ("UID", "UI"),
        "DATE": ("Date", "DA"),
        "CODE": ("CodeMeaning", "LO"),
    }[kind]
    holder = Dataset() if kind == "CODE" else item
    setattr(holder, keyword, canaries.value(f"report {kind}", vr))
    if kind == "CODE":
        holder.CodeValue, holder.CodingSchemeDesignator = canaries.value("report CODE", "SH"), "99SITE"
        item.ConceptCodeSequence = [holder]
    return item


def by_the_dictionary(dataset: Dataset, canaries: Canaries, said: str = "") -> None:
    """Plants in every attribute of the dictionary that can hold text, dates or identifiers, at the top and nested.

    Args:
        dataset: Where to plant.
        canaries: Remembers what was planted.
        said: The VR that the file states, whatever the dictionary says; empty for the dictionary's own.
    """
    nested = Dataset()
    for level, place in ((dataset, "dictionary, top"), (nested, "dictionary, nested")):
        for tag, (vr, *_) in pydicom.datadict.DicomDictionary.items():
            free = vr in (*TEXT, "AS", "DA", "DS", "DT", "IS", "TM", "UI", "UR") and vr != "CS"
            if free and tag >> 16 not in (0, 2, 4, 0xFFFE) and tag not in _BUILDING and tag & 0xFFFF:
                value = canaries.value(f"{place}, {vr}", "LO" if vr in ("DS", "IS") else vr)
                level.add(_raw(tag, said or vr, str(value)))
    for tag in (0x00081140, 0x52009230):
        dataset.add_new(tag, "SQ", [copy.deepcopy(nested)])


# The attributes that the pixels of the bases are described by.
_BUILDING = {
    0x00080016,
    *(0x00280000 | element for element in (0x0008, 0x0030, 0x0034, 0x1050, 0x1051, 0x1052, 0x1053)),
}


def _raw(tag: int, vr: str, text: str) -> pydicom.dataelem.RawDataElement:
    value = text.encode() + b" " * (len(text) % 2)
    return pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(value), value, 0, False, True, True)


def around(dataset: pydicom.FileDataset, canaries: Canaries) -> None:
    """Plants in the file meta, in the preamble, and behind native pixels."""
    meta = dataset.file_meta
    meta.SourceApplicationEntityTitle = canaries.value("file meta", "AE")
    meta.PrivateInformationCreatorUID = canaries.value("file meta", "UI")
    meta.PrivateInformation = canaries.value("file meta", "OB")
    meta.ImplementationVersionName = canaries.value("file meta", "SH")
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = str(canaries.value("preamble", "LO")).encode().ljust(128, b"\0")
    if "PixelData" in dataset and not meta.TransferSyntaxUID.is_encapsulated:
        dataset["PixelData"].value = dataset.PixelData + bytes(2) + canaries.value("after the pixels", "OB")


def base(name: str) -> pydicom.FileDataset:
    """Returns one of pydicom's real files; the rules for values are off, as they are for those who break them."""
    dataset = pydicom.dcmread(FILES / BASES[name])
    dataset.remove_private_tags()
    return dataset


def save(dataset: pydicom.FileDataset, path: pathlib.Path) -> pathlib.Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


@contextlib.contextmanager
def unruly() -> Iterator[None]:
    """Lets values be written that break the rules of their VR."""
    settings = pydicom.config.settings
    modes = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = modes
