"""What stands between a socket and the application: framing, deadlines, sizes, counts."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import http.client
import socket
import time

import pytest

from medkeras.serving import access, http_limits
from tests.serving import sockets

QUICK = http_limits.Limits(
    header_seconds=1, body_grace_seconds=1, idle_seconds=2, linger_seconds=1, max_body_bytes=100_000
)


async def echo(scope, receive, send) -> None:
    """Answers with the body and what the server made of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    target = scope["state"]["target"]
    if "sleep" in target:
        await asyncio.sleep(float(target.rpartition("=")[2]))
    if "fail" in target:
        raise ValueError("the name of a patient")
    text = f"{scope['method']} {target} {scope['http_version']} {body.decode('latin-1')}".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(scope="module")
def server():
    with sockets.running(echo, limits=QUICK) as run:
        yield run


def test_an_answer_has_a_date_a_length_and_an_id_and_does_not_say_who_serves(server) -> None:
    connection = http.client.HTTPConnection(sockets.HOST, server.port, timeout=10)
    connection.request("GET", "/a%2Fb?x=%20#y", headers={"X-Request-Id": "mine-1"})
    answer = connection.getresponse()
    assert answer.read() == b"GET /a%2Fb?x=%20#y 1.1 "
    assert answer.getheader("Content-Length") == "23"
    assert answer.getheader("X-Request-Id") == "mine-1"
    assert answer.getheader("Server") is None
    assert abs(email.utils.parsedate_to_datetime(answer.getheader("Date")).timestamp() - time.time()) < 5
    connection.close()


@pytest.mark.parametrize("given", ["a b", "x" * 65, 'a"b', "ä"])
def test_a_request_id_that_is_not_well_formed_is_replaced(server, given) -> None:
    answer = sockets.exchange(server.port, b"GET / HTTP/1.1\r\nX-Request-Id: " + given.encode() + b"\r\n\r\n")
    assert len(answer.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0]) == 16


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"TRACE / HTTP/1.1\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 501),
        (b"PROPFIND / HTTP/1.1\r\n\r\n", 501),
        (b"BREW /pot HTTP/1.1\r\n\r\n", 501),
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
        (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", 200),
    ],
)
def test_request_lines_and_framing(server, request_bytes, expected) -> None:
    answer = sockets.exchange(server.port, request_bytes)
    assert sockets.status(answer) == expected
    if expected != 200:
        assert b"Content-Type: text/html\r\n" in answer
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"</BODY></HTML>\n")


def test_an_older_client_is_answered_in_its_own_version_and_closed(server) -> None:
    answer = sockets.exchange(server.port, b"POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nPOST /x 1.0 hi")
    assert b"Connection: close" in answer


def test_pipelined_calls_are_answered_in_order_on_one_connection(server) -> None:
    calls = [b"POST /%d?sleep=0.0%d HTTP/1.1\r\nContent-Length: 1\r\n\r\nx" % (n, 9 - n) for n in range(8)]
    answer = sockets.exchange(server.port, b"".join(calls))
    places = [answer.index(b"POST /%d?" % n) for n in range(8)]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 8


def test_garbage_behind_a_call_does_not_overtake_its_answer(server) -> None:
    answer = sockets.exchange(server.port, b"GET /first?sleep=0.3 HTTP/1.1\r\n\r\ngarbage\r\n\r\n")
    assert answer.index(b"GET /first") < answer.index(b"400 Bad Request")


def test_chunks_and_expect(server) -> None:
    with sockets.connect(server.port) as connection:
        connection.sendall(b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"3\r\nabc\r\n2;extension=1\r\nde\r\n0\r\n\r\n")
        assert connection.recv(1000).endswith(b"POST /c 1.1 abcde")


def test_head_has_no_body(server) -> None:
    answer = sockets.exchange(server.port, b"HEAD /h HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert sockets.status(answer) == 200


def test_an_application_that_fails_says_nothing_of_why(server, caplog) -> None:
    answer = sockets.exchange(server.port, b"GET /fail HTTP/1.1\r\n\r\n")
    assert sockets.status(answer) == 500
    assert b"patient" not in answer
    assert "ValueError" in caplog.text
    assert "patient" not in caplog.text


@pytest.mark.parametrize("declared", [100_001, 100 * 10**9, 2**63])
def test_a_body_declared_too_large_is_refused_before_it_is_sent(server, declared) -> None:
    with sockets.connect(server.port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % declared)
        began = time.monotonic()
        answer = sockets.read_all(connection)
    assert sockets.status(answer) == 413
    assert time.monotonic() - began < 3


def test_a_client_that_sends_all_of_it_still_reads_why(server) -> None:
    with sockets.connect(server.port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)
        assert sockets.status(sockets.read_all(connection)) == 413


def test_an_undeclared_body_is_counted(server) -> None:
    chunk = b"%x\r\n%b\r\n" % (50_000, b"x" * 50_000)
    answer = sockets.exchange(server.port, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3)
    assert sockets.status(answer) == 413
    server.wait_for(lambda: server.shell.load == http_limits.Load())


def test_a_body_may_not_be_all_frame(server) -> None:
    trailer = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: " + b"y" * 200_000
    assert sockets.status(sockets.exchange(server.port, trailer)) == 400
    extension = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"y" * 200_000
    assert sockets.status(sockets.exchange(server.port, extension)) == 400


@pytest.mark.parametrize(
    "large",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(9000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000,
    ],
)
def test_large_headers_are_refused(server, large) -> None:
    with sockets.connect(server.port) as connection:
        connection.sendall(large)
        assert sockets.status(sockets.read_all(connection)) == 431


def test_headers_and_a_body_in_one_packet_are_not_taken_for_large_headers(server) -> None:
    body = b"x" * 90_000
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    answer = sockets.exchange(server.port, request * 3)
    assert answer.count(b"200 OK") == 3


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(b"", 0), (b"\r\n", 408), (b"GET / HT", 408), (b"GET / HTTP/1.1\r\nHost: a\r\n", 408)],
)
def test_half_open_headers_are_closed(server, sent, expected) -> None:
    with sockets.connect(server.port) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        answer = sockets.read_all(connection)
    assert sockets.status(answer) == expected
    assert 0.5 < time.monotonic() - began < 5


def test_headers_that_drip_are_closed_however_steadily(server) -> None:
    began = time.monotonic()
    with sockets.connect(server.port) as connection:
        connection.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - began < 8:
            connection.sendall(b"X")
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                continue
    assert sockets.status(answer) in (400, 408)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("framing", [b"Content-Length: 90000", b"Transfer-Encoding: chunked"])
def test_a_slow_body_is_cut(server, framing) -> None:
    began = time.monotonic()
    with sockets.connect(server.port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        connection.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - began < 8:
            connection.sendall(b"1\r\nx\r\n")
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                continue
    assert sockets.status(answer) == 408
    assert time.monotonic() - began < 5


def test_an_idle_connection_is_closed_and_a_used_one_kept(server) -> None:
    with sockets.connect(server.port) as connection:
        for _ in range(3):
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b"200 OK" in connection.recv(1000)
            time.sleep(0.3)
        began = time.monotonic()
        assert sockets.read_all(connection) == b""
    assert 1 < time.monotonic() - began < 5


def test_connections_are_capped() -> None:
    limits = dataclasses.replace(QUICK, max_connections=3, header_seconds=3)
    with sockets.running(echo, limits=limits) as run:
        held = [sockets.connect(run.port) for _ in range(3)]
        run.wait_for(lambda: len(run.server.server_state.connections) == 3)
        answer = sockets.exchange(run.port, b"")
        assert sockets.status(answer) == 503
        assert b"Retry-After: 1" in answer
        for each in held:
            each.close()
        run.wait_for(lambda: not run.server.server_state.connections)
        assert sockets.status(sockets.exchange(run.port, b"GET / HTTP/1.1\r\n\r\n")) == 200


def test_calls_in_flight_are_capped_and_documents_still_answered() -> None:
    limits = dataclasses.replace(QUICK, max_in_flight=2)
    with sockets.running(echo, limits=limits) as run:
        held = [sockets.connect(run.port) for _ in range(2)]
        for each in held:
            each.sendall(b"POST /?sleep=1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        run.wait_for(lambda: run.shell.load.in_flight == 2)
        refused = sockets.exchange(run.port, b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert sockets.status(refused) == 503
        assert b"Retry-After: 1" in refused
        assert sockets.status(sockets.exchange(run.port, b"GET / HTTP/1.1\r\n\r\n")) == 200
        assert all(b"200 OK" in each.recv(1000) for each in held)
        for each in held:
            each.close()
        run.wait_for(lambda: run.shell.load == http_limits.Load())


def test_bodies_that_wait_share_one_memory() -> None:
    limits = dataclasses.replace(QUICK, max_buffered_bytes=150_000, body_grace_seconds=20)
    with sockets.running(echo, limits=limits) as run:
        first = sockets.connect(run.port)
        first.sendall(b"POST / HTTP/1.1\r\nContent-Length: 90001\r\n\r\n" + b"x" * 90_000)
        run.wait_for(lambda: run.shell.load.buffered > 80_000)
        second = sockets.exchange(run.port, b"POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90_000)
        assert sockets.status(second) == 503
        first.sendall(b"x")
        assert b"200 OK" in first.recv(1000)
        first.close()


def test_a_missing_token_is_refused_before_the_body_is_read(tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text("radiology 0123456789abcdef\n")
    with sockets.running(echo, limits=QUICK, tokens=access.Tokens(path)) as run:
        with sockets.connect(run.port) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 90000\r\nExpect: 100-continue\r\n\r\n")
            answer = sockets.read_all(connection)
        assert sockets.status(answer) == 401
        assert b"Www-Authenticate: Basic" in answer
        good = b"GET / HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n"
        assert sockets.status(sockets.exchange(run.port, good)) == 200
        run.wait_for(lambda: len(run.calls) == 2)
        assert [(call.user, call.status, call.received) for call in run.calls] == [("", 401, 0), ("radiology", 200, 0)]


def test_a_reader_that_stops_reading_is_dropped() -> None:
    async def large(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000000")]})
        await send({"type": "http.response.body", "body": b"x" * 50_000_000})

    limits = dataclasses.replace(QUICK, write_seconds=1)
    with sockets.running(large, limits=limits) as run, sockets.connect(run.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        run.wait_for(lambda: run.server.server_state.connections)
        run.wait_for(lambda: not run.server.server_state.connections)


def test_stopping_lets_calls_end_and_takes_no_more() -> None:
    with sockets.running(echo, limits=QUICK) as run:
        with sockets.connect(run.port) as connection, sockets.connect(run.port):
            connection.sendall(b"POST /?sleep=1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            run.wait_for(lambda: run.shell.load.in_flight == 1)
            run.server.should_exit = True
            run.thread.join(timeout=0.5)
            with pytest.raises(ConnectionRefusedError):
                sockets.connect(run.port)
            assert b"200 OK" in sockets.read_all(connection)
        run.thread.join(timeout=3)
        assert not run.thread.is_alive()
