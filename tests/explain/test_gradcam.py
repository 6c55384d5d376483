"""Grad-CAM where the answer is known beforehand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras import models
from medkeras.explain import gradcam
from medkeras.preprocessing import canvas
from medkeras.tasks import classification

TASK = classification.Classification(("bright", "dark"))
SIDE = 16


class WholeNumbers(keras.layers.Layer):
    """A step that no gradient passes."""

    def call(self, images):
        return tf.cast(tf.cast(images, tf.int32), tf.float32)


def by_hand(*, channels: int = 1, before: tuple[keras.layers.Layer, ...] = ()) -> keras.Model:
    """Calls an image `bright` by the mean of its bright pixels: the evidence is where they are."""
    image = keras.Input((SIDE, SIDE, channels), name="image")
    x = image
    for layer in before:
        x = layer(x)
    x = keras.layers.Conv2D(2, 1, name="block1_conv")(x)
    x = keras.layers.ReLU(name="features")(x)
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    logits = keras.layers.Dense(2, name="logits")(x)
    model = keras.Model(image, {"logits": logits, "probabilities": keras.layers.Softmax()(logits)})
    kernel = np.zeros((1, 1, channels, 2), np.float32)
    kernel[..., 0] = 1 / channels
    model.get_layer("block1_conv").set_weights([kernel, np.zeros(2, np.float32)])
    model.get_layer("logits").set_weights([np.array([[5, -5], [0, 0]], np.float32), np.zeros(2, np.float32)])
    return model


def squares(*corners: tuple[int, int], channels: int = 1) -> np.ndarray:
    images = np.zeros((len(corners), SIDE, SIDE, channels), np.float32)
    for image, (top, left) in zip(images, corners, strict=True):
        image[top : top + 4, left : left + 4] = 1.0
    return images


CORNERS = ((0, 0), (0, 12), (6, 5), (12, 12))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("graph", [False, True])
def test_the_evidence_lies_on_the_square_that_decides(channels, frozen, graph) -> None:
    model = by_hand(channels=channels)
    model.trainable = not frozen
    explain = gradcam.gradcam(model, TASK.explained)
    outputs, heat = (tf.function(explain) if graph else explain)(tf.constant(squares(*CORNERS, channels=channels)))
    assert heat.shape == (4, SIDE, SIDE, 1)
    assert heat.dtype == tf.float32
    assert np.all(outputs["probabilities"][:, 0] > 0.5)
    np.testing.assert_allclose(heat, squares(*CORNERS), atol=1e-6)


def test_the_outputs_are_those_of_the_model() -> None:
    model = by_hand()
    outputs, _ = gradcam.gradcam(model, TASK.explained)(tf.constant(squares(*CORNERS)))
    np.testing.assert_allclose(outputs["logits"], model(squares(*CORNERS))["logits"], rtol=1e-6)


def test_outputs_may_depend_on_the_image_by_other_ways_than_the_map() -> None:
    model = by_hand()
    familiarity = keras.layers.GlobalAveragePooling2D(name="familiarity")(model.input)
    wider = keras.Model(model.input, {**model.output, "familiarity": familiarity})
    images = tf.constant(squares(*CORNERS))
    outputs, heat = tf.function(gradcam.gradcam(wider, TASK.explained))(images)
    np.testing.assert_allclose(outputs["familiarity"], np.full((4, 1), 1 / 16), rtol=1e-6)
    np.testing.assert_allclose(heat, gradcam.gradcam(model, TASK.explained)(images)[1], atol=1e-6)


def test_each_image_has_its_own_scale_and_the_faintest_evidence_counts() -> None:
    images = squares((0, 0), (8, 8)) * np.array([1.0, 1e-3], np.float32)[:, None, None, None]
    _, heat = gradcam.gradcam(by_hand(), TASK.explained)(tf.constant(images))
    np.testing.assert_allclose(np.max(heat, (1, 2, 3)), 1.0, rtol=1e-6)


def test_nothing_speaks_for_an_answer_that_the_evidence_denies() -> None:
    explain = gradcam.gradcam(by_hand(), lambda outputs: outputs["logits"][:, 1])
    _, heat = explain(tf.constant(squares(*CORNERS)))
    assert np.array_equal(heat, np.zeros((4, SIDE, SIDE, 1)))


def test_frozen_layers_behind_a_step_without_gradient_are_explained() -> None:
    model = by_hand(before=(WholeNumbers(),))
    model.trainable = False
    _, heat = gradcam.gradcam(model, TASK.explained)(tf.constant(squares((8, 4))))
    assert np.unravel_index(np.argmax(heat[0, ..., 0]), (SIDE, SIDE)) == (8, 4)


@pytest.mark.parametrize("name", ["cnn", "resnet_small"])
def test_heat_of_real_networks_stays_between_0_and_1(name) -> None:
    keras.utils.set_random_seed(0)
    model = models.build_model(name, image_shape=(16, 24, 1), preprocessing=(), head=TASK.head, weights="none").model
    images = np.random.default_rng(0).uniform(0, 1, (6, 16, 24, 1)).astype(np.float32)
    _, heat = gradcam.gradcam(model, TASK.explained)(tf.constant(images))
    assert heat.shape == (6, 16, 24, 1)
    assert np.all(np.isfinite(heat))
    assert np.min(heat) >= 0
    assert 0.5 < np.max(heat) <= 1


@pytest.mark.parametrize("mode", ["pad", "stretch"])
@pytest.mark.parametrize("size", [(40, 20), (20, 40), (33, 33), (7, 16), (90, 11)])
def test_maps_on_the_canvas_come_back_to_where_they_were_seen(mode, size) -> None:
    """A bright spot is drawn, brought to the canvas, and its map brought back: it lands on the spot."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    centre = (0.7 * size[0], 0.3 * size[1])
    width = max(size) / 8
    spot = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * width**2)).astype(np.float32)
    drawn = canvas.resize(tf.constant(spot[np.newaxis, ..., np.newaxis]), (32, 32), mode)
    back = canvas.from_canvas(drawn, tf.constant(size), mode=mode)
    assert back.shape == (1, *size, 1)
    found = np.unravel_index(np.argmax(back[0, ..., 0]), size)
    pixel = max(1.0, max(size) / 32) if mode == "pad" else np.maximum(1.0, np.array(size) / 32)
    assert np.all(np.abs(np.array(found) - centre) <= pixel + 0.5)
    assert np.abs(back[0, ..., 0] - spot).max() < 0.2


@pytest.mark.parametrize(("size", "inside"), [((32, 16), np.s_[:, 8:24]), ((16, 32), np.s_[8:24, :])])
def test_padding_is_cut_away_and_the_rest_kept_pixel_by_pixel(size, inside) -> None:
    drawn = np.random.default_rng(0).random((1, 32, 32, 1)).astype(np.float32)
    back = canvas.from_canvas(tf.constant(drawn), tf.constant(size), mode="pad")
    np.testing.assert_array_equal(back[0], drawn[0][inside])
