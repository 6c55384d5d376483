"""How long models take, how much memory, and how many pictures they answer for: each in a process of its own."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.edge import machine, timing_process

Track = Callable[[Iterable, int, str], Iterable]
RUNTIMES = tuple(timing_process.RUNTIMES)
BATCHES = (1, 4, 16, 32)

_START = 0
"""Stands where a batch would: the process starts, and the model answers for the first time."""
_SMALL_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        title: What it is called; no two have one title.
        path: The file, or the folder of a SavedModel.
        runtime: `tensorflow`, `litert` or `onnx`.
        size_bytes: Of what the runtime needs.
        shape: `(H, W, C)` of the pictures, where the model does not say it itself.
    """

    title: str
    path: pathlib.Path
    runtime: str
    size_bytes: int
    shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        seconds: For one picture at a time with each number of threads, all rounds together; each other batch gets a
            fifth of it.
        rounds: How many times the models take turns; those with other batches in every second round.
        threads: Numbers of threads, the smallest first.
        batches: Pictures in one call; the first is 1.

    Raises:
        ConfigError: A number is not positive.
    """

    seconds: float = 10.0
    rounds: int = 5
    threads: tuple[int, ...] = dataclasses.field(default_factory=lambda: threads_up_to(machine.processors()))
    batches: tuple[int, ...] = BATCHES

    def __post_init__(self) -> None:
        if not (0 < self.seconds < float("inf") and self.rounds > 0):
            raise errors.ConfigError(
                f"A benchmark takes more than no seconds, and one round or more. "
                f"Received: {self.seconds:g} seconds, {self.rounds} rounds"
            )

    def estimate(self, models: int) -> float:
        """Returns about how many seconds it takes; starting the processes and slow models make it longer."""
        return models * len(self.threads) * self.seconds * (1 + _SMALL_SHARE * (len(self.batches) - 1)) * 1.1

    def burst(self, batch: int) -> float:
        """Returns the seconds of one turn with a batch."""
        return self.seconds / self.rounds if batch == 1 else _SMALL_SHARE * self.seconds / -(-self.rounds // 2)

    def in_round(self, number: int) -> tuple[int, ...]:
        """Returns the batches of a round, counted from 0."""
        return self.batches if number % 2 == 0 else self.batches[:1]


def threads_up_to(processors: int) -> tuple[int, ...]:
    """Returns 1, 2, 4 … and the number of processors.

    >>> threads_up_to(6)
    (1, 2, 4, 6)
    """
    powers = [1 << n for n in range(processors.bit_length()) if 1 << n < processors]
    return (*powers, processors)


def measure(
    subjects: Sequence[Subject], plan: Plan, *, track: Track = lambda items, total, description: items
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Measures models that take turns, so that whatever else the machine does hits all of them alike.

    With each number of threads a process a model is started, one after the other. Then in every round each model has
    its turn, and who is first changes from round to round; while one computes, the others wait.

    Args:
        subjects: The models.
        plan: What is measured.
        track: Wraps an iterable of known length to show progress.

    Returns:
        By title what was found of those that were measured, ready for JSON:

        - `import_ms`, `load_ms`, `first_ms`: the runtime's own start, the model's loading and its first answer, each
          in a fresh process, and `start_ms`, all of them; medians of the `starts`.
        - `latency_ms`: `median`, `p95`, `p99` of warm calls with one picture and all `threads`, of how many `calls`.
        - `latency_ms_by_threads`: the same for every number of threads.
        - `throughput`: pictures a second, by threads, then by batch.
        - `peak_mib`: the most memory with one picture at a time and all threads, beyond the interpreter alone.
        - `spread`: the slowest round's median latency over the fastest's.
        - `input`: `shape` and `dtype` of a picture.

        And by title why the others were not: one sentence each.
    """
    bench = _Bench(plan)
    jobs = list(_jobs(subjects, plan))
    try:
        for job in track(jobs, len(jobs), "Measuring"):
            bench.do(job)
    finally:
        bench.end()
    measured = {each.title: each for each in subjects if each.title not in bench.faults}
    return {title: bench.notes[title].figures(each, plan) for title, each in measured.items()}, bench.faults


@dataclasses.dataclass(frozen=True)
class _Job:
    subject: Subject
    threads: int
    batch: int


def _jobs(subjects: Sequence[Subject], plan: Plan) -> Iterator[_Job]:
    for threads in plan.threads:
        for subject in subjects:
            yield _Job(subject, threads, _START)
        for turn in range(plan.rounds):
            first = turn % len(subjects)
            for batch in plan.in_round(turn):
                for subject in (*subjects[first:], *subjects[:first]):
                    yield _Job(subject, threads, batch)


class _Notes:
    """What was seen of one model, in the order in which it was."""

    def __init__(self) -> None:
        self.starts: list[Mapping[str, Any]] = []
        self.milliseconds: dict[tuple[int, int], list[list[float]]] = {}
        self.peaks: dict[int, float] = {}

    def figures(self, subject: Subject, plan: Plan) -> dict[str, Any]:
        """Returns what `measure` promises."""
        most = plan.threads[-1]
        latency = {str(threads): self._latency(threads) for threads in plan.threads}
        rounds = [float(np.median(turn)) for turn in self.milliseconds[most, 1]]
        return {
            "runtime": subject.runtime,
            "size_bytes": subject.size_bytes,
            **self._start(),
            "latency_ms": latency[str(most)],
            "threads": most,
            "latency_ms_by_threads": latency,
            "throughput": {
                str(threads): {str(batch): self._throughput(threads, batch) for batch in plan.batches}
                for threads in plan.threads
            },
            "peak_mib": self.peaks[most],
            "spread": max(rounds) / min(rounds),
            "input": {name: self.starts[-1][name] for name in ("shape", "dtype")},
        }

    def _start(self) -> dict[str, float]:
        parts = {
            name: float(np.median([each[name] for each in self.starts]))
            for name in ("import_ms", "load_ms", "first_ms")
        }
        return {**parts, "start_ms": sum(parts.values()), "starts": len(self.starts)}

    def _latency(self, threads: int) -> dict[str, float]:
        found = np.concatenate(self.milliseconds[threads, 1])
        median, p95, p99 = map(float, np.percentile(found, (50, 95, 99)))
        return {"median": median, "p95": p95, "p99": p99, "calls": len(found)}

    def _throughput(self, threads: int, batch: int) -> float:
        found = np.concatenate(self.milliseconds[threads, batch])
        return 1000 * batch * len(found) / float(found.sum())


class _Bench:
    """The processes of one number of threads, and what was noted of every model."""

    def __init__(self, plan: Plan) -> None:
        self.notes: dict[str, _Notes] = {}
        self.faults: dict[str, str] = {}
        self._plan = plan
        self._threads = 0
        self._live: dict[str, timing_process.Process] = {}

    def do(self, job: _Job) -> None:
        if job.threads != self._threads:
            self.end()
            self._threads = job.threads
        if job.subject.title in self.faults:
            return
        try:
            self._start(job) if job.batch == _START else self._time(job)
        except errors.ModelError as error:
            self.faults[job.subject.title] = str(error)
            self._live.pop(job.subject.title).end()

    def end(self) -> None:
        while self._live:
            self._live.popitem()[1].end()

    def _start(self, job: _Job) -> None:
        one = job.subject
        process = timing_process.Process(one.path, one.runtime, threads=job.threads, shape=one.shape)
        self._live[one.title] = process
        self.notes.setdefault(one.title, _Notes()).starts.append(process.start())

    def _time(self, job: _Job) -> None:
        notes = self.notes[job.subject.title]
        found = self._live[job.subject.title].time(job.batch, self._plan.burst(job.batch))
        notes.milliseconds.setdefault((job.threads, job.batch), []).append(found["ms"])
        # The first turn is with one picture: later ones have had larger batches before them.
        notes.peaks.setdefault(job.threads, found["peak_mib"])
