"""The SavedModel: preprocessing, network and explanation in one graph, behind four signatures."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

from medkeras import errors
from medkeras.data import decode, store
from medkeras.explain import ensemble
from medkeras.preprocessing import canvas as canvas_layers

# What a tf.Example for `classify` holds: an encoded image.
FEATURE = "image_bytes"
SERVING, BYTES, EXPLAIN, CLASSIFY = "serving_default", "serve_bytes", "explain", "classify"


class Answering(Protocol):
    """What a task tells the export."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs that the signatures give."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of `probabilities`."""

    def explained(self, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the number `[B]` that a heatmap explains."""


def write(
    model: keras.Model,
    folder: str | os.PathLike[str],
    *,
    task: Answering,
    canvas: store.Canvas,
    method: str = "gradcam",
) -> None:
    """Writes `saved_model.pb`, `variables/` and warm-up requests.

    | signature | input | output |
    |---|---|---|
    | `serving_default` | `image` float32 `[B, H, W, C]`, any H and W, stored values | the task's outputs |
    | `serve_bytes` | `image_bytes` string `[B]`, PNG, JPEG or BMP | the same |
    | `explain` | `image` | the same, and `heatmap` `[B, H, W, 1]`, 0 to 1 |
    | `classify` | `inputs` string `[B]`, tf.Examples with the feature `image_bytes` | `classes`, `scores` `[B, K]` |

    All of them bring the image onto the model's canvas with the layers that training used. `method` is how a heatmap is
    made, a name of `explain.methods.METHODS`.

    Raises:
        ModelError: The disk is full, or the folder cannot be written.
    """
    # Without `track`: the variables are found in the endpoints, and Keras would write a tracked model's twice.
    archive = keras.export.ExportArchive()
    image = tf.TensorSpec((None, None, None, canvas.channels), tf.float32, name="image")
    contents = tf.TensorSpec((None,), tf.string, name="image_bytes")
    endpoints = _Endpoints(model, task, canvas, method)
    archive.add_endpoint(SERVING, endpoints.serve, input_signature=[image])
    archive.add_endpoint(BYTES, endpoints.serve_bytes, input_signature=[contents])
    archive.add_endpoint(EXPLAIN, endpoints.explain, input_signature=[image])
    archive.add_endpoint(CLASSIFY, endpoints.classify, input_signature=[tf.TensorSpec((None,), tf.string, "inputs")])
    try:
        archive.write_out(str(folder), verbose=False)
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise errors.ModelError(
            f"A SavedModel is written where there is room for it. Received: {errors.printable(folder)} ({reason})"
        ) from None
    _write_warmup(pathlib.Path(folder), canvas)


class Served:
    """A SavedModel loaded from disk, and nothing else.

    Raises:
        ModelError: The folder holds no SavedModel with our signatures.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            self._model = tf.saved_model.load(str(folder))
        except (OSError, tf.errors.OpError, ValueError) as error:
            raise errors.ModelError(
                f"{errors.printable(folder)}: holds no SavedModel that can be loaded ({type(error).__name__})"
            ) from None
        missing = {SERVING, BYTES, EXPLAIN} - set(self._model.signatures)
        if missing:
            raise errors.ModelError(
                f"{errors.printable(folder)}: a medkeras model has the signatures {SERVING}, {BYTES} and {EXPLAIN}. "
                f"Received: {', '.join(sorted(self._model.signatures)) or 'none'}"
            )

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self._model.signatures[SERVING].structured_input_signature[1]["image"].shape[-1])

    def predict(self, images: Any) -> dict[str, np.ndarray]:
        """Answers for images of stored values `[B, H, W, C]`."""
        return self._call(SERVING, image=tf.cast(images, tf.float32))

    def predict_bytes(self, contents: Any) -> dict[str, np.ndarray]:
        """Answers for encoded images, string `[B]`."""
        return self._call(BYTES, image_bytes=tf.convert_to_tensor(contents, tf.string))

    def explain(self, images: Any) -> dict[str, np.ndarray]:
        """Answers and explains for images of stored values `[B, H, W, C]`."""
        return self._call(EXPLAIN, image=tf.cast(images, tf.float32))

    def _call(self, signature: str, **inputs: tf.Tensor) -> dict[str, np.ndarray]:
        outputs = self._model.signatures[signature](**inputs)
        return {name: value.numpy() for name, value in outputs.items()}


class _Endpoints:
    def __init__(self, model: keras.Model, task: Answering, canvas: store.Canvas, method: str) -> None:
        self._task = task
        self._canvas = canvas
        self._explain = ensemble.explainer(method, model, task.explained)
        # One function, and so one copy of the network in the graph, for all signatures but `explain`.
        images = tf.TensorSpec((None, *canvas.shape), tf.float32)
        self._network = tf.function(
            lambda given: _never_empty(lambda some: self._answer(model(some, training=False)), given),
            input_signature=[images],
        )
        self._to_canvas = canvas_layers.Canvas(canvas.size, mode=canvas.mode, round_values=canvas.dtype != "float32")

    def serve(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._network(self._to_canvas(image))

    def serve_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.map_fn(self._decode, image_bytes, fn_output_signature=tf.TensorSpec(self._canvas.shape, tf.float32))
        return self._network(images)

    def explain(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = _never_empty(self._answer_explained, self._to_canvas(image))
        heatmap = canvas_layers.from_canvas(answers["heatmap"], tf.shape(image)[1:3], mode=self._canvas.mode)
        return answers | {"heatmap": heatmap}

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        # The names that TensorFlow Serving's Classify looks for: `inputs`, `classes`, `scores`.
        found = tf.io.parse_example(inputs, {FEATURE: tf.io.FixedLenFeature([], tf.string)})
        scores = self.serve_bytes(found[FEATURE])["probabilities"]
        return {"classes": tf.tile([self._task.classes], [tf.shape(scores)[0], 1]), "scores": scores}

    def _decode(self, contents: tf.Tensor) -> tf.Tensor:
        # In the canvas's own type: a 16-bit file is refused, not answered for, by a model of 8-bit images.
        image = decode.decode_bytes(contents, self._canvas.channels, self._canvas.dtype)
        return tf.ensure_shape(self._to_canvas(image[tf.newaxis])[0], self._canvas.shape)

    def _answer_explained(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs, heatmap = self._explain(images)
        return {**self._answer(outputs), "heatmap": heatmap}

    def _answer(self, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: _whole(outputs[name]) for name in self._task.outputs}


def _never_empty(answer: Callable[[tf.Tensor], dict[str, tf.Tensor]], images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Answers for images `[B, H, W, C]`, B from 0: on a CPU, TensorFlow's fused convolutions fail where B is 0."""
    count = tf.shape(images)[0]
    spare = tf.cast(tf.equal(count, 0), tf.int32)
    some = tf.pad(images, [[0, spare], *([[0, 0]] * (len(images.shape) - 1))])
    return {name: value[:count] for name, value in answer(tf.ensure_shape(some, images.shape)).items()}


def _whole(output: tf.Tensor) -> tf.Tensor:
    """Returns numbers as float32, which REST can carry where half precision it cannot; yes and no as they are."""
    return output if output.dtype == tf.bool else tf.cast(output, tf.float32)


def _write_warmup(folder: pathlib.Path, canvas: store.Canvas) -> None:
    """Writes a request a signature for TensorFlow Serving to run before it calls the version ready.

    One request that fails would fail the whole version, and a thousand and one of them too: these are few and plain.
    """
    blank = np.zeros(canvas.shape, np.uint8 if canvas.dtype == "uint8" else np.uint16)
    image = tf.make_tensor_proto(blank[np.newaxis].astype(np.float32))
    content = tf.io.encode_png(blank).numpy()
    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for log in (
            _predict_log(SERVING, "image", image),
            _predict_log(BYTES, "image_bytes", tf.make_tensor_proto([content], dtype=tf.string)),
            _predict_log(EXPLAIN, "image", image),
            _classify_log(content),
        ):
            writer.write(log.SerializeToString())


def _predict_log(signature: str, name: str, value: tensor_pb2.TensorProto) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(value)
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def _classify_log(content: bytes) -> prediction_log_pb2.PredictionLog:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.signature_name = CLASSIFY
    example = request.input.example_list.examples.add()
    example.features.feature[FEATURE].bytes_list.value.append(content)
    return prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=request))
