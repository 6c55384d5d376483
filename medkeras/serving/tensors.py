"""`TensorProto`s to arrays and back, as TensorFlow reads and writes them, large ones without a copy.

Reference: TensorFlow's `framework/tensor.cc`, `Tensor::FromProto` and `Tensor::AsProtoField`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import ml_dtypes
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from medkeras.serving import status

# What a few bytes of a message may become: a shape of a trillion filled with one value.
LARGEST = 2**30
_MOST_DIMENSIONS = 64
_LONGEST_VARINT = 56

# Field of the message, NumPy dtype.
_KINDS: Mapping[int, tuple[str, np.dtype]] = MappingProxyType(
    {
        types_pb2.DT_FLOAT: ("float_val", np.dtype(np.float32)),
        types_pb2.DT_DOUBLE: ("double_val", np.dtype(np.float64)),
        types_pb2.DT_INT32: ("int_val", np.dtype(np.int32)),
        types_pb2.DT_INT16: ("int_val", np.dtype(np.int16)),
        types_pb2.DT_INT8: ("int_val", np.dtype(np.int8)),
        types_pb2.DT_UINT16: ("int_val", np.dtype(np.uint16)),
        types_pb2.DT_UINT8: ("int_val", np.dtype(np.uint8)),
        types_pb2.DT_INT64: ("int64_val", np.dtype(np.int64)),
        types_pb2.DT_UINT32: ("uint32_val", np.dtype(np.uint32)),
        types_pb2.DT_UINT64: ("uint64_val", np.dtype(np.uint64)),
        types_pb2.DT_BOOL: ("bool_val", np.dtype(np.bool_)),
        types_pb2.DT_STRING: ("string_val", np.dtype(object)),
        types_pb2.DT_HALF: ("half_val", np.dtype(np.float16)),
        types_pb2.DT_BFLOAT16: ("half_val", np.dtype(ml_dtypes.bfloat16)),
        types_pb2.DT_COMPLEX64: ("scomplex_val", np.dtype(np.complex64)),
        types_pb2.DT_COMPLEX128: ("dcomplex_val", np.dtype(np.complex128)),
    }
)
_NUMBERS = {dtype: number for number, (_, dtype) in _KINDS.items()}
_HALVES = (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)
_COMPLEX = (types_pb2.DT_COMPLEX64, types_pb2.DT_COMPLEX128)


def parse(proto: tensor_pb2.TensorProto, name: str) -> np.ndarray:
    """Returns the array that a message holds.

    Args:
        proto: The message. Fewer values than its shape has places are filled up with the last one.
        name: Of the input, for the refusal.

    Raises:
        StatusError: `INVALID_ARGUMENT`: type, shape and content do not belong together.
    """
    shape = tuple(each.size for each in proto.tensor_shape.dim)
    if proto.dtype not in _KINDS or proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise _broken(name)
    field, dtype = _KINDS[proto.dtype]
    count = math.prod(shape)
    # A dimension of 0 makes no other one small.
    if len(shape) > _MOST_DIMENSIONS or math.prod(max(size, 1) for size in shape) * dtype.itemsize > LARGEST:
        raise _broken(name)
    if proto.tensor_content:
        return _whole(proto.tensor_content, count, dtype, name).reshape(shape)
    return _filled(_typed(proto, field, dtype), count, dtype).reshape(shape)


def proto(array: np.ndarray, *, content: bool = False) -> tensor_pb2.TensorProto:
    """Returns the message that holds an array.

    Args:
        array: The array; strings are objects of `bytes`.
        content: Whether numbers go as `tensor_content`, in one piece, and not as typed values.
    """
    number = _NUMBERS[array.dtype]
    message = tensor_pb2.TensorProto(dtype=number)
    message.tensor_shape.SetInParent()
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if content and array.dtype.kind != "O":
        message.tensor_content = np.ascontiguousarray(array).tobytes()
    else:
        getattr(message, _KINDS[number][0]).extend(_values(array, number))
    return message


def _whole(content: bytes, count: int, dtype: np.dtype, name: str) -> np.ndarray:
    """Returns what stands in `tensor_content`."""
    if dtype.kind == "O":
        return _strings(content, count, name)
    if len(content) != count * dtype.itemsize:
        raise _broken(name)
    found = np.frombuffer(content, dtype)
    if dtype.kind == "b" and found.view(np.uint8).max(initial=0) > 1:
        raise _broken(name)
    return found


def _strings(content: bytes, count: int, name: str) -> np.ndarray:
    """Returns strings that stand one after the other, behind their lengths as varints."""
    lengths, at = [], 0
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if at >= len(content) or shift > _LONGEST_VARINT:
                raise _broken(name)
            byte, at = content[at], at + 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise _broken(name)
    found = np.empty(count, object)
    for number, length in enumerate(lengths):
        found[number], at = content[at : at + length], at + length
    return found


def _values(array: np.ndarray, number: int) -> list[object]:
    flat = array.reshape(-1)
    if number in _HALVES:
        flat = flat.view(np.uint16)
    elif number in _COMPLEX:
        flat = flat.view(flat.real.dtype)
    return flat.tolist()


def _typed(proto: tensor_pb2.TensorProto, field: str, dtype: np.dtype) -> np.ndarray:
    values = getattr(proto, field)
    if field == "half_val":
        return np.array(values, np.int64).astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        real = np.array(values, dtype.type(0).real.dtype)
        return real[: len(real) // 2 * 2].view(dtype)
    if dtype.kind == "O":
        found = np.empty(len(values), object)
        found[:] = list(values)
        return found
    # As C++ casts: the message's 32 bits are cut to those of the type.
    return np.array(values, np.int64 if field == "int_val" else dtype).astype(dtype)


def _filled(values: np.ndarray, count: int, dtype: np.dtype) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    last = values[-1] if len(values) else (b"" if dtype.kind == "O" else dtype.type(0))
    filled = np.full(count, last, dtype)
    filled[: len(values)] = values
    return filled


def _broken(name: str) -> status.StatusError:
    return status.invalid(f"tensor parsing error: {name}")
