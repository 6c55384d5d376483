"""Places that the table does not reach, and places drawn at random: wrong VRs, nested to any depth, in any encoding."""

from __future__ import annotations

import pathlib
import random
import shutil
import struct
import subprocess
import zipfile

import pydicom
import pydicom.datadict
import pydicom.encaps
import pydicom.filebase
import pydicom.filewriter
import pydicom.uid
import pytest
from pydicom.dataset import Dataset

from medkeras.privacy import file
from tests.privacy import canaries

KEY = bytes(range(32))
SYNTAXES = (pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian,
            pydicom.uid.DeflatedExplicitVRLittleEndian)  # fmt: skip
CLEANING = ("clean_graphics", "clean_structured_content", "clean_descriptors", "retain_safe_private")
SEEDS = range(24)
# What an object is told by, and what would have it held back.
NEEDED = {0x00080005, 0x00080016, 0x00080018, 0x00280004, 0x00080064, 0x00041220, 0x00420011, 0x00280301, 0x00080060}
PUBLIC = [
    (tag, vr)
    for tag, (vr, *_) in sorted(pydicom.datadict.DicomDictionary.items())
    if tag >> 16 >= 8
    and tag >> 16 != 0xFFFE
    and tag not in NEEDED
    and tag & 0xFFFF
    and vr in (*canaries.TEXT, "DA", "DT", "UI", "UR")
]
SEQUENCES = [
    tag
    for tag, (vr, *_) in sorted(pydicom.datadict.DicomDictionary.items())
    if vr == "SQ" and tag >> 16 >= 8 and tag not in NEEDED
]


@pytest.fixture(autouse=True)
def unruly():
    with canaries.unruly():
        yield


def clean(source: pathlib.Path, *chosen: str) -> file.Done:
    return file.deidentify_file(
        str(source), str(source.with_suffix(".out")), relative="in", key=KEY, chosen=frozenset(chosen)
    )


def left(dataset: pydicom.FileDataset, found: canaries.Canaries, folder: pathlib.Path, *chosen: str) -> dict:
    """Cleans a dataset and returns what is left; nothing is, of a file that is held back."""
    source = canaries.save(dataset, folder / "in.dcm")
    before = canaries.searchable(source.read_bytes())
    assert {needle for needles in found.found.values() for needle in needles if needle not in before} == set()
    assert clean(source, *chosen).reason == ""
    return found.left(source.with_suffix(".out").read_bytes())


def grown(draw: random.Random, level: Dataset, found: canaries.Canaries, *, depth: int) -> Dataset:
    """Plants at random in a level, and below it."""
    for tag, vr in draw.sample(PUBLIC, 25):
        said = vr if draw.random() < 0.8 else draw.choice(("UN", "OB", "LO", "UT", "CS", "UI", "PN"))
        value = str(found.value(f"public, {said}", vr))
        level.add(canaries._raw(tag, said, value))
    group = draw.choice((0x0009, 0x0019, 0x0033, 0x5001, 0x7FE1))
    level.add_new(group << 16 | 0x10, "LO", found.value("creator", "LO"))
    for offset in draw.sample(range(0x1000, 0x10FF), 4):
        vr = draw.choice(("LO", "UN", "PN", "OB", "DA", "UI"))
        level.add_new(group << 16 | offset, vr, found.value("private", vr))
    level.add(canaries._raw(0x00180000 | draw.randrange(0xFFA0, 0xFFF0), "LO", str(found.value("unknown", "LO"))))
    for repeated in (0x50000000, 0x60000000):
        place = repeated | draw.randrange(0, 0x20, 2) << 16
        level.add_new(place | 0x0022, "LO", found.value("repeating group", "LO"))
        level.add_new(place | 0x2500, "LO", found.value("repeating group", "LO"))
    if depth:
        *known, unknown = draw.sample(SEQUENCES, 6)
        for tag in known:
            level.add_new(tag, "SQ", [grown(draw, Dataset(), found, depth=draw.randrange(depth))])
        inside = as_bytes(grown(draw, Dataset(), found, depth=0))
        level.add(
            pydicom.dataelem.RawDataElement(pydicom.tag.Tag(unknown), "UN", len(inside), inside, 0, False, True, True)
        )
        level.add_new(group << 16 | 0x10FF, "SQ", [grown(draw, Dataset(), found, depth=0)])
    return level


def as_bytes(item: Dataset) -> bytes:
    """Returns a sequence of one item as an unknown VR holds it: implicit, in little endian."""
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = True, True
    pydicom.filewriter.write_dataset(stream, item)
    data = stream.getvalue()
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_of_what_is_planted_at_random(seed, tmp_path) -> None:
    draw, found = random.Random(seed), canaries.Canaries()
    base = draw.choice(("CT", "MR", "SR", "RTPLAN"))
    dataset = grown(draw, canaries.base(base), found, depth=draw.randrange(2, 5))
    chosen = draw.sample(CLEANING, draw.randrange(4))
    dataset.file_meta.TransferSyntaxUID = draw.choice(SYNTAXES if base in ("SR", "RTPLAN") else SYNTAXES[:2])
    assert found.count() > 200
    assert left(dataset, found, tmp_path, *chosen) == {}
    if shutil.which("dcmdump"):
        done = subprocess.run(["dcmdump", "-q", str(tmp_path / "in.out")], capture_output=True, check=False)
        assert done.returncode == 0


def test_nothing_is_left_in_arrays_of_bytes(tmp_path) -> None:
    found, dataset, inner = canaries.Canaries(), canaries.base("CT"), Dataset()
    for level, place in ((dataset, "top"), (inner, "nested")):
        for tag, (vr, *_) in pydicom.datadict.DicomDictionary.items():
            if vr in ("OB", "OW", "OB or OW", "US or OW") and tag >> 16 > 6 and tag not in (0x7FE00010, 0x00420011):
                level.add_new(tag, "OB" if vr == "OB" else "OW", found.value(place, "OB"))
    dataset.SourceImageSequence = [inner]
    assert found.count() > 60
    assert left(dataset, found, tmp_path) == {}


def test_nothing_is_left_behind_tables_and_samples(tmp_path) -> None:
    found, dataset, lut = canaries.Canaries(), canaries.base("CT"), Dataset()
    words = found.value("table", "OB")
    numbers = list(struct.unpack(f"<{len(words) // 2}H", words))
    lut.add_new("LUTDescriptor", "US", [2, 0, 16])
    lut.add_new("LUTData", "US", [1, 2, *numbers])
    dataset.VOILUTSequence = [lut]
    segments = struct.pack("<5H", 0, 1, 7, 1, 255) + struct.pack("<H", 9)
    dataset.add_new("SegmentedRedPaletteColorLookupTableData", "OW", segments + found.value("palette", "OB"))
    dataset.add_new("WaveformPaddingValue", "OW", bytes(8) + found.value("sample", "OB"))
    assert left(dataset, found, tmp_path) == {}
    new = pydicom.dcmread(tmp_path / "in.out")
    assert new.VOILUTSequence[0].LUTData == [1, 2]
    assert new.SegmentedRedPaletteColorLookupTableData == segments


@pytest.mark.parametrize("tail", ["text", "element", "private", "delimiter", "pixels", "half"])
def test_nothing_is_left_of_what_follows_the_data_set(tail, tmp_path) -> None:
    found = canaries.Canaries()
    name = str(found.value("tail", "LO")).encode()
    tails = {
        "text": name,
        "element": struct.pack("<HH2sH", 0x0010, 0x4000, b"LT", len(name)) + name,
        "private": struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"UN", 0, len(name)) + name,
        "delimiter": struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + name,
        "pixels": struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(name)) + name,
        "half": struct.pack("<HH2sH", 0x0010, 0x4000, b"LT", 500) + name,
    }
    source = canaries.save(canaries.base("RTPLAN"), tmp_path / "in.dcm")
    dataset = pydicom.dcmread(source)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    canaries.save(dataset, source)
    source.write_bytes(source.read_bytes() + tails[tail])
    if clean(source).name:
        assert found.left(source.with_suffix(".out").read_bytes()) == {}


def test_nothing_is_left_of_an_unknown_sequence_without_length(tmp_path) -> None:
    found = canaries.Canaries()
    inner = Dataset()
    inner.PatientName, inner.ImageComments = str(found.value("unknown", "PN")), str(found.value("unknown", "LO"))
    dataset = canaries.base("RTPLAN")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    source = canaries.save(dataset, tmp_path / "in.dcm")
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    for group, element in ((0x5200, 0x9229), (0x7001, 0x1010)):
        head = struct.pack("<HH2sHI", group, element, b"UN", 0, 0xFFFFFFFF)
        source.write_bytes(source.read_bytes() + head + as_bytes(inner) + end)
    assert found.left(source.read_bytes())
    assert clean(source).reason == ""
    assert found.left(source.with_suffix(".out").read_bytes()) == {}


def test_nothing_is_left_in_the_file_meta_and_before_it(tmp_path) -> None:
    found, dataset = canaries.Canaries(), canaries.base("CT")
    canaries.around(dataset, found)
    for keyword in ("SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        setattr(dataset.file_meta, keyword, found.value("file meta", "AE"))
    for keyword in ("SourcePresentationAddress", "SendingPresentationAddress", "ReceivingPresentationAddress"):
        setattr(dataset.file_meta, keyword, found.value("file meta", "UR"))
    dataset.file_meta.add_new(0x00020099, "LO", found.value("file meta", "LO"))
    assert left(dataset, found, tmp_path) == {}
    allowed = {"FileMetaInformationGroupLength", "FileMetaInformationVersion", "MediaStorageSOPClassUID",
               "MediaStorageSOPInstanceUID", "TransferSyntaxUID", "ImplementationClassUID",
               "ImplementationVersionName"}  # fmt: skip
    assert {element.keyword for element in pydicom.dcmread(tmp_path / "in.out").file_meta} == allowed


def test_nothing_is_left_in_the_annotations_of_a_waveform(tmp_path) -> None:
    found, dataset = canaries.Canaries(), canaries.base("ECG")
    note, source = Dataset(), Dataset()
    note.UnformattedTextValue, note.TextValue = found.value("annotation", "ST"), found.value("annotation", "UT")
    source.CodeValue, source.CodingSchemeDesignator = found.value("channel", "SH"), "99SITE"
    source.CodeMeaning = found.value("channel", "LO")
    note.ConceptNameCodeSequence = [source]
    dataset.WaveformAnnotationSequence = [note]
    channel = dataset.WaveformSequence[0].ChannelDefinitionSequence[0]
    channel.ChannelLabel, channel.ChannelSourceSequence = found.value("channel", "SH"), [source]
    dataset.WaveformSequence[0].MultiplexGroupLabel = found.value("channel", "SH")
    assert left(dataset, found, tmp_path, *CLEANING) == {}


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO 2022 IR 87", "ISO 2022 IR 149", "GB18030"])
def test_no_part_of_a_name_is_left(charset, tmp_path) -> None:
    """The three groups of a name, alphabetic, ideographic and phonetic, in every attribute of a name, nested too."""
    name = {"ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동", "GB18030": "Wang^XiaoDong=王^小东="}.get(
        charset, "Yamada^Tarou=山田^太郎=やまだ^たろう"
    )
    dataset, inner = canaries.base("RTPLAN"), Dataset()
    for level in (dataset, inner):
        level.SpecificCharacterSet = ["", charset] if charset.startswith("ISO 2022") else charset
        for tag, (vr, *_) in pydicom.datadict.DicomDictionary.items():
            if vr == "PN" and tag >> 16 > 6:
                level.add_new(tag, "PN", name)
    dataset.SourceImageSequence = [inner]
    source = canaries.save(dataset, tmp_path / "in.dcm")
    assert clean(source, "clean_descriptors").reason == ""
    code = {"ISO_IR 192": "utf-8", "ISO 2022 IR 87": "iso2022_jp", "GB18030": "gb18030"}.get(charset, "euc_kr")
    before, after = source.read_bytes(), source.with_suffix(".out").read_bytes()
    for part in (
        *name.split("=")[0].encode().split(b"^"),
        *(one.encode(code)[3:7] for one in name.split("=")[1:] if one),
    ):
        assert part in before
        assert part not in after


HELD_BACK = {
    "zip": b"PK\x03\x04",
    "PDF": b"%PDF-1.7\n",
    "text": b"Jane Doe, 12.03.1971\n",
}


@pytest.mark.parametrize("kind", HELD_BACK)
def test_what_is_no_image_is_held_back(kind, tmp_path) -> None:
    source = tmp_path / "in.dcm"
    source.write_bytes(HELD_BACK[kind])
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as packed:
            packed.write(canaries.FILES / "CT_small.dcm", "Doe_Jane.dcm")
    assert not clean(source).name


def test_directories_and_documents_are_held_back(tmp_path) -> None:
    directories = [path for path in canaries.FILES.rglob("DICOMDIR*") if path.is_file()]
    assert len(directories) > 5
    documents = ("EncapsulatedPDFStorage", "EncapsulatedCDAStorage", "EncapsulatedSTLStorage", "EncapsulatedOBJStorage",
                 "MediaStorageDirectoryStorage")  # fmt: skip
    for number, keyword in enumerate(documents):
        dataset = canaries.base("RTPLAN")
        dataset.SOPClassUID = getattr(pydicom.uid, keyword)
        directories.append(canaries.save(dataset, tmp_path / f"{number}.dcm"))
    for number, path in enumerate(directories):
        source = shutil.copy(path, tmp_path / f"copy{number}.dcm")
        assert not clean(pathlib.Path(source)).name, path.name


def test_a_box_around_a_jpeg_2000_stream_carries_no_name(tmp_path) -> None:
    found, dataset = canaries.Canaries(), canaries.base("MR JPEG 2000")
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    name = str(found.value("box", "LO")).encode()
    boxes = struct.pack(">I4sI", 12, b"jP  ", 0x0D0A870A) + struct.pack(">I4s", 8 + len(name), b"xml ") + name
    boxes += struct.pack(">I4s", 8 + len(frame), b"jp2c") + frame
    dataset.PixelData = pydicom.encaps.encapsulate([boxes + b"\0" * (len(boxes) % 2)])
    source = canaries.save(dataset, tmp_path / "in.dcm")
    assert found.left(source.read_bytes())
    if clean(source).name:
        assert found.left(source.with_suffix(".out").read_bytes()) == {}
