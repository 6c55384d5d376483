"""What is counted and written down of a gRPC call, on a real port."""

from __future__ import annotations

import concurrent.futures
import io
import json
import pathlib

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from medkeras.serving import access, access_log, grpc_noted, metrics, status
from tests.serving import sockets, stubs

TOKEN = "0123456789abcdef"


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, registry) -> None:
        self.registry = registry

    def Predict(self, request, context):  # noqa: N802
        try:
            with self.registry.lease(request.model_spec.name) as lease:
                lease.servable.run("", {"x": np.zeros(5)}, ["x"])
                return predict_pb2.PredictResponse()
        except status.StatusError as error:
            context.abort(grpc.StatusCode[error.code.name], error.message)


@pytest.fixture
def served(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"tester {TOKEN}\n")
    tokens, stream = access.Tokens(path), io.StringIO()
    measured, log = metrics.Metrics(known={"brain"}.__contains__), access_log.AccessLog(stream)
    guards = [grpc_noted.Interceptor(log, measured, tokens.user), access.GrpcTokens(tokens)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), interceptors=guards)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(grpc_noted.Registry(stubs.Registry(), measured)), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel), measured, log, stream
    server.stop(0).wait()


def asked(stub, model: str, **metadata: str) -> grpc.StatusCode:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    try:
        stub.Predict(request, metadata=tuple(metadata.items()), timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_calls_are_counted_and_written_down(served) -> None:
    stub, measured, log, stream = served
    good = {"authorization": f"Bearer {TOKEN}", "x-request-id": "mine"}
    assert asked(stub, "brain", **good) is grpc.StatusCode.OK
    assert asked(stub, "JOHN", **good) is grpc.StatusCode.NOT_FOUND
    assert asked(stub, "brain") is grpc.StatusCode.UNAUTHENTICATED
    log.close()
    text = measured.text().decode().splitlines()
    assert ':tensorflow:serving:request_count{model_name="brain",status="OK"} 1' in text
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 1' in text
    assert ':tensorflow:serving:request_example_count_total{model_name="brain"} 5' in text
    assert any(':request_latency_count{model_name="brain",API="Predict",entrypoint="GRPC"} 1' in line for line in text)
    assert any(':runtime_latency_count{model_name="brain",API="Predict",runtime="TF1"} 1' in line for line in text)
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    wanted = ("request_id", "user", "method", "route", "model", "version", "status")
    assert [first[name] for name in wanted] == [
        *("mine", "tester", "GRPC", "/tensorflow.serving.PredictionService/Predict", "brain", 3, 200)
    ]
    assert (second["model"], second["status"]) == ("", 404)
    assert (third["user"], third["status"]) == ("", 401)
    assert "JOHN" not in stream.getvalue()


def test_tls_is_spoken_on_this_port_too(tmp_path) -> None:
    chosen = sockets.make_certificate(tmp_path, "a")
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    registry = grpc_noted.Registry(stubs.Registry(), metrics.Metrics())
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(registry), server)
    port = server.add_secure_port("127.0.0.1:0", access.certificate(chosen).credentials())
    server.start()
    trusted = grpc.ssl_channel_credentials(pathlib.Path(chosen.tls_certificate).read_bytes())
    with grpc.secure_channel(f"localhost:{port}", trusted) as channel:
        assert asked(prediction_service_pb2_grpc.PredictionServiceStub(channel), "brain") is grpc.StatusCode.OK
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        assert asked(prediction_service_pb2_grpc.PredictionServiceStub(channel), "brain") is grpc.StatusCode.UNAVAILABLE
    server.stop(0).wait()
