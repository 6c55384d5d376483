"""A model as a TFLite file: what goes in, what comes out, and what is quantised between."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from medkeras import errors
from medkeras.data import store
from medkeras.edge import cutting, flat, forms, joining, lite
from medkeras.preprocessing import canvas as canvas_layers
from medkeras.preprocessing import normalise
from tests.confidence import made as assurances

OUTPUTS = ("probabilities", "prediction_set", "abstain", "familiarity")
SIZE, CLASSES = (20, 16), 3
RANGE = (0.0, 255.0)


@functools.cache
def network(channels: int = 1) -> keras.Model:
    """Returns a small network with a branch, behind a normalisation, with every output that an answer has."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, channels), name="image")
    x = normalise.ZScore(name="zscore")(image)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = stem = keras.layers.ReLU(name="stem_relu")(keras.layers.BatchNormalization(name="stem_bn")(x))
    x = keras.layers.Conv2D(8, 3, padding="same", name="block1_conv")(x)
    x = keras.layers.ReLU(name="features")(keras.layers.Add(name="block1_add")([stem, x]))
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    logits = keras.layers.Dense(CLASSES, name="logits")(x)
    model = keras.Model(image, {"logits": logits, "probabilities": keras.layers.Softmax(name="softmax")(logits)})
    spread(model, channels)
    return assurances.assured(model, value_range=RANGE)


def spread(model: keras.Model, channels: int) -> None:
    """Gives each logit mean 0 and standard deviation 1 over the pictures."""
    logits = model(pictures(30, channels=channels).astype(np.float32), training=False)["logits"].numpy()
    kernel, _ = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / logits.std(0), -logits.mean(0) / logits.std(0)])


def pictures(count: int, size: tuple[int, int] = SIZE, channels: int = 1, seed: int = 5) -> np.ndarray:
    """Returns uint8 `[count, H, W, C]`."""
    return assurances.images(count, (*size, channels), RANGE, seed=seed).astype(np.uint8)


def canvas(mode: str = "pad", channels: int = 1, dtype: str = "uint8") -> store.Canvas:
    return store.Canvas(SIZE, channels, dtype, mode)


def form(quantize: str = "none", **changes: object) -> forms.Form:
    return forms.Form(**{"size": SIZE, "channels": 1, "quantize": quantize, **changes})


@functools.cache
def converted(quantize: str, **changes: object) -> lite.Converted:
    return lite.convert(network(), OUTPUTS, canvas(), form(quantize, **changes), representative=pictures(40))


def expected(images: np.ndarray, channels: int = 1) -> dict[str, np.ndarray]:
    answer = network(channels)(images.astype(np.float32), training=False)
    return {name: answer[name].numpy() for name in OUTPUTS}


def check_equal(found: dict[str, np.ndarray], answer: dict[str, np.ndarray]) -> None:
    assert set(found) == set(OUTPUTS)
    for name in OUTPUTS:
        assert found[name].dtype == answer[name].dtype
        # A case between two held-out scores counts as stranger than one or the other: one in 41.
        np.testing.assert_allclose(found[name], answer[name], atol=0.025 if name == "familiarity" else 1e-5)


@pytest.mark.parametrize("dtype", forms.DTYPES)
def test_a_float_file_answers_as_the_model_whatever_numbers_the_pixels_are(dtype) -> None:
    runner = lite.Runner(converted("none", dtype=dtype).content)
    assert (runner.dtype, runner.size, runner.channels, runner.batch) == (dtype, SIZE, 1, 1)
    assert set(runner.outputs) == set(OUTPUTS)
    check_equal(runner.run(pictures(6).astype(dtype)), expected(pictures(6)))


@pytest.mark.parametrize("mode", ["pad", "stretch"])
@pytest.mark.parametrize("batch", [0, 1])
def test_pictures_of_another_size_are_brought_onto_the_canvas(mode, batch) -> None:
    given = pictures(5, size=(33, 41))
    file = lite.convert(network(), OUTPUTS, canvas(mode), form(size=(33, 41), batch=batch))
    on_canvas = canvas_layers.Canvas(SIZE, mode=mode, round_values=True)(given)
    check_equal(lite.Runner(file.content).run(given), expected(on_canvas.numpy()))


def test_a_grey_picture_is_repeated_for_a_model_of_colours() -> None:
    file = lite.convert(network(3), OUTPUTS, canvas(channels=3), form(channels=1))
    check_equal(lite.Runner(file.content).run(pictures(4)), expected(np.repeat(pictures(4), 3, axis=3), channels=3))


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_any_number_of_pictures_goes_through_any_batch(quantize) -> None:
    """Six pictures four at a time: the second call is filled up."""
    answers = {batch: lite.Runner(converted(quantize, batch=batch).content).run(pictures(6)) for batch in (0, 1, 4)}
    for batch in (0, 4):
        for name in OUTPUTS:
            far = 0.025 if name == "familiarity" else 1e-5
            np.testing.assert_allclose(answers[batch][name], answers[1][name], atol=far)
    assert lite.Runner(converted(quantize, batch=0).content).batch == 0
    assert lite.Runner(converted(quantize, batch=4).content).batch == 4


def test_no_picture_is_answered_with_nothing() -> None:
    answer = lite.Runner(converted("none", batch=4).content).run(pictures(6)[:0])
    assert {name: value.shape for name, value in answer.items()} == {
        "probabilities": (0, CLASSES),
        "prediction_set": (0, CLASSES),
        "abstain": (0,),
        "familiarity": (0,),
    }


@pytest.mark.parametrize(("quantize", "far"), [("float16", 5e-3), ("dynamic", 0.05), ("int8", 0.15), ("int16x8", 0.05)])
def test_a_quantised_file_answers_nearly_as_the_model(quantize, far) -> None:
    answer = lite.Runner(converted(quantize).content).run(pictures(30))
    exact = expected(pictures(30))
    assert np.ptp(exact["probabilities"], axis=0).max() > 0.2
    np.testing.assert_allclose(answer["probabilities"], exact["probabilities"], atol=far)
    assert (answer["prediction_set"] == exact["prediction_set"]).mean() > 0.9


def test_probabilities_are_not_rounded_to_what_int8_can_say() -> None:
    probabilities = lite.Runner(converted("int8").content).run(pictures(30))["probabilities"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert len(np.unique(probabilities)) == probabilities.size
    assert np.abs(probabilities * 256 - np.rint(probabilities * 256)).max() > 0.4


def tensors_of(content: bytes, kind: str) -> list[tuple[object, list[object]]]:
    """Returns every operator of a kind as (operator, its tensors)."""
    model = flat.load(content)
    graph = model.subgraphs[0]
    return [
        (each, [graph.tensors[number] for number in (*each.inputs, *each.outputs) if number >= 0])
        for each in graph.operators
        if flat.name(model.operatorCodes[each.opcodeIndex]) == kind
    ]


def test_an_int8_network_stands_between_pixels_and_answers_in_float32() -> None:
    file = converted("int8")
    assert (file.operators["QUANTIZE"], file.operators["DEQUANTIZE"]) == (1, 1)
    for kind in ("CONV_2D", "MEAN"):
        dtypes = [tensors[0].type for _, tensors in tensors_of(file.content, kind)]
        assert schema.TensorType.INT8 in dtypes
    for kind in ("SOFTMAX", "FULLY_CONNECTED", "SQRT", "SUB"):
        found = tensors_of(file.content, kind)
        assert found
        assert {tensor.type for _, tensors in found for tensor in tensors} == {schema.TensorType.FLOAT32}


def test_weights_have_a_scale_for_every_channel() -> None:
    kernels = [tensors[1] for _, tensors in tensors_of(converted("int8").content, "CONV_2D")]
    assert [len(kernel.quantization.scale) for kernel in kernels] == [8, 8]
    assert all(len(np.unique(kernel.quantization.scale)) == 8 for kernel in kernels)


@pytest.mark.parametrize(("kept", "left"), [("block1_conv", 1), ("stem_conv", 1), ("embedding", 2)])
def test_a_layer_that_is_kept_stays_in_float32(kept, left) -> None:
    file = lite.convert(network(), OUTPUTS, canvas(), form("int8"), representative=pictures(20), kept_float=(kept,))
    assert file.kept_float == (kept,)
    kernels = [tensors[1].type for _, tensors in tensors_of(file.content, "CONV_2D")]
    assert kernels.count(schema.TensorType.INT8) == left
    means = [
        tensors[0].type for _, tensors in tensors_of(file.content, "MEAN") if tensors[0].shape.tolist() == [1, 10, 8, 8]
    ]
    assert means == [schema.TensorType.FLOAT32 if kept == "embedding" else schema.TensorType.INT8]
    found = lite.Runner(file.content).run(pictures(10))["probabilities"]
    np.testing.assert_allclose(found, expected(pictures(10))["probabilities"], atol=0.05)


def test_every_layer_can_be_kept() -> None:
    names = ("stem_conv", "block1_conv", "block1_add", "embedding")
    file = lite.convert(network(), OUTPUTS, canvas(), form("int8"), representative=pictures(9), kept_float=names)
    check_equal(lite.Runner(file.content).run(pictures(5)), expected(pictures(5)))


def test_the_embeddings_of_an_int8_network_are_right_on_the_average() -> None:
    """The means over the representative images, which the logits of the mean embedding show."""
    file = lite.convert(network(), ("logits",), canvas(), form("int8"), representative=pictures(40))
    found = lite.Runner(file.content).run(pictures(40))["logits"]
    exact = network()(pictures(40).astype(np.float32), training=False)["logits"].numpy()
    assert np.abs(found - exact).max() > 1e-3
    np.testing.assert_allclose(found.mean(axis=0), exact.mean(axis=0), atol=1e-4)


def test_operators_are_counted_by_name() -> None:
    operators = converted("none").operators
    assert operators["CONV_2D"] == 2
    interpreter = litert.Interpreter(model_content=converted("none").content)
    assert sum(operators.values()) == len(interpreter._get_ops_details())


def test_the_conversion_is_silent(capfd) -> None:
    lite.convert(network(), OUTPUTS, canvas(), form("int8"), representative=pictures(3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"quantize": "int8"}, {}, "int8 is measured on representative images. Received: none"),
        ({"quantize": "int16x8"}, {"representative": pictures(1)[:0]}, "int16x8 is measured on representative images"),
        ({"quantize": "dynamic"}, {"kept_float": ("stem_conv",)}, "kept in float32 by int8 alone. Received: dynamic"),
        (
            {"channels": 3},
            {},
            "A device gives the channels that the model takes, or grey. Received: 3 for a model of 1",
        ),
        (
            {"quantize": "int8"},
            {"kept_float": ("stem_cone",), "representative": pictures(1)},
            "Unknown layer of the network; did you mean 'stem_conv'",
        ),
    ],
)
def test_a_form_that_does_not_fit_is_refused(changes, options, message) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        lite.convert(network(), OUTPUTS, canvas(), form(**changes), **options)


def test_volumes_are_refused() -> None:
    volumes = store.Canvas(SIZE, 1, "uint8", "pad", depth=4)
    with pytest.raises(errors.ModelError, match="A device gives pictures. Received: a model of volumes of 4 planes"):
        lite.convert(network(), OUTPUTS, volumes, form())


@keras.saving.register_keras_serializable("tests")
class Gamma(keras.layers.Layer):
    """An operation that TFLite does not have."""

    def call(self, values: tf.Tensor) -> tf.Tensor:
        return tf.math.igamma(values + 1.0, values)


@pytest.mark.parametrize("quantize", ["none", "float16"])
def test_an_operator_that_is_not_built_in_is_named(quantize) -> None:
    image = keras.Input((*SIZE, 1))
    x = keras.layers.Conv2D(2, 3)(Gamma()(image))
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    model = keras.Model(image, {"logits": keras.layers.Dense(2)(x)})
    with pytest.raises(errors.ModelError, match=r"built-in operators only. Received: tf.Igamma"):
        lite.convert(model, ("logits",), canvas(), form(quantize))


def test_a_model_without_an_embedding_is_converted_but_not_quantised() -> None:
    image = keras.Input((*SIZE, 1))
    model = keras.Model(image, {"logits": keras.layers.Dense(2)(keras.layers.Flatten()(image))})
    file = lite.convert(model, ("logits",), canvas(), form())
    exact = model(pictures(2).astype(np.float32))["logits"]
    np.testing.assert_allclose(lite.Runner(file.content).run(pictures(2))["logits"], exact, rtol=1e-4, atol=1e-3)
    with pytest.raises(errors.ModelError, match="one way from its pixels to a layer 'embedding'"):
        lite.convert(model, ("logits",), canvas(), form("dynamic"))


def test_the_pieces_of_a_model_do_what_it_does() -> None:
    pieces = cutting.cut(network())
    images = pictures(4).astype(np.float32)
    embedding = pieces.network(pieces.pixels(images))
    for name, value in network()(images).items():
        np.testing.assert_allclose(pieces.answer([embedding, tf.constant(images)])[name], value, atol=1e-6)
    assert not pieces.pixels.weights


def test_what_is_not_a_file_of_one_signature_is_refused(tmp_path) -> None:
    with pytest.raises(errors.ModelError, match="A TFLite file of one signature is needed"):
        lite.Runner(b"no model at all")
    file = tmp_path / "model.tflite"
    file.write_bytes(converted("none").content)
    check_equal(lite.Runner(file, threads=1).run(pictures(2)), expected(pictures(2)))


def test_equal_arrays_are_written_once() -> None:
    content = converted("int8").content
    model = flat.load(content)
    assert abs(len(flat.pack(model)) - len(content)) < 1000
    model.buffers.extend(schema.BufferT(data=np.full(5000, 7, np.uint8)) for _ in range(10))
    assert 4000 < len(flat.pack(model)) - len(content) < 6000
    check_equal(lite.Runner(flat.pack(flat.load(converted("none").content))).run(pictures(2)), expected(pictures(2)))


def test_data_of_tensors_are_aligned() -> None:
    model = schema.Model.GetRootAsModel(converted("int8").content, 0)
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    starts = [each._tab.Vector(each._tab.Offset(4)) for each in buffers if each.DataLength()]
    assert starts
    assert {start % 16 for start in starts} == {0}


def test_a_part_with_control_flow_is_refused() -> None:
    model = flat.load(converted("none").content)
    model.subgraphs.append(schema.SubGraphT(tensors=[], operators=[]))
    with pytest.raises(errors.ModelError, match="has no control flow. Received: 2 graphs in one"):
        joining.join([flat.pack(model)], image="image", outputs=OUTPUTS)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_that_was_converted_can_still_be_saved(tmp_path) -> None:
    # One of its own: other tests cut the network that they share.
    model = network.__wrapped__()
    lite.convert(model, OUTPUTS, canvas(), forms.Form(SIZE, 1, quantize="dynamic"))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    images = pictures(4).astype(np.float32)
    np.testing.assert_allclose(
        again(images, training=False)["probabilities"], model(images, training=False)["probabilities"], atol=1e-6
    )
