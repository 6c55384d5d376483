"""The process in which one model is measured: started and asked by `timing_process`, it loads one runtime and no other.

Requests come by standard input and replies go by standard output: a line of JSON each, and after it the bytes of
arrays. What is imported here is the standard library alone, so that memory is counted from the bare interpreter on.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from typing import Any, BinaryIO

_MIB = 2**20
_WARM_SHARE = 0.1


def main() -> None:
    """Answers requests until the input ends."""
    requests, replies = _own_pipes()
    # Ctrl-C reaches the whole group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = _Worker()
    for line in requests:
        request = json.loads(line)
        try:
            reply, arrays = worker.answer(request, requests)
        # Whatever a runtime raises for a file that it cannot read is told, and is no fault of this process.
        except Exception as error:
            reply, arrays = {"fault": f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]}, []
        replies.write(json.dumps(reply | {"peak_mib": peak_mib() - worker.alone}).encode() + b"\n")
        replies.writelines(arrays)
        replies.flush()


def peak_mib() -> float:
    """Returns the most memory, in MiB, that this process has had resident; 0 where the system does not say.

    Not `ru_maxrss`, which on Linux a process inherits from the one that started it.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return _peak_elsewhere()


def _peak_elsewhere() -> float:
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)


class _Worker:
    def __init__(self) -> None:
        self.alone = peak_mib()
        self._model: Any = None

    def answer(self, request: dict[str, Any], arrays: BinaryIO) -> tuple[dict[str, Any], list[bytes]]:
        if request["do"] == "start":
            return self._start(request), []
        if request["do"] == "time":
            return {"ms": self._time(request["batch"], request["seconds"])}, []
        outputs, contents = self._model.answer_bytes(arrays.read(request["bytes"]), request["batch"])
        return {"outputs": outputs}, contents

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Imports the runtime, loads the model and has one answer, each on the clock."""
        begin = time.perf_counter()
        runtime = importlib.import_module(request["module"])
        imported = time.perf_counter()
        self._model = runtime.load(request["path"], request["threads"], request["shape"])
        loaded = time.perf_counter()
        image = self._model.pixels(1)
        ready = time.perf_counter()
        self._model.answer(image)
        first = time.perf_counter()
        return {
            "import_ms": 1000 * (imported - begin),
            "load_ms": 1000 * (loaded - imported),
            "first_ms": 1000 * (first - ready),
            "shape": list(self._model.shape),
            "dtype": self._model.dtype,
        }

    def _time(self, batch: int, seconds: float) -> list[float]:
        """Returns the milliseconds of each call in about so many seconds, at least one, after some that are dropped."""
        images, answer = self._model.pixels(batch), self._model.answer
        gc.collect()
        gc.disable()
        try:
            _calls(answer, images, _WARM_SHARE * seconds, least=1)
            return _calls(answer, images, seconds, least=1)
        finally:
            gc.enable()


def _calls(answer: Any, images: Any, seconds: float, *, least: int) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < end:
        start = time.perf_counter()
        answer(images)
        found.append(1000 * (time.perf_counter() - start))
    return found


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keeps the two pipes out of reach of libraries that print, and silences those."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


if __name__ == "__main__":
    main()
