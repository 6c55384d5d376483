"""A crowd that means ill, all at once, while one good client works."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import statistics
import threading
import time

from medkeras.serving import access_log, http_limits, metrics, options, process
from tests.serving import sockets, stubs

HALF_OPEN, SLOW = 200, 50


def percentile_95(port: int, seconds: float) -> float:
    """Returns the 95th percentile of the seconds that a good client's calls take; each must be answered."""
    connection = http.client.HTTPConnection(sockets.HOST, port, timeout=10)
    times, body, ends = [], json.dumps({"instances": [1.0] * 100}), time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        connection.request("POST", "/v1/models/brain:predict", body=body)
        answer = connection.getresponse()
        assert answer.read()
        assert answer.status == 200
        times.append(time.perf_counter() - began)
        time.sleep(0.005)
    connection.close()
    return statistics.quantiles(times, n=20)[-1]


def drip(connections: list[socket.socket], stop: threading.Event) -> None:
    """Sends a byte on each, again and again."""
    while not stop.wait(0.5):
        for each in connections:
            with contextlib.suppress(OSError):
                each.send(b"x")


def closed(connection: socket.socket) -> bool:
    """Returns whether the server has closed its half."""
    connection.settimeout(0.01)
    with contextlib.suppress(TimeoutError):
        while True:
            try:
                if not connection.recv(65536):
                    return True
            except ConnectionError:
                return True
    return False


def test_half_open_headers_and_slow_bodies_are_gone_in_15_seconds_and_a_good_client_does_not_notice() -> None:
    chosen = options.Options()
    parts = process.Parts(
        chosen, stubs.Registry(), stubs.answer, metrics.Metrics(), access_log.AccessLog(io.StringIO())
    )
    with sockets.serving(parts) as run:
        idle = percentile_95(run.port, 2)
        began = time.monotonic()
        headers = [sockets.connect(run.port) for _ in range(HALF_OPEN)]
        bodies = [sockets.connect(run.port) for _ in range(SLOW)]
        for each in headers:
            each.sendall(b"POST /v1/models/brain:predict HTTP/1.1\r\nX: ")
        for each in bodies:
            each.sendall(b"POST /v1/models/brain:predict HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        stop = threading.Event()
        dripping = threading.Thread(target=drip, args=([*headers, *bodies], stop))
        dripping.start()
        attacked = percentile_95(run.port, 4)
        while time.monotonic() - began < 15 and len(run.server.server_state.connections) > 1:
            time.sleep(0.2)
        stop.set()
        dripping.join()
        assert all(closed(each) for each in (*headers, *bodies))
        assert time.monotonic() - began < 16
        assert run.server.shell.load == http_limits.Load()
        # Two cores that are busy with other things: a floor under what a time can mean.
        assert attacked < max(2 * idle, 0.02)
        for each in (*headers, *bodies):
            each.close()


def test_a_flood_of_connections_does_not_outlive_itself() -> None:
    chosen = options.Options(max_connections=50)
    parts = process.Parts(
        chosen, stubs.Registry(), stubs.answer, metrics.Metrics(), access_log.AccessLog(io.StringIO())
    )
    with sockets.serving(parts) as run:
        for _ in range(300):
            with contextlib.suppress(OSError), sockets.connect(run.port, timeout=2) as connection:
                connection.send(b"GET /v1/models/brain HT")
        run.wait_for(lambda: not run.server.server_state.connections)
        assert percentile_95(run.port, 0.5) < 1
