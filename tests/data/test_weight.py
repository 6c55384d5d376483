"""What PNG and JPEG files would cost beyond their headers: found in bombs, and in no sound file."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from medkeras import errors
from medkeras.data import headers, weight
from tests.data import images

NOISE = np.random.default_rng(0).integers(0, 256, (900, 800, 3), np.uint8)


def refused(path: object) -> str:
    with pytest.raises(errors.BadInputError) as caught:
        headers.sniff(str(path))
    return caught.value.reason


@pytest.mark.parametrize("depth", [8, 16])
def test_a_large_png_is_not_refused(depth, tmp_path):
    contents = images.encoded(images.pillow(NOISE), "PNG") if depth == 8 else images.png16(NOISE.astype(np.uint16), 2)
    path = images.write(tmp_path, contents)
    assert path.stat().st_size > weight.SMALL_PNG
    assert headers.sniff(str(path)).height == 900


@pytest.mark.parametrize("pieces", [1, 50])
def test_pixels_that_go_on_are_refused_however_they_are_parted(pieces, tmp_path):
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    stream = zlib.compress(rows * 3, 1)
    size = -(-len(stream) // pieces)
    parts = [images.chunk(b"IDAT", stream[at : at + size]) for at in range(0, len(stream), size)]
    whole = images.png(800, 900, 8, 2, b"")
    contents = whole[: whole.index(b"IDAT") - 4] + b"".join(parts) + images.chunk(b"IEND", b"")
    assert refused(images.write(tmp_path, contents)).startswith("the pixels of a PNG are no more than its header")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_sound_jpegs_have_few_scans(options, tmp_path):
    contents = images.encoded(images.pillow(NOISE), "JPEG", **options)
    path = images.write(tmp_path, contents + b"\xff\xda\0\2" * 100)
    assert headers.sniff(str(path)).width == 800
    with open(path, "rb") as file:
        file.seek(contents.index(b"\xff\xda"))
        assert not weight.scans_beyond(file, 10)
        file.seek(contents.index(b"\xff\xda"))
        assert weight.scans_beyond(file, 0)


@pytest.mark.parametrize(
    "between", [b"", b"\xff\xfe\0\4\xff\xd9", b"\xff\xff\xff\xe5" + struct.pack(">H", 300) + bytes(298)]
)
def test_scans_are_counted_whatever_lies_between_them(between, tmp_path):
    contents = images.encoded(images.pillow(images.picture(64, 64)), "JPEG", progressive=True)
    last = contents[contents.rindex(b"\xff\xda") : -2]
    for count, fine in ((50, True), (70, False)):
        path = images.write(tmp_path, contents[:-2] + (between + last) * count + b"\xff\xd9")
        if fine:
            assert headers.sniff(str(path)).width == 64
        else:
            assert refused(path) == "a JPEG has at most 64 scans; this one goes on"


@pytest.mark.parametrize(("count", "fine"), [(100, True), (10_000, False)])
def test_marks_within_comments_are_no_scans_but_not_without_number(count, fine, tmp_path):
    contents = images.encoded(images.pillow(images.picture(64, 64)), "JPEG")
    at = contents.index(b"\xff\xda")
    path = images.write(tmp_path, contents[:at] + b"\xff\xfe\0\4\xff\xda" * count + contents[at:])
    if fine:
        assert headers.sniff(str(path)).width == 64
    else:
        assert refused(path).startswith("a JPEG has at most 64 scans")
