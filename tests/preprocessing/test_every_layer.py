"""What every preprocessing layer promises, run over the list in `conftest.py`."""

import importlib
import inspect
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter

from medkeras import preprocessing
from medkeras.preprocessing import base, geometry

ABSTRACT = {base.PixelLayer, geometry.Geometry}


def test_every_public_layer_is_in_the_list(all_cases):
    public = set()
    for module in pkgutil.iter_modules(preprocessing.__path__):
        members = vars(importlib.import_module(f"medkeras.preprocessing.{module.name}")).values()
        public |= {kind for kind in members if inspect.isclass(kind) and issubclass(kind, keras.layers.Layer)}
    assert public - ABSTRACT == {type(case.make()) for case in all_cases.values()}


def test_every_public_layer_has_a_row_in_the_documentation(all_cases):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "preprocessing.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)", page, flags=re.MULTILINE))
    assert {type(case.make()).__name__ for case in all_cases.values()} <= documented


def test_config_holds_every_argument_and_rebuilds_the_layer(case, outputs):
    layer = case.make()
    config = layer.get_config()
    assert {name for name in inspect.signature(type(layer)).parameters if name != "options"} <= set(config)
    again = type(layer).from_config(config)
    assert again.get_config() == layer.get_config()
    for first, second in zip(outputs(layer, *case.inputs()), outputs(again, *case.inputs()), strict=True):
        np.testing.assert_array_equal(first, second)


def test_keras_file_gives_the_same_values(case, outputs, tmp_path):
    inputs = case.inputs()
    symbols = [keras.Input(value.shape[1:], dtype=value.dtype.name) for value in inputs]
    layer = case.make()
    keras.Model(symbols, layer(*symbols)).save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for first, second in zip(outputs(layer, *inputs), outputs(lambda *x: again(list(x)), *inputs), strict=True):
        np.testing.assert_array_equal(first, second)


def test_graph_of_unknown_sizes_equals_eager(case, outputs):
    layer, inputs = case.make(), case.inputs()
    specs = [tf.TensorSpec([None] * (x.ndim - 1) + [x.shape[-1]], x.dtype) for x in inputs]
    traced = tf.function(lambda *x: layer(*x), input_signature=specs)
    for first, second in zip(outputs(layer, *inputs), outputs(traced, *inputs), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-3)


def test_dataset_map_equals_eager(case, outputs):
    layer, inputs = case.make(), case.inputs()
    mapped = next(iter(tf.data.Dataset.from_tensors(inputs).map(lambda *x: layer(*x))))
    for first, second in zip(outputs(layer, *inputs), tf.nest.flatten(mapped), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-3)


def test_float32_under_mixed_precision(case, outputs):
    expected = outputs(case.make(), *case.inputs())
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed = outputs(case.make(), *case.inputs())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for first, second in zip(expected, mixed, strict=True):
        assert second.dtype == np.float32
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stored_integers_are_taken_as_they_are(case, outputs, dtype):
    images, *others = case.inputs()
    whole = np.round(images).astype(dtype)
    expected = outputs(case.make(), whole.astype(np.float32), *others)
    for first, second in zip(expected, outputs(case.make(), whole, *others), strict=True):
        np.testing.assert_array_equal(first, second)


def test_example_does_not_depend_on_its_batch(case, outputs):
    if case.with_targets and type(case.make()).__name__ == "Mixup":
        pytest.skip("mixup blends with another example of the batch by definition")
    layer, inputs = case.make(), case.inputs(5)
    together = outputs(layer, *inputs)
    for chosen in ([3], [4, 1]):
        for whole, part in zip(together, outputs(layer, *(value[chosen] for value in inputs)), strict=True):
            np.testing.assert_allclose(part, whole[chosen], rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_constant_image_stays_finite(case, outputs, value):
    images, *others = case.inputs()
    for result in outputs(case.make(), np.full_like(images, value), *others):
        assert np.isfinite(result).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3)])
def test_tiny_images(case, outputs, size):
    images, *others = case.inputs()
    for result in outputs(case.make(), images[:, : size[0], :1].repeat(size[1], axis=2), *others):
        assert np.isfinite(result).all()


@pytest.mark.filterwarnings("ignore")
def test_tflite_with_builtin_operators_equals_keras(in_model, outputs, tmp_path):
    (images,), layer = in_model.inputs(), in_model.make()
    symbol = keras.Input(images.shape[1:])
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(symbol, layer(symbol)))
    assert converter.target_spec.supported_ops == {tf.lite.OpsSet.TFLITE_BUILTINS}
    runner = interpreter.Interpreter(model_content=converter.convert())
    place = runner.get_input_details()[0]["index"]
    runner.resize_tensor_input(place, images.shape)
    runner.allocate_tensors()
    runner.set_tensor(place, images)
    runner.invoke()
    converted = runner.get_tensor(runner.get_output_details()[0]["index"])
    np.testing.assert_allclose(converted, outputs(layer, images)[0], atol=1e-4)


def test_gradients_are_finite_even_in_flat_regions(in_model):
    images = in_model.inputs()[0]
    images[:, :10] = 0.0
    values = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(in_model.make()(values))
    gradient = tape.gradient(total, values)
    assert gradient is None or np.isfinite(gradient).all()


def test_same_seed_same_bytes_and_other_seed_other_pixels(augmentation, outputs):
    layer, (*given, seeds) = augmentation.make(), augmentation.inputs()
    first, again = outputs(layer, *given, seeds), outputs(layer, *given, seeds)
    assert [value.tobytes() for value in first] == [value.tobytes() for value in again]
    assert not np.array_equal(first[0], given[0])
    assert not np.array_equal(first[0], outputs(layer, *given, seeds + np.uint32(1))[0])
