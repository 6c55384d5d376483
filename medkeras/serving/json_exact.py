"""A JSON parser without recursion, whose every rule, offset and last digit is RapidJSON's.

It is slow, and reads what the fast one cannot: texts nested deeper than any stack, and strings that are not UTF-8.

Reference: RapidJSON 1.1.0, `reader.h` (`kParseNanAndInfFlag`, `kParseStopWhenDoneFlag`) and `internal/strtod.h`.
"""

from __future__ import annotations

import re
from typing import Any

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_LITERALS: dict[bytes, tuple[bytes, Any]] = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}
_NAMELESS = "Missing a name for object member."
_NO_COLON = "Missing a colon after a name of object member."
_NO_CURLY = "Missing a comma or '}' after an object member."
_NO_SQUARE = "Missing a comma or ']' after an array element."
_INVALID = "Invalid value."
_TOO_BIG = "Number too big to be stored in double."
_BAD_PAIR = "The surrogate pair in string is invalid."
_BAD_HEX = "Incorrect hex digit after \\u escape in string."

_POWERS = tuple(float(f"1e{exponent}") for exponent in range(309))
_LARGEST = float(2**1023) * (2 - 2.0**-52)
_MOST_DIGITS = 17
_INT_DIGITS = 20


class _Missing:
    """What `Object.find` gives where there is nothing; JSON's null is None."""


MISSING = _Missing()


class Object(list[tuple[str, Any]]):
    """A JSON object: name and value of each member in order, a name that comes twice twice."""

    __slots__ = ()

    def find(self, name: str) -> Any:
        """Returns the first value of a name, or `MISSING`."""
        return next((value for key, value in self if key == name), MISSING)


class JsonError(ValueError):
    """A text that is not JSON.

    Attributes:
        rule: The rule that it breaks, in RapidJSON's words.
        offset: Where, in bytes.
    """

    def __init__(self, rule: str, offset: int) -> None:
        super().__init__(rule, offset)
        self.rule = rule
        self.offset = offset


def parse(body: bytes) -> Any:
    """Returns the value that a text begins with, however deep it nests.

    Raises:
        JsonError: It begins with no value.
    """
    return _Reader(body).document()


class _Reader:
    """A text and the place reached in it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._name = ""

    def document(self) -> Any:
        """Reads the whole value; what is open stands in a list instead of on the stack."""
        if not self._char_after_space():
            raise JsonError("The document is empty.", self._at)
        root: Any = MISSING
        held: list[Any] = []
        while True:
            value = self._started()
            if held:
                _put(held[-1], self._name, value)
            elif root is MISSING:
                root = value
            if type(value) in (list, Object) and self._holds_something(value):
                held.append(value)
                continue
            while held and not self._goes_on(held[-1]):
                held.pop()
            if not held:
                return root

    def _char_after_space(self) -> bytes:
        """Returns the next character that is no white space; empty at the end, for which NUL stands too."""
        self.match(_SPACE)
        return self._char()

    def _char(self) -> bytes:
        char = self._body[self._at : self._at + 1]
        return b"" if char == b"\0" else char

    def _started(self) -> Any:
        """Reads a scalar, or the bracket that opens an array or object."""
        char = self._char_after_space()
        if char == b'"':
            return self._string()
        if char in (b"[", b"{"):
            self._at += 1
            return [] if char == b"[" else Object()
        if char in _LITERALS:
            return self._literal(*_LITERALS[char])
        return _Number(self).value()

    def _holds_something(self, value: Any) -> bool:
        """Returns whether what was just opened is not closed at once; reads the name of its first member."""
        closing = b"}" if type(value) is Object else b"]"
        if self._char_after_space() == closing:
            self._at += 1
            return False
        if type(value) is Object:
            self._read_name()
        return True

    def _goes_on(self, holder: Any) -> bool:
        """Reads what follows a value: a comma and then the next one's name, or the end of what holds it."""
        named = type(holder) is Object
        char = self._char_after_space()
        if char not in (b",", b"}" if named else b"]") or not char:
            raise JsonError(_NO_CURLY if named else _NO_SQUARE, self._at)
        self._at += 1
        if char != b",":
            return False
        if named:
            self._read_name()
        return True

    def _read_name(self) -> None:
        if self._char_after_space() != b'"':
            raise JsonError(_NAMELESS, self._at)
        self._name = self._string()
        if self._char_after_space() != b":":
            raise JsonError(_NO_COLON, self._at)
        self._at += 1

    def _literal(self, text: bytes, value: Any) -> Any:
        for char in text:
            if self._body[self._at : self._at + 1] != bytes((char,)):
                raise JsonError(_INVALID, self._at)
            self._at += 1
        return value

    def _string(self) -> str:
        self._at += 1
        parts = []
        while True:
            parts.append(self.match(_PLAIN))
            char = self._char()
            if char == b"\\":
                parts.append(self._escape())
            elif char == b'"':
                self._at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            else:
                rule = "Invalid encoding in string." if char else "Missing a closing quotation mark in string."
                raise JsonError(rule, self._at)

    def _escape(self) -> bytes:
        start = self._at
        char = self._body[start + 1 : start + 2]
        self._at += 2
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != b"u":
            raise JsonError("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDFFF:
            code = self._pair(code, start)
        return chr(code).encode()

    def _pair(self, high: int, start: int) -> int:
        if high > 0xDBFF or self._body[self._at : self._at + 2] != b"\\u":
            raise JsonError(_BAD_PAIR, start)
        self._at += 2
        low = self._hex(start)
        if not 0xDC00 <= low <= 0xDFFF:
            raise JsonError(_BAD_PAIR, start)
        return 0x10000 + ((high - 0xD800) << 10) + low - 0xDC00

    def _hex(self, start: int) -> int:
        digits = self.match(_HEX)
        if not digits:
            raise JsonError(_BAD_HEX, start)
        return int(digits, 16)

    def take(self, *chars: bytes) -> bytes:
        """Reads one of some characters, if it is there."""
        char = self._char()
        if char and char in chars:
            self._at += 1
            return char
        return b""

    def match(self, pattern: re.Pattern[bytes]) -> bytes:
        """Reads what a pattern matches here; empty if it does not."""
        found = pattern.match(self._body, self._at)
        if found is None:
            return b""
        self._at = found.end()
        return found[0]

    @property
    def at(self) -> int:
        """The place reached."""
        return self._at


def _put(holder: Any, name: str, value: Any) -> None:
    holder.append((name, value) if type(holder) is Object else value)


class _Number:
    """A number, read and then computed as RapidJSON computes it, which is not always the nearest double."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._start = reader.at

    def value(self) -> int | float:
        """Reads the number."""
        minus = bool(self._reader.take(b"-"))
        whole = self._reader.take(b"0") or self._reader.match(_DIGITS)
        if not whole:
            return self._special(minus)
        fraction = self._fraction()
        exponent = self._exponent()
        limit = 2**63 if minus else 2**64 - 1
        # Counted before it is read, which takes long and is forbidden for thousands of digits.
        if fraction or exponent is not None or len(whole) > _INT_DIGITS or int(whole) > limit:
            return self._double(whole, fraction, exponent or 0, minus=minus)
        return -int(whole) if minus else int(whole)

    def _special(self, minus: bool) -> float:
        for text, value in ((b"NaN", float("nan")), (b"Inf", float("inf"))):
            if self._reader.take(text[:1]):
                self._must(text[1:])
                if text == b"Inf" and self._reader.take(b"i"):
                    self._must(b"nity")
                return -value if minus else value
        raise JsonError(_INVALID, self._reader.at)

    def _must(self, text: bytes) -> None:
        for char in text:
            if not self._reader.take(bytes((char,))):
                raise JsonError(_INVALID, self._reader.at)

    def _fraction(self) -> bytes:
        if not self._reader.take(b"."):
            return b""
        digits = self._reader.match(_DIGITS)
        if not digits:
            raise JsonError("Miss fraction part in number.", self._reader.at)
        return digits

    def _exponent(self) -> int | None:
        if not self._reader.take(b"e", b"E"):
            return None
        sign = self._reader.take(b"+", b"-")
        digits = self._reader.match(_DIGITS)
        if not digits:
            raise JsonError("Miss exponent in number.", self._reader.at)
        # No double has an exponent of ten digits, and int() refuses texts of many thousands.
        exponent = int(digits.lstrip(b"0")[:10] or b"0")
        return -exponent if sign == b"-" else exponent

    def _double(self, whole: bytes, fraction: bytes, exponent: int, *, minus: bool) -> float:
        limit = 2**63 if minus else 2**64 - 1
        number, scale = self._significand(whole, fraction, limit)
        if exponent > 308 + scale:
            raise JsonError(_TOO_BIG, self._start)
        number = _scaled(number, exponent - scale)
        if number > _LARGEST:
            raise JsonError(_TOO_BIG, self._start)
        return -number if minus else number

    def _significand(self, whole: bytes, fraction: bytes, limit: int) -> tuple[float, int]:
        """Returns the digits as a double, and how many of them are behind the point."""
        exact = whole
        while len(exact) > _INT_DIGITS or int(exact) > limit:
            exact = exact[: min(len(exact) - 1, _INT_DIGITS)]
        number, digits, taken = int(exact), len(exact) - 1, 0
        if exact == whole:
            while taken < len(fraction) and number < 2**53:
                number = number * 10 + fraction[taken] - ord("0")
                taken += 1
                digits += number != 0
        double = self._grown(float(number), whole[len(exact) :])
        for digit in fraction[taken:]:
            if digits < _MOST_DIGITS:
                double = double * 10.0 + (digit - ord("0"))
                taken += 1
                digits += double > 0
        return double, taken

    def _grown(self, double: float, digits: bytes) -> float:
        for digit in digits:
            if double >= 1.7976931348623157e307:
                raise JsonError(_TOO_BIG, self._start)
            double = double * 10.0 + (digit - ord("0"))
        return double


def _scaled(number: float, power: int) -> float:
    if power >= 0:
        return number * _POWERS[power] if power <= 308 else number * float("inf")
    if power < -308:
        number, power = number / _POWERS[308], power + 308
    return number / _POWERS[-power] if power >= -308 else 0.0
