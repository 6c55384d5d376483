"""A process that measures one model, seen from the process that asks it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.edge import timing_worker

RUNTIMES = {
    "tensorflow": "medkeras.edge.timing_tensorflow",
    "litert": "medkeras.edge.timing_litert",
    "onnx": "medkeras.edge.timing_onnx",
}
_ROOT = str(pathlib.Path(__file__).parents[2])
_PATIENCE = 600.0


class Process:
    """One model in a process of its own, loaded when `start` is called.

    Args:
        path: The file, or the folder of a SavedModel.
        runtime: A name of `RUNTIMES`.
        threads: How many compute.
        shape: `(H, W, C)` of the pictures, where the model does not say it.
    """

    def __init__(self, path: pathlib.Path, runtime: str, *, threads: int, shape: Sequence[int] = ()) -> None:
        self._path = path
        self._request = {
            "do": "start",
            "module": RUNTIMES[runtime],
            "path": os.path.abspath(path),
            "threads": threads,
            "shape": list(shape),
        }
        self._dtype = "float32"
        search = os.pathsep.join([*filter(None, sys.path), _ROOT])
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", timing_worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet, "PYTHONPATH": search},
        )
        self._requests: Any = self._process.stdin
        self._replies: Any = self._process.stdout

    def start(self) -> dict[str, Any]:
        """Has the model loaded and asked once.

        Returns:
            `import_ms` of the runtime, `load_ms` of the model, `first_ms` of the first answer, `shape` and `dtype` of
            a picture, and `peak_mib`, the most memory so far above that of the interpreter alone.

        Raises:
            ModelError: The model cannot be loaded or does not answer.
        """
        reply = self._exchange(self._request)
        self._dtype = reply["dtype"]
        return reply

    def time(self, batch: int, seconds: float) -> dict[str, Any]:
        """Has the model asked again and again for so many seconds; `ms` holds what each call took.

        Raises:
            ModelError: The model does not answer.
        """
        return self._exchange({"do": "time", "batch": batch, "seconds": seconds})

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the model's answers for images `[B, H, W, C]` of stored values.

        Raises:
            ModelError: The model does not answer.
        """
        content = np.ascontiguousarray(images, self._dtype).tobytes()
        reply = self._exchange({"do": "answer", "batch": len(images), "bytes": len(content)}, content)
        return {name: self._array(shape, dtype) for name, shape, dtype in reply["outputs"]}

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        for pipe in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def _array(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(self._replies.read(count), dtype).reshape(shape)

    def _exchange(self, request: dict[str, Any], content: bytes = b"") -> dict[str, Any]:
        watch = threading.Timer(_PATIENCE, self._process.kill)
        watch.start()
        try:
            self._requests.write(json.dumps(request).encode() + b"\n" + content)
            self._requests.flush()
            line = self._replies.readline()
        except OSError:
            line = b""
        finally:
            watch.cancel()
        if not line:
            raise errors.ModelError(f"{self._named()}: the process that ran it ended ({self._cause()})")
        reply = json.loads(line)
        if "fault" in reply:
            raise errors.ModelError(f"{self._named()}: cannot be run ({reply['fault'].rstrip('.')})")
        return reply

    def _named(self) -> str:
        return errors.printable(self._path)

    def _cause(self) -> str:
        code = self._process.wait()
        if code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"
