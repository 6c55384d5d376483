"""All that TensorFlow Serving was measured to answer, over a socket: what its HTTP server said before the API too."""

from __future__ import annotations

import http.client
import io

import pytest

from medkeras.serving import access_log, metrics, options, process, rest
from tests.serving import golden, sockets

PROMETHEUS = "/monitoring/prometheus/metrics"
VECTORS = golden.load()


@pytest.fixture(scope="module")
def port(golden_registry):
    chosen = options.Options()
    parts = process.Parts(
        chosen,
        golden_registry,
        lambda request, registry: rest.answer(request, registry, chosen),
        metrics.Metrics(),
        access_log.AccessLog(io.StringIO()),
        metrics_path=PROMETHEUS,
    )
    with sockets.serving(parts) as run:
        yield run.port


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_the_server_answers_as_measured(port, vector) -> None:
    connection = http.client.HTTPConnection(sockets.HOST, port, timeout=60)
    asked = vector.request
    body = asked.body if asked.method not in ("GET", "HEAD") else None
    connection.request(asked.method, asked.target, body=body, headers=dict(asked.headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == vector.status
    assert answer.getheader("Content-Type") == vector.content_type
    if vector.id == "prom":
        assert b":tensorflow:serving:request_count{" in content
    else:
        assert vector.answered(content) == vector.expected


def test_none_is_left_out(golden_folder) -> None:
    assert len(VECTORS) == 263
