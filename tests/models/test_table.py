"""Every network of the table, tiny, through every promise."""

import pathlib

import keras
import numpy as np
import pytest

from medkeras import errors, models

# TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

QUICK = ("cnn", "resnet", "resnet_small", "efficientnet_lite0", "efficientnet_b0", "efficientnet_v2_b0")
SLOW = (
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_v2_s",
)
EVERY = (*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))
GREY, COLOUR = (32, 32, 1), (40, 48, 3)
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "models.md"


def images(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (2, *shape)).astype("float32")


def trainable(model):
    """Trainable parameters of the network, the head left out."""
    layers = [layer for layer in model.layers if layer.name != "logits"]
    return sum(int(np.prod(weight.shape)) for layer in layers for weight in layer.trainable_weights)


def test_the_lists_here_name_the_whole_table():
    assert set(QUICK) | set(SLOW) == set(models.MODELS)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_documentation_names_it(name):
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EVERY)
def test_outputs_have_the_names_of_the_head_and_features_is_the_last_map(name, cached_build):
    model = cached_build(name, GREY)
    outputs = model(images(GREY))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {"logits": (2, 3), "probabilities": (2, 3)}
    np.testing.assert_allclose(np.sum(outputs["probabilities"], axis=1), 1, rtol=1e-5)
    features, embedding = (model.get_layer(layer).output for layer in ("features", "embedding"))
    assert len(features.shape) == 4
    assert None not in features.shape[1:]
    assert len(embedding.shape) == 2
    if name != "cnn":
        assert embedding.shape[-1] == features.shape[-1]


@pytest.mark.parametrize("name", QUICK)
def test_the_images_decide_the_logits(name, cached_build):
    logits = np.asarray(cached_build(name, GREY)(images(GREY) * 255)["logits"])
    assert np.all(np.isfinite(logits))
    assert np.abs(logits[0] - logits[1]).max() > 1e-6


@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, GREY) for name in QUICK), *((name, COLOUR) for name in ("cnn", "resnet_small", "efficientnet_lite0"))],
)
def test_keras_file_gives_equal_outputs(name, shape, cached_build, tmp_path):
    model = cached_build(name, shape)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    x = images(shape)
    np.testing.assert_array_equal(loaded(x)["logits"], model(x)["logits"])
    assert models.block_outputs(loaded) == models.block_outputs(model)


@pytest.mark.parametrize("name", QUICK)
def test_config_makes_the_same_layers(name, cached_build):
    model = cached_build(name, GREY)
    copy = keras.Model.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert [weight.shape for weight in copy.weights] == [weight.shape for weight in model.weights]


@pytest.mark.parametrize("name", [name for name in QUICK if models.MODELS[name].channels == 3])
def test_grey_equals_the_same_grey_three_times(name, cached_build):
    grey, colour = cached_build(name, GREY), cached_build(name, (*GREY[:2], 3))
    colour.set_weights(grey.get_weights())
    x = images(GREY)
    np.testing.assert_array_equal(grey(x)["logits"], colour(np.repeat(x, 3, axis=-1))["logits"])


@pytest.mark.parametrize(
    ("name", "shape", "published"),
    [
        pytest.param("resnet", (224, 224, 3), 11_176_512, id="ResNet-18: 11,689,512 less 513,000 for 1000 classes"),
        pytest.param("resnet", (32, 32, 3), 11_168_832, id="ResNet-18 with a 3x3 stem"),
        pytest.param("efficientnet_lite0", COLOUR, 4_652_008 - 1_281_000, id="EfficientNet-Lite0"),
        pytest.param("efficientnet_b0", COLOUR, 5_288_548 - 1_281_000, id="EfficientNet-B0"),
        pytest.param("efficientnet_v2_b0", COLOUR, 5_858_704, id="EfficientNetV2-B0"),
        pytest.param("cnn", (32, 32, 3), 2_163_232, id="cnn"),
    ],
)
def test_parameters_are_those_published(name, shape, published, cached_build):
    assert trainable(cached_build(name, shape)) == published


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("efficientnet_lite1", 5_416_680 - 1_281_000),
        ("efficientnet_lite2", 6_092_072 - 1_281_000),
        ("efficientnet_b1", 7_794_184 - 1_281_000),
        ("efficientnet_b2", 9_109_994 - 1_409_000),
        ("efficientnet_b3", 12_233_232 - 1_537_000),
        ("efficientnet_v2_s", 20_177_488),
    ],
)
def test_parameters_of_the_large_are_those_published(name, published, cached_build):
    assert trainable(cached_build(name, COLOUR)) == published


@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 70, 3), (96, 96, 1), (224, 224, 3)])
def test_cnn_flattens_at_most_8x8(shape, build):
    model = build("cnn", shape).model
    assert model.get_layer("block3_flatten").output.shape[-1] <= 8 * 8 * 64
    assert model.get_layer("features").output.shape[1:3] == (shape[0] // 2, shape[1] // 2)
    assert trainable(model) < 2_200_000


def test_cnn_learns_with_plain_sgd(build):
    keras.utils.set_random_seed(0)
    model = build("cnn", (16, 16, 1)).model
    labels = np.arange(48) % 3
    x = np.random.default_rng(0).normal(0, 0.3, (48, 16, 16, 1)).astype("float32")
    x[np.arange(48), 4 * labels + 2] += 1
    model.compile(
        keras.optimizers.SGD(0.01), loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    )
    losses = model.fit(x, {"logits": labels}, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.2 < losses[0]


def test_resnet_keeps_small_images_and_quarters_large_ones(build):
    small, large = (build("resnet_small", (side, side, 1)).model for side in (64, 65))
    assert small.get_layer("block1a_act").output.shape[1] == 64
    assert large.get_layer("block1a_act").output.shape[1] == 17


def test_residual_blocks_begin_as_the_identity():
    built = models.build_model(
        "resnet_small", image_shape=GREY, preprocessing=(), head=lambda x: {"x": x}, weights="none"
    )
    layers = [built.model.get_layer(name).output for name in ("stem_act", "block1b_act")]
    stem, block = keras.Model(built.model.input, layers)(images(GREY))
    np.testing.assert_allclose(block, stem, rtol=1e-6)


def test_preprocessing_comes_first_and_in_order(build):
    layers = [keras.layers.Rescaling(2.0, name="double"), keras.layers.Rescaling(1.0, offset=1.0, name="add")]
    model = build("cnn", GREY, preprocessing=layers).model
    assert [layer.name for layer in model.layers[:4]] == ["image", "double", "add", "block1_conv1"]


def test_any_image_size_when_preprocessing_fixes_it(build):
    model = build("cnn", (None, None, 1), preprocessing=[keras.layers.Resizing(32, 32)]).model
    assert model(images((50, 20, 1)))["logits"].shape == (2, 3)


def test_dropout_acts_in_training_only(build):
    model = build("cnn", GREY, dropout=0.5).model
    x = images(GREY)
    np.testing.assert_array_equal(model(x)["logits"], model(x)["logits"])
    assert np.abs(model(x, training=True)["logits"] - model(x)["logits"]).max() > 1e-6


def test_unknown_name_is_answered_with_the_nearest(build):
    with pytest.raises(errors.ConfigError, match="did you mean 'resnet'"):
        build("resnt", GREY)


@pytest.mark.parametrize(
    ("name", "shape", "received"),
    [("cnn", (4, 32, 1), "4x32"), ("efficientnet_lite0", (27, 64, 3), "27x64"), ("resnet", (None, 32, 1), "Nonex32")],
)
def test_too_small_or_open_sizes_are_refused(name, shape, received, build):
    with pytest.raises(errors.ConfigError, match=rf"8.* pixels or more\. Received: {received}"):
        build(name, shape)


def test_two_channels_do_not_fit_three(build):
    with pytest.raises(errors.ConfigError, match="takes 1 or 3 channels. Received: 2"):
        build("efficientnet_lite0", (32, 32, 2))
