"""What is written down of a call: one JSON object a line, nothing of what was asked or answered."""

from __future__ import annotations

import collections
import datetime
import json
import random
import re
import threading
from collections.abc import Mapping
from typing import TextIO

from medkeras.serving import http_limits

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# What a slow disk or a full pipe may keep waiting; more is counted, not kept.
_MOST_WAITING = 10_000
_EVERY_SECONDS = 0.1
# An id is no secret, and needs no call of the operating system.
_IDS = random.Random()


def begin(method: str, headers: Mapping[bytes, bytes]) -> http_limits.Call:
    """Begins the record of a call; its id is the client's own `X-Request-Id` if that is well-formed."""
    given = headers.get(b"x-request-id", b"")
    return http_limits.Call(given.decode() if _REQUEST_ID.fullmatch(given) else f"{_IDS.getrandbits(64):016x}", method)


class AccessLog:
    """Writes records on a thread of its own, many at a time: no call waits for a disk.

    Args:
        stream: Where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: collections.deque[tuple[datetime.datetime, http_limits.Call]] = collections.deque()
        self._lost = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
        self._thread.start()

    def add(self, call: http_limits.Call) -> None:
        """Takes the record of a call that is over."""
        if len(self._waiting) >= _MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.append((datetime.datetime.now(datetime.UTC), call))

    def close(self) -> None:
        """Writes what waits and ends."""
        self._closing.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(_EVERY_SECONDS)
            self._write()

    def _write(self) -> None:
        lines = [line(*self._waiting.popleft()) for _ in range(len(self._waiting))]
        lost, self._lost = self._lost, 0
        if lost:
            lines.append(json.dumps({"lost": lost}))
        if lines:
            self._stream.write("\n".join((*lines, "")))
            self._stream.flush()


def line(time: datetime.datetime, call: http_limits.Call) -> str:
    """Returns the line of a call."""
    return json.dumps(
        {
            "time": time.isoformat(timespec="milliseconds"),
            "request_id": call.request_id,
            "user": call.user,
            "method": call.method,
            "route": call.route,
            "model": call.model,
            "version": call.version,
            "status": call.status,
            "received": call.received,
            "sent": call.sent,
            "milliseconds": round(call.seconds * 1000, 3),
        }
    )
