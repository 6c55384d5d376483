"""Warm-up: what a version answers before it is served, and what keeps it from being served."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from medkeras.serving import engine, status, warmup
from tests.serving import registries


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    class Checked(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def check(self, x):
            return {"y": tf.debugging.check_numerics(x, "bad number")}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def value(self, inputs):
            parsed = tf.io.parse_example(inputs, {"p": tf.io.FixedLenFeature([1], tf.float32)})
            return {"outputs": parsed["p"]}

    place = tmp_path_factory.mktemp("warm") / "1"
    checked = Checked()
    signatures = {"serving_default": checked.check, "value": checked.value}
    tf.saved_model.save(checked, str(place), signatures=signatures)
    return Counting(engine.Loaded(place, intra_op_threads=1))


class Counting:
    def __init__(self, inner) -> None:
        self.inner, self.signatures, self.calls = inner, inner.signatures, []

    def run(self, signature, feeds, outputs, *, timeout=None):
        self.calls.append(signature)
        return self.inner.run(signature, feeds, outputs, timeout=timeout)


def predict(x, *, name="", signature="", version=0) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version:
        request.model_spec.version.value = version
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    return log


def regress(**features) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.regress_log.request.model_spec.signature_name = "value"
    example = log.regress_log.request.input.example_list.examples.add()
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)
    return log


@pytest.fixture
def write(tmp_path):
    def call(*logs):
        path = tmp_path / "7" / warmup.FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for log in logs:
                writer.write(log if isinstance(log, bytes) else log.SerializeToString())
        return tmp_path / "7"

    return call


@pytest.mark.parametrize("iterations", [1, 3])
def test_each_request_is_answered_whatever_name_and_version_it_has(model, write, iterations) -> None:
    model.calls.clear()
    folder = write(predict(np.float32([1])), predict(np.float32([2]), name="other", version=9), regress(p=1.0))
    assert warmup.run(model, folder, iterations=iterations) == 3
    assert model.calls == [each for each in ("serving_default", "serving_default", "value") for _ in range(iterations)]


def test_no_file_an_empty_file_and_an_empty_record(model, write, tmp_path) -> None:
    assert warmup.run(model, tmp_path) == 0
    assert warmup.run(model, write()) == 0
    assert warmup.run(model, write(b"")) == 1


def test_a_thousand_records_and_one_more(write) -> None:
    model = registries.NumPyModel()
    assert warmup.run(model, write(*[b""] * 1000)) == 1000
    with pytest.raises(status.StatusError) as caught:
        warmup.run(model, write(*[b""] * 1001))
    assert caught.value.code is status.Code.INVALID_ARGUMENT
    assert caught.value.message == (
        "Number of warmup records exceeds the maximum (1000) at 7/assets.extra/tf_serving_warmup_requests"
    )


@pytest.mark.parametrize(
    ("log", "code", "message"),
    [
        (predict(np.float32([np.nan])), "INVALID_ARGUMENT", "bad number"),
        (predict(np.array([b"a"], object)), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
        (predict(np.float32([1]), signature="nope"), "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        (regress(), "INVALID_ARGUMENT", ""),
        (b"\xff\xff\xff", "INVALID_ARGUMENT", "Failed to parse"),
        (
            prediction_log_pb2.PredictionLog(session_run_log=prediction_log_pb2.SessionRunLog()),
            "UNIMPLEMENTED",
            "Unsupported log_type for warmup: 5",
        ),
    ],
)
def test_one_request_that_fails_fails_the_version(model, write, log, code, message) -> None:
    folder = write(predict(np.float32([1])), log)
    with pytest.raises(status.StatusError) as caught:
        warmup.run(model, folder)
    assert caught.value.code.name == code
    assert caught.value.message.startswith(message)


def test_a_file_that_holds_no_records(model, write) -> None:
    folder = write(b"")
    (folder / warmup.FILE).write_bytes(b"these are not the records you are looking for")
    with pytest.raises(status.StatusError) as caught:
        warmup.run(model, folder)
    assert caught.value.code is status.Code.DATA_LOSS
    assert caught.value.message.endswith("Please verify your warmup data is in TFRecord format.")
    assert str(folder) not in caught.value.message
