import numpy as np
import pytest
import tensorflow as tf

from medkeras import errors
from medkeras.preprocessing import canvas

SIZES = [((37, 41), (20, 64)), ((1, 1), (5, 7)), ((300, 200), (224, 224)), ((1, 20000), (32, 32)), ((9, 20), (18, 60))]


def _images(size, high=256, count=2, channels=3, dtype=np.uint8):
    return np.random.default_rng(3).integers(0, high, (count, *size, channels)).astype(dtype)


def _triangle(source, target):
    """The definition, in double precision."""
    scale = source / target
    places = (np.arange(target) + 0.5) * scale
    weights = np.maximum(1 - np.abs(np.arange(source) + 0.5 - places[:, None]) / max(scale, 1), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_stretch_equals_tf_image_resize(source, target):
    images = _images(source).astype(np.float32)
    expected = tf.image.resize(images, target, antialias=True)
    np.testing.assert_allclose(canvas.resize(images, target, "stretch"), expected, atol=0.01)


@pytest.mark.parametrize(("source", "target"), [(300, 224), (20000, 224), (5, 1), (1, 9), (224, 512), (7, 7)])
def test_weights_equal_the_definition_in_double_precision(source, target):
    np.testing.assert_allclose(canvas.resize_matrix(source, target), _triangle(source, target), atol=2e-7)


@pytest.mark.parametrize("size", [1, 2, 224, 511])
def test_equal_sizes_give_exactly_the_identity(size):
    np.testing.assert_array_equal(canvas.resize_matrix(size, size), np.eye(size, dtype=np.float32))


@pytest.mark.parametrize("mode", canvas.MODES)
def test_images_of_the_right_size_pass_bit_for_bit_in_a_dynamic_graph(mode):
    images = np.random.default_rng(0).normal(size=(2, 13, 8, 1)).astype(np.float32) * 1e5
    layer = canvas.Canvas((13, 8), mode)
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 1])])
    np.testing.assert_array_equal(traced(images), images)
    assert traced.get_concrete_function().structured_outputs.shape.as_list()[1:] == [13, 8, 1]


@pytest.mark.parametrize(
    ("source", "target", "rows", "columns"),
    [
        ((10, 20), (16, 16), (4, 12), (0, 16)),
        ((20, 10), (16, 16), (0, 16), (4, 12)),
        ((1, 20000), (9, 9), (4, 5), (0, 9)),
    ],
)
def test_pad_keeps_the_aspect_centres_and_fills_with_zero(source, target, rows, columns):
    images = np.full((1, *source, 1), 7.0, np.float32)
    expected = np.zeros((1, *target, 1), np.float32)
    expected[:, slice(*rows), slice(*columns)] = 7.0
    np.testing.assert_allclose(canvas.resize(images, target, "pad"), expected, atol=1e-5)


def test_pad_is_stretch_to_the_fitted_size():
    images = _images((30, 50))
    padded = canvas.resize(images, (25, 25), "pad")
    np.testing.assert_allclose(padded[:, 5:20], canvas.resize(images, (15, 25), "stretch"), atol=1e-4)
    np.testing.assert_array_equal(padded[:, :5], np.zeros((2, 5, 25, 3)))


@pytest.mark.parametrize("mode", canvas.MODES)
@pytest.mark.parametrize(("dtype", "high"), [("uint8", 256), ("uint16", 65536)])
@pytest.mark.parametrize("source", [(64, 64), (37, 90), (1, 1), (1, 500), (100, 48)])
def test_resized_in_tf_data_equals_resized_in_the_graph_bit_for_bit(mode, dtype, high, source):
    images = _images(source, high, count=4, dtype=dtype)
    place = {"size": (32, 48), "mode": mode, "dtype": tf.as_dtype(dtype)}
    data = tf.data.Dataset.from_generator(lambda: iter(images), output_signature=tf.TensorSpec([None, None, 3], dtype))
    batch = next(iter(data.map(lambda image: canvas.to_canvas(image, **place)).batch(4)))
    assert batch.dtype == dtype
    layer = canvas.Canvas((32, 48), mode, round_values=True)
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    np.testing.assert_array_equal(traced(images.astype(np.float32)), tf.cast(batch, tf.float32))
    np.testing.assert_array_equal(traced(tf.cast(batch, tf.float32)), tf.cast(batch, tf.float32))


def test_whole_numbers_stay_and_ties_round_upwards():
    values = np.array([0.0, 0.4, 0.5, 1.5, 2.5 - 1e-5, 255.0, 65535.0, -1.0], np.float32)
    np.testing.assert_array_equal(canvas.whole(values), [0, 0, 1, 2, 3, 255, 65535, -1])


def test_values_stay_within_the_image():
    images = _images((50, 70)).astype(np.float32)
    resized = canvas.resize(images, (31, 99), "stretch").numpy()
    assert images.min() - 1e-3 <= resized.min()
    assert resized.max() <= images.max() + 1e-3


def test_unknown_mode_and_empty_canvas_are_refused():
    with pytest.raises(errors.ConfigError, match="did you mean 'pad'"):
        canvas.Canvas((8, 8), "pads")
    with pytest.raises(errors.ConfigError, match="size=\\(0, 8\\)"):
        canvas.Canvas((0, 8))


def test_values_below_zero_are_padded_with_the_lowest_as_air_is_in_hounsfield_units():
    scan = np.random.default_rng(0).integers(-1000, 1500, (2, 6, 12, 1)).astype(np.float32)
    scan[0, 0, 0, 0], scan[1, 0, 0, 0] = -1024, -900
    padded = canvas.resize(scan, (24, 24), "pad").numpy()
    np.testing.assert_array_equal(padded[:, :6], np.broadcast_to(scan.min((1, 2, 3), keepdims=True), (2, 6, 24, 1)))
    np.testing.assert_allclose(padded[:, 6:18], canvas.resize(scan, (12, 24), "stretch"), atol=1e-3)


def test_padded_planes_of_a_volume_hold_its_lowest_value():
    volume = np.full((1, 2, 8, 8, 1), 40.0, np.float32)
    volume[0, 1, 3, 3, 0] = -1000
    padded = canvas.resize(volume, (4, 8, 8), "pad").numpy()
    assert (padded[0, [0, 3]] == -1000).all()
    np.testing.assert_array_equal(padded[0, 1:3], volume[0])
