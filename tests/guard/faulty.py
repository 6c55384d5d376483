"""Functions that do to their worker what the worst decoder might."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

from medkeras import errors

_KEPT: list[np.ndarray] = []


class Panic(BaseException):
    """As a decoder written in Rust raises it."""


def inspect(path: str, how: str = "facts", key: str = "") -> Any:
    return _DEEDS[how](path)


def read(path: str, array: list | None = None, dtype: str = "float32", order: str = "C") -> np.ndarray:
    if array is not None:
        return np.array(array, dtype, order=order)
    return np.full(int(pathlib.Path(path).read_text()), 7, dtype)


def _raise(error: BaseException) -> Any:
    raise error


def _recurse(path: str) -> Any:
    return _recurse(path)


def _spin(path: str) -> Any:
    while True:
        pass


def _print(path: str) -> Any:
    for descriptor in (1, 2):
        os.write(descriptor, b"\xff" * 4096)
    sys.stdout.write("noise")
    sys.stderr.write("noise")
    return {}


def _fill(path: str) -> Any:
    blocks = []
    while True:
        blocks.append(np.ones(2**24, np.uint8))


def _most(path: str) -> Any:
    with contextlib.suppress(MemoryError):
        _fill(path)
    status = pathlib.Path("/proc/self/status").read_text()
    return {"peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024}


def _keep(count: int) -> Any:
    _KEPT.append(np.ones(count * 10**6, np.uint8))
    return {"pid": os.getpid()}


def _facts(path: str) -> Any:
    heavy = [name for name in ("tensorflow", "keras", "tifffile", "pydicom") if name in sys.modules]
    return {"path": path, "pid": os.getpid(), "heavy": heavy, "spacing": [0.5, float("nan")], "note": "µ\udce9"}


def _seen(path: str) -> Any:
    own = pathlib.Path("/proc/self")
    return {"arguments": (own / "cmdline").read_text(), "environment": (own / "environ").read_text()}


def _wait(path: str) -> Any:
    time.sleep(1)
    return _DEEDS["text"](path)


_DEEDS = {
    "facts": _facts,
    "seen": _seen,
    "text": lambda path: {"text": pathlib.Path(path).read_text()},
    "spin": _spin,
    "wait a second": _wait,
    "sleep": lambda path: time.sleep(3600),
    "exit": lambda path: os._exit(0),
    "abort": lambda path: os.abort(),
    "crash": lambda path: ctypes.string_at(0),
    "fill": _fill,
    "most": _most,
    "huge": lambda path: np.ones(2**31, np.uint8),
    "leave 200 MB": lambda path: _keep(200),
    "leave 300 MB": lambda path: _keep(300),
    "take 800 MB": lambda path: _keep(800),
    "panic": lambda path: _raise(Panic("Doe^Jane")),
    "leave": lambda path: sys.exit(3),
    "interrupt": lambda path: _raise(KeyboardInterrupt()),
    "recurse": _recurse,
    "print": _print,
    "secret": lambda path: _raise(ValueError("Doe^Jane")),
    "library": lambda path: _raise(OSError("Doe^Jane")),
    "system": lambda path: _raise(PermissionError(13, "Doe^Jane")),
    "refuse": lambda path: _raise(errors.RefusalError("a rule. Received: something else")),
    "objects": lambda path: np.array([{}, None]),
    "no facts": lambda path: {"array": {1, 2}},
}
