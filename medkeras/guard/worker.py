"""The process that opens untrusted files: started and watched by `process`, it never loads TensorFlow.

Requests come by standard input and replies go by standard output, each a `FRAME` with the lengths of what follows: a
JSON object, then the bytes of an array. The worker ends with its input, and by an alarm of its own where a decoder
does not return, even if nobody is left who waits for it.
"""

from __future__ import annotations

import errno
import functools
import gc
import importlib
import json
import os
import resource
import signal
import struct
from types import ModuleType
from typing import Any

import numpy as np

from medkeras import errors

FRAME = struct.Struct("<IQ")
# A worker that keeps so much after a file is replaced, for the next file would find too little.
KEPT = 256 * 2**20
# What the alarms of `_set_alarms` kill a worker with, whatever its decoder is about.
TOO_SLOW = (-signal.SIGPROF, -signal.SIGALRM)
DTYPES = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float32", "float64")

_STATM = "/proc/self/statm"


def main() -> None:
    """Answers requests until the input ends."""
    requests, replies = _own_pipes()
    _protect()
    kept = 0
    while (request := _receive(requests)) is not None:
        if "load" in request:
            _send(replies, _load(request["load"]))
            kept = _cap_memory(request["memory"])
        else:
            _set_alarms(**request["limits"])
            reply, array = _answer(request)
            _set_alarms(processor=0, wall=0)
            _send(replies, reply | {"retire": _pages()[2] - kept > KEPT}, array)
            del reply, array
        # Objects that refer to each other may hold the pixels of the last file; the parent is at work meanwhile.
        gc.collect()


def _own_pipes() -> tuple[int, int]:
    """Keeps the two pipes out of reach of libraries that print, and silences those."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return requests, replies


def _protect() -> None:
    # Ctrl-C reaches the whole group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set_alarms(*, processor: float, wall: float) -> None:
    """Ends this process after so many seconds, unless they are set to 0 before."""
    signal.setitimer(signal.ITIMER_PROF, processor)
    signal.setitimer(signal.ITIMER_REAL, wall)


def _cap_memory(memory: int) -> int:
    """Allows what is left of `memory` beyond what is resident; returns the bytes of data in use.

    Address space that is mapped and never touched, as libraries do, does not count against the file.
    """
    gc.collect()
    gc.freeze()
    size, resident, data = _pages()
    if size:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size - resident + memory, hard))
    return data


def _pages() -> tuple[int, int, int]:
    """Returns the mapped, the resident and the data bytes of this process; zeros where the system does not tell."""
    try:
        with open(_STATM, "rb") as file:
            size, resident, _, _, _, data, _ = map(int, file.read().split())
    except OSError:
        return 0, 0, 0
    page = resource.getpagesize()
    return size * page, resident * page, data * page


@functools.cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _load(name: str) -> dict[str, Any]:
    try:
        _module(name)
    except Exception as error:
        return {"fault": f"{type(error).__name__}: {error}"}
    return {}


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """Calls the function that is asked for; whatever goes wrong becomes one sentence."""
    function = getattr(_module(request["module"]), request["function"])
    sentences = request["sentences"]
    too_large = {"refusal": sentences["large"], "large": True}
    try:
        result = function(request["path"], **request["options"])
        if isinstance(result, np.ndarray):
            return _described(result)
        json.dumps(result)
        return {"facts": result}, None
    except errors.RefusalError as refusal:
        return {"refusal": str(refusal)}, None
    except MemoryError:
        return too_large, None
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return too_large, None
        # Libraries raise OSError of their own, without a number and with a text that may quote the file.
        reason = f"the file cannot be read ({os.strerror(error.errno)})" if error.errno else sentences["damaged"]
        return {"refusal": reason}, None
    # Not Exception alone: decoders written in Rust panic with a BaseException.
    except BaseException:
        return {"refusal": sentences["damaged"]}, None


def _described(array: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    if array.dtype.name not in DTYPES:
        raise errors.RefusalError(f"values are whole or floating-point numbers. Received: {array.dtype}")
    return {"dtype": array.dtype.name, "shape": array.shape}, array


def _receive(pipe: int) -> dict[str, Any] | None:
    head = _take(pipe, FRAME.size)
    if head is None:
        return None
    body = _take(pipe, FRAME.unpack(head)[0])
    return None if body is None else json.loads(body)


def _take(pipe: int, count: int) -> bytes | None:
    """Reads `count` bytes; None where the input ends."""
    data = b""
    while len(data) < count:
        part = os.read(pipe, count - len(data))
        if not part:
            return None
        data += part
    return data


def _send(pipe: int, reply: dict[str, Any], array: np.ndarray | None = None) -> None:
    body = json.dumps(reply).encode("ascii")
    values = memoryview(b"") if array is None else array.reshape(-1).view(np.uint8).data
    _write(pipe, memoryview(FRAME.pack(len(body), len(values)) + body))
    _write(pipe, values)


def _write(pipe: int, data: memoryview) -> None:
    while data:
        data = data[os.write(pipe, data) :]


if __name__ == "__main__":
    main()
