"""Signals: the first drains, the second ends at once."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from medkeras import errors
from medkeras.serving import process
from tests.serving import sockets

# A server whose model is a function, as a process of its own; it says where it listens.
PROGRAM = """
import sys
from medkeras.serving import access_log, metrics, options, process
from tests.serving import stubs
chosen = options.Options(port=0, rest_api_port=int(sys.argv[1]), drain_seconds=int(sys.argv[2]))
stop = process.Stop()
log = access_log.AccessLog(sys.stderr)
parts = process.Parts(chosen, stubs.Registry(), stubs.answer, metrics.Metrics(), log)
with stop.listening():
    process.serve(parts, stop, ready=lambda text: print(text, flush=True))
log.close()
print("drained", flush=True)
process.end()
"""


@pytest.fixture
def start():
    started = []

    def begin(drain_seconds: int) -> tuple[subprocess.Popen, int]:
        port = free_port()
        command = [sys.executable, "-c", PROGRAM, str(port), str(drain_seconds)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(server)
        assert server.stdout.readline() == f"REST and page at http://127.0.0.1:{port}\n"
        return server, port

    yield begin
    for server in started:
        server.kill()
        server.communicate()


def free_port() -> int:
    with socket.create_server((sockets.HOST, 0)) as found:
        return found.getsockname()[1]


def call(port: int, body: bytes, answers: list[int]) -> threading.Thread:
    def ask() -> None:
        connection = http.client.HTTPConnection(sockets.HOST, port, timeout=20)
        try:
            connection.request("POST", "/v1/models/brain:predict", body=body)
            answers.append(connection.getresponse().status)
        except OSError:
            answers.append(0)
        finally:
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    return thread


def test_the_first_signal_lets_calls_end(start) -> None:
    server, port = start(10)
    answers: list[int] = []
    calling = call(port, b"sleep=2", answers)
    with socket.create_connection((sockets.HOST, port)) as half_open:
        half_open.sendall(b"GET / HT")
        server.send_signal(signal.SIGTERM)
        time.sleep(0.6)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((sockets.HOST, port))
        calling.join()
        assert answers == [200]
        assert server.wait(timeout=5) == 0
    assert server.stdout.read() == "drained\n"


def test_the_second_ends_at_once(start) -> None:
    server, port = start(20)
    answers: list[int] = []
    calling = call(port, b"sleep=15", answers)
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=5) == 128 + signal.SIGINT
    assert time.monotonic() - began < 2
    calling.join()
    assert answers == [0]


def test_grace_is_bounded(start) -> None:
    server, port = start(1)
    answers: list[int] = []
    calling = call(port, b"sleep=30", answers)
    server.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert server.wait(timeout=10) == 0
    assert time.monotonic() - began < 6
    calling.join()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server((sockets.HOST, 0)) as taken, pytest.raises(errors.ConfigError, match="already in use"):
        process.listen(sockets.HOST, taken.getsockname()[1])
