"""A model as an ONNX file: what goes in, what comes out, what it says of itself."""

from __future__ import annotations

import functools
import sys

import keras
import numpy as np
import pytest

from medkeras import errors
from medkeras.data import store
from medkeras.edge import forms
from medkeras.edge import onnx as files
from medkeras.preprocessing import canvas as canvas_layers
from tests.edge import test_lite as lite_files

onnx = pytest.importorskip("onnx", reason="The extra onnx is not installed.")
pytest.importorskip("tf2onnx", reason="The extra onnx is not installed.")
pytest.importorskip("onnxruntime", reason="The extra onnx is not installed.")

OUTPUTS = lite_files.OUTPUTS
SIZE = lite_files.SIZE
FACTS = {"name": "räntgen", "version": 3, "classes": ["no finding", "Müller's sign", "pneumonia"], "limits": []}
pictures, expected, check_equal = lite_files.pictures, lite_files.expected, lite_files.check_equal
network, canvas, form = lite_files.network, lite_files.canvas, lite_files.form


@functools.cache
def converted(**changes: object) -> bytes:
    return files.convert(network(), OUTPUTS, canvas(), form(**changes), facts=FACTS)


@pytest.mark.parametrize("dtype", forms.DTYPES)
def test_a_file_answers_as_the_model_whatever_numbers_the_pixels_are(dtype) -> None:
    runner = files.Runner(converted(dtype=dtype))
    assert (runner.dtype, runner.size, runner.channels, runner.batch) == (dtype, SIZE, 1, 1)
    assert runner.outputs == OUTPUTS
    check_equal(runner.run(pictures(6).astype(dtype)), expected(pictures(6)))


@pytest.mark.parametrize("batch", [0, 4])
def test_any_number_of_pictures_goes_through_any_batch(batch) -> None:
    """Six pictures four at a time: the second call is filled up."""
    runner = files.Runner(converted(batch=batch))
    assert runner.batch == batch
    check_equal(runner.run(pictures(6)), expected(pictures(6)))
    assert {name: value.shape[0] for name, value in runner.run(pictures(6)[:0]).items()} == dict.fromkeys(OUTPUTS, 0)


@pytest.mark.parametrize("mode", ["pad", "stretch"])
def test_pictures_of_another_size_are_brought_onto_the_canvas(mode) -> None:
    given = pictures(5, size=(33, 41))
    file = files.convert(network(), OUTPUTS, canvas(mode), form(size=(33, 41), batch=0), facts=FACTS)
    on_canvas = canvas_layers.Canvas(SIZE, mode=mode, round_values=True)(given)
    check_equal(files.Runner(file).run(given), expected(on_canvas.numpy()))


def test_a_grey_picture_is_repeated_for_a_model_of_colours() -> None:
    file = files.convert(network(3), OUTPUTS, canvas(channels=3), form(channels=1), facts=FACTS)
    check_equal(files.Runner(file).run(pictures(4)), expected(np.repeat(pictures(4), 3, axis=3), channels=3))


def test_a_file_says_what_it_is() -> None:
    proto = onnx.load_model_from_string(converted(batch=0))
    onnx.checker.check_model(proto, full_check=True)
    assert files.read(converted(batch=0)) == FACTS
    told = {each.key: each.value for each in proto.metadata_props}
    assert told["labels"].splitlines() == FACTS["classes"]
    assert (proto.producer_name, proto.graph.name) == ("medkeras", "räntgen")
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", files.OPSET)]
    dimensions = [each.type.tensor_type.shape.dim[0].dim_param for each in (*proto.graph.input, *proto.graph.output)]
    assert dimensions == ["batch"] * (1 + len(OUTPUTS))


def test_what_layers_keep_in_plain_tensors_is_no_input() -> None:
    """A normalisation with a fixed mean holds tensors, not variables."""
    image = keras.Input((*SIZE, 1), name="image")
    fixed = keras.layers.Normalization(mean=100.0, variance=400.0)(image)
    model = keras.Model(image, {"logits": keras.layers.Dense(2)(keras.layers.Flatten()(fixed))})
    proto = files.convert(model, ("logits",), canvas(), form(), facts=FACTS)
    assert [each.name for each in onnx.load_model_from_string(proto).graph.input] == ["image"]
    exact = model(pictures(3).astype(np.float32))["logits"]
    np.testing.assert_allclose(files.Runner(proto).run(pictures(3))["logits"], exact, atol=1e-4)


def test_operators_are_counted_by_name() -> None:
    found = files.operators(converted())
    assert found["Conv"] == 2
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_conversion_is_silent(capfd) -> None:
    model = network()
    capfd.readouterr()
    files.convert(model, OUTPUTS, canvas(), form(), facts=FACTS)
    assert capfd.readouterr() == ("", "")


def test_an_operator_of_no_standard_is_named() -> None:
    image = keras.Input((*SIZE, 1))
    model = keras.Model(image, {"logits": keras.layers.Dense(2)(keras.layers.Flatten()(lite_files.Gamma()(image)))})
    with pytest.raises(errors.ModelError, match="Igamma"):
        files.convert(model, ("logits",), canvas(), form(), facts=FACTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize": "int8"}, "written in float32, quantize none. Received: int8"),
        ({"channels": 3}, "the channels that the model takes, or grey. Received: 3 for a model of 1"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(changes, message) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        files.convert(network(), OUTPUTS, canvas(), form(**changes), facts=FACTS)


def test_volumes_are_refused() -> None:
    volumes = store.Canvas(SIZE, 1, "uint8", "pad", depth=4)
    with pytest.raises(errors.ModelError, match="Received: a model of volumes of 4 planes"):
        files.convert(network(), OUTPUTS, volumes, form(), facts=FACTS)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08"])
def test_what_is_no_onnx_file_is_refused(content) -> None:
    with pytest.raises(errors.ModelError, match="An ONNX file of a picture is needed"):
        files.Runner(content)
    with pytest.raises(errors.ModelError, match="An ONNX file that medkeras wrote is needed"):
        files.read(content)


def test_a_file_cut_short_is_refused(tmp_path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(converted()[: len(converted()) // 2])
    with pytest.raises(errors.ModelError, match="An ONNX file of a picture is needed"):
        files.Runner(path)
    path.write_bytes(converted())
    check_equal(files.Runner(path, threads=1).run(pictures(2)), expected(pictures(2)))


def test_a_foreign_file_of_no_picture_is_refused() -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [value("x", 1, [2])], [value("y", 1, [2])]
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", files.OPSET)], ir_version=8)
    with pytest.raises(errors.ModelError, match=r"takes pictures \[B, H, W, C\]. Received: tensor\(float\) \[2\]"):
        files.Runner(made.SerializeToString())


@pytest.mark.parametrize("missing", ["onnx", "tf2onnx"])
def test_a_missing_extra_is_named(missing, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(errors.ModelError, match=r"pip install medkeras\[onnx\]. Received: it is missing"):
        files.convert(network(), OUTPUTS, canvas(), form(), facts=FACTS)


def test_a_missing_runtime_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(errors.ModelError, match="is run by ONNX Runtime"):
        files.Runner(converted())
