"""Image bytes to stored values inside a graph: the one decoder of training and of the served model."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# A JPEG or PNG of more pixels is refused from its header: 67 megapixels decode to 200 MB of 8-bit colour.
MAX_PIXELS = 2**26
MAX_SEGMENTS = 256

ORIENTATION_TAG, SHORT = 0x0112, 3
_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_BMP_PALETTE_END = 14 + 124 + 256 * 4
# Rec. ITU-R BT.601 luma weights in 16-bit fixed point, which sum to 65536.
LUMA = (19595, 38470, 7471)
# Whether rows and columns run backwards in EXIF orientations 1 to 8, after the transposition of 5 to 8.
FLIPS = ((False, False), (False, True), (True, True), (True, False)) * 2


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
        tf.errors.InvalidArgumentError: The bytes are no such image, are cut short, have more than `MAX_PIXELS`
            pixels, or have 16 bits a sample where `dtype` is `uint8`.

    Reference:
        Rec. ITU-R BT.601-7, 2.5.1 (luma); CIPA DC-008 (EXIF 2.32), 4.6.4 A (orientation); PNG 3rd edition, 11.3.4.5
        (eXIf).
    """
    # Seven cheap operations find the plain files, which then cost what decode_jpeg costs; the others take the long way.
    head = tf.io.decode_raw(contents, tf.uint8, fixed_length=_PLAIN_VALUES.shape[1])
    plain = tf.reduce_any(tf.reduce_all(tf.equal(tf.bitwise.bitwise_and(head, _PLAIN_MASKS), _PLAIN_VALUES), axis=1))
    image = tf.cond(
        plain,
        lambda: tf.cast(_decode_jpeg(contents, channels), dtype),
        lambda: _decode_any(contents, channels, dtype),
    )
    return tf.ensure_shape(image, (None, None, channels))


def _plain_jpeg(sof: int, components: int) -> dict[int, tuple[int, int]]:
    """Returns {offset: (value, mask)} of a JPEG with JFIF header, 8-bit tables and no other segment before its frame."""
    exact = {0: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", sof: b"\xff", sof + 4: b"\x08", sof + 9: bytes([components])}
    exact |= {table: b"\xff\xdb\x00\x43" for table in range(20, sof, 69)}
    pattern = {start + i: (byte, 0xFF) for start, text in exact.items() for i, byte in enumerate(text)}
    # SOF0 or SOF2; and sides up to 8191, which keeps the picture under MAX_PIXELS.
    return pattern | {sof + 1: (0xC0, 0xFD), sof + 5: (0, 0xE0), sof + 7: (0, 0xE0)}


def _templates(patterns: list[dict[int, tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.zeros((len(patterns), 1 + max(map(max, patterns))), np.uint8)
    masks = np.zeros_like(values)
    for row, pattern in enumerate(patterns):
        for offset, (value, mask) in pattern.items():
            values[row, offset], masks[row, offset] = value, mask
    return values, masks


_PLAIN_VALUES, _PLAIN_MASKS = _templates([_plain_jpeg(89, 1), _plain_jpeg(158, 3)])


def _decode_any(contents: tf.Tensor, channels: int, dtype: str) -> tf.Tensor:
    """Decodes by the magic bytes; returns `[H, W, channels]` of `dtype`."""
    head = tf.io.decode_raw(contents, tf.uint8, fixed_length=_BMP_PALETTE_END)
    matches = [tf.reduce_all(tf.equal(head[: len(magic)], list(magic))) for magic in (_JPEG, _PNG, _BMP)]
    branches = (
        lambda: tf.cast(_jpeg(contents, channels), dtype),
        lambda: _png(contents, head, channels, dtype),
        lambda: tf.cast(_bmp(contents, head, channels), dtype),
        lambda: _refuse(channels, dtype),
    )
    return tf.switch_case(tf.argmax(tf.stack([*matches, True]), output_type=tf.int32), branches)


def _refuse(channels: int, dtype: str) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(False, ["An image is a PNG, a JPEG or a BMP."])]):
        return tf.zeros((0, 0, channels), dtype)


def _require(condition: tf.Tensor, rule: str, tensor: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(condition, [rule])]):
        return tf.identity(tensor)


def _decode_jpeg(contents: tf.Tensor, channels: int) -> tf.Tensor:
    # The default INTEGER_FAST is up to 5 grey levels off the standard's transform, and no faster.
    return tf.io.decode_jpeg(contents, channels, dct_method="INTEGER_ACCURATE")


def _jpeg(contents: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes any 8-bit JPEG, upright; returns uint8 `[H, W, channels]`."""
    shape = tf.cast(tf.io.extract_jpeg_shape(contents), tf.int64)
    contents = _require(shape[0] * shape[1] <= MAX_PIXELS, f"A JPEG has at most {MAX_PIXELS} pixels.", contents)
    image = tf.cond(
        shape[2] == 4,
        lambda: _with_channels(_decode_jpeg(contents, 3), channels),
        lambda: _decode_jpeg(contents, channels),
    )
    data = tf.io.decode_raw(contents, tf.uint8)
    return _upright(image, _orientation(_jpeg_exif(data)))


def _png(contents: tf.Tensor, head: tf.Tensor, channels: int, dtype: str) -> tf.Tensor:
    """Decodes any PNG, upright; returns `[H, W, channels]` of `dtype`."""
    pixels = _number(head, 16, size=4) * _number(head, 20, size=4)
    contents = _require(pixels <= MAX_PIXELS, f"A PNG has at most {MAX_PIXELS} pixels.", contents)
    wide = tf.equal(head[24], 16)
    if dtype == "uint8":
        contents = _require(~wide, "A PNG of 16 bits a sample needs a canvas of 16 bits.", contents)
        image = _with_channels(tf.io.decode_png(contents), channels)
    else:
        image = tf.cond(
            wide,
            lambda: tf.cast(_with_channels(tf.io.decode_png(contents, dtype=tf.uint16), channels), dtype),
            lambda: tf.cast(_with_channels(tf.io.decode_png(contents), channels), dtype),
        )
    data = tf.io.decode_raw(contents, tf.uint8)
    return _upright(image, _orientation(_png_exif(data)))


def _bmp(contents: tf.Tensor, head: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes an uncompressed BMP of 8 (palette), 24 or 32 bits a pixel; returns uint8 `[H, W, channels]`."""
    header, bits, compression = (_number(head, at, size=n, little=True) for at, n in ((14, 4), (28, 2), (30, 4)))
    known = (header >= 40) & (header <= 124) & (compression == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    contents = _require(known, "A BMP is uncompressed, with 8, 24 or 32 bits a pixel.", contents)
    image = tf.io.decode_bmp(contents)
    return _with_channels(tf.cond(bits == 8, lambda: _coloured(image, head, header), lambda: image), channels)


def _coloured(indices: tf.Tensor, head: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    """Looks palette indices `[H, W, 1]` up in a BMP's colour table; returns RGB `[H, W, 3]`."""
    used = _number(head, 46, size=4, little=True)
    used = tf.where(used == 0, tf.constant(256, tf.int64), used)
    inside = tf.reduce_max(tf.cast(indices, tf.int64)) < used
    indices = _require(inside, "A BMP's pixels lie inside its colour table.", indices)
    start = 14 + header
    table = tf.reshape(head[start : start + 256 * 4], (256, 4))
    return tf.gather(table[:, 2::-1], tf.cast(indices[..., 0], tf.int32))


def _with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Turns `[H, W, 1..4]` into `[H, W, channels]`, the last of 2 or 4 being alpha."""
    coloured = tf.shape(image)[2] >= 3
    if channels == 3:
        return tf.cond(coloured, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=2))
    return tf.cond(coloured, lambda: _luma(image[..., :3]), lambda: image[..., :1])


def _luma(image: tf.Tensor) -> tf.Tensor:
    weighted = tf.reduce_sum(tf.cast(image, tf.int64) * tf.constant(LUMA, tf.int64), axis=2, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighted + 2**15, tf.constant(16, tf.int64)), image.dtype)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes EXIF orientation 1..8 of `[H, W, C]`."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    axes = tf.where(tf.gather(FLIPS, orientation - 1))[:, 0]
    return tf.cond(tf.size(axes) > 0, lambda: tf.reverse(image, axes), lambda: image)


def _number(data: tf.Tensor, position: tf.Tensor | int, *, size: int, little: tf.Tensor | bool = False) -> tf.Tensor:
    """Reads an unsigned number of `size` bytes from uint8 `[N]`, zeros beyond its end; returns int64."""
    position = tf.minimum(tf.cast(position, tf.int64), tf.size(data, tf.int64))
    taken = tf.cast(data[position : position + size], tf.int64)
    taken = tf.pad(taken, [[0, size - tf.size(taken)]])
    powers = tf.constant([256**i for i in range(size)], tf.int64)
    return tf.reduce_sum(taken * tf.where(little, powers, powers[::-1]))


def _jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    """Returns the TIFF structure of the first Exif segment before the frame of a JPEG uint8 `[N]`, or nothing."""

    def found(at: tf.Tensor) -> tf.Tensor:
        return (_number(data, at, size=2) == 0xFFE1) & (_number(data, at + 4, size=4) == 0x45786966)

    def following(at: tf.Tensor) -> tf.Tensor:
        # Any number of bytes 0xFF may fill the space before a marker.
        fill = _number(data, at, size=2) == 0xFFFF
        return tf.where(fill, at + 1, at + 2 + _number(data, at + 2, size=2))

    def unfinished(at: tf.Tensor) -> tf.Tensor:
        marker = _number(data, at, size=2)
        table = (marker == 0xFFC4) | (marker == 0xFFC8) | (marker == 0xFFCC) | (marker == 0xFFDB) | (marker == 0xFFDD)
        return (table | (marker >= 0xFFE0)) & ~found(at)

    at = tf.while_loop(
        unfinished, lambda at: (following(at),), (tf.constant(2, tf.int64),), maximum_iterations=MAX_SEGMENTS
    )[0]
    return tf.cond(found(at), lambda: data[at + 10 : at + 2 + _number(data, at + 2, size=2)], lambda: data[:0])


def _png_exif(data: tf.Tensor) -> tf.Tensor:
    """Returns the TIFF structure of the eXIf chunk before the pixels of a PNG uint8 `[N]`, or nothing."""

    def kind(at: tf.Tensor) -> tf.Tensor:
        return _number(data, at + 4, size=4)

    def unfinished(at: tf.Tensor) -> tf.Tensor:
        return (kind(at) != 0x49444154) & (kind(at) != 0x65584966) & (at < tf.size(data, tf.int64))

    at = tf.while_loop(
        unfinished,
        lambda at: (at + 12 + _number(data, at, size=4),),
        (tf.constant(33, tf.int64),),
        maximum_iterations=MAX_SEGMENTS,
    )[0]
    return tf.cond(kind(at) == 0x65584966, lambda: data[at + 8 : at + 8 + _number(data, at, size=4)], lambda: data[:0])


def _orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Returns the orientation 1..8 that a TIFF structure uint8 `[N]` states in its first directory; 1 where none."""
    little = _number(tiff, 0, size=1) == 0x49
    directory = _number(tiff, 4, size=4, little=little)
    entries = _number(tiff, directory, size=2, little=little)

    def stated(index: tf.Tensor) -> tf.Tensor:
        at = directory + 2 + 12 * index
        tag, kind = (_number(tiff, at + offset, size=2, little=little) for offset in (0, 2))
        return (tag == ORIENTATION_TAG) & (kind == SHORT)

    index = tf.while_loop(
        lambda index: (index < entries) & ~stated(index),
        lambda index: (index + 1,),
        (tf.constant(0, tf.int64),),
        maximum_iterations=MAX_SEGMENTS,
    )[0]
    value = _number(tiff, directory + 2 + 12 * index + 8, size=2, little=little)
    valid = (index < entries) & stated(index) & (value >= 1) & (value <= 8)
    return tf.where(valid, value, tf.constant(1, tf.int64))
