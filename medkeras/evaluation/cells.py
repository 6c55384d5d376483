"""Single cells of a predictions table: names that a spreadsheet does not run, lists of labels, numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from medkeras import errors

# What makes a spreadsheet program take a text for a formula, behind any number of our own marks.
_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def guarded(text: str) -> str:
    """Returns a text that a spreadsheet program shows instead of running: behind a `'` where it looks like a formula.

    Reference:
        OWASP, CSV Injection.

    >>> guarded("=1+1"), guarded("'=1"), guarded("it's")
    ("'=1+1", "''=1", "it's")
    """
    return "'" + text if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """Returns the text that `guarded` was given.

    >>> unguarded("'=1+1"), unguarded("it's")
    ('=1+1', "it's")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def separator(header: str) -> str:
    """Returns what parts the cells: a comma, or the semicolon or tab that spreadsheet programs write in some countries.

    Args:
        header: The first line of a table of predictions, which always has a `case_id`.

    >>> separator("case_id;y_true;prob"), separator("y_true,case_id,prob_a;b")
    (';', ',')
    """
    plain = header.strip().replace('"', "")
    return next((mark for mark in ",;\t" if "case_id" in plain.split(mark)), ",")


def join_labels(labels: Iterable[str]) -> str:
    r"""Returns class names as one text: joined by `|`, with `\` before a `|` or `\` of a name.

    No name at all is a lone `|`, so that an empty text stays free to mean "unknown".

    >>> print(join_labels(["effusion", "mass|nodule"]))
    effusion|mass\|nodule
    """
    return "|".join(re.sub(r"([\\|])", r"\\\1", label) for label in labels) or "|"


def split_labels(text: str) -> tuple[str, ...]:
    r"""Returns the class names that `join_labels` joined.

    >>> split_labels(r"effusion|mass\|nodule")
    ('effusion', 'mass|nodule')
    """
    labels, escaped = [""], False
    for character in text:
        if character == "|" and not escaped:
            labels.append("")
        elif character == "\\" and not escaped:
            escaped = True
            continue
        else:
            labels[-1] += character
        escaped = False
    return tuple(label for label in labels if label)


def numbers(column: str, cells: Sequence[str]) -> np.ndarray:
    """Returns a column's cells as float64 `[N]`.

    Raises:
        DataError: A cell holds no number.
    """
    return _converted(column, cells, float, "numbers")


def flags(column: str, cells: Sequence[str]) -> np.ndarray:
    """Returns a column's cells, each `0` or `1`, as bool `[N]`.

    Raises:
        DataError: A cell holds something else.
    """
    return _converted(column, cells, {"0": False, "1": True}.__getitem__, "0 or 1").astype(bool)


def is_filled(column: str, cells: Sequence[str]) -> bool:
    """Returns whether a column is filled in every line; False when it is empty in every line.

    Raises:
        DataError: It is filled in some lines alone.
    """
    if any(cells) and not all(cells):
        raise errors.DataError(
            f"Column '{column}' is filled in every line or in none. Received: {cells.count('')} empty"
        )
    return any(cells)


def hot(column: str, labels: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """Returns the labels of each case as int8 `[N, K]`, one at the places of its class names.

    Raises:
        DataError: A label is no class; the nearest are named.
    """
    position = {name: k for k, name in enumerate(classes)}
    target = np.zeros((len(labels), len(classes)), np.int8)
    for row, names in enumerate(labels):
        for name in names:
            if name not in position:
                raise errors.DataError(f"Column '{column}': {errors.unknown('class', name, classes)}")
            target[row, position[name]] = 1
    return target


def _converted(column: str, cells: Sequence[str], convert: Callable[[str], float], rule: str) -> np.ndarray:
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            found[row] = convert(cell)
        except (ValueError, KeyError):
            raise errors.DataError(f"Column '{column}' holds {rule}. Received: {cell!r} in line {row + 2}") from None
    return found
