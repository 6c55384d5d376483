"""Every method: what all promise, and golden values of each, computed another way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras import config
from medkeras.explain import absence, integrated, methods, network, occlusion
from tests.explain import small

CORNERS = ((0, 0), (0, 12), (6, 5), (12, 12))


def test_the_setting_knows_every_method_and_no_other() -> None:
    choices = config.fields()["explain.method"].metadata["choices"]
    assert set(methods.METHODS) == set(choices) - {"auto"}


@pytest.mark.parametrize("name", methods.METHODS)
def test_heat_and_outputs_in_a_graph_of_any_batch(name) -> None:
    model, images = small.network(before=(small.WholeNumbers(),)), 3 * small.noise()
    model.trainable = False
    explain = methods.METHODS[name](model, small.likeliest)
    graph = tf.function(explain, input_signature=[tf.TensorSpec((None, small.SIDE, small.SIDE, 1))])
    outputs, heat = graph(images)
    assert heat.dtype == tf.float32
    assert heat.shape == images.shape
    assert np.min(heat) >= 0
    np.testing.assert_allclose(outputs["logits"], model(images)["logits"], rtol=1e-5)
    # One image alone, and without a graph.
    np.testing.assert_allclose(heat[2:3], explain(tf.constant(images[2:3]))[1], atol=2e-5)


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_evidence_lies_where_it_was_planted(name) -> None:
    outputs, heat = methods.METHODS[name](small.spotter(), small.likeliest)(tf.constant(small.squares(*CORNERS)))
    inside = small.squares(*CORNERS) > 0
    assert np.all(outputs["probabilities"][:, 0] > 0.9)
    for one, mask in zip(heat.numpy(), inside, strict=True):
        assert mask.ravel()[one.argmax()]
        assert one[mask].mean() > 8 * one[~mask].mean()


@pytest.mark.parametrize("name", methods.METHODS)
def test_volumes_are_explained_too(name) -> None:
    image = keras.Input((6, 10, 12, 1), name="image")
    x = keras.layers.Conv3D(1, 1, activation="relu", name="features")(image)
    model = small.with_head(image, keras.layers.GlobalAveragePooling3D()(x))
    model.get_layer("features").set_weights([np.ones((1, 1, 1, 1, 1), np.float32), np.full(1, -0.3, np.float32)])
    model.get_layer("logits").set_weights([np.array([[50, -50]], np.float32), np.zeros(2, np.float32)])
    volume = np.zeros((2, 6, 10, 12, 1), np.float32)
    volume[0, 1:3, 2:4, 8:10] = volume[1, 4, 7:9, 1:4] = 1
    heat = methods.METHODS[name](model, small.likeliest)(tf.constant(volume))[1].numpy()
    assert heat.shape == volume.shape
    for one, mask in zip(heat, volume > 0, strict=True):
        assert mask.ravel()[one.argmax()]


@pytest.mark.parametrize("name", methods.METHODS)
def test_nothing_speaks_for_an_answer_that_the_evidence_denies(name) -> None:
    explain = methods.METHODS[name](small.spotter(), lambda outputs: outputs["logits"][:, 1])
    heat = explain(tf.constant(small.squares((6, 6))))[1].numpy()
    assert heat[small.squares((6, 6)) > 0].max() == 0


@pytest.mark.parametrize("name", methods.METHODS)
def test_an_exported_method_explains_as_in_python(name, tmp_path) -> None:
    model, images = small.network(), small.noise()
    explain = methods.METHODS[name](model, small.likeliest)
    archive = keras.export.ExportArchive()
    spec = tf.TensorSpec((None, small.SIDE, small.SIDE, 1), tf.float32, name="image")
    archive.add_endpoint("explain", lambda image: {"heatmap": explain(image)[1]}, input_signature=[spec])
    archive.write_out(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    found = loaded.signatures["explain"](image=tf.constant(images))["heatmap"]
    np.testing.assert_allclose(found, explain(tf.constant(images))[1], atol=2e-5)


def test_gradcam_plus_plus_is_the_papers() -> None:
    """Equations 10, 11 and 19 with Y = exp(score), loop by loop in NumPy."""
    model, images = small.network(), small.noise()
    maps = keras.Model(model.input, model.get_layer("features").output)(images).numpy().astype(np.float64)
    kernel, bias = (value.astype(np.float64) for value in model.get_layer("logits").get_weights())
    _, heat = methods.METHODS["gradcam++"](model, small.likeliest)(tf.constant(images))
    for number, image in enumerate(maps):
        logits = image.ravel() @ kernel + bias
        slope = kernel[:, logits.argmax()].reshape(image.shape)
        exponential = np.exp(logits.max())
        first, second, third = exponential * slope, exponential * slope**2, exponential * slope**3
        expected = np.zeros(image.shape[:2])
        for k in range(image.shape[-1]):
            alpha = second[..., k] / (2 * second[..., k] + image[..., k].sum() * third[..., k])
            weight = (alpha * np.maximum(first[..., k], 0)).sum()
            expected += weight * image[..., k]
        expected = np.maximum(expected, 0) / expected.max()
        # The cells of this map look at every second pixel from 1 on.
        np.testing.assert_allclose(heat[number, 1::2, 1::2, 0], expected, atol=1e-5)


@pytest.mark.parametrize(("steps", "within"), [(integrated.STEPS, 0.04), (4 * integrated.STEPS, 0.01)])
def test_attributions_sum_to_the_difference_of_the_score(steps, within) -> None:
    """Noise has a kink of some unit at every step of the way: the error falls as the steps get smaller."""
    model, images = small.network(), tf.constant(small.noise(8))
    cut = network.at_input(model)
    chosen = network.direction(model(images), small.likeliest)
    start = absence.blurred(images)
    shares = integrated.attributions(cut.rest, images, start, direction=chosen, steps=steps)
    difference = tf.reduce_sum(chosen * (cut.rest(images) - cut.rest(start)), axis=-1)
    size = float(np.mean(np.abs(difference)))
    assert size > 0.1
    np.testing.assert_allclose(np.sum(shares, (1, 2, 3)), difference, atol=within * size)


def test_attributions_of_a_polynomial_are_exact() -> None:
    """Gauss and Legendre's rule of three points is exact to the fifth power, whose gradient is of the fourth."""
    image = keras.Input((2, 2, 1), name="image")
    logits = keras.layers.Flatten(name="logits")(image**5)
    seen, start = small.noise(2, side=2), small.noise(2, side=2, seed=9)
    shares = integrated.attributions(
        keras.Model(image, logits), tf.constant(seen), tf.constant(start), direction=tf.ones((2, 4)), steps=3
    )
    np.testing.assert_allclose(shares, seen**5 - start**5, atol=1e-5)


def test_attributions_of_a_linear_network_are_its_weights_times_the_way() -> None:
    image = keras.Input((4, 4, 1), name="image")
    model = small.with_head(image, keras.layers.Flatten()(image))
    kernel = model.get_layer("logits").get_weights()[0]
    seen, start = small.noise(2, side=4), small.noise(2, side=4, seed=9)
    shares = integrated.attributions(
        keras.Model(image, model.output["logits"]),
        tf.constant(seen),
        tf.constant(start),
        direction=tf.constant([[0.0, 1.0], [1.0, 0.0]]),
        steps=3,
    )
    expected = (seen - start) * np.stack([kernel[:, 1], kernel[:, 0]]).reshape(seen.shape)
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_the_class_stays_the_same_on_the_way() -> None:
    """Halfway the other class is likelier: its evidence must not come into the answer's."""
    image = keras.Input((8, 8, 1), name="image")
    model = small.with_head(image, keras.layers.Flatten()(keras.layers.Conv2D(1, 1, name="features")(image)))
    model.get_layer("features").set_weights([np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)])
    model.get_layer("logits").set_weights([np.full((64, 2), [2.0, 0.5], np.float32), np.array([-40, 0], np.float32)])
    seen = tf.ones((1, 8, 8, 1))
    chosen = network.direction(model(seen), small.likeliest)
    np.testing.assert_array_equal(chosen, [[1, 0]])
    shares = integrated.attributions(network.at_input(model).rest, seen, tf.zeros_like(seen), direction=chosen)
    np.testing.assert_allclose(shares, 2 * np.ones((1, 8, 8, 1)), rtol=1e-5)


def test_occlusion_is_a_loop_over_patches() -> None:
    model, images = small.network(), small.noise(3)
    blurred, side = absence.blurred(tf.constant(images)).numpy(), small.SIDE
    starts = sorted({round(place) for place in np.linspace(0, side - 2, occlusion.PATCHES)})
    explained = model(images)["logits"].numpy()
    lost, covered = np.zeros(images.shape[:3]), np.zeros(images.shape[:3])
    for top in starts:
        for left in starts:
            patch = np.s_[:, top : top + 2, left : left + 2]
            without = images.copy()
            without[patch] = blurred[patch]
            loss = (explained - model(without)["logits"].numpy())[range(3), explained.argmax(1)]
            lost[patch] += loss[:, np.newaxis, np.newaxis]
            covered[patch] += 1
    expected = np.maximum(lost / covered, 0)
    _, heat = methods.METHODS["occlusion"](model, small.likeliest)(tf.constant(images))
    np.testing.assert_allclose(heat[..., 0], expected / expected.max((1, 2), keepdims=True), atol=1e-4)


class Counting(keras.layers.Layer):
    """Keeps the number of images that it was asked about at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def call(self, images):
        if images.shape[0]:
            self.seen.append(images.shape[0])
        return images


def test_occlusion_never_holds_more_than_its_batch() -> None:
    image = keras.Input((small.SIDE, small.SIDE, 1), name="image")
    counting = Counting()
    x = counting(keras.layers.Conv2D(1, 3, name="features")(image))
    model = small.with_head(image, keras.layers.Flatten()(x))
    methods.METHODS["occlusion"](model, small.likeliest)(tf.constant(small.noise(5)))
    assert counting.seen[0] == 5
    assert counting.seen[1:] == [occlusion.BATCH] * -(-5 * occlusion.PATCHES**2 // occlusion.BATCH)


def test_a_blurred_image_keeps_what_is_even_and_loses_detail() -> None:
    even = np.full((1, 24, 30, 2), 7.0, np.float32)
    np.testing.assert_allclose(absence.blurred(tf.constant(even)), even, rtol=1e-6)
    assert np.std(absence.blurred(tf.constant(small.noise(side=48)))) < 0.2
