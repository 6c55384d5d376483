"""Every exception that medkeras raises on purpose.

    MedkerasError
    ├── UserError            the user's mistake: one sentence, exit code 2
    │   ├── ConfigError      a setting that is unknown or out of its range
    │   ├── DataError        a data set that cannot be used as asked
    │   │   └── BadInputError    one file that cannot be read
    │   ├── ModelError       a model folder that is not ours, or does not fit the data
    │   └── DivergedError    training left the numbers (NaN or infinite loss)
    └── InternalError        our fault, exit code 1

    RefusalError             why a file is not read, where its path is not known; becomes BadInputError

A message is one sentence that states the rule, then what was received. A file
error names the file, never the patient.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MedkerasError(Exception):
    """Base of every exception raised on purpose."""

    exit_code = 1


class UserError(MedkerasError):
    """The user's mistake: told in one sentence, without a traceback."""

    exit_code = 2


class ConfigError(UserError):
    """A setting that is unknown or out of its range."""


class DataError(UserError):
    """A data set that cannot be used as asked."""


class BadInputError(DataError):
    """One file that cannot be read.

    Args:
        path: The file, as the user named it.
        reason: The rule that the file breaks and what was found instead.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{printable(path)}: {reason}")
        self.path = str(path)
        self.reason = reason


class ModelError(UserError):
    """A model folder that is not ours, or does not fit the data."""


class DivergedError(UserError):
    """The loss is no longer a finite number."""


class InternalError(MedkerasError):
    """A state that medkeras promises never to reach."""


class RefusalError(Exception):
    """Why a file is not read, as one sentence that holds nothing of the file; becomes `BadInputError` with its path."""


def printable(path: object) -> str:
    """Returns a path that any terminal can print, bytes that are not UTF-8 escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


_MANY = 20


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns the sentence for an unknown name: the nearest known names, and all of them unless they are very many.

    >>> unknown("setting", "epoch", ["epochs", "seed"])
    "Unknown setting; did you mean 'epochs'? Known: epochs, seed. Received: 'epoch'"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    listed = "" if near and len(names) > _MANY else f" Known: {', '.join(names)}."
    return f"Unknown {kind}{hint}{listed} Received: {str(name)!r}"
