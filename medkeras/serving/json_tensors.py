"""Makes arrays of JSON values, with TensorFlow Serving's rules of what fits which dtype and what it says if not.

Whole numbers wrap silently once they fit int32, floats overflow to infinity, and only the first of each level says
what shape is expected.

Reference: TensorFlow Serving's `util/json_tensor.cc`.
"""

from __future__ import annotations

import binascii
import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from medkeras.serving import json_dump, json_floats, json_text, status

MOST_DIMENSIONS = 64
"""Dimensions that an array can have."""

_INT32 = (-(2**31), 2**31 - 1)
_RANGES = {
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_KINDS: dict[int, frozenset[type]] = {
    **dict.fromkeys(_RANGES, frozenset((int,))),
    **dict.fromkeys(_FLOATS, frozenset((int, float))),
    types_pb2.DT_BOOL: frozenset((bool,)),
    types_pb2.DT_STRING: frozenset((str, json_text.Object)),
}
_BLANKS = re.compile(rb"[ \t\n\v\f\r]+")
_BASE64 = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")
_PADDING = {0: 0, 2: 2, 3: 1}


def dtype_name(dtype: int) -> str:
    """Returns TensorFlow's name of a dtype: `float`, `half`, `int32`, …"""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def is_base64(value: Any) -> bool:
    """Returns whether a value is `{"b64": "…"}`, which stands for bytes."""
    return type(value) is json_text.Object and len(value) == 1 and value[0][0] == "b64" and isinstance(value[0][1], str)


def base64_bytes(value: Any) -> bytes:
    """Returns the bytes of a value that `is_base64`: padded or not, blanks anywhere.

    Raises:
        StatusError: It is not of the standard alphabet, or cut off.
    """
    text = json_text.encoded(value[0][1])
    with contextlib.suppress(binascii.Error):
        return binascii.a2b_base64(text, strict_mode=True)
    # Not padded, or with blanks, which upstream takes too.
    found = _BASE64.fullmatch(_BLANKS.sub(b"", text))
    digits, padding = found.groups() if found else (b"=", b"")
    rest = len(digits) % 4
    if not found or rest not in _PADDING or len(padding) not in (0, _PADDING[rest]):
        raise status.invalid("Unable to base64 decode")
    return binascii.a2b_base64(digits + b"=" * _PADDING[rest])


def rank(value: Any) -> int:
    """Returns how deep lists nest in a value, as its first elements have it."""
    depth = 0
    while type(value) is list:
        depth += 1
        if not value:
            break
        value = value[0]
    return depth


def dense(value: Any, dtype: int) -> np.ndarray | None:
    """Returns the array of a value in which everything is as it should be, quickly; None for any other value."""
    shape: list[int] = []
    values = [value]
    while {list} == (kinds := set(map(type, values))):
        lengths = set(map(len, values))
        if len(lengths) > 1 or len(shape) == MOST_DIMENSIONS:
            return None
        shape.append(lengths.pop())
        values = list(itertools.chain.from_iterable(values))
    if not kinds <= _KINDS.get(dtype, frozenset()):
        return None
    if dtype in _RANGES and values and not _fits(min(values), dtype) & _fits(max(values), dtype):
        return None
    if dtype != types_pb2.DT_STRING:
        return array(values, shape, dtype)
    texts = _strings(values)
    return None if texts is None else array(texts, shape, dtype)


def fill(value: Any, dtype: int) -> tuple[tuple[int, ...], list[Any]]:
    """Returns the shape and the values of a value of at most `MOST_DIMENSIONS`, one by one.

    Raises:
        StatusError: One does not fit the dtype, or a list the shape.
    """
    shape = tuple(_shape(value))
    return shape, list(_filled(value, dtype, shape=shape, level=0))


def array(values: Sequence[Any], shape: Sequence[int], dtype: int) -> np.ndarray:
    """Returns checked values as an array."""
    target = tf.as_dtype(dtype).as_numpy_dtype
    if dtype in _FLOATS:
        with np.errstate(over="ignore", under="ignore"):
            flat = np.array(values, np.float64).astype(target)
        return _flushed(flat).reshape(shape)
    if dtype == types_pb2.DT_STRING:
        flat = np.empty(len(values), object)
        flat[:] = values
        return flat.reshape(shape)
    wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.bool_ if dtype == types_pb2.DT_BOOL else np.int64
    return np.array(values, wide).astype(target).reshape(shape)


def _strings(values: list[Any]) -> list[bytes] | None:
    try:
        return [_leaf(value, types_pb2.DT_STRING) for value in values]
    except status.StatusError:
        return None


def _flushed(values: np.ndarray) -> np.ndarray:
    """Sets denormal numbers to zero, as the threads of upstream do."""
    tiny = json_floats.TINY32 if values.dtype == np.float32 else json_floats.TINY64
    small = np.abs(values) < tiny
    values[small] = np.copysign(values.dtype.type(0), values[small])
    return values


def _shape(value: Any) -> Iterator[int]:
    while type(value) is list:
        yield len(value)
        value = value[0] if value else None


def _filled(value: Any, dtype: int, *, shape: tuple[int, ...], level: int) -> Iterator[Any]:
    if type(value) is not list:
        if level != len(shape):
            raise status.invalid(
                f"JSON Value: {json_dump.text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        yield _leaf(value, dtype)
        return
    if level >= len(shape):
        raise status.invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise status.invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for one in value:
        yield from _filled(one, dtype, shape=shape, level=level + 1)


def _leaf(value: Any, dtype: int) -> Any:
    if type(value) is json_text.Object:
        return _object(value, dtype)
    if dtype not in _KINDS:
        raise status.StatusError(
            status.Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {json_dump.text(value)} to type: {dtype_name(dtype)}",
        )
    if type(value) not in _KINDS[dtype] or (dtype in _RANGES and not _fits(value, dtype)):
        raise _wrong_type(value, dtype)
    return json_text.encoded(value) if isinstance(value, str) else value


def _object(value: Any, dtype: int) -> Any:
    if dtype != types_pb2.DT_STRING:
        raise _wrong_type(value, dtype)
    if not is_base64(value):
        raise status.invalid(f"JSON Value: {json_dump.text(value)} not formatted correctly for base64 data")
    return base64_bytes(value)


def _fits(value: int, dtype: int) -> bool:
    least, most = _RANGES[dtype]
    return least <= value <= most


def _wrong_type(value: Any, dtype: int) -> status.StatusError:
    return status.invalid(
        f"JSON Value: {json_dump.text(value)} Type: {json_dump.type_name(value)} "
        f"is not of expected type: {dtype_name(dtype)}"
    )
