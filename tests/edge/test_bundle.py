"""The device bundle: what it holds, that its self-test proves something, and that it needs no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from PIL import Image

from medkeras import errors
from medkeras.edge import bundle, bundle_readme

CLASSES = ["glioma", "no tumour", "méningiome"]
SIZE = (6, 8)
LIMITS = ["This is research software: no decision about a patient may rest on it."]


def facts_of(dtype: str = "uint8", channels: int = 3, **more: object) -> dict[str, object]:
    return {
        "classes": CLASSES,
        "multilabel": False,
        "dtype": dtype,
        "size": list(SIZE),
        "channels": channels,
        "version": 4,
        "fingerprint": "ab" * 32,
        "limits": LIMITS,
    } | more


def converted(dtype: str = "uint8", channels: int = 3, batch: int = 1) -> bytes:
    pixels, scale = SIZE[0] * SIZE[1] * channels, {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}[dtype]
    weights = np.random.default_rng(1).normal(size=(pixels, len(CLASSES))).astype(np.float32) / 4

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        values = keras.ops.reshape(keras.ops.cast(image, "float32") / scale, (-1, pixels))
        probabilities = keras.ops.softmax(keras.ops.matmul(values, weights))
        familiarity = keras.ops.mean(values, axis=1)
        return {
            "probabilities": probabilities,
            "prediction_set": probabilities >= 0.3,
            "abstain": familiarity < 0.5,
            "familiarity": familiarity,
        }

    spec = tf.TensorSpec([batch or None, *SIZE, channels], dtype, name="image")
    function = tf.function(answer, input_signature=[spec])
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module()).convert()


def pictures(dtype: str = "uint8", channels: int = 3, count: int = 10) -> np.ndarray:
    values = np.random.default_rng(0).uniform(
        0, {"uint8": 256, "uint16": 65536, "float32": 1}[dtype], (count, *SIZE, channels)
    )
    return values.astype(dtype)


def answers_of(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    run = litert.Interpreter(model_content=content).get_signature_runner()
    batch = max(1, int(run.get_input_details()["image"]["shape_signature"][0]))
    each = [run(image=np.stack([image] * batch)) for image in images]
    return {name: np.stack([one[name][0] for one in each]) for name in each[0]}


def written(
    folder: pathlib.Path, dtype: str = "uint8", channels: int = 3, batch: int = 1, **more: object
) -> pathlib.Path:
    content, images = converted(dtype, channels, batch), pictures(dtype, channels)
    bundle.write(
        folder,
        name="brain",
        content=content,
        facts=facts_of(dtype, channels, batch=batch, **more),
        images=images,
        answers=answers_of(content, images),
        tolerance=1e-4,
    )
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    return written(tmp_path_factory.mktemp("bundle") / "brain")


@pytest.fixture
def copied(made, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(made, tmp_path / "copy"))


def run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder.parent)


def test_selftest_passes(made) -> None:
    done = run(made, "--selftest")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASSED: largest difference 0, ")
