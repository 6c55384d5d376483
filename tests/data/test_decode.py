"""Pixel values: what every reader returns, against Pillow, tifffile and the arrays that the files were made of."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageOps

from medkeras.data import decode, files, headers
from tests.data import images

SOURCE = files.FileImages()


@functools.cache
def traced(channels: int, dtype: str) -> tf.types.experimental.GenericFunction:
    return tf.function(
        lambda contents: decode.decode_bytes(contents, channels, dtype), input_signature=[tf.TensorSpec([], tf.string)]
    )


def graph(contents: bytes, channels: int, dtype: str) -> np.ndarray:
    """Decodes inside a graph, where shapes are unknown and nothing runs eagerly."""
    return traced(channels, dtype)(tf.constant(contents)).numpy()


def test_static_shape_inside_a_dataset():
    contents = [EIGHT_BIT["rgb.png"][0], EIGHT_BIT["palette.bmp"][0]]
    dataset = tf.data.Dataset.from_tensor_slices(contents).map(traced(1, "uint16"))
    assert dataset.element_spec == tf.TensorSpec((None, None, 1), tf.uint16)
    for image, one in zip(dataset.as_numpy_iterator(), contents, strict=True):
        np.testing.assert_array_equal(image, by_pillow(one, 1))


def by_pillow(contents: bytes, channels: int) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    image.info.pop("transparency", None)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array.reshape(*array.shape[:2], channels)


def eight_bit_files() -> dict[str, tuple[bytes, int]]:
    """Name to (file, channels that the header promises) for formats whose 8-bit values Pillow tells exactly."""
    colour, grey = images.pillow(images.picture()), images.pillow(images.picture(channels=1))
    alpha = images.pillow(images.picture(channels=4))
    palette = colour.quantize(37)
    bits = grey.convert("1")
    packed = np.packbits(np.asarray(grey) > 99, axis=1)
    nibbles = np.asarray(grey).astype(np.uint8) >> 4
    nibbles = np.pad(nibbles, ((0, 0), (0, 1)))
    nibbles = nibbles[:, ::2] << 4 | nibbles[:, 1::2]
    return {
        "rgb.png": (images.encoded(colour, "PNG"), 3),
        "grey.png": (images.encoded(grey, "PNG"), 1),
        "rgba.png": (images.encoded(alpha, "PNG"), 3),
        "grey-alpha.png": (images.encoded(alpha.convert("LA"), "PNG"), 1),
        "palette.png": (images.encoded(palette, "PNG"), 3),
        "palette-transparent.png": (images.encoded(palette, "PNG", transparency=bytes(range(37))), 3),
        "grey-transparent.png": (images.encoded(grey, "PNG", transparency=7), 1),
        "1-bit.png": (images.encoded(bits, "PNG"), 1),
        "1-bit-by-hand.png": (images.png(29, 19, 1, 0, b"".join(b"\0" + row.tobytes() for row in packed)), 1),
        "4-bit.png": (images.png(29, 19, 4, 0, b"".join(b"\0" + row.tobytes() for row in nibbles)), 1),
        "one-pixel.png": (images.encoded(colour.crop((0, 0, 1, 1)), "PNG"), 3),
        "1x20000.png": (images.encoded(colour.resize((20000, 1)), "PNG"), 3),
        "20000x1.png": (images.encoded(grey.resize((1, 20000)), "PNG"), 1),
        "rgb.bmp": (images.encoded(colour, "BMP"), 3),
        "rgba.bmp": (images.encoded(alpha, "BMP"), 3),
        "grey.bmp": (images.encoded(grey, "BMP"), 1),
        "palette.bmp": (images.encoded(palette, "BMP"), 3),
        "1-bit.bmp": (images.encoded(bits, "BMP"), 3),
        "palette.gif": (images.encoded(palette, "GIF"), 3),
        "animated.gif": (images.encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]), 3),
        "animated.png": (images.encoded(colour, "PNG", save_all=True, append_images=[colour.rotate(180)]), 3),
        "lossless.webp": (images.encoded(colour, "WEBP", lossless=True), 3),
        "lossy.webp": (images.encoded(colour, "WEBP"), 3),
        "alpha.webp": (images.encoded(alpha, "WEBP", lossless=True), 3),
        "animated.webp": (images.encoded(colour, "WEBP", save_all=True, append_images=[colour.rotate(180)]), 3),
        "grey.pgm": (images.encoded(grey, "PPM"), 1),
        "rgb.ppm": (images.encoded(colour, "PPM"), 3),
        "grey.tif": (images.encoded(grey, "TIFF"), 1),
        "rgb-lzw.tif": (images.encoded(colour, "TIFF", compression="tiff_lzw"), 3),
        "rgba.tif": (images.encoded(alpha, "TIFF"), 3),
        "palette.tif": (images.encoded(palette, "TIFF"), 3),
        "1-bit-group4.tif": (images.encoded(bits, "TIFF", compression="group4"), 1),
        "jpeg-inside.tif": (images.encoded(colour, "TIFF", compression="jpeg"), 3),
    }


EIGHT_BIT = eight_bit_files()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EIGHT_BIT)
def test_8_bit_files_equal_pillow(name, channels, tmp_path):
    contents, promised = EIGHT_BIT[name]
    case = images.case(images.write(tmp_path, contents, name))
    header, pixels = SOURCE.header(case), SOURCE.read(case, channels)
    assert (header.height, header.width, header.channels, header.dtype) == (*pixels.shape[:2], promised, "uint8")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, by_pillow(contents, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in EIGHT_BIT if name.endswith(("png", "bmp"))])
def test_the_graph_equals_the_eager_reader(name, channels, tmp_path):
    contents, _ = EIGHT_BIT[name]
    case = images.case(images.write(tmp_path, contents, name))
    if not SOURCE.header(case).native:
        assert name == "1-bit.bmp"
        return
    for dtype in ("uint8", "uint16", "float32"):
        result = graph(contents, channels, dtype)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, SOURCE.read(case, channels))


def test_top_down_bitmap():
    contents = bytearray(images.encoded(images.pillow(images.picture()), "BMP"))
    contents[22:26] = (-19).to_bytes(4, "little", signed=True)
    np.testing.assert_array_equal(graph(bytes(contents), 3, "uint8"), images.picture()[::-1])


JPEGS = {
    "rgb": ("RGB", {}),
    "progressive": ("RGB", {"progressive": True}),
    "no subsampling": ("RGB", {"subsampling": 0, "quality": 95}),
    "restarts": ("RGB", {"restart_marker_rows": 1}),
    "coarse": ("RGB", {"quality": 5}),
    "kept in RGB": ("RGB", {"keep_rgb": True}),
    "grey": ("L", {}),
    "cmyk": ("CMYK", {"quality": 95}),
}


@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_colours_equal_pillow(name, tmp_path):
    mode, options = JPEGS[name]
    contents = images.encoded(images.pillow(images.picture()).convert(mode), "JPEG", **options)
    case = images.case(images.write(tmp_path, contents))
    header = SOURCE.header(case)
    assert (header.channels, header.native, header.plain) == (1 if mode == "L" else 3, True, mode != "CMYK")
    # Both use the accurate integer transform; one level is left for builds of another libjpeg.
    np.testing.assert_allclose(SOURCE.read(case, 3).astype(int), by_pillow(contents, 3), atol=1)


@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_luma(name):
    mode, options = JPEGS[name]
    contents = images.encoded(images.pillow(images.picture()).convert(mode), "JPEG", **options)
    image = Image.open(io.BytesIO(contents))
    if mode == "RGB" and "keep_rgb" not in options:
        image.draft("L", image.size)
    wanted = np.asarray((image.convert("RGB") if mode == "CMYK" else image).convert("L"))
    np.testing.assert_allclose(graph(contents, 1, "float32")[..., 0], wanted, atol=1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation(form, orientation, order, tmp_path):
    options = {"lossless": True} if form == "WEBP" else {}
    contents = images.encoded(images.pillow(images.picture()), form, exif=images.exif(orientation, order), **options)
    case = images.case(images.write(tmp_path, contents))
    header, pixels = SOURCE.header(case), SOURCE.read(case, 3)
    assert pixels.shape[:2] == (header.height, header.width) == ((29, 19) if orientation >= 5 else (19, 29))
    assert header.plain == (orientation < 2 and header.native)
    np.testing.assert_allclose(pixels.astype(int), by_pillow(contents, 3), atol=int(form == "JPEG"))
    if header.native:
        np.testing.assert_array_equal(graph(contents, 3, "uint8"), pixels)


def test_orientation_after_a_colour_profile_and_a_comment():
    options = {"icc_profile": bytes(70000), "comment": b"Exif\0 is spoken of here", "exif": images.exif(6, ">")}
    contents = images.encoded(images.pillow(images.picture()), "JPEG", **options)
    start = contents.index(b"\xff\xe1")
    length = 2 + int.from_bytes(contents[start + 2 : start + 4], "big")
    table = contents.index(b"\xff\xdb")
    moved = contents[:start] + contents[start + length : table] + contents[start : start + length] + contents[table:]
    assert moved.index(b"Exif\0\0") > 70000
    np.testing.assert_array_equal(graph(moved, 3, "uint8"), graph(contents, 3, "uint8"))


def test_orientation_of_a_thumbnail_is_not_the_picture_s():
    first = b"MM\0*" + bytes([0, 0, 0, 8, 0, 1]) + bytes.fromhex("010f 0002 00000001 41000000") + b"\0\0\0\x1a"
    second = b"\0\1" + bytes.fromhex("0112 0003 00000001 00060000") + bytes(4)
    contents = images.encoded(images.pillow(images.picture()), "JPEG", exif=b"Exif\0\0" + first + second)
    assert headers.exif_orientation(first + second) == 1
    assert graph(contents, 3, "uint8").shape == (19, 29, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_its_16_bits(colour, samples, channels, tmp_path):
    stored = images.picture(channels=samples, high=65535)
    contents = images.png16(stored, colour)
    case = images.case(images.write(tmp_path, contents))
    header, pixels = SOURCE.header(case), SOURCE.read(case, channels)
    assert (header.channels, header.dtype, header.native, header.plain) == (
        1 if samples < 3 else 3, "uint16", True, False,
    )  # fmt: skip
    if samples < 3:
        wanted = np.repeat(stored[..., :1], channels, 2)
    elif channels == 3:
        wanted = stored[..., :3]
    else:
        wanted = np.round(stored[..., :3] @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis]
    assert pixels.dtype == np.uint16
    np.testing.assert_allclose(pixels.astype(int), wanted, atol=0 if samples < 3 or channels == 3 else 1)
    np.testing.assert_array_equal(graph(contents, channels, "float32"), pixels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="16 bits"):
        graph(contents, channels, "uint8")


def test_interlaced_png():
    """Adam7 of a 16-bit picture, by hand: Pillow writes none."""
    stored = images.picture(channels=1, high=65535)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, right in passes
        for row in stored[top::down, left::right]
        if row.size
    )
    contents = bytearray(images.png(29, 19, 16, 0, rows))
    contents[28] = 1
    contents[29:33] = images.chunk(b"IHDR", bytes(contents[16:29]))[-4:]
    np.testing.assert_array_equal(graph(bytes(contents), 1, "uint16"), stored)


@pytest.mark.parametrize("name", ["grey", "rgb.png", "rgb", "grey.png", "palette-transparent.png", "1-bit.png"])
def test_plain_files_need_only_the_plain_decoder(name, tmp_path):
    contents = EIGHT_BIT[name][0] if name in EIGHT_BIT else images.encoded(
        images.pillow(images.picture()).convert(JPEGS[name][0]), "JPEG"
    )  # fmt: skip
    header = headers.sniff(str(images.write(tmp_path, contents)))
    assert header.plain
    for channels in range(header.channels, 4, 2):
        plain = decode.decode_plain(tf.constant(contents), channels).numpy()
        np.testing.assert_array_equal(plain, graph(contents, channels, "uint8"))


def test_saved_and_loaded_the_decoder_answers_the_same(tmp_path):
    module = tf.Module()
    module.decode = tf.function(
        lambda contents: decode.decode_bytes(contents, 3), input_signature=[tf.TensorSpec([], tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for contents in (
        images.encoded(images.pillow(images.picture()), "JPEG", exif=images.exif(7, "<")),
        images.png16(images.picture(high=65535), 2),
        EIGHT_BIT["palette.bmp"][0],
    ):
        np.testing.assert_array_equal(loaded.decode(tf.constant(contents)), graph(contents, 3, "float32"))


TIFFS = {
    "uint16": (images.picture(channels=1, high=65535)[..., 0], {}, "uint16"),
    "uint16 lzw": (images.picture(channels=1, high=65535)[..., 0], {"compression": "lzw"}, "uint16"),
    "uint16 big-endian": (images.picture(channels=1, high=65535)[..., 0], {"byteorder": ">"}, "uint16"),
    "BigTIFF deflate": (images.picture(channels=1)[..., 0], {"bigtiff": True, "compression": "deflate"}, "uint8"),
    "rgb16": (images.picture(high=65535), {"photometric": "rgb"}, "uint16"),
    "rgb tiles": (images.picture(40, 50), {"photometric": "rgb", "tile": (16, 16)}, "uint8"),
    "int16": (images.picture(channels=1, high=4000)[..., 0].astype(np.int16) - 1024, {}, "float32"),
    "float32": (images.picture(channels=1)[..., 0].astype(np.float32) / 7 - 3, {}, "float32"),
    "float16": (images.picture(channels=1)[..., 0].astype(np.float16) / 8, {}, "float32"),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiff_values_are_kept(name, tmp_path):
    array, options, dtype = TIFFS[name]
    case = images.case(images.write(tmp_path, images.tiff(array, **options)))
    header, pixels = SOURCE.header(case), SOURCE.read(case, 3)
    assert (header.channels, header.dtype, header.native) == (1 if array.ndim == 2 else 3, dtype, False)
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, np.broadcast_to(array.reshape(*array.shape[:2], -1), pixels.shape))


def test_planar_tiff(tmp_path):
    planes = np.moveaxis(images.picture(), -1, 0)
    contents = images.tiff(planes, photometric="rgb", planarconfig="separate")
    case = images.case(images.write(tmp_path, contents))
    np.testing.assert_array_equal(SOURCE.read(case, 3), images.picture())


def test_white_is_zero_becomes_higher_is_brighter(tmp_path):
    stored = images.picture(channels=1, high=65535)
    case = images.case(images.write(tmp_path, images.tiff(stored[..., 0], photometric="miniswhite")))
    np.testing.assert_array_equal(SOURCE.read(case, 1), 65535 - stored)


def test_cmyk_tiff_equals_pillow_within_rounding(tmp_path):
    contents = images.encoded(images.pillow(images.picture()).convert("CMYK"), "TIFF")
    case = images.case(images.write(tmp_path, contents))
    np.testing.assert_allclose(SOURCE.read(case, 3).astype(int), by_pillow(contents, 3), atol=1)


def test_tiff_preview_is_passed_over(tmp_path):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(images.picture(channels=1)[..., 0])
        writer.write(images.picture(channels=1)[::4, ::4, 0], subfiletype=1)
    case = images.case(images.write(tmp_path, buffer.getvalue()))
    np.testing.assert_array_equal(SOURCE.read(case, 1), images.picture(channels=1))


@pytest.mark.parametrize("white", [100, 255, 4095, 65535])
def test_pgm_values_are_not_rescaled(white, tmp_path):
    stored = images.picture(channels=1, high=white)
    dtype = "u1" if white < 256 else ">u2"
    contents = b"P5 # a comment\n29 19\n%d\n" % white + stored.astype(dtype).tobytes()
    case = images.case(images.write(tmp_path, contents))
    assert SOURCE.header(case).dtype == ("uint8" if white < 256 else "uint16")
    np.testing.assert_array_equal(SOURCE.read(case, 1), stored)


def test_the_name_does_not_decide(tmp_path):
    contents = images.encoded(images.pillow(images.picture()), "JPEG")
    case = images.case(images.write(tmp_path, contents, "scan.png"))
    np.testing.assert_array_equal(SOURCE.read(case, 3), graph(contents, 3, "uint8"))
