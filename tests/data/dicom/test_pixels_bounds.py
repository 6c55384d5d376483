"""Files that lie about their size: each ends in one sentence, quickly, and before memory is taken."""

from __future__ import annotations

import pathlib
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom import uid
from pydicom.datadict import tag_for_keyword

from medkeras import errors
from medkeras.data.readers import dicom
from medkeras.data.readers.dicom import scan
from tests.data.dicom import making

ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
IMPLICIT, EXPLICIT = uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian
IMAGE = making.image(making.ramp())


def sequence(length: int = 0xFFFFFFFF, vr: bytes = b"SQ") -> bytes:
    return struct.pack("<HH2sHI", 0x0008, 0x1140, vr, 0, length)


def nested(depth: int, syntax: str, vr: bytes = b"SQ") -> bytes:
    opening = sequence(vr=vr) if syntax == EXPLICIT else struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF)
    return (opening + ITEM) * depth


def nested_by_length(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
        body = sequence(len(body)) + body
    return body


def elements(count: int, syntax: str) -> bytes:
    one = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 2) if syntax == EXPLICIT else struct.pack("<HHI", 9, 0x1001, 2)
    return (one + b"AB") * count


def in_sequence(body: bytes) -> bytes:
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
    return sequence(len(item)) + item


def lying_fragments(count: int) -> bytes:
    header = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    return header + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count


HOSTILE = {
    "deep, explicit": (EXPLICIT, nested(100_000, EXPLICIT), "nested at most 32 deep"),
    "deep, implicit": (IMPLICIT, nested(100_000, IMPLICIT), "nested at most 32 deep"),
    "deep, of unknown representation": (
        EXPLICIT,
        nested(1, EXPLICIT, b"UN") + nested(1000, IMPLICIT),
        "nested at most",
    ),
    "deep, by lengths": (EXPLICIT, nested_by_length(2_000), "nested at most 32 deep"),
    "many, explicit": (EXPLICIT, elements(2_000_000, EXPLICIT), "at most 262144 elements"),
    "many, implicit": (IMPLICIT, elements(2_000_000, IMPLICIT), "at most 262144 elements"),
    "many, in a sequence": (EXPLICIT, in_sequence(elements(1_000_000, EXPLICIT)), "at most 262144 elements"),
    "many items": (EXPLICIT, sequence() + (ITEM + ITEM_END) * 500_000, "at most 262144 elements"),
    "a length beyond the end": (
        EXPLICIT,
        struct.pack("<HH2sHI", 9, 1, b"OB", 0, 2**31) + b"x",
        "ends within an element",
    ),
    "a sequence beyond the end": (EXPLICIT, sequence(2**31), "ends within a sequence"),
    "half an element": (EXPLICIT, struct.pack("<HH2sH", 9, 1, b"OB", 0), "ends within an element"),
    "no pixels": (EXPLICIT, elements(3, EXPLICIT), "an object of an unknown class without any"),
    "an empty sequence": (EXPLICIT, sequence() + SEQUENCE_END, "without any"),
}


def refusal(path: str) -> str:
    """Returns the sentence, and fails for a file that takes a second of computing."""
    start = time.process_time()
    with pytest.raises(errors.RefusalError) as caught:
        dicom.read(path)
    assert time.process_time() - start < 1
    return str(caught.value)


def most_memory(path: str) -> int:
    """Returns the most bytes that were taken while a file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(errors.RefusalError):
            dicom.read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_structure_is_refused(name, tmp_path) -> None:
    syntax, body, sentence = HOSTILE[name]
    assert sentence in refusal(making.raw(tmp_path / "made.dcm", body, syntax))


def test_the_deepest_nesting_that_is_allowed_is_walked(tmp_path) -> None:
    path = making.write(IMAGE, tmp_path / "made.dcm")
    data = pathlib.Path(path).read_bytes()
    at = data.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    closing = (ITEM_END + SEQUENCE_END) * scan.MAX_DEPTH
    pathlib.Path(path).write_bytes(data[:at] + nested(scan.MAX_DEPTH, EXPLICIT) + closing + data[at:])
    np.testing.assert_array_equal(dicom.read(path)[..., 0], making.ramp())


def deflated(path: pathlib.Path, body: bytes) -> str:
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return making.raw(path, packer.compress(body) + packer.flush(), uid.DeflatedExplicitVRLittleEndian)


def test_a_deflated_bomb_is_refused(tmp_path) -> None:
    body = struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 2**27) + bytes(2**27)
    path = deflated(tmp_path / "made.dcm", body)
    assert "a deflated data set is at most 134217728 bytes long" in refusal(path)
    assert most_memory(path) < 300e6


def test_a_deflated_file_that_is_cut_short_or_damaged_is_refused(tmp_path) -> None:
    path = pathlib.Path(making.write(IMAGE, tmp_path / "made.dcm", uid.DeflatedExplicitVRLittleEndian))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "complete" in refusal(str(path))
    path.write_bytes(whole[:300] + b"\xff" * 40 + whole[340:])
    assert "deflated data set is damaged" in refusal(str(path))


@pytest.mark.parametrize(("elements", "sentence"), [
    ({"Rows": 0}, "1 to 67108864 pixels. Received: 0 rows"),
    ({"Rows": 65535, "Columns": 65535}, "1 to 67108864 pixels"),
    ({"Rows": 60000, "Columns": 1000}, "pixel data take 120000000 bytes. Received: 96"),
    ({"NumberOfFrames": 0}, "1 to 65536 frames"),
    ({"NumberOfFrames": 2**31 - 1}, "1 to 65536 frames"),
    ({"NumberOfFrames": 60000}, "pixel data take"),
    ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, "BitsAllocated is 1, 8, 16 or 32. Received: 64"),
    ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "BitsAllocated is 1, 8, 16 or 32. Received: 12"),
    ({"SamplesPerPixel": 65535}, "MONOCHROME2 has 1 samples a pixel. Received: 65535"),
    ({"Rows": None}, "states its Rows"),
    ({"BitsStored": None}, "states its BitsStored"),
])  # fmt: skip
def test_a_form_that_cannot_be_is_refused(elements, sentence, tmp_path) -> None:
    assert sentence in refusal(making.write(making.image(making.ramp(), **elements), tmp_path / "made.dcm"))


SIZ = struct.pack(">HHIIIIIIIIHBBB", 41, 0, 8000, 8000, 0, 0, 8000, 8000, 0, 0, 1, 7, 1, 1)
SOF = struct.pack(">HBHHBBBB", 11, 8, 8000, 8000, 1, 1, 0x11, 0)
BOMBS = {
    uid.JPEG2000Lossless: b"\xff\x4f\xff\x51" + SIZ + bytes(100),
    uid.JPEGLSLossless: b"\xff\xd8\xff\xf7"
    + SOF
    + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"
    + bytes(100)
    + b"\xff\xd9",
    uid.JPEGBaseline8Bit: b"\xff\xd8\xff\xc0" + SOF + bytes(100) + b"\xff\xd9",
    uid.RLELossless: struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 100,
}


@pytest.mark.parametrize("syntax", BOMBS, ids=lambda syntax: uid.UID(syntax).keyword)
def test_a_large_picture_in_a_few_bytes_is_refused(syntax, tmp_path) -> None:
    made = making.image(making.ramp(high=255, dtype=np.uint8), Rows=8000, Columns=8000)
    path = making.compressed(made, [BOMBS[syntax]], tmp_path / "made.dcm", syntax)
    assert "a large frame takes at least a byte in 2000" in refusal(path)
    assert most_memory(path) < 1e6


@pytest.mark.parametrize("syntax", BOMBS, ids=lambda syntax: uid.UID(syntax).keyword)
@pytest.mark.parametrize(
    "frame", [b"\x00\x00", b"\xff\xd8", b"\xff\x4f\xff\x51", bytes(200), b"\xff" * 200, b"\xff\xd8\xff\xc0\x00\x00"]
)
def test_a_frame_without_a_header_is_refused(frame, syntax, tmp_path) -> None:
    made = making.image(making.ramp(high=255, dtype=np.uint8))
    path = making.compressed(made, [frame], tmp_path / "made.dcm", syntax)
    assert "frame" in refusal(path)


@pytest.mark.parametrize("count", [1_000_000, 3, 1, 0])
def test_fragments_without_an_end_are_refused(count, tmp_path) -> None:
    path = pathlib.Path(making.compressed(IMAGE.copy(), [b"\x00" * 8], tmp_path / "made.dcm", uid.JPEG2000))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\xe0\x7f\x10\x00")] + lying_fragments(count))
    assert "fragment" in refusal(str(path))


def test_compressed_pixels_in_one_piece_are_refused(tmp_path) -> None:
    path = pathlib.Path(making.write(IMAGE, tmp_path / "made.dcm"))
    native, coded = b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.5\x00"
    path.write_bytes(path.read_bytes().replace(native, coded))
    assert "compressed pixel data are stored in fragments" in refusal(str(path))


@pytest.mark.parametrize("left", [0, 100, 128, 131, 132, 140, 160, 300, 600, 700])
def test_a_file_that_is_cut_short_is_refused(left, tmp_path) -> None:
    path = pathlib.Path(making.write(IMAGE, tmp_path / "made.dcm"))
    path.write_bytes(path.read_bytes()[:left])
    assert refusal(str(path))


def test_many_frames_are_read_one_by_one_but_not_at_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dicom.reading.picture, "MAX_DECODED", 100)
    path = making.bundled("rtdose.dcm")
    with pytest.raises(errors.RefusalError, match="frames take at most 100 bytes in memory. Received: 6000"):
        dicom.read(path)
    assert dicom.read(path, frame=14).shape == (10, 10, 1)


@pytest.mark.parametrize("seed", range(150))
def test_mutants_are_read_or_refused(seed, tmp_path) -> None:
    names = ("MR_small_RLE.dcm", "SC_rgb_rle_16bit.dcm", "CT_small.dcm", "examples_palette.dcm", "rtdose.dcm")
    data = bytearray(pathlib.Path(making.bundled(names[seed % len(names)])).read_bytes())
    random = np.random.default_rng(seed)
    for place in random.integers(0, min(len(data), 4000 if seed % 2 else len(data)), 12):
        data[place] = random.integers(256)
    path = tmp_path / "made.dcm"
    path.write_bytes(data)
    try:
        values = dicom.read(str(path))
    except errors.RefusalError:
        return
    facts = dicom.inspect(str(path))
    assert (values.dtype, values.shape[-3:]) == (facts["dtype"], (facts["rows"], facts["columns"], facts["channels"]))


NUMBERS = ("Rows", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation")
TEXTS = ("PhotometricInterpretation", "Modality", "PatientID", "SOPClassUID", "RescaleType", "VOILUTFunction")
OTHERS = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "WindowCenter", "PixelPaddingValue")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("keyword", [*NUMBERS, *TEXTS, *OTHERS])
def test_neither_sentences_nor_notes_nor_logs_hold_the_value_of_an_element(keyword, tmp_path, caplog) -> None:
    made = making.image(making.ramp(), RescaleSlope="1", RescaleIntercept="0")
    if keyword in made:
        del made[keyword]
    made.add_new(tag_for_keyword(keyword), "LO", "JOHN^SENTINEL")
    path = making.write(made, tmp_path / "made.dcm")
    caplog.clear()
    try:
        said = dicom.inspect(path)["notes"]
    except errors.RefusalError as refused:
        said = [str(refused)]
    assert "SENTINEL" not in " ".join(said) + caplog.text
    assert said or keyword in (*TEXTS, "ImagePositionPatient", "WindowCenter")
