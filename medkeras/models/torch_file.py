"""Reads the tensors of a legacy PyTorch file without PyTorch, and without running what it carries.

A legacy file is five pickles (magic number, protocol, byte order, the state dict, the storage keys)
and then the storages: a little-endian int64 count and the raw values each. A pickle can call any
function it names; here it can name four harmless ones, with the opcodes that a state dict needs.

Reference: PyTorch, torch/serialization.py, `_legacy_load`; Python, pickle, Restricting globals.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import pickle
import pickletools
import types
from typing import Any

import numpy as np

from medkeras import errors

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = types.MappingProxyType({"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")})
# fmt: off
_OPCODES = frozenset((
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET",
    "LONG_BINGET", "BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "NONE", "NEWTRUE", "NEWFALSE",
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "APPEND", "APPENDS", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "SETITEM", "SETITEMS",
))
# fmt: on


def read(content: bytes, *, name: str) -> dict[str, np.ndarray]:
    """Returns the tensors of a legacy PyTorch state dict, by key.

    Args:
        content: The whole file.
        name: What the file is called in an error.

    Returns:
        float32 and int64 arrays, in the file's order.

    Raises:
        ModelError: The file is truncated, is no legacy state dict, or names anything else than tensors.
    """
    try:
        return _read(io.BytesIO(content))
    except errors.ModelError as error:
        raise errors.ModelError(f"{errors.printable(name)}: {error}") from None
    # An unpickler fed with hostile bytes raises nearly anything; all of it means the same to the user.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise errors.ModelError(
            f"{errors.printable(name)}: a weights file is a whole legacy PyTorch state dict. Received: {reason}"
        ) from None


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A run of values that follows the pickles."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, values: np.ndarray) -> np.ndarray:
        """Returns a copy of the view, which must lie inside the storage and repeat nothing."""
        spans = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        inside = self.offset >= 0 and self.offset + sum(spans) < values.size and math.prod(self.shape) <= values.size
        if not inside or min((*self.shape, *self.strides, 1)) < 0 or 0 in self.shape:
            raise errors.ModelError(f"A tensor lies inside its storage. Received: {self}")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows four names and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise errors.ModelError(f"A weights file names tensors only. Received: {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise errors.ModelError(f"A weights file refers to whole storages only. Received: {pid}")
        return _Storage(str(key), dtype, int(count))


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _read(stream: io.BytesIO) -> dict[str, np.ndarray]:
    magic, protocol, system, state, keys = (_unpickled(stream) for _ in range(5))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not system["little_endian"]:
        raise errors.ModelError(f"A weights file is a legacy PyTorch file. Received: {magic!r}, {protocol!r}")
    tensors = {str(key): tensor for key, tensor in state.items() if isinstance(tensor, _Tensor)}
    if len(tensors) != len(state):
        raise errors.ModelError(f"A state dict holds tensors only. Received: {len(state) - len(tensors)} other values")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {key: _values(stream, storages[key]) for key in keys}
    if stream.read(1):
        raise errors.ModelError(f"A weights file ends with its last storage. Received: more at {stream.tell() - 1}")
    return {key: tensor.of(values[tensor.storage.key]) for key, tensor in tensors.items()}


def _unpickled(stream: io.BytesIO) -> Any:
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name not in _OPCODES:
            raise errors.ModelError(f"A weights file holds a plain state dict. Received: opcode {opcode.name}")
        # The C unpickler reserves memory up to the largest memo index.
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > stream.getbuffer().nbytes:
            raise errors.ModelError(f"A memo index is smaller than the file. Received: {argument}")
    end = stream.tell()
    stream.seek(start)
    value = _Unpickler(stream).load()
    stream.seek(end)
    return value


def _values(stream: io.BytesIO, storage: _Storage) -> np.ndarray:
    count = int.from_bytes(stream.read(8), "little")
    if count != storage.count:
        raise errors.ModelError(f"A storage has the declared size, {storage.count} values. Received: {count}")
    content = stream.read(count * storage.dtype.itemsize)
    return np.frombuffer(content, storage.dtype, count)
