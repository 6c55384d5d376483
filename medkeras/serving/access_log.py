"""What is written down of a call: one JSON object a line, nothing of what was asked or answered."""

from __future__ import annotations

import datetime
import json
import queue
import re
import secrets
import threading
from collections.abc import Mapping
from typing import TextIO

from medkeras.serving import http_limits

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# What a slow disk or a full pipe may keep waiting; more is counted, not kept.
_MOST_WAITING = 10_000


def begin(method: str, headers: Mapping[bytes, bytes]) -> http_limits.Call:
    """Begins the record of a call; its id is the client's own `X-Request-Id` if that is well-formed."""
    given = headers.get(b"x-request-id", b"")
    return http_limits.Call(given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8), method)


class AccessLog:
    """Writes records on a thread of its own: no call waits for a disk.

    Args:
        stream: Where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: queue.SimpleQueue[tuple[datetime.datetime, http_limits.Call] | None] = queue.SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def add(self, call: http_limits.Call) -> None:
        """Takes the record of a call that is over."""
        if self._waiting.qsize() >= _MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.put((datetime.datetime.now(datetime.UTC), call))

    def close(self) -> None:
        """Writes what waits and ends."""
        self._waiting.put(None)
        self._thread.join(timeout=5)

    def _write(self) -> None:
        while (entry := self._waiting.get()) is not None:
            lost, self._lost = self._lost, 0
            text = json.dumps({"lost": lost}) + "\n" if lost else ""
            self._stream.write(f"{text}{line(*entry)}\n")
            if self._waiting.empty():
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
