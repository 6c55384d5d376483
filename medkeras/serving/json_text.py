"""Reads JSON as TensorFlow Serving does: the first of two members of a name counts, text behind the value does not.

An array is a `list`, an object an `Object`. A string is `str`, the bytes in it that are not UTF-8 as surrogates
(`surrogateescape`), so that `encoded` gives back what came.
"""

from __future__ import annotations

import re
from typing import Any

import rapidjson

from medkeras.serving import json_exact, status

Object = json_exact.Object
MISSING = json_exact.MISSING

MOST_EXACT = 2 * 1024 * 1024
"""Bytes that a text may have which only the slow parser reads: one nested over 1,000 deep, or not UTF-8."""

_BOM = b"\xef\xbb\xbf"
_FAULT = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
_MORE = "The document root must not be followed by other values."


class _Decoder(rapidjson.Decoder):
    """RapidJSON, which upstream reads with too, and with its own arithmetic: doubles are not always the nearest."""

    def start_object(self) -> Object:
        """Returns what keeps the members in order, those of one name too."""
        return Object()


_DECODER = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def parse(body: bytes) -> Any:
    """Returns the value that a text begins with.

    Raises:
        StatusError: The text is not JSON; the message gives the offset in bytes.
    """
    if not body:
        raise status.invalid("JSON Parse error: The document is empty")
    skipped = len(_BOM) if body.startswith(_BOM) else 0
    try:
        return _parsed(body[skipped:])
    except json_exact.JsonError as error:
        raise status.invalid(f"JSON Parse error: {error.rule} at offset: {error.offset + skipped}") from None


def encoded(text: str) -> bytes:
    """Returns the bytes of a string as they came."""
    return text.encode("utf-8", "surrogateescape")


def _parsed(body: bytes) -> Any:
    try:
        return _DECODER(body)
    except rapidjson.JSONDecodeError as error:
        offset, rule = _fault(error)
        if rule != _MORE:
            raise json_exact.JsonError(rule, offset) from None
    except (RecursionError, UnicodeDecodeError):
        return _exactly(body)
    return _parsed(body[:offset])


def _exactly(body: bytes) -> Any:
    if len(body) > MOST_EXACT:
        raise status.invalid(
            "A text of over 2 MiB is valid UTF-8 and nests its values up to 1,000 deep. "
            f"Received: {len(body)} bytes that are not"
        )
    return json_exact.parse(body)


def _fault(error: rapidjson.JSONDecodeError) -> tuple[int, str]:
    found = _FAULT.fullmatch(str(error))
    if found is None:
        raise error
    return int(found[1]), found[2]
