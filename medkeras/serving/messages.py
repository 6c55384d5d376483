"""A request and its response, without a socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client sent.

    Attributes:
        method: `GET`, `POST`, …, as it came.
        target: The request target, still percent-encoded, with its query and fragment.
        headers: Lower-case name to value.
        body: The bytes, still encoded as `content-encoding` says.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Response:
    """What the client gets.

    Attributes:
        status: The HTTP status.
        headers: Name and value of each header but `Content-Length`.
        body: The bytes.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
