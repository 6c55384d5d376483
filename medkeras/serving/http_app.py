"""What a request meets behind the socket: the API, Prometheus, the page, or TensorFlow Serving's own refusals."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import starlette.routing

from medkeras.serving import http_limits, messages, metrics, noted, options, rest

TIMED_OUT = "Timed out waiting for notification"
_API = re.compile(r"(?is)/v1/.*")
_PREFLIGHT = ("Content-Type", "text/html; charset=ISO-8859-1")
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)
_DOCUMENT_THREADS = 2
_UNAVAILABLE = 503

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Any], Any]


class App:
    """The ASGI application.

    Args:
        answer: Answers a call of the API; blocks, and is run in a thread.
        chosen: What the server is told.
        load: What the calls take that outlive their time.
        measured: What Prometheus reads, if anything.
        metrics_path: Where it reads; empty: nowhere.
        pages: Routes beside the API.
    """

    def __init__(
        self,
        answer: Callable[[messages.Request, http_limits.Call], messages.Response],
        chosen: options.Options,
        *,
        load: http_limits.Load,
        measured: metrics.Metrics | None = None,
        metrics_path: str = "",
        pages: Sequence[starlette.routing.Route] = (),
    ) -> None:
        self._answer = answer
        self._chosen = chosen
        self._load = load
        self._measured = measured
        self._metrics_path = metrics_path
        self._pages = starlette.routing.Router(list(pages), redirect_slashes=False, default=_no_page)
        self._paths = {route.path for route in pages}
        threads = chosen.rest_api_num_threads or 4 * (os.cpu_count() or 1)
        if chosen.enable_batching:
            # Threads that wait for a batch cost nothing, and a batch is no larger than they are many.
            threads = max(threads, chosen.max_in_flight)
        self._calls = concurrent.futures.ThreadPoolExecutor(threads, "rest")
        # A probe is answered while every thread above is at work.
        self._documents = concurrent.futures.ThreadPoolExecutor(_DOCUMENT_THREADS, "rest-documents")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        target, call = scope["state"]["target"], scope["state"]["call"]
        if _API.fullmatch(target):
            call.route = noted.route(scope["method"], target)[0]
            await self._api(scope, receive, send)
        elif self._metrics_path and target.partition("?")[0] == self._metrics_path:
            call.route = self._metrics_path
            await _send(send, self._metrics(target))
        elif target != "/" or b"text/html" in dict(scope["headers"]).get(b"accept", b""):
            # A program that asks for / gets what TensorFlow Serving has there: nothing.
            call.route = scope["path"] if scope["path"] in self._paths else ""
            await self._pages(scope, receive, send)
        else:
            await _no_page(scope, receive, send)

    def close(self) -> None:
        """Takes no more work; what runs may end."""
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._documents.shutdown(wait=False, cancel_futures=True)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        if scope["method"] == "OPTIONS":
            response = _preflight(headers)
        else:
            parts = await _parts(receive)
            response = await self._call(scope, headers, parts)
        if response.status == _UNAVAILABLE:
            response = messages.Response(response.status, (*response.headers, ("Retry-After", "1")), response.body)
        if self._chosen.rest_api_enable_cors_support:
            response = messages.Response(response.status, (*response.headers, *_CORS), response.body)
        await _send(send, response)

    async def _call(self, scope: Scope, headers: dict[str, str], parts: list[bytes]) -> messages.Response:
        """Answers in a thread, or gives up when the time is over."""
        call: http_limits.Call = scope["state"]["call"]

        def work() -> messages.Response:
            target, body = scope["state"]["target"], b"".join(parts)
            return self._answer(messages.Request(scope["method"], target, headers, body), call)

        threads = self._calls if scope["method"] == "POST" else self._documents
        future = threads.submit(work)
        try:
            return await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(future)), self._chosen.rest_api_timeout_in_ms / 1000
            )
        except TimeoutError:
            self._outlive(future)
            return messages.Response(504, (("Content-Type", http_limits.JSON),), rest.error_body(TIMED_OUT))

    def _outlive(self, future: concurrent.futures.Future[messages.Response]) -> None:
        """Counts a call as in flight until its thread is free again."""
        if future.cancel():
            return
        loop, load = asyncio.get_running_loop(), self._load
        load.in_flight += 1

        def over(_: object) -> None:
            load.in_flight -= 1

        future.add_done_callback(lambda done: loop.call_soon_threadsafe(over, done))

    def _metrics(self, target: str) -> messages.Response:
        if target != self._metrics_path:
            text = f"Unexpected path: {target}. Should be {self._metrics_path}".encode()
            return messages.Response(400, (("Content-Type", metrics.CONTENT_TYPE),), text)
        text = self._measured.text() if self._measured else b""
        return messages.Response(200, (("Content-Type", metrics.CONTENT_TYPE),), text)


async def _parts(receive: Receive) -> list[bytes]:
    """Reads a body; the protocol below has counted it."""
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts


def _preflight(headers: dict[str, str]) -> messages.Response:
    origin = headers.get("origin", "")
    known = "http://" in origin or "https://" in origin
    return messages.Response(200 if known else 400, (_PREFLIGHT,), b"")


async def _send(send: Send, response: messages.Response) -> None:
    headers = {name.lower(): value for name, value in response.headers} | {"content-length": str(len(response.body))}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": response.body})


async def _no_page(scope: Scope, receive: Receive, send: Send) -> None:
    raise http_limits.RefusedError(404)
