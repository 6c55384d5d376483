"""What a request meets behind the socket, over real sockets, with a model that is a function."""

from __future__ import annotations

import http.client
import io
import json
import ssl
import time

import pytest
from starlette import responses, routing

from medkeras.serving import access, access_log, metrics, noted, options, process
from tests.serving import sockets, stubs

MONITORED = "/monitoring/prometheus/metrics"
TOKEN = "0123456789abcdef"


def parts(**changes) -> process.Parts:
    settings = {
        "chosen": options.Options(),
        "registry": stubs.Registry(),
        "answer": stubs.answer,
        "measured": metrics.Metrics(known={"brain"}.__contains__),
        "log": access_log.AccessLog(io.StringIO()),
        "pages": [
            routing.Route("/", lambda _: responses.PlainTextResponse("the page")),
            routing.Route("/page/models", lambda _: responses.PlainTextResponse("[]")),
        ],
    }
    return process.Parts(**settings | changes)


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, method, target, body=None, **headers) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(sockets.HOST, self.port, timeout=20)
        connection.request(method, target, body=body, headers=headers)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found


@pytest.fixture(scope="module")
def monitored():
    made = parts(
        chosen=options.Options(rest_api_timeout_in_ms=300, rest_api_num_threads=2, max_in_flight=2),
        metrics_path=MONITORED,
    )
    with sockets.serving(made) as run:
        yield made, Client(run.port)


@pytest.fixture(scope="module")
def client(monitored):
    return monitored[1]


def test_a_call_reaches_the_protocol_as_it_was_sent(client) -> None:
    status, headers, body = client("POST", "/v1/models/brain:predict", b"hello")
    assert (status, json.loads(body)) == (200, {"method": "POST", "version": 3, "body": "hello"})
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "target", ["/v1", "/v2/models/brain", "/metrics", "/monitoring/prometheus/", "/favicon.ico", "*"]
)
def test_what_is_not_the_api_is_libevents_page(client, target) -> None:
    status, headers, body = client("GET", target)
    assert (status, headers["Content-Type"], headers["Connection"]) == (404, "text/html", "close")
    assert body == b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


def test_the_root_is_a_page_for_browsers_and_nothing_for_programs(client) -> None:
    assert client("GET", "/")[0] == 404
    status, _, body = client("GET", "/", Accept="text/html,application/xhtml+xml")
    assert (status, body) == (200, b"the page")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "127.0.0.1:1"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1:1", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "127.0.0.1:1", "Origin": "https://evil.example"}, 403),
    ],
)
def test_other_sites_do_not_reach_the_page(client, headers, expected) -> None:
    assert client("GET", "/page/models", **headers)[0] == expected


@pytest.mark.parametrize(
    ("origin", "expected"), [("http://a.example", 200), ("https://a.example", 200), ("null", 400), (None, 400)]
)
def test_preflight_without_cross_origin_support(client, origin, expected) -> None:
    headers = {"Origin": origin} if origin else {}
    status, headers, body = client("OPTIONS", "/v1/models/brain:predict", b"{}", **headers)
    assert (status, body) == (expected, b"")
    assert headers["Content-Type"] == "text/html; charset=ISO-8859-1"
    assert not any("access-control" in name.lower() for name in headers)


def test_cross_origin_support_adds_its_headers_to_every_answer() -> None:
    with sockets.serving(parts(chosen=options.Options(rest_api_enable_cors_support=True))) as run:
        client = Client(run.port)
        asked = [
            client("OPTIONS", "/v1/models/brain:predict", Origin="null"),
            client("OPTIONS", "/v1/models/brain:predict", Origin="http://a.example"),
            client("POST", "/v1/models/brain:predict", b""),
            client("POST", "/v1/models/none:predict", b""),
        ]
    assert [status for status, _, _ in asked] == [400, 200, 200, 404]
    for _, headers, _ in asked:
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Access-Control-Allow-Methods"] == "POST, GET"
        assert headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_a_call_that_takes_too_long_is_given_up_and_counted_until_its_thread_is_free(client) -> None:
    began = time.monotonic()
    status, _, body = client("POST", "/v1/models/brain:predict", b"sleep=0.9")
    assert (status, json.loads(body)) == (504, {"error": "Timed out waiting for notification"})
    assert time.monotonic() - began < 0.8
    assert client("POST", "/v1/models/brain:predict", b"sleep=0.9")[0] == 504
    assert client("POST", "/v1/models/brain:predict", b"")[0] == 503
    assert client("GET", "/v1/models/brain")[0] == 200
    time.sleep(1.2)
    assert client("POST", "/v1/models/brain:predict", b"")[0] == 200


def test_a_failure_inside_does_not_show_itself(client) -> None:
    status, _, body = client("POST", "/v1/models/brain:predict", b"fail")
    assert (status, json.loads(body)) == (500, {"error": "Internal error"})


def test_prometheus_reads_what_was_counted(client) -> None:
    client("POST", "/v1/models/brain:predict", b"")
    client("POST", "/v1/models/made-up:predict", b"")
    status, headers, body = client("GET", MONITORED)
    assert (status, headers["Content-Type"]) == (200, "text/plain")
    lines = body.decode().splitlines()
    assert any(line.startswith(':tensorflow:serving:request_count{model_name="brain",status="OK"} ') for line in lines)
    assert any(line.startswith(':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"}') for line in lines)
    assert not any("made-up" in line for line in lines)


def test_prometheus_takes_no_query(client) -> None:
    status, headers, body = client("GET", f"{MONITORED}?x=1")
    assert (status, headers["Content-Type"]) == (400, "text/plain")
    assert body.decode() == f"Unexpected path: {MONITORED}?x=1. Should be {MONITORED}"


def test_nothing_is_monitored_unless_asked() -> None:
    with sockets.serving(parts()) as run:
        assert Client(run.port)("GET", MONITORED)[0] == 404


def test_every_route_wants_a_token_once_there_are_tokens(tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"a {TOKEN}\n")
    with sockets.serving(parts(tokens=access.Tokens(path), metrics_path=MONITORED)) as run:
        client = Client(run.port)
        targets = ["/v1/models/brain:predict", "/v1/models/brain", "/", "/page/models", MONITORED, "/none", "/v1"]
        for method in ("GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE"):
            assert {client(method, target)[0] for target in targets} == {401}
        allowed = [client("GET", target, Authorization=f"Bearer {TOKEN}", Accept="text/html")[0] for target in targets]
    assert allowed == [200, 200, 200, 200, 200, 404, 404]


def test_the_access_log_knows_the_model_and_nothing_of_the_request() -> None:
    stream = io.StringIO()
    made = parts(log=access_log.AccessLog(stream))
    with sockets.serving(made) as run:
        client = Client(run.port)
        client("POST", "/v1/models/brain:predict", b"JOHN DOE", **{"X-Request-Id": "r-1"})
        client("POST", "/v1/models/JOHN-DOE:predict", b"")
        client("GET", "/JOHN/DOE?name=JOHN")
    made.log.close()
    assert "JOHN" not in stream.getvalue()
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    wanted = ("request_id", "method", "route", "model", "version", "status", "received")
    assert [first[name] for name in wanted] == [
        "r-1", "POST", "/v1/models/{model}:predict", "brain", 3, 200, 8
    ]  # fmt: skip
    assert (second["status"], second["model"], second["route"]) == (404, "", "/v1/models/{model}:predict")
    assert (third["status"], third["route"]) == (404, "")


def test_tls(tmp_path) -> None:
    chosen = sockets.make_certificate(tmp_path, "a")
    found = access.certificate(chosen)
    trusting = ssl.create_default_context(cafile=chosen.tls_certificate)
    with sockets.serving(parts(tls=found.context())) as run:
        connection = http.client.HTTPSConnection("localhost", run.port, context=trusting, timeout=20)
        connection.request("POST", "/v1/models/brain:predict", body=b"x" * 100_000)
        assert len(json.loads(connection.getresponse().read())["body"]) == 100_000
        connection.request("GET", "/none")
        assert connection.getresponse().status == 404
        connection.close()
        assert sockets.exchange(run.port, b"GET / HTTP/1.1\r\n\r\n") == b""
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(chosen.tls_certificate)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError), sockets.connect(run.port) as plain:
            old.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("POST", "/v1/models/a:predict", ("/v1/models/{model}:predict", "predict")),
        ("POST", "/v1/models/a/labels/b:regress", ("/v1/models/{model}/labels/{label}:regress", "regress")),
        ("GET", "/v1/models/a/versions/3/metadata", ("/v1/models/{model}/versions/{version}/metadata", "")),
        ("GET", "/v1/models/a", ("/v1/models/{model}", "")),
        ("POST", "/v1/models/a:explain", ("/v1", "")),
        ("GET", "/v1/models/a/b/c", ("/v1", "")),
        ("PUT", "/v1/models/a:predict", ("/v1", "")),
    ],
)
def test_routes_name_no_model(method, target, expected) -> None:
    assert noted.route(method, target) == expected


TRAVERSALS = [
    f"{start}{prefix}{dots * 8}{end}"
    for start in ("/", "/v1/models/", "/page/", "/v1/models/brain/versions/")
    for prefix, dots, end in (
        ("", "../", "etc/passwd"),
        ("", "..%2f", "etc%2fpasswd"),
        ("", "%2e%2e/", "etc/passwd"),
        ("", "%252e%252e%252f", "etc/passwd"),
        ("", "..%5c", "windows/win.ini"),
        ("", "....//", "etc/passwd"),
        ("", "..;/", "etc/passwd"),
        ("", "%c0%ae%c0%ae/", "etc/passwd"),
        ("page.css/", "../", "etc/passwd"),
        ("", "..%00/", "etc/passwd%00.css"),
    )
]


@pytest.mark.parametrize("target", TRAVERSALS)
def test_no_path_leads_out(client, target) -> None:
    status, _, body = client("GET", target, Accept="text/html")
    assert 400 <= status < 500
    assert b"root:" not in body
