"""Values of elements, each as the type that its use needs; a value that is not of that type is refused by keyword."""

from __future__ import annotations

import math
from typing import Any

import pydicom

from medkeras import errors


def value(dataset: pydicom.Dataset, keyword: str) -> Any:
    """Returns a value as pydicom has it; None where the element is absent or empty.

    Raises:
        RefusalError: The value is not of the element's type; the sentence names the keyword, never the value.
    """
    try:
        found = dataset.get(keyword)
    except Exception:
        raise errors.RefusalError(f"{keyword} is damaged") from None
    return None if found is None or (hasattr(found, "__len__") and not len(found)) else found


def whole(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """Returns a whole number, the first of several; None where there is none."""
    found = numbers(dataset, keyword)
    if not found:
        return None
    if not found[0].is_integer():
        raise errors.RefusalError(f"{keyword} is a whole number")
    return int(found[0])


def numbers(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """Returns finite numbers, none where the element is absent or empty."""
    found = value(dataset, keyword)
    if found is None:
        return []
    try:
        many = [float(one) for one in (found if hasattr(found, "__iter__") and not isinstance(found, str) else [found])]
    except (TypeError, ValueError, OverflowError):
        raise errors.RefusalError(f"{keyword} is a number") from None
    if not all(map(math.isfinite, many)):
        raise errors.RefusalError(f"{keyword} is a finite number")
    return many


def optional_numbers(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """Returns finite numbers; none where the element is absent, empty or damaged."""
    try:
        return numbers(dataset, keyword)
    except errors.RefusalError:
        return []


def text(dataset: pydicom.Dataset, keyword: str) -> str:
    """Returns a text, several values joined by a backslash; empty where it is absent or damaged."""
    try:
        found = value(dataset, keyword)
    except errors.RefusalError:
        return ""
    if found is None:
        return ""
    many = found if hasattr(found, "__iter__") and not isinstance(found, str) else [found]
    return "\\".join(str(one).strip(" \x00") for one in many)


def items(dataset: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    """Returns the items of a sequence; none where it is absent or empty."""
    found = value(dataset, keyword)
    if found is None:
        return []
    if not isinstance(found, pydicom.Sequence):
        raise errors.RefusalError(f"{keyword} is a sequence")
    return list(found)
