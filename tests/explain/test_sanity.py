"""The sanity checks, tried on heatmaps that are known to be right, wrong, or blind to the network."""

from __future__ import annotations

import functools
import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from medkeras.explain import ensemble, methods, sanity
from tests.explain import small

CORNERS = ((0, 0), (0, 12), (6, 5), (12, 12))


def blind(model, score):
    """A method that shows the image and no more."""
    return lambda images: (model(images, training=False), tf.abs(images))


def test_the_share_inside_by_hand() -> None:
    heat, mask = np.zeros((4, 2, 2)), np.zeros((4, 2, 2), bool)
    heat[0], mask[0] = [[3, 1], [0, 0]], [[1, 0], [0, 0]]
    heat[1], mask[1] = [[1, 2], [3, 4]], [[1, 1], [0, 0]]
    heat[2] = 1  # no lesion
    mask[3] = True  # no heat
    found = sanity.inside(heat, mask)
    assert found == {"n": 2, "share": pytest.approx((0.75 + 0.3) / 2), "chance": 0.375, "hits": 0.5}


@pytest.mark.parametrize("images", [0, 2])
def test_the_share_of_no_images_is_none(images) -> None:
    found = sanity.inside(np.ones((images, 3, 3)), np.zeros((images, 3, 3), bool))
    assert found == {"n": 0, "share": None, "chance": None, "hits": None}


def test_rank_correlation_is_scipys_with_ties() -> None:
    random = np.random.default_rng(0)
    before, after = random.integers(0, 6, (2, 5, 9, 9))
    expected = [scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(before, after, strict=True)]
    np.testing.assert_allclose(sanity.rank_correlation(before, after), expected, atol=1e-12)
    assert np.isnan(sanity.rank_correlation(np.ones((1, 3, 3)), random.random((1, 3, 3))))[0]


def test_a_method_that_ignores_the_network_is_told() -> None:
    found = sanity.randomised(small.network(), small.noise(), method=blind, score=small.likeliest, seed=0)
    assert [stage["correlation"] for stage in found] == pytest.approx([1.0] * 3)


def test_a_method_that_explains_the_network_changes_with_it() -> None:
    model, images = small.network(), small.noise()
    weights = model.get_weights()
    method = methods.METHODS["gradcam"]
    found = sanity.randomised(model, images, method=method, score=small.likeliest, seed=0)
    assert [(stage["down_to"], stage["layers"]) for stage in found] == [("logits", 1), ("block2", 2), ("block1", 3)]
    assert found[-1]["correlation"] < 0.5
    assert found == sanity.randomised(model, images, method=method, score=small.likeliest, seed=0)
    assert found != sanity.randomised(model, images, method=method, score=small.likeliest, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(weights, model.get_weights(), strict=True))


def test_deep_networks_are_randomised_in_few_stages() -> None:
    x = image = keras.Input((8, 8, 1), name="image")
    for number in range(9):
        x = keras.layers.Conv2D(1, 3, padding="same", name=f"block{number}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{number}_bn")(x)
    model = small.with_head(image, keras.layers.GlobalAveragePooling2D()(x))
    found = sanity.randomised(model, small.noise(2, side=8), method=blind, score=small.likeliest, seed=0)
    assert [stage["down_to"] for stage in found] == ["logits", "block6", "block3", "block0"]
    assert [stage["layers"] for stage in found] == [1, 7, 13, 19]


def test_the_right_places_matter_more_than_random_ones_and_those_more_than_the_wrong_ones() -> None:
    model, images = small.spotter(above=0.8, gain=400), small.squares(*CORNERS)
    right = sanity.curves(model, images, images[..., 0], seed=0)
    wrong = sanity.curves(model, images, 1 - images[..., 0], seed=0)
    for name, sign in (("deletion_area", -1), ("insertion_area", 1)):
        assert sign * right[name] > sign * right[f"random_{name}"] + 0.02
        assert sign * wrong[name] < sign * wrong[f"random_{name}"] - 0.02


def test_curves_begin_and_end_with_the_whole_image() -> None:
    model, images = small.network(), small.noise(sanity.BATCH + 3)
    found = sanity.curves(model, images, small.noise(len(images), seed=4)[..., 0], seed=0)
    whole = model(images)["probabilities"].numpy().max(1).mean()
    assert found["deletion"][0] == pytest.approx(whole, rel=1e-5)
    assert found["insertion"][-1] == pytest.approx(whole, rel=1e-5)
    assert found["insertion"][0] == pytest.approx(found["deletion"][-1], rel=1e-5)
    assert found["deletion_area"] == pytest.approx(np.trapezoid(found["deletion"], found["fractions"]))
    assert len(found["fractions"]) == sanity.STEPS + 1


def test_equal_heat_goes_in_random_order() -> None:
    """By rows, a heatmap that says nothing would be judged by what lies at the top."""
    model = small.spotter(above=0.8, gain=400)
    even = np.zeros((12, small.SIDE, small.SIDE))
    found = sanity.curves(model, small.squares(*[(0, 6)] * 12), even, seed=0)
    other = sanity.curves(model, small.squares(*[(12, 6)] * 12), even, seed=0)
    assert found["deletion_area"] == pytest.approx(other["deletion_area"], abs=0.05)


def test_curves_are_the_same_for_the_same_seed_and_json() -> None:
    given = (small.network(), small.noise(), small.noise(seed=4)[..., 0])
    found = sanity.curves(*given, seed=3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found == sanity.curves(*given, seed=3)


def pair(first, second):
    """Two networks as one, whose probabilities are the mean of theirs."""
    image = keras.Input(first.input.shape[1:], name="image")
    nested = [keras.Model(each.input, each.output, name=f"member{n}") for n, each in enumerate((first, second), 1)]
    answers = [each(image) for each in nested]
    probabilities = keras.layers.Average(name="probabilities")([answer["probabilities"] for answer in answers])
    return keras.Model(image, {"logits": keras.ops.log(probabilities), "probabilities": probabilities})


def test_an_ensemble_of_one_network_twice_is_judged_as_that_network() -> None:
    model, images = small.network(), small.noise()
    heat = small.noise(len(images), seed=4)[..., 0]
    twice = sanity.curves(pair(model, model), images, heat, seed=0)
    once = sanity.curves(model, images, heat, seed=0)
    for name, values in once.items():
        np.testing.assert_allclose(twice[name], values, atol=1e-6)
    assert sanity.missing(pair(model, model), images, score=small.likeliest) == pytest.approx(
        sanity.missing(model, images, score=small.likeliest), rel=1e-4
    )


def test_all_networks_of_an_ensemble_are_shuffled() -> None:
    both, images = pair(small.network(), small.network(seed=1)), small.noise()
    method = functools.partial(ensemble.explainer, "gradcam")
    weights = both.get_weights()
    found = sanity.randomised(both, images, method=method, score=small.likeliest, seed=0)
    assert [(stage["down_to"], stage["layers"]) for stage in found] == [("logits", 2), ("block2", 4), ("block1", 6)]
    assert found[-1]["correlation"] < 0.5
    assert all(np.array_equal(*pair) for pair in zip(weights, both.get_weights(), strict=True))


def test_a_network_of_fewer_blocks_is_done_before_the_others() -> None:
    both = pair(small.network(), small.spotter())
    found = sanity.randomised(both, small.noise(2), method=blind, score=small.likeliest, seed=0)
    assert [(stage["down_to"], stage["layers"]) for stage in found] == [
        ("logits", 2),
        ("block2 and block1", 4),
        ("block1", 5),
    ]


def test_what_integrated_gradients_miss_by_hand() -> None:
    """A linear network misses nothing; a step that the points skip is missed whole."""
    image = keras.Input((8, 8, 1), name="image")
    linear = small.with_head(image, keras.layers.Flatten()(keras.layers.Conv2D(1, 1, name="features")(image)))
    assert sanity.missing(linear, small.noise(3, side=8), score=small.likeliest) < 1e-4
    even = np.ones((2, 8, 8, 1), np.float32)
    zero = small.with_head(image, keras.layers.Flatten()(keras.layers.Conv2D(1, 1, name="features")(image)))
    zero.set_weights([np.zeros_like(weight) for weight in zero.get_weights()])
    assert sanity.missing(zero, even, score=small.likeliest) is None
