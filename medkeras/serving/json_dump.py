"""Shows a parsed value in an error message, as RapidJSON's pretty writer does, cut near 256 bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from medkeras.serving import json_text, json_write

_ENOUGH = 256
_LARGEST32 = 3.4028234e38
_INDENT = 4
_WORDS = {None: "null", True: "true", False: "false"}
_FIXED_DIGITS = 21
_LEAST_FIXED = -6


def type_name(value: Any) -> str:
    """Returns RapidJSON's word for a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    if isinstance(value, list):
        return "Object" if type(value) is json_text.Object else "Array"
    return "String" if isinstance(value, str) else "Number"


def text(value: Any) -> str:
    """Returns a value as JSON: no more tokens once 256 bytes are full.

    >>> text([1, 2.5, "a"])
    '[1, 2.5, "a"]'
    """
    if isinstance(value, float):
        return json_write.number(value, single=abs(value) <= _LARGEST32).decode()
    parts: list[str] = []
    length = 0
    for part in _tokens(value):
        parts.append(part)
        length += len(json_text.encoded(part))
        if length >= _ENOUGH:
            break
    return "".join(parts)


def _tokens(value: Any) -> Iterator[str]:
    """Writes without recursion; arrays stand on one line, members of objects on one each."""
    if not isinstance(value, list):
        yield _scalar(value)
        return
    yield _opening(value)
    levels = [(value, iter(value))]
    first = True
    while levels:
        holder, members = levels[-1]
        named = type(holder) is json_text.Object
        try:
            member = next(members)
        except StopIteration:
            levels.pop()
            yield _closing(holder, len(levels))
            first = False
            continue
        prefix = _prefix(len(levels), named=named, first=first)
        if named:
            prefix, member = f"{prefix}{_scalar(member[0])}: ", member[1]
        first = isinstance(member, list)
        if first:
            yield prefix + _opening(member)
            levels.append((member, iter(member)))
        else:
            yield prefix + _scalar(member)


def _prefix(level: int, *, named: bool, first: bool) -> str:
    comma = "" if first else ","
    if named:
        return f"{comma}\n{' ' * (_INDENT * level)}"
    return f"{comma} " if comma else ""


def _opening(holder: Any) -> str:
    return "{" if type(holder) is json_text.Object else "["


def _closing(holder: Any, level: int) -> str:
    if type(holder) is not json_text.Object:
        return "]"
    return f"\n{' ' * (_INDENT * level)}}}" if holder else "}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return json_write.string(json_text.encoded(value)).decode("utf-8", "surrogateescape")
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    return _double(value) if isinstance(value, float) else str(value)


def _double(value: float) -> str:
    """Returns the shortest text that reads back as the number, a point where RapidJSON has one."""
    if not math.isfinite(value):
        return json_write.number(value, single=False).decode()
    if value == 0:
        return repr(value)
    sign = "-" if value < 0 else ""
    digits, power = _parts(abs(value))
    point = len(digits) + power
    if power >= 0 and point <= _FIXED_DIGITS:
        return f"{sign}{digits}{'0' * power}.0"
    if 0 < point <= _FIXED_DIGITS:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if _LEAST_FIXED < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1}"


def _parts(value: float) -> tuple[str, int]:
    """Returns the shortest digits, without zeros at their end, and the power of ten of the last."""
    found = re.fullmatch(r"(\d)(?:\.(\d+))?e([+-]\d+)", _shortest(value))
    whole, fraction, exponent = found.groups("") if found else ("", "", "0")
    digits = (whole + fraction).rstrip("0")
    return digits, int(exponent) - len(digits) + 1


def _shortest(value: float) -> str:
    return next(text for text in (f"{value:.{digits}e}" for digits in range(17)) if float(text) == value)
