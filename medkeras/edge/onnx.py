"""A Keras model as an ONNX file for ONNX Runtime and whatever else reads the format."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors, version
from medkeras.data import store
from medkeras.edge import forms
from medkeras.preprocessing import canvas as canvas_layers

IMAGE = "image"
NAME = "medkeras"
LABELS = "labels"
OPSET = 18
_EXTRA = "pip install medkeras[onnx]"
_ANY = "batch"
_STANDARD = ("", "ai.onnx")
_DTYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(float)": "float32"}
_SEVERE = 3


def convert(
    model: keras.Model,
    outputs: Sequence[str],
    canvas: store.Canvas,
    form: forms.Form,
    *,
    facts: Mapping[str, Any],
) -> bytes:
    """Converts a model to a file from `image` of the device's dtype to the outputs by name, in float32.

    The device's pictures are brought onto the canvas inside the file.

    Args:
        model: From stored values on the canvas `[B, H, W, C]` to a dict.
        outputs: Names of the model's outputs that the file answers with, in this order.
        canvas: What the model takes.
        form: What the device gives; `quantize` is `none`.
        facts: Ready for JSON, with `name` and `classes`; the file's metadata hold them under `medkeras`, and the
            classes, one a line, under `labels`.

    Raises:
        ConfigError: The form does not fit the canvas, or it is not float32.
        ModelError: An operator is not one of the standard's, the model is one of volumes, or tf2onnx is not installed.
    """
    _check(canvas, form)
    proto = _traced(_function(model, outputs, canvas, form), form)
    if foreign := _foreign(proto):
        raise errors.ModelError(f"An ONNX file has the standard's operators only. Received: {', '.join(foreign)}")
    _tidy(proto, outputs, form.batch)
    _tell(proto, facts)
    return proto.SerializeToString(deterministic=True)


def read(content: bytes) -> dict[str, Any]:
    """Returns the facts that `convert` wrote into a file.

    Raises:
        ModelError: It is no ONNX file, not one of ours, or onnx is not installed.
    """
    onnx = _needed_onnx()
    try:
        props = {each.key: each.value for each in onnx.load_model_from_string(content).metadata_props}
        facts = json.loads(props[NAME])
    except Exception:  # protobuf's class for a damaged file is another in each of its implementations
        raise errors.ModelError("An ONNX file that medkeras wrote is needed. Received: something else") from None
    return facts


def operators(content: bytes) -> dict[str, int]:
    """Returns the operators of a file and how often each stands in it, often ones first.

    Raises:
        ModelError: onnx is not installed.
    """
    found: dict[str, int] = {}
    for node in _nodes(_needed_onnx().load_model_from_string(content).graph):
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


class Runner:
    """A file that `convert` made, ready to answer.

    Args:
        content: The file, or its path.
        threads: Threads that ONNX Runtime computes with.

    Raises:
        ModelError: It is not an ONNX file of one picture, or ONNX Runtime is not installed.
    """

    def __init__(self, content: bytes | str | os.PathLike[str], *, threads: int = 2) -> None:
        data = content if isinstance(content, bytes) else pathlib.Path(content).read_bytes()
        self._session = _session(data, threads)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(inputs[0].shape) != 4:
            kinds = ", ".join(f"{each.type} {each.shape}" for each in inputs)
            raise errors.ModelError(f"An ONNX file takes pictures [B, H, W, C]. Received: {kinds or 'no input'}")
        self._image = inputs[0]

    @property
    def dtype(self) -> str:
        """Of the pixels: `uint8`, `uint16` or `float32`."""
        return _DTYPES[self._image.type]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        _, height, width, _ = self._image.shape
        return height, width

    @property
    def channels(self) -> int:
        """Of the pictures: 1 or 3."""
        return self._image.shape[3]

    @property
    def batch(self) -> int:
        """Pictures in one call; 0: any number."""
        first = self._image.shape[0]
        return first if isinstance(first, int) else 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it answers."""
        return tuple(each.name for each in self._session.get_outputs())

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns float32 and bool outputs by name for any number of images `[B, H, W, C]` of the file's dtype.

        Where the file takes a fixed number at a time, the last images are followed by copies of the last one.
        """
        if not len(images):
            blank = self.run(np.zeros((1, *self.size, self.channels), self.dtype))
            return {name: value[:0] for name, value in blank.items()}
        step = self.batch or len(images)
        answers = [self._answer(images[start : start + step], step) for start in range(0, len(images), step)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in self.outputs}

    def _answer(self, images: np.ndarray, step: int) -> dict[str, np.ndarray]:
        full = np.pad(images, [(0, step - len(images)), (0, 0), (0, 0), (0, 0)], mode="edge")
        values = self._session.run(self.outputs, {self._image.name: full})
        return {name: value[: len(images)] for name, value in zip(self.outputs, values, strict=True)}


def _check(canvas: store.Canvas, form: forms.Form) -> None:
    if canvas.depth:
        raise errors.ModelError(f"A device gives pictures. Received: a model of volumes of {canvas.depth} planes")
    if form.channels not in (1, canvas.channels):
        raise errors.ConfigError(
            f"A device gives the channels that the model takes, or grey. "
            f"Received: {form.channels} for a model of {canvas.channels}"
        )
    if form.quantize != "none":
        raise errors.ConfigError(f"An ONNX file is written in float32, quantize none. Received: {form.quantize}")


def _function(model: keras.Model, outputs: Sequence[str], canvas: store.Canvas, form: forms.Form) -> Any:
    to_canvas = canvas_layers.Canvas(canvas.size, mode=canvas.mode, round_values=canvas.dtype != "float32")

    def function(image: tf.Tensor) -> dict[str, tf.Tensor]:
        values = to_canvas(tf.cast(image, tf.float32))
        if form.channels != canvas.channels:
            values = tf.concat([values] * canvas.channels, axis=-1)
        answer = model(values, training=False)
        # A name of its own for each: what is not computed would lose the output's name.
        return {name: tf.identity(answer[name], name=name) for name in outputs}

    return tf.function(function, autograph=False)


def _traced(function: Any, form: forms.Form) -> Any:
    """Returns the function as an `onnx.ModelProto`."""
    _needed_onnx()
    image = tf.TensorSpec((form.batch or None, *form.size, form.channels), form.dtype, name=IMAGE)
    with _quiet():
        try:
            import tf2onnx

            proto, _ = tf2onnx.convert.from_function(function, input_signature=[image], opset=OPSET)
            _hold(proto, function.get_concrete_function(image).graph)
        except ImportError:
            raise errors.ModelError(f"Writing an ONNX file needs tf2onnx: {_EXTRA}. Received: it is missing") from None
        except Exception as error:  # the converter raises whatever it meets
            raise errors.ModelError(
                f"A model is written as ONNX where every operation can be translated. "
                f"Received: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from None
    return proto


def _hold(proto: Any, traced: Any) -> None:
    """Makes constants of the inputs that are none: what layers keep in plain tensors, such as a fixed mean."""
    kept = {inside.name: outside for outside, inside in traced.captures if outside.dtype != tf.resource}
    for each in [each for each in proto.graph.input if each.name in kept]:
        proto.graph.initializer.append(_needed_onnx().numpy_helper.from_array(kept[each.name].numpy(), each.name))
        proto.graph.input.remove(each)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what TensorFlow and the converter write to the standard error off the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as elsewhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yields the nodes of a graph and of the graphs in their attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _nodes(inner)


def _foreign(proto: Any) -> list[str]:
    onnx = _needed_onnx()
    return sorted(
        {
            f"{node.domain}:{node.op_type}".lstrip(":")
            for node in _nodes(proto.graph)
            if node.domain not in _STANDARD or not onnx.defs.has(node.op_type)
        }
    )


def _tidy(proto: Any, outputs: Sequence[str], batch: int) -> None:
    """Puts the outputs in order, names the number of pictures, drops domains that no node uses."""
    graph = proto.graph
    given = {each.name: each for each in graph.output}
    ordered = [type(given[name])() for name in outputs]
    for copy, name in zip(ordered, outputs, strict=True):
        copy.CopyFrom(given[name])
    del graph.output[:]
    graph.output.extend(ordered)
    for each in (*graph.input, *graph.output):
        first = each.type.tensor_type.shape.dim[0]
        if batch:
            first.dim_value = batch
        else:
            first.dim_param = _ANY
    kept = [each.version for each in proto.opset_import if each.domain in _STANDARD]
    del proto.opset_import[:]
    proto.opset_import.add(domain="", version=kept[0])


def _tell(proto: Any, facts: Mapping[str, Any]) -> None:
    """Writes the facts, and who made the file."""
    proto.producer_name, proto.producer_version = NAME, version.VERSION
    proto.graph.name = str(facts["name"])
    told = json.dumps(facts, ensure_ascii=False, allow_nan=False)
    props = {NAME: told, LABELS: "".join(f"{one}\n" for one in facts["classes"])}
    _needed_onnx().helper.set_model_props(proto, props)


def _needed_onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise errors.ModelError(f"An ONNX file needs onnx: {_EXTRA}. Received: it is missing") from None
    return onnx


def _session(content: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise errors.ModelError(f"An ONNX file is run by ONNX Runtime: {_EXTRA}. Received: it is missing") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _SEVERE
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes have no common one
        raise errors.ModelError(
            f"An ONNX file of a picture is needed. Received: {' '.join(str(error).split())}"
        ) from None
