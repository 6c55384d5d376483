"""Places that hold an identity though no table names them: names of folders, marginal markers, voices, codes."""

from __future__ import annotations

import io
import json
import pathlib
import struct

import numpy as np
import pydicom
import pydicom.data
import pydicom.encaps
import pydicom.uid
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from medkeras.privacy import file
from medkeras.workflows import deidentify
from tests.privacy import sentinels

KEY = bytes(range(32))
NAME = sentinels.value("LO", 7)
JPEG_CODES = (0x02, 0x4F, 0xBF, 0xC8, *range(0xE0, 0xF0), 0xF0, 0xF6, 0xFD, 0xFE)


def cleaned(contents: bytes, folder: pathlib.Path) -> tuple[file.Done, bytes]:
    """Returns what became of a file, and the new one, empty where it is held back."""
    (folder / "in").write_bytes(contents)
    done = file.deidentify_file(str(folder / "in"), str(folder / "out"), relative="in", key=KEY, chosen=frozenset())
    assert sentinels.hits(contents)
    assert not sentinels.hits(json.dumps([done.name, done.reason, done.actions]).encode())
    return done, (folder / "out").read_bytes() if done.name else b""


def mr(**changes: object) -> pydicom.FileDataset:
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small.dcm"))
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: pydicom.FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def jpeg(code: int) -> bytes:
    """Returns a JPEG file with a name in a segment of this code after its first marker."""
    stream = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + bytes((0xFF, code)) + struct.pack(">H", 2 + len(NAME)) + NAME.encode() + data[2:]


@pytest.mark.parametrize("code", JPEG_CODES, ids=hex)
def test_no_segment_of_a_jpeg_carries_a_name(code, tmp_path) -> None:
    done, contents = cleaned(jpeg(code), tmp_path)
    assert not sentinels.hits(contents)
    if done.name:
        assert np.array_equal(
            np.asarray(Image.open(io.BytesIO(contents))), np.asarray(Image.open(io.BytesIO(jpeg(0xFE))))
        )


def tiff(compression: str, *, tables: bool = False) -> bytes:
    """Returns a TIFF whose pixels are compressed as JPEG, with a comment in each strip, or in the tables."""
    stream = io.BytesIO()
    pixels = np.arange(4096, dtype=np.uint8).reshape(64, 64)
    tifffile.imwrite(stream, pixels, compression=compression, metadata=None, rowsperstrip=64)
    data = stream.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages[0]
        (offset,), (size,) = page.dataoffsets, page.databytecounts
        place = page.tags["StripByteCounts"].valueoffset
        offsets = page.tags["StripOffsets"].valueoffset
    strip = data[offset : offset + size]
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(NAME)) + NAME.encode()
    strip = strip[:2] + comment + strip[2:]
    out = bytearray(data) + strip
    struct.pack_into("<I", out, place, len(strip))
    struct.pack_into("<I", out, offsets, len(data))
    return bytes(out)


def test_a_comment_within_the_pixels_of_a_tiff_is_gone(tmp_path) -> None:
    contents = tiff("jpeg")
    before = tifffile.imread(io.BytesIO(contents))
    done, after = cleaned(contents, tmp_path)
    assert done.name
    assert not sentinels.hits(after)
    assert np.array_equal(tifffile.imread(io.BytesIO(after)), before)


def test_bytes_after_the_pixels_of_a_strip_are_no_pixels(tmp_path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((16, 16), np.uint8), metadata=None)
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as opened:
        place = opened.pages[0].tags["StripByteCounts"].valueoffset
        offset = opened.pages[0].dataoffsets[0]
    data = bytearray(stream.getvalue()[: offset + 256])
    data += NAME.encode()
    struct.pack_into("<I", data, place, 256 + len(NAME))
    _, after = cleaned(bytes(data), tmp_path)
    assert not sentinels.hits(after)


@pytest.mark.parametrize("size", [200, 1000])
def test_a_bmp_header_of_no_known_size_is_held_back(size, tmp_path) -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "BMP")
    data = stream.getvalue()
    header = struct.pack("<I", size) + data[18:54] + NAME.encode().ljust(size - 40, b"\0")
    contents = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + size + 1024) + header + data[54:]
    _, after = cleaned(contents, tmp_path)
    assert not sentinels.hits(after)


def test_a_gif_control_block_has_no_room_for_words(tmp_path) -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8), 7).save(stream, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 9)], duration=50)
    data = stream.getvalue()
    place = data.index(b"\x21\xf9\x04") + 7
    contents = data[:place] + bytes((len(NAME),)) + NAME.encode() + data[place:]
    done, after = cleaned(contents, tmp_path)
    assert done.name
    assert not sentinels.hits(after)


@pytest.mark.parametrize("keyword", ["BasicVoiceAudioWaveformStorage", "GeneralAudioWaveformStorage"])
def test_a_voice_is_held_back(keyword, tmp_path) -> None:
    dataset = mr(SOPClassUID=getattr(pydicom.uid, keyword), OperatorsName=NAME, Modality="AU")
    done, _ = cleaned(saved(dataset), tmp_path)
    assert not done.name
    assert "voice" in done.reason


@pytest.mark.parametrize("text", [NAME, "RGB ZQXVSENT"])
def test_a_photometric_interpretation_is_one_of_the_standard(text, tmp_path) -> None:
    _, after = cleaned(saved(mr(PhotometricInterpretation=text)), tmp_path)
    assert not sentinels.hits(after)


def test_a_coded_string_that_names_the_files_people_is_gone(tmp_path) -> None:
    codes = {
        "BodyPartExamined": "ZQXVSENT HEAD",
        "ScanOptions": ["ZQXVSENT", "FC"],
        "ImageType": ["DERIVED", "ZQXVSENT"],
    }
    dataset = mr(PatientName="Zqxvsent^Jane^^MR", **codes)
    done, after = cleaned(saved(dataset), tmp_path)
    assert not sentinels.hits(after)
    new = pydicom.dcmread(io.BytesIO(after))
    assert (new.Modality, new.ImageType[0], new.PixelData) == ("MR", "DERIVED", dataset.PixelData)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.8.100"])
def test_pixels_in_a_container_that_is_not_cleaned_are_held_back(syntax, tmp_path) -> None:
    dataset = mr()
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0\0\x0cJXL " + NAME.encode()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    done, after = cleaned(saved(dataset).replace(pydicom.uid.MPEG2MPML.encode(), syntax.encode(), 1), tmp_path)
    assert not done.name
    assert not sentinels.hits(after)


def test_folders_that_may_be_called_after_patients_are_hashed(tmp_path) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", NAME)
    places = ("train/normal/1.png", f"train/{NAME}/1.png", f"test/{NAME}/{NAME}.png", "Doe_John/1.png", "4711/1.png")
    for place in places:
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / "in" / place, pnginfo=words)
    done = deidentify.deidentify([tmp_path / "in"], output=tmp_path / "out", key=key_file(tmp_path))
    assert (done.written, done.held_back) == (5, 0)
    assert sentinels.leaks(tmp_path / "out") == []
    folders = sorted(path.parent.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert "train/normal" in folders
    assert not any("Doe" in folder or "4711" in folder for folder in folders)
    hashed = {folder.rpartition("/")[2] for folder in folders if folder.startswith(("train/d-", "test/d-"))}
    assert len(hashed) == 1


def key_file(folder: pathlib.Path) -> pathlib.Path:
    (folder / "key").write_bytes(KEY)
    return folder / "key"
