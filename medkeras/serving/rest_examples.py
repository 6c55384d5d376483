"""`:classify` and `:regress`: JSON objects become `tf.Example`s, and labels and scores, or values, come back.

Reference: TensorFlow Serving's RESTful API, `util/json_tensor.cc`, `servables/tensorflow/{classifier,regressor}.cc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from medkeras.serving import (
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
_CLASSES = "classes"
_SCORES = "scores"
_INPUTS = "inputs"
_VALUES = "outputs"


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
    signature = _signature(body, lease.servable)
    outputs = _classify_outputs(signature)
    found = lease.servable.run(body.signature_or_default, _feeds(inputs), outputs, timeout=timeout)
    labels, scores = found.get(_CLASSES), found.get(_SCORES)
    _check_table(labels, _CLASSES, len(inputs), dtype=tf.string)
    _check_table(scores, _SCORES, len(inputs), dtype=tf.float32)
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise status.invalid(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return rest_predict.listed("results", _pairs(labels, scores))


def regress(body: rest_body.Body, inputs: list[bytes], lease: servable.Lease, *, timeout: float | None) -> bytes:
    """Answers a call with the value of each example.

    Raises:
        StatusError: The signature is unknown or no regression, or the model refuses the examples.
    """
    signature = _signature(body, lease.servable)
    _check_regression(signature)
    found = lease.servable.run(body.signature_or_default, _feeds(inputs), [_VALUES], timeout=timeout)
    return rest_predict.listed("results", json_write.rows(_values(found[_VALUES], len(inputs))))


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


def _signature(body: rest_body.Body, model: servable.Servable) -> meta_graph_pb2.SignatureDef:
    name = body.signature_or_default
    if name not in model.signatures:
        raise status.invalid(f"No signature was found with the name: {name}")
    signature = model.signatures[name]
    if len(signature.inputs) != 1:
        raise status.invalid("Expected one input Tensor.")
    return signature


def _feeds(inputs: list[bytes]) -> dict[str, np.ndarray]:
    array = np.empty(len(inputs), object)
    array[:] = inputs
    return {_INPUTS: array}


def _classify_outputs(signature: meta_graph_pb2.SignatureDef) -> list[str]:
    if len(signature.outputs) not in (1, 2):
        raise status.invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    _check_input(signature, "classification")
    outputs = [name for name in (_CLASSES, _SCORES) if name in signature.outputs]
    if not outputs:
        raise _refused(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {_shown(signature)}"
        )
    return outputs


def _check_regression(signature: meta_graph_pb2.SignatureDef) -> None:
    if len(signature.outputs) != 1:
        raise status.invalid("Expected one output Tensor.")
    _check_input(signature, "regression")
    if _VALUES not in signature.outputs:
        raise _refused(f"No regression outputs found in SignatureDef: {_shown(signature)}")


def _check_input(signature: meta_graph_pb2.SignatureDef, task: str) -> None:
    if _INPUTS not in signature.inputs:
        raise _refused(f"No {task} inputs found in SignatureDef: {_shown(signature)}")


def _refused(message: str) -> status.StatusError:
    return status.StatusError(status.Code.FAILED_PRECONDITION, message)


def _shown(signature: meta_graph_pb2.SignatureDef) -> str:
    # Protocol buffers' DebugString begins so, lest anybody parses it.
    return f"goo.gle/debugstr  \n{text_format.MessageToString(signature)}"


def _check_table(table: np.ndarray | None, name: str, count: int, *, dtype: tf.DType) -> None:
    if table is None:
        return
    if table.ndim != 2:
        raise status.invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_listed(table)}")
    if tf.as_dtype(table.dtype) != dtype:
        raise status.invalid(f"Expected {name} Tensor of {_dtype(dtype)}. Got: {_dtype(table.dtype)}")
    if len(table) != count:
        raise status.invalid(f"Expected {name} output batch size of {count}. Got: {len(table)}")


def _values(array: np.ndarray, count: int) -> np.ndarray:
    """Returns float32 `[N]`."""
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise status.invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_listed(array)}"
        )
    if len(array) != count:
        raise status.invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if array.dtype != np.float32:
        raise status.invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(array.dtype)}")
    return array.reshape(count)


def _pairs(labels: np.ndarray | None, scores: np.ndarray | None) -> Sequence[bytes]:
    table = labels if scores is None else scores
    shape: tuple[int, ...] = (0, 0) if table is None else table.shape
    if scores is None:
        scores = np.zeros(shape, np.float32)
    texts = json_write.rows(scores.reshape(-1))
    names = [b'""'] * len(texts) if labels is None else json_write.rows(labels.reshape(-1))
    pairs = [b"[" + name + b", " + text + b"]" for name, text in zip(names, texts, strict=True)]
    width = shape[1]
    return [b"[" + b", ".join(pairs[row * width : (row + 1) * width]) + b"]" for row in range(shape[0])]


def _listed(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype(dtype: Any) -> str:
    names: Mapping[str, str] = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
    name = tf.as_dtype(dtype).name
    return f"DT_{names.get(name, name.upper())}"
