"""The requests that a version answers before anybody else may ask it: `assets.extra/tf_serving_warmup_requests`.

Reference: TensorFlow Serving's `servables/tensorflow/saved_model_warmup.cc`.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from medkeras.serving import grpc_protocol, servable, status

FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
MOST_RECORDS = 1000
_NAME = "warmup"


def run(model: servable.Servable, folder: pathlib.Path, *, iterations: int = 1) -> int:
    """Lets a version answer its own requests.

    Args:
        model: The version.
        folder: Where it lies.
        iterations: How often it answers each.

    Returns:
        Number of requests, 0 where the version has none.

    Raises:
        StatusError: A request is not answered, or the file is not what it should be: the version is not to be served.
    """
    path = folder / FILE
    if not path.is_file():
        return 0
    registry, count = _Only(model), 0
    for record in _records(path):
        count += 1
        if count > MOST_RECORDS:
            where = pathlib.PurePath(folder.name, FILE)
            raise status.invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {where}")
        log = _parsed(record)
        for _ in range(iterations):
            _answer(log, registry)
    return count


class _Only:
    """A registry of one version, whatever is asked for: records do not know under which name they will be served."""

    def __init__(self, model: servable.Servable) -> None:
        self._model = model

    def names(self) -> Sequence[str]:
        return (_NAME,)

    @contextlib.contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[servable.Lease]:
        del name, version, label
        yield servable.Lease(_NAME, 0, self._model)

    def states(self, name: str, version: int | None = None) -> Sequence[servable.VersionState]:
        del name, version
        return (servable.VersionState(0, "LOADING"),)


def _records(path: pathlib.Path) -> Iterator[bytes]:
    try:
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        what = error.message.partition(" [Op:")[0].rpartition("} ")[2]
        raise status.StatusError(
            status.Code.DATA_LOSS, f"{what}. Please verify your warmup data is in TFRecord format."
        ) from None
    except tf.errors.OpError as error:
        raise status.StatusError(status.Code(error.error_code), "The warm-up requests cannot be read") from None


def _parsed(record: bytes) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError:
        raise status.invalid("Failed to parse warmup record: it is no PredictionLog") from None


def _answer(log: prediction_log_pb2.PredictionLog, registry: servable.Registry) -> None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    if kind not in _ANSWERS:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise status.StatusError(status.Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    request = getattr(log, kind).request
    for spec in [task.model_spec for task in request.tasks] if kind == "multi_inference_log" else [request.model_spec]:
        spec.name = _NAME
        spec.ClearField("version_choice")
    _ANSWERS[kind](request, registry)


_ANSWERS: dict[str, Any] = {
    "predict_log": grpc_protocol.predict,
    "classify_log": grpc_protocol.classify,
    "regress_log": grpc_protocol.regress,
    "multi_inference_log": grpc_protocol.multi_inference,
}
