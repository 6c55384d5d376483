import itertools

import numpy as np
import pytest
import scipy.ndimage
from skimage import data, restoration

from medkeras import errors
from medkeras.preprocessing import denoise


@pytest.fixture(scope="module")
def noisy():
    """scikit-image's camera man at 64 x 60, with noise of 5%, float64 `[H, W]` in 0…1."""
    clean = data.camera()[100:356:4, 150:390:4] / 255
    return np.clip(clean + np.random.default_rng(0).normal(scale=0.05, size=clean.shape), 0, 1)


def _filtered(layer, image):
    images = image[np.newaxis, ..., np.newaxis] if image.ndim == 2 else image[np.newaxis]
    return np.squeeze(layer(images.astype(np.float32)).numpy())


@pytest.mark.parametrize("size", [3, 5])
def test_median_equals_scipy_exactly(size):
    image = np.random.default_rng(1).normal(size=(17, 23, 3)).astype(np.float32)
    expected = scipy.ndimage.median_filter(image, size=(size, size, 1), mode="nearest")
    np.testing.assert_array_equal(_filtered(denoise.MedianDenoise(size), image), expected)


@pytest.mark.parametrize(("count", "exchanges"), [(9, 19), (25, 113)])
def test_median_networks_hold_for_zeros_and_ones(count, exchanges):
    """By the zero-one principle a network that is right for zeros and ones is right for all values."""
    network = denoise._median_exchanges(count)
    assert len(network) == exchanges
    values = np.random.default_rng(2).random((4096, count)) < np.linspace(0.3, 0.7, 4096)[:, None]
    if count == 9:
        values = np.array(list(itertools.product([False, True], repeat=9)))
    wires = list(values.T)
    for low, high in network:
        wires[low], wires[high] = wires[low] & wires[high], wires[low] | wires[high]
    np.testing.assert_array_equal(wires[count // 2], values.sum(axis=1) > count // 2)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.7])
def test_gaussian_equals_scipy(sigma):
    image = np.random.default_rng(1).random((20, 31, 3)) * 255
    expected = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4)
    np.testing.assert_allclose(_filtered(denoise.GaussianDenoise(sigma), image), expected, atol=1e-3)


def _bilateral(image, sigma_space, sigma_value, size):
    """Tomasi and Manduchi's definition, pixel by pixel, of an image `[H, W, C]`."""
    margin = size // 2
    padded = np.pad(image, [(margin, margin), (margin, margin), (0, 0)], mode="edge")
    offsets = np.arange(size) - margin
    space = np.exp(-0.5 * np.add.outer(offsets**2, offsets**2) / sigma_space**2)
    result = np.empty_like(image)
    for row, column in np.ndindex(*image.shape[:2]):
        patch = padded[row : row + size, column : column + size]
        apart = ((patch - image[row, column]) ** 2).sum(axis=-1)
        weights = space * np.exp(-0.5 * apart / sigma_value**2)
        result[row, column] = (patch * weights[..., None]).sum(axis=(0, 1)) / weights.sum()
    return result


@pytest.mark.parametrize(("channels", "size"), [(1, 3), (1, 5), (3, 5)])
def test_bilateral_equals_its_definition(channels, size):
    image = np.random.default_rng(4).random((9, 11, channels))
    layer = denoise.BilateralDenoise(1.3, 0.2, size=size, value_range=(0, 1))
    np.testing.assert_allclose(_filtered(layer, image), np.squeeze(_bilateral(image, 1.3, 0.2, size)), atol=1e-5)


def test_bilateral_equals_scikit_image_where_its_spatial_weights_are_flat(noisy):
    """Its table of spatial weights is shifted for odd windows (`arange(-5 // 2, ...)`): only flat ones compare."""
    expected = restoration.denoise_bilateral(noisy, win_size=5, sigma_color=0.1, sigma_spatial=1e6, mode="edge")
    layer = denoise.BilateralDenoise(1e6, 0.1, size=5, value_range=(0, 1))
    np.testing.assert_allclose(_filtered(layer, noisy), expected, atol=1e-3)


def test_bilateral_keeps_an_edge_that_gaussian_blurs():
    step = np.where(np.arange(16) < 8, 50.0, 200.0)[np.newaxis].repeat(16, axis=0)
    assert np.abs(_filtered(denoise.BilateralDenoise(1.5, 0.1), step) - step).max() < 1e-3
    assert np.abs(_filtered(denoise.GaussianDenoise(1.5), step) - step).max() > 30


@pytest.mark.parametrize(("weight", "iterations"), [(0.1, 30), (0.02, 5), (0.1, 1)])
def test_total_variation_equals_scikit_image(noisy, weight, iterations):
    expected = restoration.denoise_tv_chambolle(noisy, weight=weight, eps=0, max_num_iter=iterations)
    layer = denoise.TotalVariationDenoise(weight, iterations, value_range=(0, 1))
    np.testing.assert_allclose(_filtered(layer, noisy), expected, atol=1e-5)


def test_total_variation_of_colour_is_that_of_each_channel():
    image = np.random.default_rng(5).random((12, 13, 3))
    layer = denoise.TotalVariationDenoise(0.1, 20, value_range=(0, 1))
    expected = np.stack([_filtered(layer, image[..., channel]) for channel in range(3)], axis=-1)
    np.testing.assert_allclose(_filtered(layer, image), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [denoise.BilateralDenoise, denoise.TotalVariationDenoise])
def test_strength_is_relative_to_the_value_range(noisy, kind):
    bytes_, words = kind(value_range=(0, 255)), kind(value_range=(-1000, 64535))
    np.testing.assert_allclose(_filtered(words, noisy * 65535) / 65535, _filtered(bytes_, noisy * 255) / 255, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: denoise.MedianDenoise(4),
        lambda: denoise.GaussianDenoise(0),
        lambda: denoise.BilateralDenoise(size=4),
        lambda: denoise.BilateralDenoise(value_range=(1, 1)),
        lambda: denoise.TotalVariationDenoise(-1.0),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(errors.ConfigError, match="Received: "):
        make()
