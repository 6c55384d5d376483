"""What a person sees on the terminal while something long runs: all of it on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.console
import rich.progress

Item = TypeVar("Item")
WORTH_A_LINE = 5.0
CONSOLE = rich.console.Console(stderr=True)


def say(text: str) -> None:
    """Writes one line."""
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def track(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yields the items while a bar with the time left moves; where nobody looks, a line tells of what was long."""
    if not CONSOLE.is_terminal:
        start = time.monotonic()
        yield from items
        seconds = time.monotonic() - start
        if seconds >= WORTH_A_LINE:
            say(f"{description}: {total} in {seconds:.0f} s")
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=CONSOLE, transient=True) as progress:
        yield from progress.track(items, total=total, description=description)
