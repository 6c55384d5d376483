"""How much of a connection, a request and a second a client may take, and what he is told who takes more."""

from __future__ import annotations

import dataclasses
import http
import json
import time

_MEBIBYTE = 1024 * 1024
HTML = "text/html"
JSON = "application/json"
# As libevent, which TensorFlow Serving stands on, writes its own pages.
_PAGE = "<HTML><HEAD>\n<TITLE>{0} {1}</TITLE>\n</HEAD><BODY>\n<H1>{1}</H1>\n</BODY></HTML>\n"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one client may take.

    Attributes:
        max_connections: Connections open at once.
        max_in_flight: Calls with a body that are unanswered at once.
        max_body_bytes: Bytes of one body.
        max_buffered_bytes: Bytes of all bodies that wait at once.
        max_header_bytes: Bytes of the request line and the headers.
        max_pipelined: Calls sent ahead on one connection.
        header_seconds: From the first byte of a request, or from the connection, until its headers are whole.
        body_grace_seconds: What a body may be late in all, on top of its bytes at the least rate.
        body_bytes_per_second: The least rate of a body.
        body_seconds: How long a body may take at any rate.
        idle_seconds: Between an answer and the next request.
        write_seconds: How long a client may read nothing of an answer.
        linger_seconds: How long a refused client may go on sending, so that he can read why.
    """

    max_connections: int = 1000
    max_in_flight: int = 128
    max_body_bytes: int = 128 * _MEBIBYTE
    max_buffered_bytes: int = 512 * _MEBIBYTE
    max_header_bytes: int = 32 * 1024
    max_pipelined: int = 64
    header_seconds: float = 10
    body_grace_seconds: float = 10
    body_bytes_per_second: int = 16 * 1024
    body_seconds: float = 300
    idle_seconds: float = 60
    write_seconds: float = 30
    linger_seconds: float = 2


@dataclasses.dataclass
class Load:
    """What all clients together take now; only the event loop's thread changes it."""

    in_flight: int = 0
    buffered: int = 0


class RefusedError(Exception):
    """A request that is refused before anything looks at what it asks for.

    Args:
        status: The HTTP status.
        message: What the client is told.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, message: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.content_type = JSON if message else HTML
        self.body = json.dumps({"error": message}).encode() if message else page(status)


def busy(message: str) -> RefusedError:
    """The refusal of a client who may well come back."""
    return RefusedError(503, message, (("Retry-After", "1"),))


def page(status: int) -> bytes:
    """Returns the page that stands for a status where no API is spoken."""
    return _PAGE.format(status, http.HTTPStatus(status).phrase).encode()


@dataclasses.dataclass
class Call:
    """What is written down of a call: nothing of what it asks, and nothing of the answer.

    Attributes:
        request_id: The client's own, if well-formed, or made for it.
        method: The verb.
        route: The pattern of its target, never the target; empty if there is none.
        model: A model of this server, or empty.
        version: The version that answered, or 0.
        user: The name of the token.
        status: The HTTP status; 499 if the client left.
        received: Bytes of the body.
        sent: Bytes of the answer's body.
        started: Seconds of the monotonic clock when the headers were whole.
        seconds: How long it took.
    """

    request_id: str
    method: str = ""
    route: str = ""
    model: str = ""
    version: int = 0
    user: str = ""
    status: int = 499
    received: int = 0
    sent: int = 0
    started: float = dataclasses.field(default_factory=time.monotonic)
    seconds: float = 0.0
