"""One tiny trained-looking model of each kind, exported once."""

from __future__ import annotations

import dataclasses
import pathlib

import keras
import numpy as np
import pytest

from medkeras import config, models
from medkeras.data import store
from medkeras.export import saved_model
from medkeras.preprocessing import preprocessor
from medkeras.tasks import classification
from tests.confidence import made


@dataclasses.dataclass(frozen=True)
class Exported:
    """A Keras model and the SavedModel that was written from it."""

    model: keras.Model
    task: classification.Classification
    canvas: store.Canvas
    folder: pathlib.Path
    served: saved_model.Served


# Canvas, network, values, several labels, precision.
KINDS = {
    "grey": (store.Canvas((24, 16), 1, "uint8", "pad"), "resnet_small", (0.0, 255.0), False, "float32"),
    "colour": (store.Canvas((16, 16), 3, "uint8", "stretch"), "cnn", (0.0, 255.0), True, "float32"),
    "wide": (store.Canvas((16, 16), 1, "uint16", "pad"), "cnn", (100.0, 60000.0), False, "float32"),
    "half": (store.Canvas((16, 16), 1, "uint8", "pad"), "cnn", (0.0, 255.0), False, "mixed_float16"),
    "hounsfield": (store.Canvas((16, 16), 1, "float32", "pad"), "cnn", (-1000.0, 1000.0), False, "float32"),
}


def export(kind: str, folder: pathlib.Path) -> Exported:
    canvas, name, value_range, multilabel, precision = KINDS[kind]
    keras.utils.set_random_seed(1)
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        task, model = build(canvas, name, value_range, multilabel)
        saved_model.write(model, folder, task=task, canvas=canvas)
    finally:
        keras.config.set_dtype_policy(kept)
    return Exported(model, task, canvas, folder, saved_model.Served(folder))


def build(
    canvas: store.Canvas, name: str, value_range: tuple[float, float], multilabel: bool
) -> tuple[classification.Classification, keras.Model]:
    task = classification.Classification(("a", "b", "c"), multilabel)
    layers = preprocessor.layers_for(
        config.PreprocessingConfig(), channels=canvas.channels, value_range=value_range, mean=[0.0] * canvas.channels,
        std=[1.0] * canvas.channels, network_normalise=models.MODELS[name].normalise,
    )  # fmt: skip
    built = models.build_model(name, image_shape=canvas.shape, preprocessing=layers, head=task.head, weights="none")
    scramble(built.model)
    temper(built.model, np.random.default_rng(0).integers(*map(int, value_range), (16, *canvas.shape)))
    return task, made.assured(built.model, value_range=value_range, multilabel=multilabel)


def scramble(model: keras.Model) -> None:
    """Replaces moments and scales, so that zero gammas and equal moments hide no mistake."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])


def temper(model: keras.Model, images: np.ndarray) -> None:
    """Brings the logits to a spread of 1: probabilities of 0 and 1 hide every difference."""
    logits = np.asarray(model(images.astype(np.float32))["logits"])
    kernel, _ = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / logits.std(0), -logits.mean(0) / logits.std(0)])


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Returns the exported model of a kind, made when it is first asked for."""
    made: dict[str, Exported] = {}

    def get(kind: str) -> Exported:
        if kind not in made:
            made[kind] = export(kind, tmp_path_factory.mktemp(kind) / "1")
        return made[kind]

    return get
