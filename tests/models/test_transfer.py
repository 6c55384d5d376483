"""Blocks, freezing and cutting."""

import keras
import numpy as np
import pytest

from medkeras import errors, models

SHAPE = (32, 32, 1)
BLOCKS = {
    "cnn": 3,
    "resnet_small": 9,
    "efficientnet_lite0": 18,
    "efficientnet_b0": 18,
    "efficientnet_v2_b0": 23,
}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if "_v2_" in name else name for name in BLOCKS]


def images():
    return np.random.default_rng(1).uniform(0, 1, (2, *SHAPE)).astype("float32")


def trained(model):
    return {layer.name for layer in model.layers if layer.trainable_weights}


def is_batch_norm(model, name):
    return isinstance(model.get_layer(name), keras.layers.BatchNormalization)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_boundary_is_a_valid_cut(name, cached_build):
    model = cached_build(name, SHAPE)
    ends = models.block_outputs(model)
    assert len(ends) == BLOCKS[name]
    assert ends[-1] == "embedding"
    for unfreeze in range(len(ends)):
        prefix, suffix = models.split(model, unfreeze=unfreeze)
        assert prefix.output is model.get_layer(ends[-unfreeze - 1]).output
        assert list(suffix.output) == ["logits", "probabilities"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unfreeze", [0, 1, 2])
def test_prefix_then_suffix_is_the_model(name, unfreeze, cached_build):
    model = cached_build(name, SHAPE)
    prefix, suffix = models.split(model, unfreeze=unfreeze)
    expected, received = model(images()), suffix(prefix(images()))
    for key in expected:
        np.testing.assert_array_equal(received[key], expected[key])


def test_the_parts_share_variables_with_the_model(build):
    model = build("resnet_small", SHAPE).model
    prefix, suffix = models.split(model, unfreeze=0)
    assert len(prefix.variables) + len(suffix.variables) == len(model.variables)
    assert {id(v) for v in (*prefix.variables, *suffix.variables)} == {id(v) for v in model.variables}


def test_training_the_suffix_changes_the_model(build):
    model = build("cnn", SHAPE).model
    prefix, suffix = models.split(model, unfreeze=0)
    before = np.asarray(model(images())["logits"])
    suffix.compile(keras.optimizers.SGD(1.0), loss={"logits": "mse"})
    suffix.fit(np.asarray(prefix(images())), {"logits": np.ones((2, 3), "float32")}, verbose=0)
    assert np.abs(model(images())["logits"] - before).max() > 1e-4


def test_the_embedding_cut_has_the_pooled_features(cached_build):
    model = cached_build("efficientnet_lite0", SHAPE)
    prefix, _ = models.split(model, unfreeze=0)
    features = keras.Model(model.input, model.get_layer("features").output)(images())
    np.testing.assert_allclose(prefix(images()), np.mean(features, axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("unfreeze", [-1, 18])
def test_split_needs_a_block_before_the_cut(unfreeze, cached_build):
    with pytest.raises(errors.ConfigError, match=rf"between 0 and 17.* Received: {unfreeze}"):
        models.split(cached_build("efficientnet_lite0", SHAPE), unfreeze=unfreeze)


def test_freeze_counts(build):
    model = build("efficientnet_lite0", SHAPE).model
    counts = []
    for unfreeze in (0, 1, 2, 17, 18, -1):
        models.freeze(model, unfreeze=unfreeze)
        counts.append(len(trained(model)))
    # The head; top_conv; the three convolutions of block7a; the other blocks; the stem.
    assert counts == [1, 2, 5, 49, 50, 50]


@pytest.mark.parametrize("name", ["cnn", "resnet_small", "efficientnet_lite0"])
@pytest.mark.parametrize("unfreeze", [0, 1, 2, -1])
def test_only_the_suffix_is_trainable_and_no_batch_norm(name, unfreeze, build):
    model = build(name, SHAPE).model
    models.freeze(model, unfreeze=unfreeze)
    _, suffix = (model, model) if unfreeze < 0 else models.split(model, unfreeze=unfreeze)
    weighted = {layer.name for layer in suffix.layers if layer.weights}
    assert trained(model) == {layer for layer in weighted if not is_batch_norm(model, layer)}


def test_batch_norm_stays_in_inference_mode(build):
    model = build("resnet_small", SHAPE).model
    models.freeze(model, unfreeze=-1)
    moments = [np.asarray(weight) for weight in model.non_trainable_weights]
    np.testing.assert_array_equal(model(images(), training=True)["logits"], model(images())["logits"])
    for before, after in zip(moments, model.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(after, before)


def test_freeze_can_be_taken_back(build):
    model = build("cnn", SHAPE).model
    every = trained(model)
    models.freeze(model, unfreeze=0)
    assert trained(model) == {"logits"}
    models.freeze(model, unfreeze=-1)
    assert trained(model) == every


def test_a_batch_norm_of_the_head_stays_trainable(build):
    def head(x):
        x = keras.layers.BatchNormalization(name="head_bn")(x)
        return {"logits": keras.layers.Dense(3, name="logits")(x)}

    model = build("resnet_small", SHAPE, head=head).model
    models.freeze(model, unfreeze=0)
    assert trained(model) == {"head_bn", "logits"}


def test_layers_that_keras_names_itself_are_no_block(build):
    def head(x):
        return {"logits": keras.layers.Dense(3)(keras.layers.Dense(4)(x))}

    assert models.block_outputs(build("cnn", SHAPE, head=head).model) == ("block1_pool", "features", "embedding")


def test_freeze_refuses_less_than_all(build):
    with pytest.raises(errors.ConfigError, match="train.unfreeze is at least -1. Received: -2"):
        models.freeze(build("cnn", SHAPE).model, unfreeze=-2)
