"""Untrusted files are decoded by worker processes, under a memory cap and a deadline, so that none can end or hang us.

A worker is a fresh interpreter without TensorFlow, started when it is first needed and kept. What it dies of, what
takes too long and what it refuses becomes one `BadInputError`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import math
import os
import pathlib
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.data import guard_worker, headers

# Seconds of processor time for one file, so that a busy machine refuses no file that a quiet one reads; and seconds by
# the clock for a decoder that waits for what never comes.
DEADLINE = 9.0
PATIENCE = 30.0
MOST_WORKERS = 4
# Seconds for an interpreter to start and for a reader to be imported, on a machine that is busy.
_START = 120.0
# Seconds that a worker has to end itself before it is ended.
_GRACE = 2.0
_MOST_FACTS = 2**26
_PIPE_BYTES = 2**20
_ROOT = str(pathlib.Path(__file__).parents[2])

# Kind of file to the module whose `inspect` and `read` the worker calls, and to what such a file is called.
KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "dicom": ("medkeras.data.readers.dicom", "DICOM file"),
        "nifti": ("medkeras.data.readers.nifti", "NIfTI file"),
        "image": ("medkeras.data.readers.image", "image file"),
    }
)


def inspect(kind: str, path: str, **options: Any) -> dict[str, Any]:
    """Returns what a file says of itself before its pixels are decoded.

    Args:
        kind: `dicom`, `nifti` or `image`.
        path: The file.
        **options: Arguments of the reader's `inspect`.

    Raises:
        BadInputError: The file cannot be read; the reason is one sentence without anything that the file holds.
    """
    reply, _ = _ask("inspect", kind, path, options)
    return reply["facts"]


def read(kind: str, path: str, **options: Any) -> np.ndarray:
    """Returns the pixels of a file as its reader gives them.

    Args:
        kind: `dicom`, `nifti` or `image`.
        path: The file.
        **options: Arguments of the reader's `read`.

    Raises:
        BadInputError: The file cannot be read; the reason is one sentence without anything that the file holds.
    """
    reply, data = _ask("read", kind, path, options)
    return data.view(reply["dtype"]).reshape(reply["shape"])


def _ask(task: str, kind: str, path: str, options: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    module, name = KINDS[kind]
    try:
        headers.check_regular(path)
        request = {
            "task": task,
            "module": module,
            "path": os.path.abspath(path),
            "options": options,
            "deadline": DEADLINE,
            "patience": PATIENCE,
            "damage": f"the {name} is truncated or damaged",
        }
        reply, data = _answer(request)
        if "refusal" in reply:
            raise errors.RefusalError(reply["refusal"])
        return reply, data
    except TimeoutError:
        raise errors.BadInputError(path, f"decoding the {name} takes longer than {DEADLINE:g} seconds") from None
    except EOFError:
        raise errors.BadInputError(path, f"the {name} is damaged so that its decoder cannot go on") from None
    except MemoryError:
        raise errors.BadInputError(path, f"there is too little memory for the values of the {name}") from None
    except errors.RefusalError as refusal:
        raise errors.BadInputError(path, str(refusal)) from None


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    with _pool.lend() as worker:
        used = worker.used
        reply, data = worker.answer(request)
    if not ("large" in reply and used):
        return reply, data
    # What earlier files left behind may be what was missing; that worker is ended, and another takes its place.
    with _pool.lend() as worker:
        return worker.answer(request)


class _Worker:
    """One process, and the two pipes to it. Not to be shared by threads.

    Attributes:
        used: Whether it has had a file before.
    """

    def __init__(self) -> None:
        search = os.pathsep.join([*filter(None, sys.path), _ROOT])
        # One thread and one arena: each of them would reserve address space, which is what is capped.
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", guard_worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **single, "PYTHONPATH": search},
        )
        self._requests: Any = self._process.stdin
        self._replies: Any = self._process.stdout
        _widen(self._replies)
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

    def _load(self, module: str) -> None:
        """Has the worker import a reader, which is not on a file's clock."""
        if module in self._loaded:
            return
        try:
            fault = self._exchange({"load": module}, _START)[0].get("fault")
        except (EOFError, TimeoutError):
            fault = "it does not answer"
        if fault:
            raise errors.InternalError(f"The process that decodes files cannot load {module}: {fault}")
        self._loaded.add(module)

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """Returns the reply to one request, and the bytes of its array, uint8 `[N]`.

        Raises:
            TimeoutError: The file took too long.
            EOFError: The worker died.
        """
        self._load(request["module"])
        self.used = True
        reply, data = self._exchange(request, request["patience"] + _GRACE)
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

    def _exchange(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], np.ndarray]:
        body = json.dumps(request).encode("ascii")
        try:
            self._requests.write(guard_worker.FRAME.pack(len(body), 0) + body)
            return self._receive(time.monotonic() + seconds)
        except (BrokenPipeError, EOFError):
            self.end()
            if self._process.returncode in guard_worker.TOO_SLOW:
                raise TimeoutError from None
            raise EOFError from None
        except BaseException:
            # Ctrl-C too: a worker whose answer was not taken cannot be asked again.
            self.end()
            raise

    def _receive(self, until: float) -> tuple[dict[str, Any], np.ndarray]:
        facts, pixels = guard_worker.FRAME.unpack(self._take(guard_worker.FRAME.size, until).data)
        if facts > _MOST_FACTS or pixels > guard_worker.MEMORY:
            raise EOFError
        reply = json.loads(self._take(facts, until).tobytes())
        if pixels != math.prod(reply.get("shape", (0,))) * np.dtype(reply.get("dtype", "uint8")).itemsize:
            raise EOFError
        return reply, self._take(pixels, until)

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


class _Pool:
    """Workers that threads borrow, one for each core that may be used, started when they are missed."""

    def __init__(self) -> None:
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        for _ in range(min(_usable_cores(), MOST_WORKERS)):
            self._slots.put(None)

    @contextlib.contextmanager
    def lend(self) -> Iterator[_Worker]:
        """Yields a worker that nobody else has; waits for one."""
        worker = self._slots.get()
        try:
            if worker is None or not worker.alive:
                worker = self._replaced(worker)
            yield worker
        finally:
            self._slots.put(worker)

    def _replaced(self, worker: _Worker | None) -> _Worker:
        if worker is not None:
            worker.end()
        try:
            fresh = _Worker()
        except OSError as error:
            raise errors.InternalError(f"The process that decodes files cannot be started: {error.strerror}") from error
        with self._lock:
            self._all = {each for each in self._all if each is not worker} | {fresh}
        return fresh

    def workers(self) -> list[_Worker]:
        """Returns the workers that live."""
        with self._lock:
            return [worker for worker in self._all if worker.alive]

    def close(self) -> None:
        """Ends every worker; those that are borrowed too."""
        with self._lock:
            for worker in self._all:
                worker.end()

    def forget(self) -> None:
        """Lets go of every worker without ending it. Takes no lock: whoever held it was not forked along."""
        for worker in self._all:
            worker.forget()


def _widen(pipe: Any) -> None:
    # A wish: a system may allow less, and others than Linux have no such call.
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _close() -> None:
    _pool.close()


def _start_anew() -> None:
    global _pool
    _pool.forget()
    _pool = _Pool()


_pool = _Pool()
atexit.register(_close)
os.register_at_fork(after_in_child=_start_anew)
