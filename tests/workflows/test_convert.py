"""A model becomes a file for a device: judged on cases it was not trained on, and not written where it loses."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.edge import lite, metadata, onnx
from medkeras.export import saved_model
from medkeras.workflows import convert, device_cases, export

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNTS = {"train": 24, "validation": 20, "test": 4}
QUICK = config.Config().override({"edge.calibration": 16, "edge.finetune_epochs": 1, "evaluation.resamples": 50})


@pytest.fixture(scope="module")
def scans(tmp_path_factory, draw) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("device")
    number = 0
    for split, count in COUNTS.items():
        for label in ("down", "up"):
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                number += 1
                Image.fromarray(draw(number, label)).save(folder / split / label / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def model(fit, scans) -> pathlib.Path:
    published = fit(data__source=f"folder:{scans}", train__epochs=12).published
    assert published.metrics["metrics"]["accuracy"]["value"] == 1
    return published.folder


def pictures(scans: pathlib.Path) -> np.ndarray:
    paths = sorted((scans / "test").rglob("*.png"))
    return np.stack([np.asarray(Image.open(path))[..., np.newaxis] for path in paths])


@pytest.mark.parametrize(("quantize", "tolerance"), [("none", 1e-4), ("int8", 0.1)])
def test_a_file_answers_as_the_model_and_says_what_it_is(model, scans, tmp_path, quantize, tolerance) -> None:
    done = convert.convert(model, output=tmp_path / "a.tflite", quantize=quantize, settings=QUICK)
    content = (tmp_path / "a.tflite").read_bytes()
    card = json.loads((tmp_path / "a.tflite.card.json").read_text())
    assert sorted(os.listdir(tmp_path)) == ["a.tflite", "a.tflite.card.json"]
    assert (card["sha256"], card["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    gate = card["gate"]
    assert (gate["accepted"], gate["forced"], gate["cases"]) == (True, False, 40)
    assert gate["quantization"]["calibration_cases"] == (16 if quantize == "int8" else 0)
    assert gate["operators"]["CONV_2D"] > 0
    assert "Accepted." in done.table
    facts = metadata.read(content)
    assert (facts["classes"], facts["dtype"], facts["quantize"], facts["batch"]) == (
        ["down", "up"],
        "uint8",
        quantize,
        1,
    )
    runner = lite.Runner(content)
    images = pictures(scans)
    height, width = runner.size
    padded = np.zeros((len(images), height, width, 1), np.uint8)
    padded[:, : images.shape[1], : images.shape[2]] = images
    expected, found = saved_model.Served(model).predict(padded), runner.run(padded)
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=tolerance)


def collapse(network: keras.Model) -> None:
    """Makes a network call the second class whatever it sees."""
    kernel, bias = network.get_layer("logits").get_weights()
    network.get_layer("logits").set_weights([kernel, bias + np.array([-1e4, 1e4], np.float32)])


def ruin(network: keras.Model) -> None:
    """Takes the scale of one layer away."""
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))
    layer.set_weights([-8 * weight for weight in layer.get_weights()])


@pytest.mark.parametrize("breaking", [collapse, ruin])
def test_a_broken_model_is_refused_by_the_name_of_its_class(model, tmp_path, monkeypatch, breaking) -> None:
    real = export.load_keras

    def broken(path: pathlib.Path) -> keras.Model:
        network = real(path)
        breaking(network)
        return network

    monkeypatch.setattr(export, "load_keras", broken)
    done = convert.convert(model, output=tmp_path / "a.tflite", settings=QUICK)
    assert (done.path, os.listdir(tmp_path)) == (None, [])
    assert done.card["gate"]["accepted"] is False
    assert any("'down'" in reason or "'up'" in reason for reason in done.card["gate"]["reasons"])
    assert "Not accepted." in done.table
    if breaking is ruin:
        return
    forced = convert.convert(model, output=tmp_path / "a.tflite", settings=QUICK, force=True)
    card = json.loads((tmp_path / "a.tflite.card.json").read_text())
    assert (forced.path, card["gate"]["forced"], card["gate"]["accepted"]) == (tmp_path / "a.tflite", True, False)


def test_int8_that_loses_is_tried_in_order_until_it_does_not(model, tmp_path, monkeypatch) -> None:
    real, asked = lite.convert, []

    def spoiling(network, *args, kept_float=(), **more):
        asked.append((network.name, tuple(kept_float)))
        if len(asked) < 4:
            network = keras.models.clone_model(network)
            for layer in network.layers:
                if isinstance(layer, keras.layers.Normalization):
                    layer.finalize_state()
        return real(network, *args, kept_float=kept_float, **more)

    monkeypatch.setattr(lite, "convert", spoiling)
    done = convert.convert(model, output=tmp_path / "a.tflite", quantize="int8", settings=QUICK)
    tried = done.card["gate"]["quantization"]["tried"]
    assert [each["accepted"] for each in tried] == [False, False, False, True]
    assert [bool(each["kept_float"]) for each in tried] == [False, True, False, True]
    assert done.card["gate"]["quantization"]["kept"] == tried[-1]["method"]
    assert done.card["gate"]["quantization"]["kept_float"] == tried[-1]["kept_float"]


@pytest.mark.parametrize("name", ["a.tflite", "a.tflite.card.json"])
def test_nothing_is_overwritten(model, tmp_path, name) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(errors.ModelError, match="nothing is overwritten"):
        convert.convert(model, output=tmp_path / "a.tflite", settings=QUICK)
    assert (tmp_path / name).read_text() == "mine"


def test_a_bundle_proves_itself_and_shows_no_patient(model, scans, tmp_path) -> None:
    convert.convert(model, output=tmp_path / "device.zip", quantize="int8", settings=QUICK, bundle=True)
    assert os.listdir(tmp_path) == ["device.zip"]
    with zipfile.ZipFile(tmp_path / "device.zip") as archive:
        archive.extractall(tmp_path)
    run = tmp_path / "device" / "run.py"
    done = subprocess.run([sys.executable, run, "--selftest"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    training = {path.read_bytes() for path in (scans / "train").rglob("*.png")}
    shown = [np.load(path) for path in sorted((tmp_path / "device" / "cases").glob("*.npy"))]
    known = [np.asarray(Image.open(path)) for path in (scans / "train").rglob("*.png")]
    assert len(shown) == 10
    assert training
    assert not any(np.array_equal(case[: one.shape[0], : one.shape[1], 0], one) for case in shown for one in known)


def test_pictures_of_another_size_come_onto_the_canvas_inside_the_file(model, tmp_path) -> None:
    settings = QUICK.override({"edge.size": 20, "edge.dtype": "float32", "edge.batch": 0})
    convert.convert(model, output=tmp_path / "a.tflite", settings=settings)
    runner = lite.Runner(tmp_path / "a.tflite")
    assert (runner.size, runner.dtype, runner.batch) == ((20, 20), "float32", 0)
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 1)).astype(np.float32)
    expected = saved_model.Served(model).predict(images)["probabilities"]
    np.testing.assert_allclose(runner.run(images)["probabilities"], expected, atol=1e-4)


def test_other_data_are_refused(model, tmp_path, write_scans) -> None:
    other = write_scans(tmp_path / "other", labels=("down", "up"), high=250)
    with pytest.raises(errors.DataError, match="without a case of its training"):
        convert.convert(model, output=tmp_path / "a.tflite", settings=QUICK, data=other)
    assert not (tmp_path / "a.tflite").exists()


def test_values_that_a_type_cannot_hold_are_refused(model, tmp_path) -> None:
    with pytest.raises(errors.ConfigError, match="as uint8 or float32. Received: edge.dtype=uint16"):
        convert.convert(model, output=tmp_path / "a.tflite", settings=QUICK.override({"edge.dtype": "uint16"}))


def test_drawing_takes_as_many_of_each_class_as_there_are() -> None:
    names = ["a"] * 90 + ["b"] * 5 + ["c"] * 30
    chosen = device_cases.stratified(names, 35, seed=0)
    drawn = [names[position] for position in chosen]
    assert (drawn.count("a"), drawn.count("b"), drawn.count("c")) == (15, 5, 15)
    assert len(set(chosen.tolist())) == 35
    assert chosen.tolist() == device_cases.stratified(names, 35, seed=0).tolist()
    assert chosen.tolist() != device_cases.stratified(names, 35, seed=1).tolist()
    assert device_cases.stratified(names, 999, seed=0).tolist() == list(range(125))


def test_an_onnx_file_answers_as_the_model(model, scans, tmp_path) -> None:
    pytest.importorskip("tf2onnx", reason="pip install medkeras[onnx]")
    convert.convert(model, output=tmp_path / "a.onnx", format="onnx", settings=QUICK)
    card = json.loads((tmp_path / "a.onnx.card.json").read_text())
    assert (card["format"], card["gate"]["accepted"]) == ("onnx", True)
    content = (tmp_path / "a.onnx").read_bytes()
    assert onnx.read(content)["classes"] == ["down", "up"]
    runner = onnx.Runner(content)
    images = np.random.default_rng(0).integers(0, 256, (4, *runner.size, 1)).astype(np.uint8)
    expected = saved_model.Served(model).predict(images)["probabilities"]
    np.testing.assert_allclose(runner.run(images)["probabilities"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"format": "pb"}, "Unknown format. Known: onnx, tflite. Received: 'pb'"),
        ({"format": "onnx", "quantize": "int8"}, "Unknown form of files in onnx. Known: none. Received: 'int8'"),
        ({"format": "onnx", "bundle": True}, "A bundle is made of a tflite file. Received: onnx"),
    ],
)
def test_forms_that_there_are_not(model, tmp_path, asked, message) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        convert.convert(model, output=tmp_path / "a", **asked)
