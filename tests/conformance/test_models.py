"""Every network of the table, tiny and behind its preprocessing, through every promise."""

from __future__ import annotations

import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterable

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from PIL import Image

from medkeras import config, models
from medkeras.data import store
from medkeras.export import saved_model
from medkeras.preprocessing import preprocessor
from medkeras.tasks import classification
from tests.confidence import made as assurances

pytestmark = pytest.mark.filterwarnings(
    # TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
    "ignore:__array__ implementation:DeprecationWarning",
)

# Height, width and channels of the images that each network is tried with.
SHAPES = {
    "cnn": (16, 12, 1),
    "resnet": (16, 16, 3),
    "resnet_small": (16, 24, 1),
    "efficientnet_lite0": (32, 32, 1),
    "efficientnet_lite1": (32, 32, 3),
    "efficientnet_lite2": (32, 32, 1),
    "efficientnet_b0": (32, 32, 1),
    "efficientnet_b1": (32, 32, 3),
    "efficientnet_b2": (32, 32, 1),
    "efficientnet_b3": (32, 32, 3),
    "efficientnet_v2_b0": (32, 32, 1),
    "efficientnet_v2_s": (32, 32, 3),
}
# Deep networks take more than ten seconds to build and save, and the first of them to export.
QUICK_TO_EXPORT = ("cnn", "resnet", "resnet_small")
QUICK = (*QUICK_TO_EXPORT, "efficientnet_lite0")
# One network of each make; the others differ in width and depth alone, and take a minute each to export.
MAKES = (*QUICK, "efficientnet_b0", "efficientnet_v2_b0")
# Promises that a network cannot keep: (promise, name) to the operation at fault. There is none.
BROKEN: dict[tuple[str, str], str] = {}
# Between graphs of one network; the many layers of the deep ones, which have learned nothing, magnify rounding.
TOLERANCE = {name: 3e-4 if name.startswith("efficientnet") else 1e-5 for name in SHAPES}
TASK = classification.Classification(("a", "b", "c"))


def every(promise: str, quick: tuple[str, ...], names: Iterable[str] = tuple(SHAPES)) -> pytest.MarkDecorator:
    """Parametrises a promise by the table; what is not quick is marked slow, what is broken must fail."""

    def marked(name: str):
        marks = [] if name in quick else [pytest.mark.slow]
        if (promise, name) in BROKEN:
            marks.append(pytest.mark.xfail(reason=BROKEN[promise, name], strict=True))
        return pytest.param(name, marks=marks)

    return pytest.mark.parametrize("name", [marked(name) for name in names])


@dataclasses.dataclass(frozen=True)
class Made:
    """A tiny model, images of stored values, its own answer to them, and how far an export's may be from it.

    The logits of a network that has learned nothing are spread out until its answers differ, and the rounding of
    its sums with them: `tolerance` is 1e-5 for logits as the network gave them.
    """

    model: keras.Model
    canvas: store.Canvas
    images: np.ndarray
    probabilities: np.ndarray


def build(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    shape = SHAPES[name]
    layers = preprocessor.layers_for(
        config.PreprocessingConfig(),
        channels=shape[2],
        value_range=(0.0, 255.0),
        mean=[0.0] * shape[2],
        std=[1.0] * shape[2],
        network_normalise=models.MODELS[name].normalise,
    )
    return models.build_model(
        name, image_shape=shape, preprocessing=layers, head=TASK.head, weights="none", dropout=0.2
    ).model


@functools.cache
def make(name: str) -> Made:
    model = build(name)
    images = patterns(SHAPES[name])
    scramble(model, images)
    centre(model, images)
    probabilities = answer(model, images)
    assert np.ptp(probabilities, axis=0).min() > 0.05
    canvas = store.Canvas(SHAPES[name][:2], SHAPES[name][2], "uint8", "pad")
    return Made(model, canvas, images, probabilities)


def patterns(shape: tuple[int, int, int]) -> np.ndarray:
    """Returns three uint8 images `[3, H, W, C]` that no network takes for one another: waves, a gradient, noise."""
    rows, columns = np.mgrid[: shape[0], : shape[1]][..., np.newaxis]
    noise = np.random.default_rng(0).integers(0, 256, shape)
    return np.stack([128 + 120 * np.sin(rows) + 0 * noise, 8 * (rows + columns) + 0 * noise, noise]).astype(np.uint8)


def scramble(model: keras.Model, images: np.ndarray) -> None:
    """Moves every moment and scale of batch normalisations.

    Zero gammas and equal moments would hide mistakes. Through dozens of layers a signal dies or explodes unless the
    variances fit: they are halved and doubled, by ever smaller steps, until the logits have a spread near 1.
    """
    share, step = 1.0, 0.5
    while True:
        set_moments(model, share)
        spread = float(np.asarray(model(images.astype(np.float32))["logits"]).std(0).min())
        if 0.1 < spread < 10 or step < 0.01:
            return
        share *= step if spread <= 0.1 else 1 / step
        step = step**0.5


def centre(model: keras.Model, images: np.ndarray) -> None:
    """Gives each logit mean 0 and standard deviation 1 over the images: sure answers would hide mistakes."""
    logits = np.asarray(model(images.astype(np.float32))["logits"])
    kernel, _ = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / logits.std(0), -logits.mean(0) / logits.std(0)])


def set_moments(model: keras.Model, share: float) -> None:
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (random.uniform(0.8, 1.2, weight.shape) for weight in layer.weights)
            layer.set_weights([gamma, beta - 1, mean - 1, variance * share])


def answer(model: Callable[..., dict[str, tf.Tensor]], images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images.astype(np.float32), training=False)["probabilities"])


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_list_names_the_whole_table() -> None:
    assert set(SHAPES) == set(models.MODELS)
    assert {name for _, name in BROKEN} <= set(SHAPES)


@every("keras file", QUICK)
def test_a_keras_file_answers_as_the_model(name, tmp_path) -> None:
    made = make(name)
    made.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(answer(loaded, made.images), made.probabilities)


@every("config", QUICK)
def test_a_configuration_makes_the_same_network(name) -> None:
    made = make(name)
    copy = keras.Model.from_config(made.model.get_config())
    assert [type(layer) for layer in copy.layers] == [type(layer) for layer in made.model.layers]
    assert [weight.shape for weight in copy.weights] == [weight.shape for weight in made.model.weights]
    copy.set_weights(made.model.get_weights())
    np.testing.assert_array_equal(answer(copy, made.images), made.probabilities)


@every("half precision", QUICK)
def test_half_precision_gives_finite_float32_answers(name) -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = build(name)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    made = make(name)
    model.set_weights(made.model.get_weights())
    assert model.get_layer("features").output.dtype == "float16"
    outputs = model(made.images.astype(np.float32), training=False)
    for value in outputs.values():
        assert value.dtype == tf.float32
        assert np.all(np.isfinite(value))


@every("SavedModel", QUICK_TO_EXPORT, MAKES)
def test_the_exported_model_answers_as_the_model(name, tmp_path) -> None:
    """`serving_default`, `explain` and `serve_bytes`; and an image of another size as on the canvas."""
    made = make(name)
    model = assurances.assured(made.model, value_range=(0.0, 255.0))
    saved_model.write(model, tmp_path / "1", task=TASK, canvas=made.canvas)
    served = saved_model.Served(tmp_path / "1")
    expected = model(made.images.astype(np.float32), training=False)
    explained = served.explain(made.images)
    encoded = served.predict_bytes([png(image) for image in made.images])
    for found in (served.predict(made.images), explained, encoded):
        np.testing.assert_allclose(found["probabilities"], made.probabilities, atol=TOLERANCE[name])
        for output in ("prediction_set", "familiarity", "abstain"):
            np.testing.assert_allclose(found[output], expected[output], atol=TOLERANCE[name])
    assert explained["heatmap"].shape == (*made.images.shape[:3], 1)
    assert np.all((explained["heatmap"] >= 0) & (explained["heatmap"] <= 1))


@every("TFLite", QUICK_TO_EXPORT)
def test_tflite_answers_as_the_model_with_built_in_operations(name, tmp_path) -> None:
    made = make(name)
    content = convert(made.model, tmp_path)
    runner = litert.Interpreter(model_content=content).get_signature_runner("serving_default")
    rows = [runner(image=image[np.newaxis].astype(np.float32)) for image in made.images]
    found = np.concatenate([row["probabilities"] for row in rows])
    np.testing.assert_allclose(found, made.probabilities, atol=10 * TOLERANCE[name])


def convert(model: keras.Model, folder: pathlib.Path) -> bytes:
    archive = keras.export.ExportArchive()
    signature = tf.TensorSpec((1, *model.input.shape[1:]), tf.float32, name="image")
    archive.add_endpoint("serving_default", lambda image: model(image, training=False), input_signature=[signature])
    archive.write_out(str(folder), verbose=False)
    return tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
