"""Who may call, and what is written down of a call."""

from __future__ import annotations

import base64
import datetime
import io
import json
import ssl

import grpc
import pytest

from medkeras import errors
from medkeras.serving import access, access_log, http_limits, options
from tests.serving import sockets

GOOD, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def tokens(tmp_path) -> access.Tokens:
    path = tmp_path / "tokens"
    path.write_text(f"# who\nradiology {GOOD}\n\npathology {OTHER} # theirs\n")
    return access.Tokens(path)


def basic(password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"anyone:{password}".encode())


@pytest.mark.parametrize(
    ("header", "user"),
    [
        (f"Bearer {GOOD}".encode(), "radiology"),
        (f"bearer   {OTHER} ".encode(), "pathology"),
        (basic(OTHER), "pathology"),
        (b"", None),
        (b"Bearer ", None),
        (GOOD.encode(), None),
        (f"Bearer {GOOD}x".encode(), None),
        (f"Bearer {GOOD[:-1]}".encode(), None),
        (f"Token {GOOD}".encode(), None),
        (basic("wrong"), None),
        (b"Basic ***", None),
        (b"Bearer \xff\xfe", None),
    ],
)
def test_tokens(tokens, header, user) -> None:
    assert tokens.user(header) == user


def test_no_token_is_a_401_and_none_is_needed_where_none_are_set(tokens) -> None:
    call = http_limits.Call("id")
    with pytest.raises(http_limits.RefusedError) as refused:
        access.admit(tokens, {}, call)
    assert refused.value.status == 401
    assert dict(refused.value.headers)["WWW-Authenticate"] == 'Basic realm="medkeras", Bearer'
    access.admit(None, {}, call)
    access.admit(tokens, {b"authorization": f"Bearer {GOOD}".encode()}, call)
    assert call.user == "radiology"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one token"),
        ("radiology short", "line 1"),
        (f"{GOOD}", "line 1"),
        (f"\na {GOOD}\na {OTHER}", "'a' again"),
        (f"a {GOOD} {OTHER}", "line 1"),
    ],
)
def test_a_token_file_that_is_none_is_refused_without_showing_a_token(tmp_path, text, words) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match=words) as refused:
        access.Tokens(path)
    assert GOOD not in str(refused.value)
    assert OTHER not in str(refused.value)


def test_a_token_file_that_is_missing_is_named(tmp_path) -> None:
    with pytest.raises(errors.ConfigError, match="absent: No such file"):
        access.Tokens(tmp_path / "absent")


@pytest.mark.parametrize(
    ("headers", "open_loopback", "allowed"),
    [
        ({b"host": b"localhost:8501"}, True, True),
        ({b"host": b"127.0.0.1:8501", b"origin": b"http://127.0.0.1:8501"}, True, True),
        ({b"host": b"[::1]:8501", b"sec-fetch-site": b"same-origin"}, True, True),
        ({b"host": b"localhost", b"sec-fetch-site": b"none"}, True, True),
        ({b"host": b"localhost", b"sec-fetch-site": b"cross-site"}, True, False),
        ({b"host": b"localhost", b"sec-fetch-site": b"same-site"}, True, False),
        ({b"host": b"localhost:8501", b"origin": b"http://evil.example"}, True, False),
        ({b"host": b"localhost:8501", b"origin": b"null"}, True, False),
        ({b"host": b"localhost:8501", b"origin": b"http://localhost:9999"}, True, False),
        ({b"host": b"evil.example:8501", b"origin": b"http://evil.example:8501"}, True, False),
        ({b"host": b"evil.example:8501"}, True, False),
        ({}, True, False),
        ({b"host": b"[::1"}, True, False),
        ({b"host": b"pacs.hospital:8501", b"origin": b"https://pacs.hospital:8501"}, False, True),
    ],
)
def test_other_sites_may_not_call_the_page(headers, open_loopback, allowed) -> None:
    if allowed:
        access.refuse_strangers(headers, open_loopback=open_loopback)
    else:
        with pytest.raises(http_limits.RefusedError) as refused:
            access.refuse_strangers(headers, open_loopback=open_loopback)
        assert refused.value.status == 403


class Details:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.invocation_metadata = metadata


def test_grpc_goes_on_with_a_token_alone(tokens) -> None:
    guard = access.GrpcTokens(tokens)
    assert guard.intercept_service(lambda _: "went on", Details(("authorization", f"Bearer {GOOD}"))) == "went on"
    for details in (Details(), Details(("authorization", "Bearer no"))):
        handler = guard.intercept_service(lambda _: "went on", details)
        assert isinstance(handler, grpc.RpcMethodHandler)


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    for name in ("a", "b"):
        sockets.make_certificate(folder, name)
    return folder


def test_tls_is_1_2_or_newer(pems) -> None:
    chosen = options.Options(tls_certificate=str(pems / "a.pem"), tls_key=str(pems / "a.key"))
    found = access.certificate(chosen)
    assert found.context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert isinstance(found.credentials(), grpc.ServerCredentials)
    assert access.certificate(options.Options()) is None


def test_a_key_of_another_certificate_is_refused(pems) -> None:
    chosen = options.Options(tls_certificate=str(pems / "a.pem"), tls_key=str(pems / "b.key"))
    with pytest.raises(errors.ConfigError, match="its own key"):
        access.certificate(chosen).context()


def test_the_access_log_is_a_json_object_a_line() -> None:
    stream = io.StringIO()
    log = access_log.AccessLog(stream)
    call = access_log.begin("POST", {b"x-request-id": b"mine"})
    call.route, call.model, call.version, call.status, call.seconds = "/v1/models/{model}:predict", "half", 3, 200, 0.01
    for _ in range(100):
        log.add(call)
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 100
    assert list(lines[0]) == [
        *("time", "request_id", "user", "method", "route", "model", "version", "status"),
        *("received", "sent", "milliseconds"),
    ]
    assert lines[0]["milliseconds"] == 10
    assert datetime.datetime.fromisoformat(lines[0]["time"]).tzinfo is not None


def test_ids_are_the_clients_own_or_new_ones() -> None:
    assert access_log.begin("GET", {b"x-request-id": b"abc-1.2_3"}).request_id == "abc-1.2_3"
    made = {access_log.begin("GET", {b"x-request-id": given}).request_id for given in (b"", b"a b", b"x" * 65, b"a\n")}
    assert len(made) == 4
    assert all(len(each) == 16 for each in made)
