"""Image bytes to stored values inside a graph: the one decoder of training and of the served model."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from medkeras.data import headers

_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_BMP_PALETTE_END = 14 + 124 + 256 * 4


def decode_bytes(contents: tf.Tensor, channels: int, dtype: str = "float32") -> tf.Tensor:
    """Decodes one PNG, JPEG or BMP to the values it stores; uses TensorFlow operations only.

    The values are never rescaled: 0..255 for 8 bits, 0..65535 for 16 bits. Fewer bits a grey sample are expanded to 8,
    a palette to its colours, CMYK to RGB. Alpha is dropped. Colour becomes grey by the BT.601 luma (JPEG: its own
    luma plane), grey becomes colour by repetition. An EXIF orientation before the pixels is applied.

    Args:
        contents: The bytes of the file, string `[]`.
        channels: 1 grey or 3 colour.
        dtype: `uint8`, `uint16` or `float32`, wide enough for the values that the file stores.

    Returns:
        Stored values `[H, W, channels]` of `dtype`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are no such image, are cut short, have more than `headers.MAX_PIXELS`
            pixels, or have 16 bits a sample where `dtype` is `uint8`.

    Reference:
        Rec. ITU-R BT.601-7, 2.5.1 (luma); CIPA DC-008 (EXIF 2.32), 4.6.4 A (orientation); PNG 3rd edition, 11.3.4.5
        (eXIf).
    """
    head = tf.cast(tf.io.decode_raw(contents, tf.uint8, fixed_length=64), tf.int64)
    matches = [tf.reduce_all(head[: len(magic)] == list(magic)) for magic in (_JPEG, _PNG, _BMP)]
    branches = (
        lambda: tf.cast(_jpeg(contents, channels), dtype),
        lambda: _png(contents, head, channels, dtype),
        lambda: tf.cast(_bmp(contents, head, channels), dtype),
        lambda: _refuse(channels, dtype),
    )
    image = tf.switch_case(tf.argmax(tf.stack([*matches, True]), output_type=tf.int32), branches)
    return tf.ensure_shape(image, (None, None, channels))


def decode_plain(contents: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes one plain JPEG or PNG, at the cost of `tf.io.decode_jpeg` alone.

    Equals `decode_bytes(contents, channels, "uint8")` where `headers.sniff` calls the file `plain` and its channels
    are at most `channels`; other files come out wrong or fail.

    Args:
        contents: The bytes of the file, string `[]`.
        channels: 1 grey or 3 colour.

    Returns:
        Stored values uint8 `[H, W, channels]`.
    """
    # The operation reads PNG as well. Its default transform, INTEGER_FAST, is up to 5 grey levels off and no faster.
    return tf.io.decode_jpeg(contents, channels, dct_method="INTEGER_ACCURATE")


def _refuse(channels: int, dtype: str) -> tf.Tensor:
    return _require(False, "An image is a PNG, a JPEG or a BMP.", tf.zeros((0, 0, channels), dtype))


def _require(condition: tf.Tensor | bool, rule: str, tensor: tf.Tensor) -> tf.Tensor:
    # The raw operation, since tf.debugging.Assert hides it in a branch, which costs more than evaluating it.
    check = tf.raw_ops.Assert(condition=condition, data=[rule])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(tensor)


def _jpeg(contents: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes any 8-bit JPEG, upright; returns uint8 `[H, W, channels]`."""
    shape = tf.cast(tf.io.extract_jpeg_shape(contents), tf.int64)
    contents = _require(
        shape[0] * shape[1] <= headers.MAX_PIXELS, f"A JPEG has at most {headers.MAX_PIXELS} pixels.", contents
    )
    if channels == 1:
        inks = shape[2] == 4
        image = tf.cond(inks, lambda: _luma(decode_plain(contents, 3)), lambda: decode_plain(contents, 1))
    else:
        image = decode_plain(contents, 3)
    return _turned(image, contents, lambda: _after(contents, b"Exif\x00\x00"))


def _png(contents: tf.Tensor, head: tf.Tensor, channels: int, dtype: str) -> tf.Tensor:
    """Decodes any PNG, upright; returns `[H, W, channels]` of `dtype`."""
    pixels = _number(head[16:20], big=True) * _number(head[20:24], big=True)
    contents = _require(pixels <= headers.MAX_PIXELS, f"A PNG has at most {headers.MAX_PIXELS} pixels.", contents)
    wide = head[24] == 16
    if dtype == "uint8":
        contents = _require(~wide, "A PNG of 16 bits a sample needs a canvas of 16 bits.", contents)
        image = _png_samples(contents, channels, tf.uint8)
    else:
        image = tf.cond(
            wide,
            lambda: tf.cast(_png_samples(contents, channels, tf.uint16), dtype),
            lambda: tf.cast(_png_samples(contents, channels, tf.uint8), dtype),
        )
    return _turned(
        image, contents, lambda: _after(tf.strings.split([contents], b"IDAT", maxsplit=1).values[0], b"eXIf")
    )


def _png_samples(contents: tf.Tensor, channels: int, dtype: tf.DType) -> tf.Tensor:
    if channels == 3:
        return tf.io.decode_png(contents, channels=3, dtype=dtype)
    # Not channels=1: the weights and the rounding of the operation differ between releases.
    image = tf.io.decode_png(contents, dtype=dtype)
    return tf.cond(tf.shape(image)[2] >= 3, lambda: _luma(image[..., :3]), lambda: image[..., :1])


def _bmp(contents: tf.Tensor, head: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes an uncompressed BMP of 8 (palette), 24 or 32 bits a pixel; returns uint8 `[H, W, channels]`."""
    header, bits, compression = _number(head[14:18]), _number(head[28:30]), _number(head[30:34])
    known = (header >= 40) & (header <= 124) & (compression == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    contents = _require(known, "A BMP is uncompressed, with 8, 24 or 32 bits a pixel.", contents)
    image = tf.io.decode_bmp(contents)
    image = tf.cond(bits == 8, lambda: _coloured(image, contents, head), lambda: image[..., :3])
    return image if channels == 3 else _luma(image)


def _coloured(indices: tf.Tensor, contents: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Looks palette indices `[H, W, 1]` up in a BMP's colour table; returns RGB `[H, W, 3]`."""
    used = _number(head[46:50])
    used = tf.where(used == 0, tf.constant(256, tf.int64), used)
    inside = tf.reduce_max(tf.cast(indices, tf.int64)) < used
    indices = _require(inside, "A BMP's pixels lie inside its colour table.", indices)
    start = 14 + _number(head[14:18])
    data = tf.io.decode_raw(contents, tf.uint8, fixed_length=_BMP_PALETTE_END)
    table = tf.reshape(data[start : start + 256 * 4], (256, 4))
    return tf.gather(table[:, 2::-1], tf.cast(indices[..., 0], tf.int32))


def _luma(image: tf.Tensor) -> tf.Tensor:
    weighted = tf.reduce_sum(tf.cast(image, tf.int64) * tf.constant(headers.LUMA, tf.int64), axis=2, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighted + 2**15, tf.constant(16, tf.int64)), image.dtype)


def _number(data: tf.Tensor, *, big: bool = False) -> tf.Tensor:
    """Reads int64 `[N]` bytes as one unsigned number."""
    powers = [256**place for place in range(data.shape[0])]
    return tf.reduce_sum(data * tf.constant(powers[::-1] if big else powers, tf.int64))


def _after(contents: tf.Tensor, mark: bytes) -> tf.Tensor:
    """Returns the bytes after the first `mark`, or all of them where there is none."""
    return tf.strings.split([contents], mark, maxsplit=1).values[-1]


def _turned(image: tf.Tensor, contents: tf.Tensor, exif: Callable[[], tf.Tensor]) -> tf.Tensor:
    # One look for the mark spares ordinary files the parsing, which costs as much as decoding a small picture.
    marked = tf.strings.regex_full_match(contents, r"\C*(?:Exif\x00\x00|eXIf)(?:II\*\x00|MM\x00\*)\C*")
    return tf.cond(marked, lambda: _upright(image, _orientation(exif())), lambda: image)


def _orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Returns the orientation 1..8 that a TIFF structure, string `[]`, states in its first directory; 1 where none."""
    data = tf.cast(tf.io.decode_raw(tiff, tf.uint8, fixed_length=headers.EXIF_SPAN), tf.int64)
    big = data[0] == ord("M")
    valid = tf.reduce_any(tf.reduce_all(data[:4] == [list(b"II*\x00"), list(b"MM\x00*")], axis=1))
    words = tf.where(big, data[:-1] * 256 + data[1:], data[:-1] + data[1:] * 256)
    directory = tf.where(big, words[4] * 65536 + words[6], words[4] + words[6] * 65536)
    directory = tf.minimum(directory, headers.EXIF_SPAN - 2)
    entries = tf.minimum(words[directory], (headers.EXIF_SPAN - 2 - directory) // 12)
    at = directory + 2 + 12 * tf.range(entries)
    stated = (tf.gather(words, at) == headers.ORIENTATION_TAG) & (tf.gather(words, at + 2) == headers.SHORT)
    value = tf.reduce_max(tf.concat([tf.boolean_mask(tf.gather(words, at + 8), stated), [0]], axis=0))
    return tf.where(valid & (value >= 1) & (value <= 8), value, 1)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes EXIF orientation 1..8 of `[H, W, C]`."""
    image = tf.transpose(image, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
    rows, columns = tf.unstack(tf.gather(tf.where(headers.FLIPS, -1, 1), orientation - 1))
    return image[::rows, ::columns]
