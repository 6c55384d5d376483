"""Which call a method and a target make: TensorFlow Serving's two patterns, matched whole, with their quirks.

The query is part of what is matched, the patterns ignore case but the verbs do not, and no method but POST and GET is
ever right.

Reference: TensorFlow Serving's `model_servers/http_rest_api_util.cc`.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from typing import Literal

from medkeras.serving import status

Verb = Literal["predict", "classify", "regress", "status", "metadata"]

_MODEL = r"([^/:]+)"
_VERSION = r"(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(rf"/v1/models/{_MODEL}{_VERSION}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET = re.compile(rf"/v1/models(?:/{_MODEL})?{_VERSION}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
_VERBS: dict[str, Verb] = {"predict": "predict", "classify": "classify", "regress": "regress"}
_LARGEST = 2**63 - 1
_DIGITS = len(str(_LARGEST))


class UntoldError(status.StatusError):
    """A refusal whose message upstream loses on the way: the response has no body."""


@dataclasses.dataclass(frozen=True)
class Call:
    """What a request asks for.

    Attributes:
        verb: What to do.
        model: Name of the model; empty if none is named.
        version: Its version, or None.
        label: The label of its version, or None.
    """

    verb: Verb
    model: str
    version: int | None = None
    label: str | None = None


def route(method: str, target: str) -> Call:
    """Returns the call that a request makes.

    >>> route("POST", "/v1/models/m/versions/2:predict")
    Call(verb='predict', model='m', version=2, label=None)

    Raises:
        StatusError: It makes none; an `UntoldError` if its version is too large.
    """
    found = {"POST": _POST, "GET": _GET}.get(method, _NONE).fullmatch(target)
    if found is None:
        raise _malformed(method, target)
    model, version, label, verb = found.groups("")
    # Counted first: a number may be as long as a header.
    digits = version.lstrip("0") or version[:1]
    if len(digits) > _DIGITS or (version and int(digits) > _LARGEST):
        raise UntoldError(status.Code.INVALID_ARGUMENT, f"Failed to convert version: {version} to numeric.")
    if method == "GET":
        known: Verb | None = "metadata" if verb == "metadata" else "status"
    else:
        known = _VERBS.get(verb)
    if known is None:
        raise _malformed(method, target)
    return Call(known, _decoded(model), int(digits) if version else None, _decoded(label) if label else None)


_NONE = re.compile(r"(?!)")


def _malformed(method: str, target: str) -> status.StatusError:
    return status.invalid(f"Malformed request: {method} {target}")


def _decoded(text: str) -> str:
    return urllib.parse.unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
