"""Grayscale, windows, equalisation and normalisation against Pillow, NumPy and scikit-image."""

import numpy as np
import pytest
from PIL import Image
from skimage import data, exposure

from medkeras import errors
from medkeras.preprocessing import equalise, grayscale, normalise, window


def _one(layer, image):
    return np.squeeze(layer(image.astype(np.float32).reshape(1, *image.shape[:2], -1)).numpy(), axis=0)


def test_grayscale_is_within_one_level_of_pillow():
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    difference = _one(grayscale.Grayscale(), colour)[..., 0] - np.asarray(Image.fromarray(colour).convert("L"), float)
    assert np.abs(difference).max() <= 0.51


def test_grey_passes_and_repeats():
    grey = np.random.default_rng(0).random((1, 5, 6, 1), np.float32)
    np.testing.assert_array_equal(grayscale.Grayscale()(grey), grey)
    repeated = grayscale.RepeatChannels(3)(grey)
    np.testing.assert_array_equal(repeated, np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(grayscale.RepeatChannels(3)(repeated), repeated)


@pytest.mark.parametrize("layer", [grayscale.Grayscale(), grayscale.RepeatChannels(3)])
def test_two_channels_are_refused(layer):
    with pytest.raises(errors.DataError, match="channels=2"):
        layer(np.zeros((1, 4, 4, 2), np.float32))


def test_fixed_window():
    values = np.array([-2000, -160, 40, 240, 3000], np.float32).reshape(1, 1, 5, 1)
    np.testing.assert_allclose(np.ravel(window.FixedWindow(-160, 240)(values)), [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize(("low", "high"), [(0.5, 99.5), (0, 100), (10, 60), (49.9, 50.1), (55, 90)])
@pytest.mark.parametrize("size", [(31, 17, 3), (1, 2, 1), (224, 224, 1)])
def test_percentile_window_equals_numpy(low, high, size):
    image = np.random.default_rng(1).normal(size=size) * 1000
    ends = np.percentile(image.astype(np.float32), [low, high])
    expected = np.clip((image - ends[0]) / (ends[1] - ends[0]), 0, 1)
    np.testing.assert_allclose(_one(window.PercentileWindow(low, high), image), expected, atol=1e-5)


@pytest.mark.parametrize("layer", [window.PercentileWindow(), normalise.ZScore(), normalise.MinMax()])
@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0, 65535.0])
def test_constant_image_becomes_zero(layer, value):
    np.testing.assert_array_equal(layer(np.full((2, 30, 31, 3), value, np.float32)), np.zeros((2, 30, 31, 3)))


@pytest.mark.parametrize(("low", "high"), [(5, 5), (9, 2), (float("nan"), 3)])
def test_empty_windows_are_refused(low, high):
    for kind in (window.FixedWindow, window.PercentileWindow):
        with pytest.raises(errors.ConfigError, match="Received: low="):
            kind(low, high)


def test_presets_are_windows():
    assert set(window.CT_WINDOWS) == {
        *("brain", "subdural", "stroke", "bone", "lung", "mediastinum", "abdomen", "liver")
    }
    assert window.CT_WINDOWS["brain"] == (40, 80)
    assert all(width > 0 for _, width in window.CT_WINDOWS.values())


@pytest.mark.parametrize("bins", [256, 32])
def test_histogram_equalise_equals_scikit_image(bins):
    image = np.random.default_rng(2).beta(2, 5, size=(50, 41))
    expected = exposure.equalize_hist(image.astype(np.float32).astype(float), nbins=bins)
    result = _one(equalise.HistogramEqualise(bins), image)[..., 0]
    # A value on the edge of two bins may fall into the other one: one pixel's share of 2050.
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("clip_limit", [0.01, 0.03, 0.2])
@pytest.mark.parametrize("size", [(300, 224), (64, 100), (28, 28), (9, 50)])
def test_clahe_equals_scikit_image_on_eight_bits(clip_limit, size):
    image = data.camera()[100 : 100 + size[0], 150 : 150 + size[1]] / 255
    result = _one(equalise.CLAHE(clip_limit), image)[..., 0]
    np.testing.assert_allclose(result, exposure.equalize_adapthist(image, clip_limit=clip_limit), atol=2e-4)


def test_clahe_of_floats_differs_only_where_scikit_image_rounds_to_sixteen_bits():
    clean = data.camera()[100:228, 150:278] / 255
    image = np.clip(clean + np.random.default_rng(3).normal(scale=0.05, size=clean.shape), 0, 1)
    difference = np.abs(_one(equalise.CLAHE(0.03), image)[..., 0] - exposure.equalize_adapthist(image, clip_limit=0.03))
    assert difference.mean() < 1e-3
    assert difference.max() < 0.05


@pytest.mark.parametrize("layer", [equalise.HistogramEqualise(), equalise.CLAHE()])
def test_equalisation_works_on_each_channel_and_leaves_a_constant_black(layer):
    images = np.random.default_rng(4).random((2, 40, 33, 3)).astype(np.float32)
    images[1, ..., 2] = 0.4
    together = layer(images).numpy()
    apart = np.concatenate([layer(images[..., channel : channel + 1]) for channel in range(3)], axis=-1)
    np.testing.assert_allclose(together, apart, atol=1e-6)
    np.testing.assert_array_equal(together[1, ..., 2], np.zeros((40, 33)))
    assert together.min() >= 0
    assert together.max() <= 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: equalise.CLAHE(0.0),
        lambda: equalise.CLAHE(0.1, 0),
        lambda: equalise.HistogramEqualise(1),
        lambda: normalise.Affine([1.0], [0.0]),
        lambda: normalise.Affine([], []),
        lambda: normalise.Affine([1.0, 2.0], [1.0]),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(errors.ConfigError):
        make()


@pytest.mark.parametrize("scale", [1.0, 65535.0])
def test_zscore_and_minmax_equal_numpy(scale):
    image = np.random.default_rng(5).random((40, 30, 3)) * scale
    np.testing.assert_allclose(_one(normalise.ZScore(), image), (image - image.mean()) / image.std(), atol=1e-4)
    expected = (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(_one(normalise.MinMax(), image), expected, atol=1e-6)


def test_affine_by_channel_and_for_all():
    image = np.random.default_rng(6).random((4, 5, 3))
    expected = (image - [0.1, 0.2, 0.3]) / [1, 2, 4]
    np.testing.assert_allclose(_one(normalise.Affine([0.1, 0.2, 0.3], [1, 2, 4]), image), expected, atol=1e-6)
    np.testing.assert_allclose(_one(normalise.Affine([0.0], [1 / 255]), image), image * 255, rtol=1e-6)
    with pytest.raises(errors.DataError, match="channels=3"):
        normalise.Affine([1.0, 2.0], [1.0, 1.0])(np.zeros((1, 2, 2, 3), np.float32))
