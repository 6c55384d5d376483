import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras import config, errors
from medkeras.preprocessing import preprocessor

BYTES = (0.0, 255.0)


def _layers(value_range=BYTES, channels=3, network="zscore", mean=(0.2,), std=(0.5,), **settings):
    return preprocessor.layers_for(
        config.PreprocessingConfig(**settings),
        channels=channels,
        value_range=value_range,
        mean=mean,
        std=std,
        network_normalise=network,
    )


def _names(*args, **options):
    return [type(layer).__name__ for layer in _layers(*args, **options)]


def test_chain_is_in_order():
    assert _names(denoise="median", grayscale=True, equalise="clahe", normalise="minmax") == [
        *("MedianDenoise", "Grayscale", "FixedWindow", "CLAHE", "MinMax")
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("median", "MedianDenoise"),
        ("gaussian", "GaussianDenoise"),
        ("bilateral", "BilateralDenoise"),
        ("tv", "TotalVariationDenoise"),
    ],
)
def test_denoise_knows_the_value_range(name, kind):
    layer = _layers((0.0, 4095.0), denoise=name)[0]
    assert type(layer).__name__ == kind
    assert getattr(layer, "value_range", (0.0, 4095.0)) == (0.0, 4095.0)


def test_auto_window_is_fixed_for_bytes_and_percentiles_otherwise():
    layer = _layers(BYTES)[0]
    assert (layer.low, layer.high) == BYTES
    assert _names((0.0, 4095.0)) == ["PercentileWindow", "ZScore"]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("-160:240", -160, 240), ("brain", 0, 80), ("lung", -1350, 150), ("0:65535", 0, 65535)]
)
def test_window_by_bounds_and_by_preset(name, low, high):
    layer = _layers((-1000.0, 3000.0), window=name)[0]
    assert (layer.low, layer.high) == (low, high)


def test_unknown_window_names_the_presets():
    with pytest.raises(errors.ConfigError, match=r"did you mean 'brain'.*LOW:HIGH.*mediastinum.*Received: 'brian'"):
        _layers(window="brian")
    with pytest.raises(errors.ConfigError, match="low=9.0, high=2.0"):
        _layers(window="9:2")


@pytest.mark.parametrize("settings", [{"equalise": "clahe"}, {"normalise": "imagenet"}])
def test_steps_on_unit_values_need_a_window(settings):
    with pytest.raises(errors.ConfigError, match="needs a window. Received: window=none"):
        _layers(window="none", **settings)
    assert _layers((0.0, 1.0), window="none", **settings)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("lite", lambda x: (x - 127) / 128),
        ("byte", lambda x: x),
        ("none", lambda x: x / 255),
        ("minmax", lambda x: (x - x.min()) / (x.max() - x.min())),
        ("zscore", lambda x: (x - x.mean()) / x.std()),
        ("dataset", lambda x: (x / 255 - 0.2) / 0.5),
        ("imagenet", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_auto_normalisation_is_the_networks(network, expected):
    images = np.random.default_rng(0).integers(0, 256, (1, 6, 7, 3)).astype(np.float32)
    result = tf.constant(images)
    for layer in _layers(network=network):
        result = layer(result)
    np.testing.assert_allclose(result, expected(images.astype(float)), atol=1e-4)


def test_grey_is_repeated_before_imagenets_statistics():
    assert _names(channels=1, network="imagenet") == ["FixedWindow", "RepeatChannels", "Affine"]
    assert _names(channels=3, network="imagenet", grayscale=True)[-2:] == ["RepeatChannels", "Affine"]
    assert _names(channels=1, network="lite") == ["FixedWindow", "Affine"]


def test_unknown_normalisation_is_refused():
    with pytest.raises(errors.ConfigError, match="did you mean 'zscore'"):
        _layers(network="zscores")


def test_whole_chain_saves_as_one_model(tmp_path):
    symbol = keras.Input((None, None, 3))
    result = symbol
    for layer in _layers(denoise="tv", grayscale=True, equalise="histogram", normalise="imagenet"):
        result = layer(result)
    model = keras.Model(symbol, result)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 9, 3)).astype(np.float32)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images), model(images))
    assert model(images).shape == (2, 12, 9, 3)
