"""`:classify` and `:regress`: JSON objects become `tf.Example`s, and labels and scores, or values, come back.

Reference: TensorFlow Serving's RESTful API, `util/json_tensor.cc`, `servables/tensorflow/{classifier,regressor}.cc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2

from medkeras.serving import (
    inference,
    json_dump,
    json_tensors,
    json_text,
    json_write,
    rest_body,
    rest_predict,
    servable,
    status,
)

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_INT64 = 2**63


def examples(body: rest_body.Body) -> list[bytes]:
    """Returns the serialised examples of a body; each begins with the context, so that its own features win.

    Raises:
        StatusError: There are none, or a feature is of no type or of two.
    """
    context = body.document.find("context")
    shared = b"" if context is json_text.MISSING else _example(context)
    found = body.document.find("examples")
    if found is json_text.MISSING:
        raise body.fault("When method is classify, key 'examples' is expected and was not found")
    if type(found) is not list:
        raise body.fault("Expecting 'examples' value to be an list/array")
    if not found:
        raise body.fault("'examples' value is an empty array")
    return [shared + _example(one) for one in found]


def classify(body: rest_body.Body, inputs: list[bytes], lease: servable.Lease, *, timeout: float | None) -> bytes:
    """Answers a call with the labels and scores of each example.

    Raises:
        StatusError: The signature is unknown or classifies nothing, or the model refuses the examples.
    """
    found = inference.classify(lease.servable, body.signature_or_default, inputs, timeout=timeout)
    return rest_predict.listed("results", _pairs(found))


def regress(body: rest_body.Body, inputs: list[bytes], lease: servable.Lease, *, timeout: float | None) -> bytes:
    """Answers a call with the value of each example.

    Raises:
        StatusError: The signature is unknown or no regression, or the model refuses the examples.
    """
    values = inference.regress(lease.servable, body.signature_or_default, inputs, timeout=timeout)
    return rest_predict.listed("results", json_write.rows(values))


def _example(value: Any) -> bytes:
    if type(value) is not json_text.Object:
        raise status.invalid(f"Example must be JSON object but got JSON {json_dump.type_name(value)}")
    example = example_pb2.Example()
    for name, content in value:
        feature = feature_pb2.Feature()
        for one in content if type(content) is list else [content]:
            _add(one, name, feature)
        example.features.feature[name].CopyFrom(feature)
    return example.SerializeToString()


def _add(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    kind = _kind(value)
    if kind is None:
        raise status.invalid(f"Feature: {name} has element with unexpected JSON type: {json_dump.type_name(value)}")
    known = feature.WhichOneof("kind")
    if known not in (None, kind):
        raise status.invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[known]}")
    if kind == "int64_list" and value >= _INT64:
        raise status.invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    getattr(feature, kind).value.append(_content(value))


def _kind(value: Any) -> str | None:
    if isinstance(value, str) or json_tensors.is_base64(value):
        return "bytes_list"
    if isinstance(value, bool | int):
        return "int64_list"
    return "float_list" if isinstance(value, float) else None


def _content(value: Any) -> bytes | int | float:
    if isinstance(value, str):
        return json_text.encoded(value)
    if isinstance(value, list):
        return json_tensors.base64_bytes(value)
    if isinstance(value, float):
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float32(value))
    return int(value)


def _pairs(found: inference.Classified) -> Sequence[bytes]:
    labels, scores = found.classes, found.scores
    table = labels if scores is None else scores
    shape: tuple[int, ...] = (0, 0) if table is None else table.shape
    if scores is None:
        scores = np.zeros(shape, np.float32)
    texts = json_write.rows(scores.reshape(-1))
    names = [b'""'] * len(texts) if labels is None else json_write.rows(labels.reshape(-1))
    pairs = [b"[" + name + b", " + text + b"]" for name, text in zip(names, texts, strict=True)]
    width = shape[1]
    return [b"[" + b", ".join(pairs[row * width : (row + 1) * width]) + b"]" for row in range(shape[0])]
