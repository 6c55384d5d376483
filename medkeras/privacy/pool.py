"""Workers that clean files in processes of their own, with a deadline and a cap on memory, started anew after a death.

A file that brings a worker down is held back, and its neighbours never know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

from medkeras.privacy import file

DEADLINE = 60.0
"""Seconds that a file may take, and one more for each 10 MB."""

_PIECE = 2**16


@dataclasses.dataclass(frozen=True)
class Job:
    """One file: where it is, where the new one goes, and its name below the folder that the user named."""

    path: str
    target: str
    relative: str


class Worker:
    """One process; not for two threads at a time."""

    def __init__(self, key: bytes, options: Sequence[str], *, deadline: float = DEADLINE) -> None:
        self._first = json.dumps({"key": key.hex(), "options": list(options)}).encode("ascii") + b"\n"
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None

    def clean(self, job: Job) -> file.Done:
        """Cleans one file; whatever happens, the answer says what became of it."""
        names = {field: os.fsencode(value).hex() for field, value in dataclasses.asdict(job).items()}
        try:
            answer = self._ask(json.dumps(names).encode("ascii") + b"\n", self._limit(job.path))
        except TimeoutError:
            self.close()
            return file.Done("", reason="the file takes too long")
        except (OSError, EOFError):
            self.close()
            return file.Done("", reason="the file brought its reader down, or used too much memory")
        return file.Done(**json.loads(answer))

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process = None

    def _limit(self, path: str) -> float:
        with contextlib.suppress(OSError):
            return self._deadline + os.stat(path).st_size / 1e7
        return self._deadline

    def _ask(self, line: bytes, seconds: float) -> bytes:
        process = self._process or _started()
        if process.stdin is None or process.stdout is None:
            raise EOFError
        process.stdin.write(line if process is self._process else self._first + line)
        self._process = process
        process.stdin.flush()
        return _line(process.stdout.fileno(), seconds)


def _started() -> subprocess.Popen[bytes]:
    home = str(pathlib.Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    # One thread of arithmetic: the pool has as many processes as there is work for.
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "medkeras.privacy.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Ctrl-C is for the parent, which ends its workers.
        start_new_session=True,
    )


def _line(descriptor: int, seconds: float) -> bytes:
    """Reads one line; raises `TimeoutError` when it is late and `EOFError` when there is none."""
    end, found = time.monotonic() + seconds, b""
    while not found.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(descriptor, _PIECE)
        if not piece:
            raise EOFError
        found += piece
    return found


@contextlib.contextmanager
def workers(
    key: bytes, options: Sequence[str], *, count: int
) -> Iterator[Callable[[Sequence[Job]], Iterator[file.Done]]]:
    """Yields a function that cleans files in `count` processes and gives the answers in the order of the files."""
    made = [Worker(key, options) for _ in range(count)]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in made:
        idle.put(worker)

    def one(job: Job) -> file.Done:
        worker = idle.get()
        try:
            return worker.clean(job)
        finally:
            idle.put(worker)

    with futures.ThreadPoolExecutor(count) as threads:
        try:
            yield lambda jobs: threads.map(one, jobs)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in made:
                worker.close()
