"""Requests that arrive together run together: one call of the graph for many, by threads that all models share.

A thread that is free takes what waits longest, and with it all that fits. With `batch_timeout_micros` 0 nothing waits
for company: batches grow by themselves when requests come faster than threads become free.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.serving import lifecycle, status

_MICROSECONDS = 1_000_000
_LATE = "Timed out waiting for notification"


@dataclasses.dataclass(frozen=True)
class Parameters:
    """How requests are put together; the names are those of TensorFlow Serving's BatchingParameters.

    Attributes:
        max_batch_size: Examples in a batch.
        batch_timeout_micros: How long a batch that is not full waits for more.
        max_enqueued_batches: Batches of one kind that may wait; a request beyond is refused at once.
        num_batch_threads: Batches that run at once; by default half as many as there are processors, for a batch keeps
            several of them busy, and fewer at once are larger.
        allowed_batch_sizes: Sizes that a batch is filled up to; empty: any.
        enable_large_batch_splitting: Whether a request above `max_batch_size` runs in parts.

    Raises:
        StatusError: `INVALID_ARGUMENT`: the sizes contradict each other.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2))
    allowed_batch_sizes: tuple[int, ...] = ()
    enable_large_batch_splitting: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise status.invalid(f"{name} must be positive; was {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise status.invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        sizes = self.allowed_batch_sizes
        if any(left >= right for left, right in itertools.pairwise((0, *sizes))):
            raise status.invalid("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[-1] != self.max_batch_size:
            raise status.invalid(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
                f"expected {self.max_batch_size}"
            )

    def filled(self, size: int) -> int:
        """Returns the size that a batch of `size` examples is filled up to."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


@dataclasses.dataclass(eq=False)
class _Task:
    feeds: Mapping[str, np.ndarray]
    size: int
    deadline: float
    came: float
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    outputs: dict[str, np.ndarray] | None = None
    error: BaseException | None = None
    abandoned: bool = False

    def finish(self, outputs: dict[str, np.ndarray] | None = None, error: BaseException | None = None) -> None:
        self.outputs, self.error = outputs, error
        self.done.set()


@dataclasses.dataclass(eq=False)
class _Queue:
    """What waits to be run together: one signature, the same outputs, inputs of one type and inner shape."""

    owner: Batched
    signature: str
    outputs: tuple[str, ...]
    tasks: collections.deque[_Task] = dataclasses.field(default_factory=collections.deque)
    size: int = 0

    def due(self) -> float:
        """Returns when it is to run: at once if full, else when its oldest task has waited long enough."""
        parameters = self.owner.parameters
        if self.size >= parameters.max_batch_size:
            return 0.0
        return self.tasks[0].came + parameters.batch_timeout_micros / _MICROSECONDS

    def take(self) -> list[_Task]:
        """Removes and returns the tasks of the next batch."""
        taken: list[_Task] = []
        room = self.owner.parameters.max_batch_size
        while self.tasks and self.tasks[0].size <= room:
            task = self.tasks.popleft()
            self.size -= task.size
            if not task.abandoned:
                room -= task.size
                taken.append(task)
        return taken


class Pool:
    """The threads that run batches, for all models.

    Args:
        threads: Batches that run at once.
    """

    def __init__(self, threads: int) -> None:
        self._changed = threading.Condition()
        self._queues: collections.OrderedDict[Hashable, _Queue] = collections.OrderedDict()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, key: Hashable, queue: _Queue, tasks: Sequence[_Task]) -> None:
        """Lets tasks wait for their batch, all or none of them.

        Raises:
            StatusError: `UNAVAILABLE`: as many batches wait as may.
        """
        parameters = queue.owner.parameters
        with self._changed:
            queue = self._queues.setdefault(key, queue)
            size = queue.size + sum(task.size for task in tasks)
            most = parameters.max_enqueued_batches * parameters.max_batch_size
            if self._closed or (size > most and queue.size):
                raise status.StatusError(
                    status.Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{queue.size} examples wait, of at most {most}",
                )
            queue.tasks.extend(tasks)
            queue.size = size
            self._changed.notify(len(tasks))

    def close(self) -> None:
        """Runs what waits, then ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                found = self._next()
                if found is None:
                    if self._closed and not self._queues:
                        return
                    self._changed.wait(self._pause())
                    continue
                queue, tasks = found
            queue.owner.execute(queue.signature, queue.outputs, tasks)

    def _next(self) -> tuple[_Queue, list[_Task]] | None:
        """Returns the batch that is due for longest."""
        key = min(self._queues, key=lambda each: self._queues[each].due(), default=None)
        if key is None:
            return None
        queue = self._queues[key]
        if queue.due() > time.monotonic() and not self._closed:
            return None
        tasks = queue.take()
        if not queue.tasks:
            del self._queues[key]
        return queue, tasks

    def _pause(self) -> float | None:
        soonest = min((queue.due() for queue in self._queues.values()), default=None)
        return None if soonest is None else max(0.0, soonest - time.monotonic())


class Batched:
    """A servable whose calls run together with others; see `servable.Servable`.

    Args:
        inner: The model.
        parameters: How its requests are put together.
        pool: The threads.
    """

    def __init__(self, inner: lifecycle.Closable, parameters: Parameters, pool: Pool) -> None:
        self._inner = inner
        self.parameters = parameters
        self._pool = pool

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The signatures of the graph."""
        return self._inner.signatures

    def run(
        self, signature: str, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, np.ndarray]:
        """Runs one signature, with whatever else waits for it."""
        size = _examples(feeds) if feeds else 0
        if not size:
            # Nothing to put together; an empty batch is answered at once.
            return self._inner.run(signature, feeds, outputs, timeout=timeout)
        most = self.parameters.max_batch_size
        if size > most and not self.parameters.enable_large_batch_splitting:
            raise status.invalid(f"Task size {size} is larger than maximum input batch size {most}")
        now = time.monotonic()
        deadline = float("inf") if timeout is None else now + timeout
        parts = [{name: value[at : at + most] for name, value in feeds.items()} for at in range(0, size, most)]
        tasks = [_Task(part, min(most, size - most * number), deadline, now) for number, part in enumerate(parts)]
        names = tuple(outputs)
        kinds = tuple(sorted((name, value.dtype.str, value.shape[1:]) for name, value in feeds.items()))
        self._pool.submit((id(self), signature, names, kinds), _Queue(self, signature, names), tasks)
        answers = [_awaited(task) for task in tasks]
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def close(self) -> None:
        """Gives the model's memory back; no call may be running."""
        self._inner.close()

    def execute(self, signature: str, outputs: tuple[str, ...], tasks: Sequence[_Task]) -> None:
        """Runs a batch; where it fails, each task by itself, so that none fails for another's inputs."""
        now = time.monotonic()
        for task in tasks:
            if task.deadline <= now:
                task.finish(error=status.StatusError(status.Code.DEADLINE_EXCEEDED, _LATE))
        waiting = [task for task in tasks if not task.done.is_set()]
        if not waiting:
            return
        try:
            for task, answer in zip(waiting, self._together(signature, outputs, waiting), strict=True):
                task.finish(answer)
        except Exception as error:
            # The caller of each task raises it again.
            if len(waiting) == 1:
                waiting[0].finish(error=error)
            else:
                for task in waiting:
                    self.execute(signature, outputs, [task])

    def _together(
        self, signature: str, outputs: tuple[str, ...], tasks: Sequence[_Task]
    ) -> list[dict[str, np.ndarray]]:
        size = sum(task.size for task in tasks)
        filled = self.parameters.filled(size)
        feeds = {name: _joined([task.feeds[name] for task in tasks], filled - size) for name in tasks[0].feeds}
        latest = max(task.deadline for task in tasks)
        timeout = None if latest == float("inf") else max(0.001, latest - time.monotonic())
        answers = self._inner.run(signature, feeds, outputs, timeout=timeout)
        for value in answers.values():
            _check_output(value, filled)
        ends = list(itertools.accumulate(task.size for task in tasks))
        return [
            {name: value[end - task.size : end] for name, value in answers.items()}
            for task, end in zip(tasks, ends, strict=True)
        ]


def _awaited(task: _Task) -> dict[str, np.ndarray]:
    left = None if task.deadline == float("inf") else max(0.0, task.deadline - time.monotonic())
    if not task.done.wait(left):
        task.abandoned = True
        raise status.StatusError(status.Code.DEADLINE_EXCEEDED, _LATE)
    if isinstance(task.error, status.StatusError):
        raise status.StatusError(task.error.code, task.error.message)
    if task.error is not None:
        raise task.error
    return task.outputs or {}


def _examples(feeds: Mapping[str, np.ndarray]) -> int:
    if any(not value.ndim for value in feeds.values()):
        raise status.invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(value) for value in feeds.values()}
    if len(sizes) > 1:
        raise status.invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _joined(parts: Sequence[np.ndarray], missing: int) -> np.ndarray:
    """Returns the parts one after the other, filled up with copies of the first example."""
    if len(parts) == 1 and not missing:
        return parts[0]
    filling = [np.repeat(parts[0][:1], missing, axis=0)] if missing else []
    return np.concatenate([*parts, *filling])


def _check_output(value: np.ndarray, size: int) -> None:
    if not value.ndim:
        raise status.StatusError(status.Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
    if len(value) != size:
        raise status.StatusError(
            status.Code.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
            "tensors",
        )
