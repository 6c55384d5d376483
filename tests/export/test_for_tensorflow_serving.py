"""The exported model as TensorFlow Serving meets it: a version 1 session, warm-up records, tf.Examples, batches."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from medkeras.export import saved_model

KINDS = ("colour", "half", "hounsfield")
LARGEST_WARMUP = 1000
# What TensorFlow Serving writes as JSON; half precision and complex numbers it does not.
REST_TYPES = {tf.float32, tf.bool, tf.string, tf.int32, tf.int64}


class Session:
    """A SavedModel in a session of its own, as TensorFlow Serving loads it."""

    def __init__(self, folder) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.signatures = tf.compat.v1.saved_model.loader.load(
                self._session, [tf.saved_model.SERVING], str(folder)
            ).signature_def

    def run(self, signature: str, value: object) -> dict[str, np.ndarray]:
        """Runs a signature of one input."""
        defined = self.signatures[signature]
        (given,) = defined.inputs.values()
        return self._session.run({name: each.name for name, each in defined.outputs.items()}, {given.name: value})


@pytest.fixture(scope="module")
def session(exported):
    made: dict[str, Session] = {}

    def get(kind: str) -> Session:
        if kind not in made:
            made[kind] = Session(exported(kind).folder)
        return made[kind]

    return get


def images(made, count: int, size: tuple[int, int] | None = None) -> np.ndarray:
    high = 256 if made.canvas.dtype == "uint8" else 2000
    shape = (count, *(size or made.canvas.size), made.canvas.channels)
    return np.random.default_rng(5).integers(0, high, shape).astype(np.uint8 if high == 256 else np.uint16)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def example(**features: bytes) -> bytes:
    lists = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 5])
def test_every_signature_answers_in_a_session_for_any_batch(exported, session, kind, count) -> None:
    made = exported(kind)
    given = images(made, count)
    pixels = given.astype(np.float32)
    expected = {name: value.numpy() for name, value in made.model(pixels, training=False).items()}
    encoded = [png(each) for each in given]
    answers = {
        "serving_default": session(kind).run("serving_default", pixels),
        "serve_bytes": session(kind).run("serve_bytes", encoded),
        "explain": session(kind).run("explain", pixels),
    }
    tolerance = 2e-3 if kind == "half" else 1e-5
    for answer in answers.values():
        np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=tolerance)
        assert {name: len(value) for name, value in answer.items()} == dict.fromkeys(answer, count)
    classified = session(kind).run("classify", [example(image_bytes=each) for each in encoded])
    np.testing.assert_allclose(classified["scores"], answers["serve_bytes"]["probabilities"], atol=1e-6)
    assert classified["classes"].tolist() == [[b"a", b"b", b"c"]] * count


@pytest.mark.parametrize("kind", KINDS)
def test_rest_can_carry_every_output_and_every_name(exported, session, kind) -> None:
    for name, signature in session(kind).signatures.items():
        if name != "__saved_model_init_op":
            types = {key: tf.dtypes.as_dtype(each.dtype) for key, each in signature.outputs.items()}
            assert set(types.values()) <= REST_TYPES, name
            # A text output whose name ends so is written in base64.
            assert not any(key.endswith("_bytes") for key in types)
            assert not any(each.tensor_shape.unknown_rank or not each.tensor_shape.dim for each in
                           (*signature.inputs.values(), *signature.outputs.values()))  # fmt: skip
            assert {each.tensor_shape.dim[0].size for each in
                    (*signature.inputs.values(), *signature.outputs.values())} == {-1}  # fmt: skip


def test_half_precision_answers_in_float32(exported, session) -> None:
    made = exported("half")
    assert made.model.get_layer("logits").compute_dtype == "float32"
    assert {layer.compute_dtype for layer in made.model.layers} >= {"float16"}
    for signature in ("serving_default", "explain"):
        answer = session("half").run(signature, images(made, 2).astype(np.float32))
        assert {str(value.dtype) for value in answer.values()} <= {"float32", "bool"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_signature_is_warmed_up_and_every_record_can_be_answered(exported, session, kind) -> None:
    path = exported(kind).folder / "assets.extra" / "tf_serving_warmup_requests"
    warmed = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "classify_log":
            request = log.classify_log.request
            given = [each.SerializeToString() for each in request.input.example_list.examples]
        else:
            request = log.predict_log.request
            (value,) = request.inputs.values()
            given = tf.make_ndarray(value)
        name = request.model_spec.signature_name
        answer = session(kind).run(name, given)
        assert answer["scores" if name == "classify" else "probabilities"].shape == (1, 3)
        warmed.append(name)
    assert set(warmed) == set(session(kind).signatures) - {"__saved_model_init_op"}
    assert len(warmed) <= LARGEST_WARMUP


@pytest.mark.parametrize("content", [b"", example(), example(image=b"x"), example(image_bytes=b"no picture"), b"other"])
def test_an_example_without_a_picture_is_refused_as_a_mistake_of_the_client(session, content) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        session("colour").run("classify", [content])


def test_images_of_several_sizes_go_in_one_classify(exported, session) -> None:
    given = [images(exported("colour"), 1, size)[0] for size in ((9, 30), (24, 16), (60, 60))]
    together = session("colour").run("classify", [example(image_bytes=png(each)) for each in given])["scores"]
    alone = [session("colour").run("serving_default", each[np.newaxis].astype(np.float32)) for each in given]
    np.testing.assert_allclose(together, [each["probabilities"][0] for each in alone], atol=1e-5)


def test_the_network_stands_in_the_graph_twice_at_most(exported) -> None:
    """Once for answers, once with its gradients for `explain`: a copy a signature would make every load longer."""
    made = exported("colour")
    content = saved_model_pb2.SavedModel.FromString((made.folder / "saved_model.pb").read_bytes())
    functions = content.meta_graphs[0].graph_def.library.function
    kernels = sum(len(weight.shape) == 4 for weight in made.model.weights)
    convolutions = sum(node.op == "Conv2D" for each in functions for node in each.node_def)
    assert kernels > 3
    assert kernels <= convolutions <= 2 * kernels


def test_the_names_are_those_of_the_documentation() -> None:
    names = (saved_model.SERVING, saved_model.BYTES, saved_model.EXPLAIN, saved_model.CLASSIFY, saved_model.FEATURE)
    assert names == ("serving_default", "serve_bytes", "explain", "classify", "image_bytes")
