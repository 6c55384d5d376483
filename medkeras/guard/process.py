"""One worker process, seen from the process that asks it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import select
import subprocess
import sys
import time
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.guard import tasks, worker

# Seconds for an interpreter to start and for a module to be imported, on a machine that is busy.
_START = 120.0
# Seconds that a worker has to end itself before it is ended.
_GRACE = 2.0
_MOST_FACTS = 2**26
_PIPE_BYTES = 2**20
_ROOT = str(pathlib.Path(__file__).parents[2])


class Process:
    """One process, and the two pipes to it. Not to be shared by threads.

    Args:
        memory: Bytes that it may hold at its peak, itself and its libraries included.

    Attributes:
        used: Whether it has had a file before.
    """

    def __init__(self, memory: int) -> None:
        search = os.pathsep.join([*filter(None, sys.path), _ROOT])
        # One thread and one arena: each of them would reserve address space, which is what is capped.
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **single, "PYTHONPATH": search},
        )
        self._requests: Any = self._process.stdin
        self._replies: Any = self._process.stdout
        _widen(self._replies)
        self._memory = memory
        self._loaded: set[str] = set()
        self.used = False

    @property
    def pid(self) -> int:
        """Identifies the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs and its pipes hold no half of an answer."""
        return not self._requests.closed and self._process.poll() is None

    def answer(self, task: tasks.Task) -> tuple[dict[str, Any], np.ndarray]:
        """Returns the reply to one task, and the bytes of its array, uint8 `[N]`.

        Raises:
            TimeoutError: The file took too long.
            EOFError: The worker died.
        """
        self._load(task.module)
        self.used = True
        request = dataclasses.asdict(task) | {"path": os.path.abspath(task.path)}
        reply, data = self._exchange(request, task.limits.wall + _GRACE)
        if reply["retire"] or "large" in reply:
            self.end()
        return reply, data

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._close()
        self._process.wait()

    def forget(self) -> None:
        """Leaves the process to the one that this process was forked from."""
        self._close()
        # No child of ours: not to be waited for, nor missed when the object goes.
        self._process.returncode = 0

    def _close(self) -> None:
        for pipe in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                pipe.close()

    def _load(self, module: str) -> None:
        """Has the worker import a module, which is not on a file's clock."""
        if module in self._loaded:
            return
        try:
            fault = self._exchange({"load": module, "memory": self._memory}, _START)[0].get("fault")
        except (EOFError, TimeoutError):
            fault = "it does not answer"
        if fault:
            raise errors.InternalError(f"The process that opens files cannot load {module}: {fault}")
        self._loaded.add(module)

    def _exchange(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], np.ndarray]:
        body = json.dumps(request).encode("ascii")
        try:
            self._requests.write(worker.FRAME.pack(len(body), 0) + body)
            return self._receive(time.monotonic() + seconds)
        # ValueError: what came is no reply, or another thread ended the process and closed the pipes.
        except (BrokenPipeError, EOFError, ValueError):
            self.end()
            if self._process.returncode in worker.TOO_SLOW:
                raise TimeoutError from None
            raise EOFError from None
        except BaseException:
            # Ctrl-C too: a worker whose answer was not taken cannot be asked again.
            self.end()
            raise

    def _receive(self, until: float) -> tuple[dict[str, Any], np.ndarray]:
        facts, values = worker.FRAME.unpack(self._take(worker.FRAME.size, until).data)
        if facts > _MOST_FACTS or values > self._memory:
            raise EOFError
        reply = json.loads(self._take(facts, until).tobytes())
        if values != math.prod(reply.get("shape", (0,))) * np.dtype(reply.get("dtype", "uint8")).itemsize:
            raise EOFError
        return reply, self._take(values, until)

    def _take(self, count: int, until: float) -> np.ndarray:
        data = np.empty(count, np.uint8)
        view, poll = data.data, select.poll()
        poll.register(self._replies, select.POLLIN)
        while view:
            if not poll.poll(max(until - time.monotonic(), 0) * 1000):
                raise TimeoutError
            size = self._replies.readinto(view)
            if not size:
                raise EOFError
            view = view[size:]
        return data


def _widen(pipe: Any) -> None:
    # A wish: a system may allow less, and others than Linux have no such call.
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
