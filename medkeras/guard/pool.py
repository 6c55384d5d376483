"""Untrusted files are opened by worker processes, under a memory cap and limits of time: none can end or hang us.

A worker is a fresh interpreter without TensorFlow, started when it is first needed and kept. What it dies of, what
takes too long and what it refuses becomes one `RefusalError`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.guard import process, tasks


class Pool:
    """Workers that threads borrow, started when they are missed; they end with `close`, or with this process.

    Args:
        most: Most workers; there are no more than cores that may be used.
        memory: Bytes that a worker may hold at its peak, itself and its libraries included.
    """

    def __init__(self, most: int, *, memory: int) -> None:
        self._count = min(_usable_cores(), most)
        self._memory = memory
        self._begin()
        _pools.add(self)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def facts(self, task: tasks.Task) -> dict[str, Any]:
        """Returns what a function says of a file; called by any number of threads.

        Raises:
            RefusalError: What the function refuses, or one of the task's sentences.
            InternalError: The worker cannot be started, or cannot load the module.
        """
        return self._ask(task)[0]["facts"]

    def array(self, task: tasks.Task) -> np.ndarray:
        """Returns the array that a function makes of a file; raises as `facts` does."""
        reply, data = self._ask(task)
        return data.view(reply["dtype"]).reshape(reply["shape"])

    def workers(self) -> list[process.Process]:
        """Returns the workers that live."""
        with self._lock:
            return [worker for worker in self._all if worker.alive]

    def close(self) -> None:
        """Ends every worker; those that are borrowed too. Another call starts others."""
        with self._lock:
            for worker in self._all:
                worker.end()

    def start_anew(self) -> None:
        """Lets go of every worker without ending it. Takes no lock: whoever held it was not forked along."""
        for worker in self._all:
            worker.forget()
        self._begin()

    def _begin(self) -> None:
        self._slots: queue.LifoQueue[process.Process | None] = queue.LifoQueue()
        self._all: set[process.Process] = set()
        self._lock = threading.Lock()
        for _ in range(self._count):
            self._slots.put(None)

    def _ask(self, task: tasks.Task) -> tuple[dict[str, Any], np.ndarray]:
        try:
            reply, data = self._answer(task)
        except TimeoutError:
            raise errors.RefusalError(task.sentences.slow) from None
        except EOFError:
            raise errors.RefusalError(task.sentences.died) from None
        except MemoryError:
            raise errors.RefusalError(task.sentences.full) from None
        if "refusal" in reply:
            raise errors.RefusalError(reply["refusal"])
        return reply, data

    def _answer(self, task: tasks.Task) -> tuple[dict[str, Any], np.ndarray]:
        with self._lend() as worker:
            used = worker.used
            reply, data = worker.answer(task)
        if not ("large" in reply and used):
            return reply, data
        # What earlier files left behind may be what was missing; that worker is ended, and another takes its place.
        with self._lend() as worker:
            return worker.answer(task)

    @contextlib.contextmanager
    def _lend(self) -> Iterator[process.Process]:
        """Yields a worker that nobody else has; waits for one."""
        worker = self._slots.get()
        try:
            if worker is None or not worker.alive:
                worker = self._replaced(worker)
            yield worker
        finally:
            self._slots.put(worker)

    def _replaced(self, worker: process.Process | None) -> process.Process:
        if worker is not None:
            worker.end()
        try:
            fresh = process.Process(self._memory)
        except OSError as error:
            raise errors.InternalError(f"The process that opens files cannot be started: {error.strerror}") from error
        with self._lock:
            self._all = {each for each in self._all if each is not worker} | {fresh}
        return fresh


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _close() -> None:
    for pool in list(_pools):
        pool.close()


def _start_anew() -> None:
    for pool in list(_pools):
        pool.start_anew()


atexit.register(_close)
os.register_at_fork(after_in_child=_start_anew)
