"""Tiny models for every test of the folder."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from medkeras import models


def head(embedding: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    logits = keras.layers.Dense(3, name="logits")(embedding)
    return {"logits": logits, "probabilities": keras.layers.Softmax(name="probabilities")(logits)}


def build(name: str, image_shape: tuple[int, int, int], **settings: object) -> models.BuiltModel:
    """Builds with random weights unless asked otherwise, every weight away from zero."""
    settings = {"preprocessing": (), "head": head, "weights": "none", **settings}
    built = models.build_model(name, image_shape=image_shape, **settings)
    if settings["weights"] == "none":
        scramble(built.model)
    return built


def scramble(model: keras.Model) -> None:
    """Replaces the weights, so that zero gammas and equal moments hide no mistake."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])


@pytest.fixture(name="build", scope="session")
def build_fixture() -> Callable[..., models.BuiltModel]:
    return build


@pytest.fixture(name="cached_build", scope="session")
def cached_build_fixture() -> Callable[[str, tuple[int, int, int]], keras.Model]:
    """One model of each name and shape for the tests that change nothing in it."""
    cache: dict[tuple[str, tuple[int, int, int]], keras.Model] = {}

    def cached_build(name: str, image_shape: tuple[int, int, int]) -> keras.Model:
        key = (name, image_shape)
        if key not in cache:
            cache[key] = build(name, image_shape).model
        return cache[key]

    return cached_build
