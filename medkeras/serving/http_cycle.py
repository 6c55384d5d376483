"""One request and its answer on a connection."""

from __future__ import annotations

import http
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from uvicorn.protocols.http import httptools_impl

from medkeras.serving import http_limits

_LOG = logging.getLogger(__name__)


class Connection(Protocol):
    """What a request needs of its connection."""

    def finish(self) -> None:
        """Closes it once everything written has gone out."""


class Cycle(httptools_impl.RequestResponseCycle):
    """Uvicorn's cycle, which answers HTTP/1.0 as such, and refuses instead of failing.

    Args:
        connection: What is closed after the answer, where it is not kept.
        call: What is written down.
        done: Called with it at the end.
        **settings: What uvicorn's own takes.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        call: http_limits.Call,
        done: Callable[[http_limits.Call], None],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.connection = connection
        self.call = call
        self.done = done
        self.refused: http_limits.RefusedError | None = None
        self._head = b""

    def refuse(self, refused: http_limits.RefusedError) -> None:
        """Lets whoever waits for the body know that it will not come."""
        self.refused = refused
        self.message_event.set()

    async def run_asgi(self, app: Any) -> None:
        """Runs the application; whatever it raises is an answer, and nothing of it is written down but its type."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                raise RuntimeError("An application answers")
        except http_limits.RefusedError as refused:
            await self._answer(refused)
        except Exception as error:
            _LOG.error("request %s: %s", self.call.request_id, type(error).__name__)
            await self._answer(http_limits.RefusedError(500, "Internal error"))
        finally:
            self.on_response = _nothing
            self.call.seconds = time.monotonic() - self.call.started
            self.done(self.call)

    async def receive(self) -> Any:
        """Waits for more of the body; raises `RefusedError` if there is to be no more."""
        if self.refused is None:
            message = await super().receive()
        if self.refused is not None:
            raise self.refused
        return message

    async def send(self, message: Any) -> None:
        """Writes the start of an answer, or a part of its body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], list(message.get("headers", ())))
        else:
            self._continue(message.get("body", b""), more=message.get("more_body", False))

    async def _answer(self, refused: http_limits.RefusedError) -> None:
        if self.response_started:
            self.connection.finish()
            return
        self.keep_alive = False
        headers = [("Content-Type", refused.content_type), ("Content-Length", str(len(refused.body))), *refused.headers]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await self.send({"type": "http.response.start", "status": refused.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": refused.body})

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Keeps the head until the body is there: one packet."""
        self.response_started, self.waiting_for_100_continue = True, False
        self.call.status = status
        known = dict(headers)
        self.keep_alive = self.keep_alive and known.get(b"connection", b"").lower() != b"close"
        bodyless = self.scope["method"] == "HEAD" or status in (204, 304)
        sized = b"content-length" in {name.lower() for name in known}
        self.chunked_encoding = not (sized or bodyless) and self.scope["http_version"] == "1.1"
        self.keep_alive = self.keep_alive and (sized or bodyless or self.chunked_encoding)
        headers = [*self.default_headers, *headers, (b"x-request-id", self.call.request_id.encode())]
        if self.chunked_encoding:
            headers.append((b"transfer-encoding", b"chunked"))
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        kept = (
            pair for pair in headers if not (self.scope["method"] == "HEAD" and pair[0].lower() == b"content-length")
        )
        self._head = _head(status, self.scope["http_version"], kept)

    def _continue(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        self.call.sent += len(body)
        if self.chunked_encoding:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self.transport.write(self._head + body)
        self._head = b""
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.connection.finish()
            self.on_response()


def refusal(refused: http_limits.RefusedError) -> Callable[..., Any]:
    """Returns an application that refuses."""

    async def app(*_: object) -> None:
        raise refused

    return app


def _head(status: int, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/{version} {status} {phrase}".encode()]
    seen: set[bytes] = set()
    for name, value in headers:
        # The first wins: an application may have set what is added here too.
        if name.lower() not in seen:
            seen.add(name.lower())
            lines.append(name.title() + b": " + value.translate(None, b"\r\n\0"))
    return b"\r\n".join([*lines, b"", b""])


def _nothing() -> None:
    """Stands for a callback that is over."""
