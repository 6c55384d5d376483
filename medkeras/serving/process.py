"""Both ports in one process: opened together, and drained when a signal says so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc
import starlette.routing

from medkeras import errors
from medkeras.serving import (
    access,
    access_log,
    http_app,
    http_limits,
    http_protocol,
    http_server,
    messages,
    metrics,
    noted,
    options,
    servable,
)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PAGE = b"/page/"
_BACKLOG = 1024

Answer = Callable[[messages.Request, servable.Registry], messages.Response]


class Stop:
    """Becomes `requested` at the first signal; a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._read, self._write = os.pipe()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Takes SIGTERM and SIGINT for as long as it lasts; for the main thread."""
        before = {number: signal.signal(number, self._signalled) for number in _SIGNALS}
        threading.Thread(target=self._wait, name="signals", daemon=True).start()
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.write(self._write, b"\0")

    def _signalled(self, number: int, _: object) -> None:
        if self.requested.is_set():
            os._exit(128 + number)
        # A lock taken here might be held by the very code that the signal interrupted: a pipe has none.
        os.write(self._write, b"\0")

    def _wait(self) -> None:
        os.read(self._read, 1)
        self.requested.set()


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a server is made of.

    Attributes:
        chosen: What it is told.
        registry: Its models.
        answer: Answers a call of the REST API; blocks.
        measured: What it counts.
        log: Where calls are written down.
        grpc_server: The server of the other port, its addresses bound, or None.
        tokens: Who may call; None: anybody.
        tls: For HTTPS, or None.
        metrics_path: Where Prometheus reads; empty: nowhere.
        pages: Routes beside the API.
    """

    chosen: options.Options
    registry: servable.Registry
    answer: Answer
    measured: metrics.Metrics
    log: access_log.AccessLog
    grpc_server: grpc.Server | None = None
    tokens: access.Tokens | None = None
    tls: ssl.SSLContext | None = None
    metrics_path: str = ""
    pages: Sequence[starlette.routing.Route] = ()


def serve(parts: Parts, stop: Stop, *, ready: Callable[[str], None]) -> None:
    """Opens the ports and answers until `stop` is requested; then takes no more calls and lets those in flight end.

    Args:
        parts: The server.
        stop: When to end.
        ready: Told, in one line, where the server listens.

    Raises:
        ConfigError: A port cannot be had.
    """
    chosen = parts.chosen
    listening = [listen(chosen.host, chosen.rest_api_port)] if chosen.rest_api_port else []
    if parts.grpc_server is not None:
        parts.grpc_server.start()
    ready(", ".join(_addresses(parts)))
    drained = threading.Thread(target=_drain_grpc, args=(parts, stop), name="drain")
    drained.start()
    if listening:
        asyncio.run(_serve_http(parts, stop, listening))
    drained.join()


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; raises `ConfigError` where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise errors.ConfigError(
            f"A server listens on an address and port that are its own and free. Received: {host} port {port} "
            f"({error.strerror})"
        ) from None


def end(*, grace: float = 1.0) -> None:
    """Ends the process, with exit code 0, if threads are at work that nobody waits for any more; else returns.

    Args:
        grace: Seconds that they have, all together, to become idle.
    """
    deadline = time.monotonic() + grace
    working = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    for each in working:
        each.join(timeout=max(0, deadline - time.monotonic()))
    if any(each.is_alive() for each in working):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def http(parts: Parts) -> http_server.Server:
    """Returns the server of the REST port."""
    chosen = parts.chosen
    limits = http_limits.Limits(
        max_connections=chosen.max_connections,
        max_in_flight=chosen.max_in_flight,
        max_body_bytes=chosen.max_body_bytes,
        max_buffered_bytes=max(chosen.max_body_bytes, http_limits.Limits().max_buffered_bytes),
    )
    shell = http_protocol.Shell(limits, _admit(parts), access_log.begin, _done(parts))
    app = http_app.App(
        _answer(parts),
        chosen,
        load=shell.load,
        measured=parts.measured,
        metrics_path=parts.metrics_path,
        pages=parts.pages,
    )
    return http_server.Server(app, shell, drain_seconds=chosen.drain_seconds, tls=parts.tls)


async def _serve_http(parts: Parts, stop: Stop, listening: list[socket.socket]) -> None:
    server = http(parts)

    async def watch() -> None:
        while not stop.requested.is_set():
            await asyncio.sleep(0.1)
        server.should_exit = True

    watching = asyncio.create_task(watch())
    await server.serve(sockets=listening)
    watching.cancel()
    server.app.close()


def _drain_grpc(parts: Parts, stop: Stop) -> None:
    stop.requested.wait()
    if parts.grpc_server is not None:
        parts.grpc_server.stop(parts.chosen.drain_seconds).wait()


def _addresses(parts: Parts) -> Iterator[str]:
    chosen = parts.chosen
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    scheme = "https" if chosen.encrypted else "http"
    if chosen.rest_api_port:
        yield f"REST and page at {scheme}://{host}:{chosen.rest_api_port}"
    if chosen.port and parts.grpc_server is not None:
        yield f"gRPC at {host}:{chosen.port}"
    if chosen.grpc_socket_path and parts.grpc_server is not None:
        yield f"gRPC at unix:{chosen.grpc_socket_path}"


def _admit(parts: Parts) -> Callable[[str, bytes, Mapping[bytes, bytes], http_limits.Call], None]:
    open_loopback = parts.tokens is None and parts.chosen.loopback

    def admit(_: str, target: bytes, headers: Mapping[bytes, bytes], call: http_limits.Call) -> None:
        access.admit(parts.tokens, headers, call)
        if target.startswith(_PAGE):
            access.refuse_strangers(headers, open_loopback=open_loopback)

    return admit


def _answer(parts: Parts) -> Callable[[messages.Request, http_limits.Call], messages.Response]:
    def answer(request: messages.Request, call: http_limits.Call) -> messages.Response:
        api = noted.route(request.method, request.target)[1]
        return parts.answer(request, noted.Noting(parts.registry, call, parts.measured, api=api))

    return answer


def _done(parts: Parts) -> Callable[[http_limits.Call], None]:
    def done(call: http_limits.Call) -> None:
        parts.log.add(call)
        if call.route.startswith("/v1"):
            api = call.route.rpartition(":")[2] if ":" in call.route else ""
            code = noted.code(call.status)
            parts.measured.request(call.model, api=api, entrypoint="REST", code=code, seconds=call.seconds)

    return done
