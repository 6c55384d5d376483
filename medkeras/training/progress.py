"""What a person sees while a training runs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable

import keras
import rich.console
import rich.progress

REDRAW_SECONDS = 0.25


class Progress(keras.callbacks.Callback):
    """Shows epoch, step, loss, metrics and the time left, on standard error.

    On a terminal a bar moves, at most four times a second; one line for every finished epoch is
    written in any case. Time left is the steps that remain times the mean time of a step so far,
    validation included and the first step, which builds the graph, left out.

    Args:
        console: Where to write; none: standard error.
        clock: Returns seconds.
    """

    def __init__(
        self, console: rich.console.Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._console = console or rich.console.Console(stderr=True)
        self._clock = clock
        self._bar: rich.progress.Progress | None = None
        self._epoch = self._step = self._done = 0
        self._first_step = self._epoch_begin = self._drawn = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Draws the bar, on a terminal."""
        self._done = 0
        self._drawn = self._clock()
        if self._console.is_terminal:
            self._bar = _new_bar(self._console)
            self._bar.add_task("", total=self.params["steps"], numbers="", left="")
            self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch and its first second."""
        self._epoch, self._step, self._epoch_begin = epoch, 0, self._clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves the bar, seldom: looking at the logs waits for the device."""
        now = self._clock()
        self._step, self._done = batch + 1, self._done + 1
        if self._done == 1:
            self._first_step = now
        if self._bar is not None and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._draw(self._bar, logs or {}, now=now)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the line of the epoch."""
        seconds = self._clock() - self._epoch_begin
        line = f"epoch {epoch + 1}/{self.params['epochs']}  {_numbers(logs or {})}  {seconds:.1f} s"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Removes the bar."""
        self.close()

    def close(self) -> None:
        """Removes the bar and gives the terminal its cursor back; may be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def time_left(self, now: float) -> tuple[float, float]:
        """Returns the seconds left for the epoch and for the whole training; NaN after one step or none."""
        steps, epochs = self.params["steps"], self.params["epochs"]
        pace = (now - self._first_step) / (self._done - 1) if self._done > 1 else float("nan")
        epoch_left = steps - self._step
        return pace * epoch_left, pace * (epoch_left + steps * (epochs - self._epoch - 1))

    def _draw(self, bar: rich.progress.Progress, logs: dict[str, float], *, now: float) -> None:
        epoch_left, training_left = map(_duration, self.time_left(now))
        bar.update(
            bar.task_ids[0],
            completed=self._step,
            description=f"epoch {self._epoch + 1}/{self.params['epochs']}",
            numbers=_numbers(logs),
            left=f"{epoch_left} left, {training_left} in all",
            refresh=True,
        )


def _new_bar(console: rich.console.Console) -> rich.progress.Progress:
    # No refresh thread: the bar is drawn by the loop alone, and an exception finds nothing running.
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(bar_width=20),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[numbers]}", markup=False),
        rich.progress.TextColumn("{task.fields[left]}", markup=False),
        console=console,
        auto_refresh=False,
        transient=True,
    )


def _numbers(logs: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


def _duration(seconds: float) -> str:
    return "?" if seconds != seconds else str(datetime.timedelta(seconds=round(seconds)))
