"""gRPC over a socket against what was measured of TensorFlow Serving, request by request."""

from __future__ import annotations

import json
import re

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from medkeras.serving import grpc_server, options
from tests.serving import golden, test_process

F, REGRESS, CLASSIFY = np.float32, "tensorflow/serving/regress", "tensorflow/serving/classify"
# Models whose folder is not kept beside the measurements.
ABSENT = {"counter.by": "the model counter is not there"}


def predict(name, signature="", version=None, label="", filters=(), **inputs):
    request = predict_pb2.PredictRequest()
    spec(request.model_spec, name, signature, version=version, label=label)
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(filters)
    return request


def spec(message, name, signature="", *, version=None, label="") -> None:
    message.name, message.signature_name = name, signature
    message.SetInParent()
    if version is not None:
        message.version.value = version
    if label:
        message.version_label = label


def with_examples(kind, name, signature="", *, examples=(), context=None):
    request = kind()
    spec(request.model_spec, name, signature)
    target = request.input.example_list
    if context:
        target = request.input.example_list_with_context
        add(target.context, context)
    for features in examples:
        add(target.examples.add(), features)
    return request


def add(example, features) -> None:
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)


def multi(*tasks, examples=({"x": 2.0},)):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        spec(request.tasks.add(method_name=method).model_spec, name, signature)
    for features in examples:
        add(request.input.example_list.examples.add(), features)
    return request


def metadata(name=None, fields=("signature_def",), label=""):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        spec(request.model_spec, name, label=label)
    return request


def states(name=None, label=""):
    request = get_model_status_pb2.GetModelStatusRequest()
    if name is not None:
        spec(request.model_spec, name, label=label)
    return request


def broken():
    request = predict("half", x=F([1, 2]))
    request.inputs["x"].tensor_content = b"\x00"
    return request


CLASSIFICATION, REGRESSION = classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest
X2 = ({"x": 2.0},)
REQUESTS = {
    "ok": predict("half", x=F([2])),
    "ok.filter": predict("half", x=F([2]), filters=["y"]),
    "emptyname": predict("", x=F([2])),
    "unknown.ver": predict("half", version=9, x=F([2])),
    "label": predict("two", label="stable", x=F([2])),
    "sig.unknown": predict("half", "nope", x=F([2])),
    "extra": predict("half", x=F([2]), z=F([2])),
    "filter.unknown": predict("half", x=F([2]), filters=["zz"]),
    "dtype.str": predict("half", x=np.array([b"a"], object)),
    "dtype.bool": predict("half", x=np.array([True])),
    "scalar": predict("half", x=F(2)),
    "empty.batch": predict("half", x=np.zeros(0, F)),
    "proto.bad2": broken(),
    "three.big": predict("half", x=F([0, 1, 2])),
    "multi.missing": predict("multi", a=F([[1, 2]])),
    "scal": predict("multi", "scal", a=F([1, 2])),
    "chk.nan": predict("multi", "chk", a=F([np.nan])),
    "bf16u16": predict("types", "uint16", x=np.uint16([5])),
    "cplx": predict("multi", "cplx", a=F([1])),
    "counter.by": predict("counter", "incr_counter_by", delta=F(3)),
    "c.ok": with_examples(CLASSIFICATION, "half", "classify_x_to_y", examples=X2),
    "c.default": with_examples(CLASSIFICATION, "half", examples=X2),
    "c.empty": with_examples(CLASSIFICATION, "half", "classify_x_to_y"),
    "c.unknown": with_examples(CLASSIFICATION, "foo", examples=X2),
    "r.ok": with_examples(REGRESSION, "half", "regress_x_to_y", examples=X2),
    "r.default": with_examples(REGRESSION, "half", examples=X2),
    "r.ctx": with_examples(REGRESSION, "multi", "reg", examples=({}, {}), context={"p": 1.5}),
    "mi.empty": multi(),
    "mi.two": multi(("half", "regress_x_to_y", REGRESS), ("two", "regress_x_to_y", REGRESS)),
    "mi.sig": multi(("half", "nope", REGRESS)),
    "mi.noinput": multi(("half", "regress_x_to_y", REGRESS), examples=()),
    "md.nospec": metadata(),
    "md.nofield": metadata("half", ()),
    "md.unknown": metadata("foo"),
    "md.label": metadata("two", label="nope"),
    "st.nospec": states(),
    "st.unknown": states("foo"),
    "st.label": states("two", "nope"),
    "st.all": states("two"),
}


class NoReload:
    def reload(self, config) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def stubs(golden_registry):
    chosen = options.Options(port=test_process.free_port(), rest_api_port=0)
    server = grpc_server.build(golden_registry, NoReload(), chosen)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{chosen.port}") as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )
    server.stop(None).wait()


def measured() -> list[dict]:
    path = golden.FOLDER / "golden_grpc.json"
    return json.loads(path.read_text()) if path.is_file() else []


def test_there_is_a_request_for_each_answer(golden_folder) -> None:
    assert [vector["id"] for vector in measured()] == list(REQUESTS)


@pytest.mark.parametrize("vector", measured(), ids=lambda vector: vector["id"])
def test_answers_are_those_that_were_measured(stubs, vector) -> None:
    if vector["id"] in ABSENT:
        pytest.skip(ABSENT[vector["id"]])
    code, message, response = asked(stubs, vector["rpc"], REQUESTS[vector["id"]])
    assert code == vector["code"]
    assert told(message) == told(vector["message"].encode().decode("unicode_escape"))
    assert response is None or response == text_format.Parse(vector["response"], type(response)())


def asked(stubs, rpc, request):
    (stub,) = (each for each in stubs if hasattr(each, rpc))
    try:
        return "OK", "", getattr(stub, rpc)(request, timeout=20)
    except grpc.RpcError as error:
        return error.code().name, error.details(), None


def told(message: str) -> str:
    """Returns a message up to where it prints a message or names nodes of the graph, which vary by version."""
    return re.split(r": goo\.gle/|\n\t \[\[", message)[0]
