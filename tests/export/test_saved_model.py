"""The exported model answers as the Keras model does, through all its signatures."""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from medkeras import errors
from medkeras.data import cases, files
from medkeras.export import saved_model
from medkeras.preprocessing import canvas as canvas_layers

KINDS = ("grey", "colour", "wide")
HIGH = {"uint8": 256, "uint16": 65536}


def images(made, count: int = 5, size: tuple[int, int] | None = None) -> np.ndarray:
    """Smooth images of stored values: blurred noise over the whole range of the type."""
    shape = (count, *(size or made.canvas.size), made.canvas.channels)
    return np.random.default_rng(3).integers(0, HIGH[made.canvas.dtype], shape).astype(made.canvas.dtype)


def encode(image: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_three_signatures_answer_as_the_keras_model(exported, kind) -> None:
    made = exported(kind)
    given = images(made)
    expected = made.model(given.astype(np.float32), training=False)["probabilities"].numpy()
    encoded = [encode(image, "PNG") for image in given]
    answers = (made.served.predict(given), made.served.explain(given), made.served.predict_bytes(encoded))
    for answer in answers:
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        for name in ("prediction_set", "abstain", "familiarity"):
            np.testing.assert_allclose(answer[name], made.model(given.astype(np.float32))[name], atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 0.1
    sums = expected.sum(1)
    assert np.allclose(sums, 1, atol=1e-5) is (not made.task.multilabel)


@pytest.mark.parametrize("kind", KINDS)
def test_names_types_and_shapes_are_those_of_the_documentation(exported, kind) -> None:
    made = exported(kind)
    loaded = tf.saved_model.load(str(made.folder))
    channels = made.canvas.channels
    image = {"image": tf.TensorSpec((None, None, None, channels), tf.float32, name="image")}
    inputs = {
        "serving_default": image,
        "serve_bytes": {"image_bytes": tf.TensorSpec((None,), tf.string, name="image_bytes")},
        "explain": image,
        "classify": {"inputs": tf.TensorSpec((None,), tf.string, name="inputs")},
    }
    assert set(loaded.signatures) == set(inputs)
    for name, expected in inputs.items():
        signature = loaded.signatures[name]
        assert signature.structured_input_signature == ((), expected)
        outputs = {key: (spec.dtype, spec.shape.rank) for key, spec in signature.structured_outputs.items()}
        if name == "classify":
            assert outputs == {"classes": (tf.string, 2), "scores": (tf.float32, 2)}
            continue
        heat = {"heatmap": (tf.float32, 4)} if name == "explain" else {}
        assert outputs == {
            "probabilities": (tf.float32, 2),
            "prediction_set": (tf.bool, 2),
            "abstain": (tf.bool, 1),
            "familiarity": (tf.float32, 1),
            **heat,
        }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(31, 50), (7, 9), (40, 16), (1, 1)])
def test_any_size_is_brought_to_the_canvas_as_training_brings_it(exported, kind, size) -> None:
    made = exported(kind)
    given = images(made, 2, size)
    brought = [
        canvas_layers.to_canvas(tf.constant(each), size=made.canvas.size, mode=made.canvas.mode, dtype=each.dtype)
        for each in given
    ]
    expected = made.model(tf.cast(brought, tf.float32), training=False)["probabilities"]
    np.testing.assert_allclose(made.served.predict(given)["probabilities"], expected, atol=1e-5)
    answer = made.served.explain(given)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["heatmap"].shape == (2, *size, 1)
    assert answer["heatmap"].min() >= 0
    assert answer["heatmap"].max() <= 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_answered_as_the_decoded_image_is(exported, tmp_path, form, kind, channels) -> None:
    made = exported(kind)
    waves = np.sin(np.arange(30 * 21 * channels) / 9).reshape(30, 21, channels)
    contents = encode(np.uint8(120 + 110 * waves), form)
    path = tmp_path / f"image.{form.lower()}"
    path.write_bytes(contents)
    decoded = files.FileImages().read(cases.Case("a", str(path), "a"), made.canvas.channels)
    by_bytes = made.served.predict_bytes([contents, contents])["probabilities"]
    by_pixels = made.served.predict(decoded[np.newaxis])["probabilities"]
    np.testing.assert_allclose(by_bytes, np.repeat(by_pixels, 2, 0), atol=1e-5)


def test_images_of_several_sizes_go_in_one_request_of_bytes(exported) -> None:
    made = exported("grey")
    given = [images(made, 1, size)[0] for size in ((9, 30), (24, 16), (60, 60))]
    together = made.served.predict_bytes([encode(image, "PNG") for image in given])["probabilities"]
    alone = [made.served.predict(image[np.newaxis])["probabilities"][0] for image in given]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["grey", "colour", "half"])
def test_no_images_get_no_answers(exported, kind) -> None:
    made = exported(kind)
    classify = tf.saved_model.load(str(made.folder)).signatures["classify"]
    nothing, (height, width) = tf.zeros((0,), tf.string), made.canvas.size
    shapes = {"probabilities": (0, 3), "prediction_set": (0, 3), "abstain": (0,), "familiarity": (0,)}
    blank = np.zeros((0, height + 3, width, made.canvas.channels), np.float32)
    for answer in (made.served.predict(blank), made.served.predict_bytes(nothing)):
        assert {name: value.shape for name, value in answer.items()} == shapes
    explained = {name: value.shape for name, value in made.served.explain(blank).items()}
    assert explained == shapes | {"heatmap": (0, height + 3, width, 1)}
    assert {name: value.shape for name, value in classify(inputs=nothing).items()} == {
        "classes": (0, 3),
        "scores": (0, 3),
    }


def test_a_file_of_16_bits_is_kept_whole_by_a_model_of_16_and_refused_by_one_of_8(exported) -> None:
    contents = encode(np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16, 1), "PNG")
    wide = exported("wide")
    pixels = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(
        wide.served.predict_bytes([contents])["probabilities"], wide.served.predict(pixels)["probabilities"], atol=1e-6
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="16 bits"):
        exported("grey").served.predict_bytes([contents])


def test_bytes_that_are_no_picture_are_refused(exported) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        exported("grey").served.predict_bytes([b"no picture"])


def test_a_folder_without_a_model_or_with_another_one_is_refused(tmp_path) -> None:
    with pytest.raises(errors.ModelError, match="holds no SavedModel that can be loaded"):
        saved_model.Served(tmp_path)
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None,))])
    tf.saved_model.save(module, str(tmp_path / "other"), signatures={"serving_default": module.serve})
    with pytest.raises(errors.ModelError, match="has the signatures .* Received: serving_default"):
        saved_model.Served(tmp_path / "other")


def test_a_full_disk_is_told_in_one_sentence(exported, tmp_path, monkeypatch) -> None:
    class Full:
        def add_endpoint(self, *_: object, **__: object) -> None: ...

        def write_out(self, *_: object, **__: object) -> None:
            raise tf.errors.ResourceExhaustedError(None, None, "{{node}} /x/p; No space left on device [Op:SaveV2]")

    made = exported("grey")
    monkeypatch.setattr(keras.export, "ExportArchive", Full)
    with pytest.raises(errors.ModelError, match=r"room for it. Received: .*\(No space left on device\)$"):
        saved_model.write(made.model, tmp_path, task=made.task, canvas=made.canvas)
