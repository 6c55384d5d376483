"""A server on loopback for a test, and raw requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from medkeras.serving import access, access_log, http_limits, http_protocol, http_server, options, process

HOST = "127.0.0.1"


class Running:
    """A server in a thread; its calls that are over, its limits' load."""

    def __init__(self, server: http_server.Server, shell: http_protocol.Shell, calls: list[http_limits.Call]) -> None:
        self.server, self.shell, self.calls = server, shell, calls
        self.socket = socket.create_server((HOST, 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[self.socket])))

    def wait_for(self, condition: Callable[[], Any]) -> None:
        for _ in range(200):
            if condition():
                return
            threading.Event().wait(0.05)
        raise TimeoutError(condition)


@contextlib.contextmanager
def running(
    app: Any,
    *,
    limits: http_limits.Limits | None = None,
    tokens: access.Tokens | None = None,
    load: http_limits.Load | None = None,
    tls: ssl.SSLContext | None = None,
    drain_seconds: float = 5,
) -> Iterator[Running]:
    calls: list[http_limits.Call] = []

    def admit(method: str, target: bytes, headers: Mapping[bytes, bytes], call: http_limits.Call) -> None:
        access.admit(tokens, headers, call)

    shell = http_protocol.Shell(
        limits or http_limits.Limits(), admit, access_log.begin, calls.append, load or http_limits.Load()
    )
    server = http_server.Server(app, shell, drain_seconds=drain_seconds, tls=tls)
    with _started(Running(server, shell, calls)) as run:
        yield run


@contextlib.contextmanager
def serving(parts: process.Parts) -> Iterator[Running]:
    """Runs the REST port of a whole server."""
    server = process.http(parts)
    with _started(Running(server, server.shell, [])) as run:
        yield run


@contextlib.contextmanager
def _started(run: Running) -> Iterator[Running]:
    run.thread.start()
    run.wait_for(lambda: run.server.server_state.default_headers)
    try:
        yield run
    finally:
        run.server.should_exit = True
        run.thread.join(timeout=15)
        assert not run.thread.is_alive()


def make_certificate(folder: pathlib.Path, name: str) -> options.Options:
    """Writes NAME.pem and NAME.key, for this machine's names, and returns options that name them."""
    key, chain = folder / f"{name}.key", folder / f"{name}.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return options.Options(tls_certificate=str(chain), tls_key=str(key))


def connect(port: int, *, timeout: float = 20) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=timeout)


def read_all(connection: socket.socket) -> bytes:
    """Reads until the server closes; a reset is a close too."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def exchange(port: int, request: bytes) -> bytes:
    """Sends bytes, says no more, and returns all that comes back."""
    with connect(port) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0
