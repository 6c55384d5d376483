"""Files that lie, end early or never end: each gives the right pixels or one sentence, and never anything else."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tifffile

from medkeras import errors
from medkeras.data import decode, files, headers
from tests.data import images

SOURCE = files.FileImages()
LARGE = images.picture(120, 160)


def refused(path: object) -> str:
    """Returns the reason for which both the header and the pixels of a file are refused."""
    with pytest.raises(errors.BadInputError) as caught:
        SOURCE.header(images.case(path))
    reason = check_sentence(caught.value, path)
    with pytest.raises(errors.BadInputError) as caught:
        SOURCE.read(images.case(path), 3)
    assert caught.value.reason == reason
    return reason


def refused_pixels(path: object) -> str:
    """Returns the reason for which the pixels of a file are refused although its header is sound."""
    SOURCE.header(images.case(path))
    with pytest.raises(errors.BadInputError) as caught:
        SOURCE.read(images.case(path), 3)
    return check_sentence(caught.value, path)


def check_sentence(error: errors.BadInputError, path: object) -> str:
    assert error.path == str(path)
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert 10 < len(error.reason) < 200
    for jargon in ("\n", "[Op:", "Errno", "node", "Traceback", "0x"):
        assert jargon not in error.reason
    return error.reason


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "the header is cut short"),
        (b"\xff\xd8\xff", "the header is cut short"),
        (b"BM", "the header is cut short"),
        (b"GIF89a", "the header is cut short"),
        (b"II*\0", "the TIFF header is damaged"),
        (b"RIFF....WEBP", "the header is cut short"),
        (b"P5 12", "the header is cut short"),
        (b"patient,age\n1,63\n", "a file that looks like text"),
        (b"<!doctype html><p>404", "a file that looks like text"),
        (b"%PDF-1.7 \x00\xff", "a file that looks like PDF"),
        (b"\x00\x01\x02\x03", "a file that begins with the bytes 00 01 02 03"),
    ],
)
def test_what_is_no_image(contents, reason, tmp_path):
    assert refused(images.write(tmp_path, contents, "scan.png")).endswith(reason)


def test_places_that_are_no_file(tmp_path):
    assert refused(tmp_path) == "this is a folder, not an image file"
    assert refused(tmp_path / "missing.png") == "there is no such file"
    assert refused("nul\0inside.png") == "this is not a file name"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refused(tmp_path / "loop").startswith("the file cannot be read")
    assert refused(tmp_path / ("x" * 300)).startswith("the file cannot be read")


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])
def test_files_without_an_end_are_not_opened(make, tmp_path):
    make(tmp_path / "scan.png")
    started = time.monotonic()
    assert refused(tmp_path / "scan.png") == "this is not a regular file"
    assert time.monotonic() - started < 2


def test_no_permission(tmp_path, monkeypatch):
    path = images.write(tmp_path, images.encoded(images.pillow(LARGE), "PNG"))

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    # By a stand-in, since the superuser may read everything.
    monkeypatch.setattr(headers, "open", denied, raising=False)
    assert refused(path) == "there is no permission to read the file"


def test_a_name_that_is_not_utf_8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write(images.encoded(images.pillow(LARGE), "PNG"))
    path = os.fsdecode(name)
    assert SOURCE.header(images.case(path)).height == 120
    np.testing.assert_array_equal(SOURCE.read(images.case(path), 3), LARGE)
    with open(name, "r+b") as file:
        file.truncate(2000)
    with pytest.raises(errors.BadInputError) as caught:
        SOURCE.read(images.case(path), 3)
    str(caught.value).encode("utf-8")


SOUND = {
    "png": images.encoded(images.pillow(LARGE), "PNG"),
    "16-bit png": images.png16(images.picture(60, 80, high=65535), 2),
    "jpeg": images.encoded(images.pillow(LARGE), "JPEG"),
    "progressive jpeg": images.encoded(images.pillow(LARGE), "JPEG", progressive=True),
    "cmyk jpeg": images.encoded(images.pillow(LARGE).convert("CMYK"), "JPEG"),
    "turned jpeg": images.encoded(images.pillow(LARGE), "JPEG", exif=images.exif(6, "<")),
    "bmp": images.encoded(images.pillow(LARGE), "BMP"),
    "palette bmp": images.encoded(images.pillow(LARGE).quantize(99), "BMP"),
    "tiff": images.tiff(LARGE, photometric="rgb"),
    "lzw tiff": images.tiff(LARGE, photometric="rgb", compression="lzw", rowsperstrip=16),
    "gif": images.encoded(images.pillow(LARGE).quantize(99), "GIF"),
    "webp": images.encoded(images.pillow(LARGE), "WEBP"),
    "pgm": images.encoded(images.pillow(LARGE).convert("L"), "PPM"),
}


@pytest.mark.parametrize("name", [name for name in SOUND if name != "gif"])
def test_a_truncated_file_is_refused_wherever_it_ends(name, tmp_path):
    contents = SOUND[name]
    reasons = []
    for end in (*np.linspace(1, len(contents) - 1, 20).astype(int), len(contents) - 2):
        path = images.write(tmp_path, contents[:end])
        with pytest.raises(errors.BadInputError) as caught:
            SOURCE.read(images.case(path), 3)
        reasons.append(check_sentence(caught.value, path))
    if name not in ("webp",):
        assert sum("truncated" in reason for reason in reasons) >= 10


def test_a_gif_without_its_trailer_still_has_its_picture(tmp_path):
    path = images.write(tmp_path, SOUND["gif"][:-1])
    whole = SOURCE.read(images.case(images.write(tmp_path, SOUND["gif"], "whole")), 3)
    np.testing.assert_array_equal(SOURCE.read(images.case(path), 3), whole)
    for end in np.linspace(1, len(SOUND["gif"]) - 40, 20).astype(int):
        with pytest.raises(errors.BadInputError):
            SOURCE.read(images.case(images.write(tmp_path, SOUND["gif"][:end])), 3)


def test_a_jpeg_whose_end_was_never_written(tmp_path):
    contents = SOUND["jpeg"]
    path = images.write(tmp_path, contents[: len(contents) // 2] + bytes(len(contents) // 2))
    assert refused_pixels(path) == "the JPEG data end early: the file is truncated"


def with_frame(offset: int, value: bytes) -> bytes:
    """A JPEG whose frame header is changed at `offset` after its marker."""
    at = SOUND["jpeg"].index(b"\xff\xc0") + offset
    return SOUND["jpeg"][:at] + value + SOUND["jpeg"][at + len(value) :]


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (with_frame(4, b"\x0c"), "a JPEG has 8 bits a sample. Received: 12"),
        (with_frame(1, b"\xc3"), "a JPEG is baseline or progressive"),
        (with_frame(1, b"\xc9"), "a JPEG is baseline or progressive"),
        (with_frame(9, b"\x02"), "a JPEG has 1, 3 or 4 components. Received: 2"),
        (with_frame(5, b"\0\0"), "an image has at least one row"),
        (with_frame(5, b"\xff\xff\xff\xff"), "an image has at most 67108864 pixels"),
        (images.png(0, 9, 8, 0, b""), "an image has at least one row"),
        (images.png(2**31 - 1, 2**31 - 1, 8, 0, b""), "an image has at most"),
        (images.png(9, 9, 3, 0, b""), "the PNG header is damaged"),
        (b"GIF89a" + b"\xff" * 4 + bytes(20), "an image has at most"),
        (b"P6 99999 99999 255\n", "an image has at most"),
        (b"P5 9 9 70000\n", "the white of a PGM or PPM lies between"),
        (b"P5 9 nine 255\n", "the PGM or PPM header is damaged"),
        (b"II*\0" + b"\xff" * 40, "the TIFF header is damaged"),
    ],
)
def test_headers_that_cannot_be_served(contents, reason, tmp_path):
    assert refused(images.write(tmp_path, contents)).startswith(reason)


def bomb(tmp_path) -> str:
    """A PNG of 100 megapixels in 100 kB."""
    return str(images.write(tmp_path, images.png(10000, 10000, 8, 0, bytes(10001 * 10000)), "bomb.png"))


def test_a_bomb_is_refused_from_its_header(tmp_path):
    path = bomb(tmp_path)
    assert os.path.getsize(path) < 200_000
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert refused(path).startswith("an image has at most 67108864 pixels. Received: 10000 rows, 10000 columns")
    assert time.monotonic() - started < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


@pytest.mark.parametrize("contents", [b"", b"GIF89a", SOUND["gif"], SOUND["tiff"], b"BM" + bytes(90)])
def test_the_graph_refuses_what_it_does_not_read(contents):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode_bytes(tf.constant(contents), 3)


def test_the_graph_refuses_bombs(tmp_path):
    with open(bomb(tmp_path), "rb") as file:
        png = file.read()
    for contents in (png, with_frame(5, b"\xea\x60\xea\x60")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 67108864 pixels"):
            decode.decode_bytes(tf.constant(contents), 3)


def test_endless_chunks_and_segments_are_refused(tmp_path):
    png = SOUND["png"][:33] + images.chunk(b"tEXt", b"") * 1000 + SOUND["png"][33:]
    jpeg = SOUND["jpeg"][:2] + b"\xff\xfe\0\2" * 1000 + SOUND["jpeg"][2:]
    assert refused(images.write(tmp_path, png)) == "a PNG has at most 256 chunks before its pixels"
    assert refused(images.write(tmp_path, jpeg)) == "a JPEG has at most 256 segments before its picture"


def test_a_palette_index_beyond_the_palette(tmp_path):
    contents = bytearray(SOUND["palette bmp"])
    contents[-1] = 255
    contents[46:50] = (99).to_bytes(4, "little")
    assert refused_pixels(images.write(tmp_path, bytes(contents))) == "the BMP data are damaged"


def stack() -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([LARGE[..., 0]] * 3), photometric="minisblack")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (stack(), "a TIFF holds one picture; several of its pages are"),
        (images.tiff(np.zeros((9, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig"), "a TIFF is grey"),
        (images.tiff(np.zeros((9, 9), np.complex64)), "a TIFF holds whole or floating-point numbers"),
        (images.tiff(LARGE, photometric="cielab"), "a TIFF is grey, RGB, palette or CMYK"),
    ],
)
def test_tiffs_that_are_no_one_picture(contents, reason, tmp_path):
    assert refused(images.write(tmp_path, contents)).startswith(reason)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(value, tmp_path):
    array = np.zeros((9, 9), np.float32)
    array[4, 4] = value
    reason = refused_pixels(images.write(tmp_path, images.tiff(array)))
    assert reason == "pixels are finite numbers; the image holds NaN or infinite ones"


def test_whole_numbers_that_float32_cannot_hold(tmp_path):
    reason = refused_pixels(images.write(tmp_path, images.tiff(np.full((9, 9), 2**24 + 1, np.int32))))
    assert reason == "whole numbers beyond 2**24 lose digits as float32"


def test_too_little_memory_is_a_sentence(tmp_path, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(decode, "decode_plain", exhausted)
    reason = refused_pixels(images.write(tmp_path, SOUND["png"]))
    assert reason == "there is too little memory to decode the image"


def mutant(contents: bytes, random: np.random.Generator) -> bytes:
    """Overwrites, cuts out, repeats or truncates, mostly near the header, and keeps the magic bytes."""
    data = bytearray(contents)
    for _ in range(random.integers(1, 6)):
        reach = len(data) if random.random() < 0.5 else min(len(data), 200)
        at = int(random.integers(8, reach))
        kind = random.integers(5)
        if kind < 2:
            data[at] = random.integers(256)
        elif kind == 2:
            data[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"])
        elif kind == 3:
            del data[at : at + int(random.integers(1, 40))]
        else:
            data[at:at] = data[at : at + int(random.integers(1, 40))]
    return bytes(data)


@pytest.mark.parametrize("name", SOUND)
def test_mutants_decode_or_are_refused(name, tmp_path):
    random = np.random.default_rng(len(SOUND[name]))
    survived = 0
    for _ in range(25):
        path = images.write(tmp_path, mutant(SOUND[name], random))
        for channels in (1, 3):
            try:
                pixels = SOURCE.read(images.case(path), channels)
            except errors.BadInputError as error:
                check_sentence(error, path)
            else:
                header = SOURCE.header(images.case(path))
                assert (pixels.shape, pixels.dtype) == ((header.height, header.width, channels), header.dtype)
                survived += 1
    assert survived < 50


def test_random_bytes_after_every_magic(tmp_path):
    random = np.random.default_rng(0)
    for _, offset, magic in headers._MAGIC:
        for _ in range(10):
            path = images.write(tmp_path, bytes(offset) + magic + random.bytes(int(random.integers(0, 900))))
            with pytest.raises(errors.BadInputError):
                SOURCE.read(images.case(path), 3)


def test_reading_headers_needs_no_tensorflow():
    code = "import sys, medkeras.data.headers; sys.exit('tensorflow' in sys.modules)"
    stub = "import types, sys; sys.modules['medkeras'] = m = types.ModuleType('medkeras'); m.__path__ = ['medkeras'];"
    assert subprocess.run([sys.executable, "-c", stub + code], check=False).returncode == 0
