"""One HTTP connection: uvicorn's protocol, with bounds for what uvicorn does not bound.

Headers and bodies have deadlines, bodies a least rate; bytes are counted before anything parses them; who is refused
(no token, too large, too many) is refused when his headers are whole and before his body is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import httptools
from uvicorn.protocols.http import httptools_impl

from medkeras.serving import http_cycle, http_limits

_VERBS = frozenset({b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"})
_REQUEST_LINE = re.compile(rb"^([A-Z-]+) \S+ HTTP/1\.[01]\r?$", re.MULTILINE)
_VERSIONS = frozenset({"1.0", "1.1"})
_PIECE = 8 * 1024
SWEEP_SECONDS = 0.5
# What a chunked body may weigh beside its data: the frames of chunks of one byte, and a last one.
_FRAMES = 6
_SPARE_BYTES = 64 * 1024
_WAITING, _HEADERS, _BODY, _ANSWER, _LINGER = "waiting", "headers", "body", "answer", "linger"

Headers = Mapping[bytes, bytes]


@dataclasses.dataclass(frozen=True)
class Shell:
    """What all connections of a server share.

    Attributes:
        limits: What a client may take.
        admit: Looks at method, target and headers (lower-case names); raises `RefusedError`, and names the user.
        begin: Makes what is written down of a call from its headers.
        done: Writes it down.
        load: What all clients take now.
    """

    limits: http_limits.Limits
    admit: Callable[[str, bytes, Headers, http_limits.Call], None]
    begin: Callable[[str, Headers], http_limits.Call]
    done: Callable[[http_limits.Call], None]
    load: http_limits.Load = dataclasses.field(default_factory=http_limits.Load)


class Protocol(httptools_impl.HttpToolsProtocol):
    """One connection."""

    def __init__(self, *, shell: Shell, **settings: Any) -> None:
        super().__init__(**settings)
        self.shell = shell
        self.limits = shell.limits
        self.cycle: http_cycle.Cycle
        self.running: http_cycle.Cycle | None = None
        self.half_closed = self.finished = False
        self.phase = _WAITING
        self.deadline = self.loop.time() + self.limits.header_seconds
        self.taken = 0
        self.body_bytes = 0
        self.body_began = 0.0
        self.unwritten = 0
        self.write_deadline = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection, or says that there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(http_limits.busy("Too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives back what the connection took."""
        self._release()
        self.pipeline.clear()
        if self.running is not None:
            # Uvicorn tells the last call of a pipeline alone.
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answers what was asked before a client closed his half."""
        self.half_closed = True
        pending = self.phase in (_ANSWER, _LINGER) and self.cycle is not None and not self.cycle.response_complete
        if pending:
            self.cycle.keep_alive = False
        return pending and self.scheme == "http"

    def data_received(self, data: bytes) -> None:
        """Parses what came, in small pieces as long as headers are not whole."""
        self._unset_keepalive_if_required()
        if self.phase == _WAITING:
            self._expect_headers()
        while data and self.phase != _LINGER and not self.transport.is_closing():
            piece = data if self.phase == _BODY else data[:_PIECE]
            data = data[len(piece) :]
            self._count(len(piece))
            if self.phase == _BODY and self.shell.load.buffered > self.limits.max_buffered_bytes:
                self._cut(http_limits.busy("Too many bodies at once"))
            else:
                self._feed(piece)

    def on_message_begin(self) -> None:
        """Begins a request, perhaps behind one that is not answered yet."""
        super().on_message_begin()
        if self.phase == _ANSWER:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """Refuses, or starts the application; before the body is read."""
        if self.phase == _LINGER:
            return
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        headers = dict(reversed(self.headers))
        call = self.shell.begin(method, headers)
        self._describe(method, version, call)
        self._release()
        self.phase, self.body_bytes, self.body_began = _BODY, 0, self.loop.time()
        refused = self._refusal(method, version, headers, call)
        # An offer to upgrade is not taken, but ends what the parser can read.
        keep = version == "1.1" and self.parser.should_keep_alive() and not self.parser.should_upgrade()
        self._start(self._cycle(call, keep_alive=keep), refused)

    def on_body(self, body: bytes) -> None:
        """Counts before it keeps."""
        if self.phase != _BODY:
            return
        self.body_bytes += len(body)
        self.cycle.call.received = self.body_bytes
        if self.body_bytes > self.limits.max_body_bytes:
            self._cut(http_limits.RefusedError(413, "The body is larger than this server takes"))
        elif not self.cycle.response_complete:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Waits for the answer, or for the next request if it is already given."""
        if self.phase != _BODY:
            return
        super().on_message_complete()
        self.phase, self.deadline = _ANSWER, math.inf
        if self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        """Turns to the next request; none is answered on a connection that was finished."""
        if self.finished:
            self.pipeline.clear()
        if self.phase == _ANSWER and not self.pipeline:
            self._rest()
        super().on_response_complete()

    def finish(self) -> None:
        """Closes; what the client still sends is read and dropped for a while, or it would never see the answer."""
        self.finished = True
        unread = self.phase in (_BODY, _LINGER) and not self.half_closed
        self._linger()
        if unread and self.transport.can_write_eof():
            self.flow.resume_reading()
            # The client may have gone already.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
                return
        self.transport.close()

    def check(self, now: float) -> None:
        """Ends what is overdue; called twice a second."""
        self._check_writing(now)
        if self.phase == _BODY:
            allowed = self.limits.body_grace_seconds + self.body_bytes / self.limits.body_bytes_per_second
            self.deadline = self.body_began + min(self.limits.body_seconds, allowed)
        if self.flow.read_paused:
            # What is not read cannot be late.
            self.body_began += SWEEP_SECONDS
        elif now > self.deadline:
            self._overdue()

    def _overdue(self) -> None:
        if self.phase == _LINGER:
            # As long as an answer is on its way, how fast it is read decides.
            if not self.transport.get_write_buffer_size():
                self.transport.abort()
        elif self.phase == _BODY:
            self._cut(http_limits.RefusedError(408, "The body took too long"))
        elif self.phase == _HEADERS:
            self._refuse(http_limits.RefusedError(408, "The headers took too long"))
        else:
            self.transport.close()

    def _check_writing(self, now: float) -> None:
        unwritten = self.transport.get_write_buffer_size()
        if not unwritten or unwritten < self.unwritten or self.write_deadline == math.inf:
            self.write_deadline = now + self.limits.write_seconds
        self.unwritten = unwritten
        if now > self.write_deadline:
            self.transport.abort()

    def _expect_headers(self) -> None:
        self._release()
        self.phase, self.deadline = _HEADERS, self.loop.time() + self.limits.header_seconds

    def _rest(self) -> None:
        self._release()
        self.phase, self.deadline = _WAITING, self.loop.time() + self.limits.idle_seconds

    def _linger(self) -> None:
        self._release()
        self.phase, self.deadline = _LINGER, self.loop.time() + self.limits.linger_seconds

    def _count(self, size: int) -> None:
        """Counts bytes as they come: those of headers and of frames are as good as those of bodies to fill a memory."""
        self.taken += size
        self.shell.load.buffered += size

    def _release(self) -> None:
        self.shell.load.buffered -= self.taken
        self.taken = 0

    def _feed(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserInvalidMethodError:
            strange = set(_REQUEST_LINE.findall(piece)) - _VERBS
            self._refuse(http_limits.RefusedError(501 if strange else 400))
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            refuse = self._cut if self.phase == _BODY else self._refuse
            refuse(http_limits.RefusedError(400))
        self._weigh()

    def _weigh(self) -> None:
        if self.phase == _HEADERS and self.taken > self.limits.max_header_bytes:
            self._refuse(http_limits.RefusedError(431, "The headers are larger than this server takes"))
        elif self.phase == _BODY and self.taken > (_FRAMES + 1) * self.body_bytes + _SPARE_BYTES:
            self._cut(http_limits.RefusedError(400, "The body is more frame than body"))

    def _describe(self, method: str, version: str, call: http_limits.Call) -> None:
        """Fills in what the application sees; the target stays as it was sent."""
        target = self.url.decode("latin-1")
        path, _, query = target.partition("#")[0].partition("?")
        self.scope["method"], self.scope["http_version"] = method, version if version in _VERSIONS else "1.1"
        self.scope["path"], self.scope["raw_path"] = urllib.parse.unquote(path), path.encode("latin-1")
        self.scope["query_string"] = query.encode("latin-1")
        self.scope["state"] |= {"call": call, "target": target}

    def _refusal(
        self, method: str, version: str, headers: Headers, call: http_limits.Call
    ) -> http_limits.RefusedError | None:
        """Returns why a request is not even looked at, or None."""
        limits, size = self.limits, len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        length = headers.get(b"content-length", b"0")
        if version not in _VERSIONS:
            return http_limits.RefusedError(400)
        if method.encode() not in _VERBS:
            return http_limits.RefusedError(501)
        if size > limits.max_header_bytes:
            return http_limits.RefusedError(431, "The headers are larger than this server takes")
        try:
            self.shell.admit(method, self.url, headers, call)
        except http_limits.RefusedError as refused:
            return refused
        if int(length) > limits.max_body_bytes:
            return http_limits.RefusedError(413, "The body is larger than this server takes")
        if (method == "POST" and self.shell.load.in_flight >= limits.max_in_flight) or (
            len(self.pipeline) >= limits.max_pipelined
        ):
            return http_limits.busy("Too many calls at once")
        return None

    def _cycle(self, call: http_limits.Call, *, keep_alive: bool) -> http_cycle.Cycle:
        return http_cycle.Cycle(
            connection=self,
            call=call,
            done=self._done,
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _start(self, cycle: http_cycle.Cycle, refused: http_limits.RefusedError | None) -> None:
        """Runs the application, or what refuses, once the answers before it are given."""
        before, self.cycle = self.cycle, cycle
        app = self.app
        if refused is not None:
            app = http_cycle.refusal(refused)
            self._linger()
            self.deadline = math.inf
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle
        self.shell.load.in_flight += 1
        super()._start_asgi_task(cycle, app)

    def _done(self, call: http_limits.Call) -> None:
        self.shell.load.in_flight -= 1
        self.shell.done(call)

    def _refuse(self, refused: http_limits.RefusedError) -> None:
        """Refuses what has no headers, or none that can be read."""
        if self.phase == _LINGER:
            return
        self.on_message_begin()
        self.url = b""
        call = self.shell.begin("", {})
        self._describe("GET", "1.1", call)
        self._start(self._cycle(call, keep_alive=False), refused)

    def _cut(self, refused: http_limits.RefusedError) -> None:
        """Refuses the rest of a body whose application may be running."""
        self._linger()
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self.deadline = math.inf
            self.cycle.refuse(refused)
