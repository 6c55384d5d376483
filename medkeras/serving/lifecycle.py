"""The life of one version: what state it is in, who uses it, and when it is tried again."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Protocol

from medkeras.serving import servable, status

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"


class Closable(servable.Servable, Protocol):
    """A servable that holds memory."""

    def close(self) -> None:
        """Gives it back; no call may be running."""


@dataclasses.dataclass
class Version:
    """A version from the moment that it is wanted; it stays listed when it has ended.

    Attributes:
        number: Its number.
        folder: Its folder.
        state: One of the five states that the status document knows.
        error: Why its load failed.
        loaded: The model, while it is in memory.
        leases: Calls that use it.
        tries: Loads that failed.
        due: When it is loaded, or tried again; seconds of the monotonic clock.
    """

    number: int
    folder: pathlib.Path
    state: str = START
    error: status.StatusError | None = None
    loaded: Closable | None = None
    leases: int = 0
    tries: int = 0
    due: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it was given up: its number is never tried again, whatever becomes of its files."""
        return self.state == END and self.error is not None

    @property
    def waits(self) -> bool:
        """Whether it is to be loaded, now or at its next try."""
        return self.state in (START, LOADING)

    def described(self) -> servable.VersionState:
        """Returns what the status document says."""
        if self.error is None or self.state != END:
            return servable.VersionState(self.number, self.state)
        return servable.VersionState(self.number, self.state, self.error.code.name, self.error.message)


class Versions:
    """The versions of one model, past ones too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.all: dict[int, Version] = {}

    def want(self, found: dict[int, pathlib.Path], wanted: frozenset[int]) -> None:
        """Adds what is wanted and new, and drops what waits and is wanted no more."""
        for number in sorted(wanted):
            known = self.all.get(number)
            if known is None or (known.state == END and not known.failed):
                self.all[number] = Version(number, found[number])
        for version in self.all.values():
            if version.waits and version.number not in wanted:
                version.state = END

    def superfluous(self, wanted: frozenset[int]) -> list[Version]:
        """Returns what may be unloaded: what nobody wants, once something wanted answers or nothing is wanted."""
        if wanted and not any(self.all[number].state == AVAILABLE for number in wanted if number in self.all):
            return []
        return [each for each in self.all.values() if each.state == AVAILABLE and each.number not in wanted]

    def due(self, now: float) -> Version | None:
        """Returns the version to load next: of those that wait no longer for another try, the highest."""
        waiting = [each for each in self.all.values() if each.waits and each.due <= now]
        return max(waiting, key=lambda each: each.number, default=None)

    def available(self) -> Version | None:
        """Returns the highest version that answers."""
        ready = [each for each in self.all.values() if each.state == AVAILABLE]
        return max(ready, key=lambda each: each.number, default=None)

    def drained(self) -> list[Version]:
        """Returns what is being unloaded and used by nobody."""
        return [each for each in self.all.values() if each.state == UNLOADING and not each.leases]

    def states(self, version: int | None) -> list[servable.VersionState]:
        """Returns the states, newest first; of one version if asked."""
        numbers = sorted(self.all, reverse=True) if version is None else [version] * (version in self.all)
        return [self.all[number].described() for number in numbers]
