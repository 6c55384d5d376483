"""Tasks for the faulty module, whose sentences tell which of them was said."""

from __future__ import annotations

from typing import Any

from medkeras.guard import tasks

MEMORY = 900 * 2**20
SENTENCES = tasks.Sentences(
    damaged="it is damaged", slow="it is slow", died="it died", large="it is large", full="all is full"
)


def task(path: str, function: str = "inspect", *, processor: float = 9, wall: float = 30, **options: Any) -> tasks.Task:
    """Returns a task for a function of `tests.guard.faulty`."""
    return tasks.Task("tests.guard.faulty", function, path, tasks.Limits(processor, wall), SENTENCES, options)
