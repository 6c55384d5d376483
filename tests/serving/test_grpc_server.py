"""The gRPC port: deadlines, bounds, long messages, health, reload, faults of ours."""

from __future__ import annotations

import re
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from medkeras import errors
from medkeras.serving import grpc_server, options, status
from tests.serving import registries, test_process


def slow(x):
    time.sleep(float(x.sum()))
    return {"y": x}


def fail(x):
    raise ZeroDivisionError("/secret/path")


def refuse(x):
    raise status.invalid("long " * 1000)


class Reloads:
    def __init__(self) -> None:
        self.taken: list[model_server_config_pb2.ModelServerConfig] = []

    def reload(self, config) -> None:
        if config.model_config_list.config[0].name == "bad":
            raise status.StatusError(status.Code.UNKNOWN, "1 servable(s) did not become available")
        self.taken.append(config)


def model() -> registries.NumPyModel:
    functions = {"slow": slow, "fail": fail, "refuse": refuse, "serving_default": lambda x: {"y": 2 * x}}
    kinds = {"x": "float"}, {"y": "float"}
    return registries.NumPyModel(**{name: registries.Signature(*kinds, each) for name, each in functions.items()})


@pytest.fixture
def serve():
    """Starts a server of the model with some options; returns its channel and the model."""
    started = []

    def call(*, reloads=None, **flags):
        chosen = options.from_flags({"port": test_process.free_port(), **flags})
        asked = model()
        server = grpc_server.build(registries.Versions({"m": {1: asked}}), reloads or Reloads(), chosen)
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{chosen.port}")
        started.append((server, channel))
        return channel, asked

    yield call
    for server, channel in started:
        channel.close()
        server.stop(None).wait()


def predict(channel, x, signature="", *, timeout=None):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", signature
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.asarray(x, np.float32)))
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout)


def refused(call) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("content", [False, True])
def test_answers_are_typed_values_or_content(serve, content) -> None:
    channel, _ = serve(enable_serialization_as_tensor_content=content)
    answer = predict(channel, [1, 2]).outputs["y"]
    assert (answer.tensor_content, list(answer.float_val)) == (
        (np.float32([2, 4]).tobytes(), []) if content else (b"", [2, 4])
    )


def test_the_clients_deadline_is_the_runs(serve) -> None:
    channel, asked = serve()
    predict(channel, [1.0], timeout=50)
    assert asked.timeout is not None
    assert 0 < asked.timeout <= 50
    predict(channel, [1.0])
    assert asked.timeout is None
    assert refused(lambda: predict(channel, [5.0], "slow", timeout=0.3))[0] == "DEADLINE_EXCEEDED"


def test_one_call_too_many_is_refused_at_once(serve) -> None:
    channel, _ = serve(max_in_flight=1)
    busy = threading.Thread(target=lambda: predict(channel, [1.5], "slow"))
    busy.start()
    time.sleep(0.4)
    began = time.monotonic()
    assert refused(lambda: predict(channel, [1.0]))[0] == "RESOURCE_EXHAUSTED"
    assert time.monotonic() - began < 1
    busy.join()
    assert list(predict(channel, [1.0]).outputs["y"].float_val) == [2]


def test_a_message_that_is_too_large(serve) -> None:
    channel, _ = serve(max_body_bytes=1000)
    assert refused(lambda: predict(channel, np.zeros(1000)))[0] == "RESOURCE_EXHAUSTED"
    assert list(predict(channel, [1.0]).outputs["y"].float_val) == [2]


def test_a_long_refusal_is_cut(serve) -> None:
    channel, _ = serve()
    code, message = refused(lambda: predict(channel, [1.0], "refuse"))
    assert code == "INVALID_ARGUMENT"
    assert message == f"{('long ' * 1000)[:1024]}...TRUNCATED"


def test_a_fault_of_ours_says_nothing_of_itself_but_its_type_to_the_operator(serve, caplog) -> None:
    channel, _ = serve()
    assert refused(lambda: predict(channel, [1.0], "fail")) == ("INTERNAL", "The server failed")
    (told,) = [record.getMessage() for record in caplog.records if record.name.startswith("medkeras")]
    assert re.fullmatch(r"gRPC call: \w+", told)


@pytest.mark.parametrize("name", ["", "ModelService", "PredictionService"])
def test_health_is_told_where_it_is_asked_for(serve, name) -> None:
    request = health_pb2.HealthCheckRequest(service=name)
    channel, _ = serve(enable_grpc_healthcheck_service=True)
    answer = health_pb2_grpc.HealthStub(channel).Check(request)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    channel, _ = serve()
    assert refused(lambda: health_pb2_grpc.HealthStub(channel).Check(request))[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ('model_config_list { config { name: "n" base_path: "/n" model_platform: "tensorflow" } }', "OK", ""),
        ('model_config_list { config { name: "bad" } }', "UNKNOWN", "1 servable(s) did not become available"),
        ("", "INVALID_ARGUMENT", "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfig"),
    ],
)
def test_reload(serve, config, code, message) -> None:
    reloads = Reloads()
    channel, _ = serve(reloads=reloads)
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    if code == "OK":
        stub.HandleReloadConfigRequest(request)
        assert reloads.taken == [request.config]
    else:
        told = refused(lambda: stub.HandleReloadConfigRequest(request))
        assert told[0] == code
        assert told[1].startswith(message)
        assert reloads.taken == []


def test_a_port_that_is_taken() -> None:
    chosen = options.from_flags({"port": test_process.free_port()})
    first = grpc_server.build(registries.Versions({}, {}), Reloads(), chosen)
    with pytest.raises(errors.ConfigError, match="its own and free"):
        grpc_server.build(registries.Versions({}, {}), Reloads(), chosen)
    first.stop(None).wait()


def test_a_unix_socket(tmp_path) -> None:
    place = tmp_path / "socket"
    chosen = options.from_flags({"port": 0, "grpc_socket_path": str(place)})
    server = grpc_server.build(registries.Versions({"m": {1: model()}}), Reloads(), chosen)
    server.start()
    with grpc.insecure_channel(f"unix:{place}") as channel:
        assert list(predict(channel, [3.0]).outputs["y"].float_val) == [6]
    server.stop(None).wait()
