"""Classification and regression of serialised `tf.Example`s, whatever protocol brought them.

Reference: TensorFlow Serving's `servables/tensorflow/{classifier,regressor}.cc`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from medkeras.serving import servable, status

_CLASSES, _SCORES, _INPUTS, _VALUES = "classes", "scores", "inputs", "outputs"


@dataclasses.dataclass(frozen=True)
class Classified:
    """Classes and scores of examples, one of them at least.

    Attributes:
        classes: Objects of `bytes` `[N, C]`, or None.
        scores: float32 `[N, C]`, or None.
    """

    classes: np.ndarray | None
    scores: np.ndarray | None


def classify(
    model: servable.Servable, signature: str, examples: Sequence[bytes], *, timeout: float | None
) -> Classified:
    """Classifies examples.

    Raises:
        StatusError: The signature is unknown or classifies nothing, or the model refuses the examples.
    """
    defined = _defined(model, signature)
    found = model.run(signature, _feeds(examples), _classify_outputs(defined), timeout=timeout)
    classes, scores = found.get(_CLASSES), found.get(_SCORES)
    _check_table(classes, _CLASSES, len(examples), dtype=tf.string)
    _check_table(scores, _SCORES, len(examples), dtype=tf.float32)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise status.invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return Classified(classes, scores)


def regress(
    model: servable.Servable, signature: str, examples: Sequence[bytes], *, timeout: float | None
) -> np.ndarray:
    """Returns the value of each example, float32 `[N]`.

    Raises:
        StatusError: The signature is unknown or no regression, or the model refuses the examples.
    """
    _check_regression(_defined(model, signature))
    found = model.run(signature, _feeds(examples), [_VALUES], timeout=timeout)
    return _values(found[_VALUES], len(examples))


def _defined(model: servable.Servable, name: str) -> meta_graph_pb2.SignatureDef:
    if name not in model.signatures:
        raise status.invalid(f"No signature was found with the name: {name}")
    signature = model.signatures[name]
    if len(signature.inputs) != 1:
        raise status.invalid("Expected one input Tensor.")
    return signature


def _feeds(examples: Sequence[bytes]) -> dict[str, np.ndarray]:
    array = np.empty(len(examples), object)
    array[:] = examples
    return {_INPUTS: array}


def _classify_outputs(signature: meta_graph_pb2.SignatureDef) -> list[str]:
    if len(signature.outputs) not in (1, 2):
        raise status.invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    _check_input(signature, "classification")
    outputs = [name for name in (_CLASSES, _SCORES) if name in signature.outputs]
    if not outputs:
        raise status.invalid(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {_shown(signature)}"
        )
    return outputs


def _check_regression(signature: meta_graph_pb2.SignatureDef) -> None:
    if len(signature.outputs) != 1:
        raise status.invalid("Expected one output Tensor.")
    _check_input(signature, "regression")
    if _VALUES not in signature.outputs:
        raise status.invalid(f"No regression outputs found in SignatureDef: {_shown(signature)}")


def _check_input(signature: meta_graph_pb2.SignatureDef, task: str) -> None:
    if _INPUTS not in signature.inputs:
        raise status.invalid(f"No {task} inputs found in SignatureDef: {_shown(signature)}")


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


def _listed(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype(dtype: Any) -> str:
    names: Mapping[str, str] = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
    name = tf.as_dtype(dtype).name
    return f"DT_{names.get(name, name.upper())}"
