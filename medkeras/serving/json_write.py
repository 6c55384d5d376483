"""Writes arrays as TensorFlow Serving writes them: the same digits, `NaN` and `Infinity` as bare words.

Everything is `bytes`: a string tensor may hold any, and they go out as they are.

Reference: TensorFlow Serving's `util/json_tensor.cc`; `%g` of C.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Iterator

import numpy as np

from medkeras.serving import json_floats, status

_SINGLE = struct.Struct("f")
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
_SHORT = {b'"': b'\\"', b"\\": b"\\\\", b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}
_UNWRITABLE = {"uint16", "float16", "bfloat16", "complex64", "complex128"}
_NAMES = {"float16": "half"}
_MANY = 64


def string(text: bytes) -> bytes:
    """Returns a JSON string; bytes that are not UTF-8 stay as they are."""
    return b'"' + _ESCAPED.sub(_escape, text) + b'"'


def number(value: float, *, single: bool) -> bytes:
    """Returns a float32 (`single`) or a float64 as text.

    Six digits if they read back as the same number, else 9 or 17, and `.0` if it would look like an integer.

    >>> number(1 / 3, single=True), number(9e6, single=False), number(100000, single=True)
    (b'0.333333343', b'9e+06', b'100000.0')
    """
    if not math.isfinite(value):
        return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"
    value = _SINGLE.unpack(_SINGLE.pack(value))[0] if single else float(value)
    tiny = json_floats.TINY32 if single else json_floats.TINY64
    if abs(value) < tiny:
        return b"-0.0" if math.copysign(1.0, value) < 0 else b"0.0"
    text = f"{value:.6g}"
    if _read(text, single=single) != value:
        text = f"{value:.9g}" if single else f"{value:.17g}"
    return (text if "." in text or "e" in text else f"{text}.0").encode()


def _read(text: str, *, single: bool) -> float:
    if not single:
        return float(text)
    try:
        return _SINGLE.unpack(_SINGLE.pack(float(text)))[0]
    except OverflowError:
        return math.inf


def rows(array: np.ndarray, *, as_bytes: bool = False) -> list[bytes]:
    """Returns each row of an array as JSON.

    Args:
        array: `[B, ...]`.
        as_bytes: Whether strings are written as `{"b64": …}`.

    Raises:
        StatusError: There is no JSON for the dtype.
    """
    if _is_plain(array):
        return [json.dumps(row).encode() for row in array.tolist()]
    if _is_large(array):
        return json_floats.rows(array, number)
    texts = _texts(array, as_bytes=as_bytes)
    return [_nested(texts, array.shape[1:]) for _ in range(array.shape[0])]


def whole(array: np.ndarray, *, as_bytes: bool = False) -> bytes:
    """Returns an array of any rank as JSON.

    Raises:
        StatusError: There is no JSON for the dtype.
    """
    if _is_plain(array):
        return json.dumps(array.tolist()).encode()
    if _is_large(array):
        return json_floats.whole(array, number)
    return _nested(_texts(array, as_bytes=as_bytes), array.shape)


def _is_plain(array: np.ndarray) -> bool:
    """Returns whether Python's own JSON is the right one; refuses a dtype that has none."""
    name = array.dtype.name
    if array.size and (name in _UNWRITABLE or array.dtype.kind not in "biufO"):
        raise status.invalid(f"Failed to write JSON value for tensor type: {_NAMES.get(name, name)}")
    return array.size == 0 or array.dtype.kind in "biu"


def _is_large(array: np.ndarray) -> bool:
    """Returns whether a table is faster than one number after the other."""
    return array.dtype == np.float32 and array.size >= _MANY


def _texts(array: np.ndarray, *, as_bytes: bool) -> Iterator[bytes]:
    values = array.ravel().tolist()
    if array.dtype != object:
        return (number(value, single=array.dtype == np.float32) for value in values)
    write = _base64 if as_bytes else string
    return (write(value.encode() if isinstance(value, str) else value) for value in values)


def _base64(text: bytes) -> bytes:
    return b'{"b64": "' + base64.b64encode(text) + b'"}'


def _nested(texts: Iterator[bytes], shape: tuple[int, ...]) -> bytes:
    if not shape:
        return next(texts)
    return b"[" + b", ".join(_nested(texts, shape[1:]) for _ in range(shape[0])) + b"]"


def _escape(found: re.Match[bytes]) -> bytes:
    char = found[0]
    return _SHORT.get(char) or b"\\u00%02X" % char[0]
