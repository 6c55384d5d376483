"""HTTP on a socket: uvicorn's server, whose connections are `http_protocol.Protocol`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from medkeras.serving import http_protocol

_HANDSHAKE_SECONDS = 10


class Server(uvicorn.Server):
    """Uvicorn's server, whose signals somebody else takes, and whose connections are looked after.

    Args:
        app: The ASGI application.
        shell: What its connections share.
        drain_seconds: What calls in flight are given at the end.
        tls: For HTTPS.
    """

    def __init__(
        self, app: Any, shell: http_protocol.Shell, *, drain_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        settings = uvicorn.Config(
            app,
            http=functools.partial(http_protocol.Protocol, shell=shell),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=math.ceil(shell.limits.idle_seconds),
            timeout_graceful_shutdown=math.ceil(drain_seconds),
        )
        super().__init__(settings)
        self._protocol: Any = settings.http
        self.app = app
        self.shell = shell
        self.tls = tls
        self._sweeper: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        """Begins to listen; a TLS handshake has a deadline too."""
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()
        make: Any = functools.partial(
            self._protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=loop,
        )
        deadline = _HANDSHAKE_SECONDS if self.tls else None
        self.servers = [
            await loop.create_server(make, sock=each, ssl=self.tls, ssl_handshake_timeout=deadline)
            for each in sockets
        ]  # fmt: skip
        self._sweeper = loop.create_task(self._sweep())

    async def shutdown(self, sockets: Any = None) -> None:
        """Stops listening, lets calls in flight end, and ends."""
        await super().shutdown(sockets=sockets)
        if self._sweeper is not None:
            self._sweeper.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process."""
        yield

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(http_protocol.SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                connection.check(now)  # type: ignore[union-attr]
