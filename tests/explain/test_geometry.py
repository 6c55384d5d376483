"""Where the cells of a map look, and how maps come to the size of the image."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from medkeras import models
from medkeras.explain import axes, gradcam, receptive
from tests.explain import small

LAYERS = keras.layers


def mean(kernel: int, stride: int, padding: str = "same"):
    """Returns a convolution that takes the mean of what it sees."""
    value = keras.initializers.Constant(1 / kernel**2)
    return LAYERS.Conv2D(1, kernel, strides=stride, padding=padding, kernel_initializer=value)


def shortcut(x):
    return LAYERS.Add()([mean(1, 2)(x), mean(3, 2)(x)])


def squeezed(x):
    scale = LAYERS.GlobalAveragePooling2D(keepdims=True)(x)
    return LAYERS.Multiply()([x, LAYERS.Conv2D(1, 1)(scale)])


CHAINS = {
    "one stride": ((mean(3, 2),), 1, 2),
    "stem and pool": ((mean(7, 2), LAYERS.AveragePooling2D(3, strides=2, padding="same")), 3, 4),
    "plain pooling": ((mean(3, 1), LAYERS.AveragePooling2D(2)), 0.5, 2),
    "padded by hand": ((LAYERS.ZeroPadding2D(((0, 1), (0, 1))), mean(3, 2, "valid")), 1, 2),
    "valid": ((mean(5, 2, "valid"),), 2, 2),
    "shortcut": ((shortcut,), 0.5, 2),
    "five strides": ((mean(3, 2), mean(5, 2), mean(3, 2)), 7, 8),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_grid_is_the_middle_of_what_a_cell_sees(name) -> None:
    chain, first, step = CHAINS[name]
    x = image = keras.Input((64, 64, 1))
    for layer in chain:
        x = layer(x)
    grid = receptive.grids(keras.Model(image, x), start=image, end=x)
    assert grid == (receptive.Grid(first, step),) * 2
    cell = x.shape[1] // 2
    rows = np.eye(64, dtype=np.float32)[:, :, np.newaxis, np.newaxis] * np.ones((1, 1, 64, 1), np.float32)
    answer = keras.Model(image, x)
    for lines in (rows, rows.transpose(0, 2, 1, 3)):
        seen = answer(lines)[:, cell, cell, 0]
        middle = np.sum(seen * np.arange(64)) / np.sum(seen)
        assert middle == pytest.approx(first + step * cell, abs=1e-4)


def test_squeeze_and_excitation_moves_nothing() -> None:
    image = keras.Input((32, 32, 1))
    x = squeezed(mean(3, 2)(image))
    assert receptive.grids(keras.Model(image, x), start=image, end=x)[0] == receptive.Grid(1, 2)


def test_volumes_have_three_axes() -> None:
    image = keras.Input((8, 32, 32, 1))
    x = LAYERS.Conv3D(1, (1, 3, 3), strides=(1, 2, 2), padding="same")(image)
    grid = receptive.grids(keras.Model(image, x), start=image, end=x)
    assert grid == (receptive.Grid(0, 1), receptive.Grid(1, 2), receptive.Grid(1, 2))


@pytest.mark.parametrize(
    ("name", "first", "step"),
    [("cnn", 0.5, 2), ("resnet_small", 3.5, 8), ("efficientnet_lite0", 31, 32), ("efficientnet_b0", 31, 32)],
)
def test_grids_of_the_table(name, first, step) -> None:
    def head(x):
        return {"logits": LAYERS.Dense(2, name="logits")(x)}

    built = models.build_model(name, image_shape=(64, 64, 1), preprocessing=(), head=head, weights="none").model
    features = built.get_layer("features").output
    assert receptive.grids(built, start=built.input, end=features) == (receptive.Grid(first, step),) * 2


def test_heat_of_strided_networks_lies_on_the_spot() -> None:
    """Cells laid evenly over the image would put it 3.5 pixels up and left."""
    x = image = keras.Input((64, 64, 1), name="image")
    for _ in range(3):
        x = mean(3, 2)(x)
    x = LAYERS.Identity(name="features")(x)
    model = small.with_head(image, LAYERS.GlobalAveragePooling2D()(x))
    model.get_layer("logits").set_weights([np.array([[1, -1]], np.float32), np.zeros(2, np.float32)])
    rows, columns = np.mgrid[:64, :64]
    spot = np.exp(-((rows - 38) ** 2 + (columns - 25) ** 2) / 50).astype(np.float32)[np.newaxis, ..., np.newaxis]
    _, heat = gradcam.gradcam(model, small.likeliest)(tf.constant(spot))
    assert scipy.ndimage.center_of_mass(heat[0, ..., 0].numpy()) == pytest.approx((38, 25), abs=0.5)


def test_interpolation_between_even_cells_is_tensorflows() -> None:
    maps = np.random.default_rng(0).random((2, 5, 7, 3)).astype(np.float32)
    matrices = [axes.linear(n, m, first=(m / n - 1) / 2, step=m / n) for n, m in ((5, 20), (7, 33))]
    np.testing.assert_allclose(axes.along(tf.constant(maps), matrices), tf.image.resize(maps, (20, 33)), atol=1e-6)


def test_smoothing_is_scipys_where_the_border_is_far() -> None:
    volume = np.zeros((1, 21, 25, 31, 1), np.float32)
    volume[0, 10, 12, 15] = 1
    found = axes.along(tf.constant(volume), [axes.gaussian(side, 1.5) for side in (21, 25, 31)])
    expected = scipy.ndimage.gaussian_filter(volume[0, ..., 0].astype(np.float64), 1.5, truncate=6)
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-7)
