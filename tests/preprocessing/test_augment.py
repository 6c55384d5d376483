import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from skimage import data

from medkeras import config, errors
from medkeras.preprocessing import augment, geometry, preprocessor, random

BYTES = (0.0, 255.0)


def _seeds(count, epoch=0):
    return random.example_seeds(11, epoch, np.arange(count))


def _images(count=4, size=(40, 33), channels=1):
    return (np.random.default_rng(0).random((count, *size, channels)) * 255).astype(np.float32)


def test_sampling_equals_scipy():
    image = _images(1)
    generator = np.random.default_rng(1)
    rows, columns = generator.uniform(-30, 70, (1, 20, 21)), generator.uniform(-30, 60, (1, 20, 21))
    sampled = geometry.sample(image, tf.constant(rows, tf.float32), tf.constant(columns, tf.float32))
    expected = scipy.ndimage.map_coordinates(
        image[0, ..., 0].astype(float), [rows[0], columns[0]], order=1, mode="mirror"
    )
    np.testing.assert_allclose(sampled[0, ..., 0], expected, atol=5e-3)


def test_flips_are_mirror_images_and_half_of_all():
    images = np.repeat(_images(1, (6, 5)), 400, axis=0)
    flipped = geometry.RandomFlip("both")(images, _seeds(400)).numpy()
    views = [images[0, ::up, ::left] for up in (1, -1) for left in (1, -1)]
    counts = [sum(np.array_equal(image, view) for image in flipped) for view in views]
    assert sum(counts) == 400
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_horizontal_flip_never_turns_upside_down():
    images = np.repeat(_images(1, (6, 5)), 50, axis=0)
    flipped = geometry.RandomFlip("horizontal")(images, _seeds(50)).numpy()
    is_mirrored = [np.array_equal(image, images[0, :, ::-1]) for image in flipped]
    is_same = [np.array_equal(image, images[0]) for image in flipped]
    assert sum(is_mirrored) + sum(is_same) == 50
    assert 10 < sum(is_mirrored) < 40


def _motion(layer, size, count=300):
    """Returns the affine map of output to input pixels about the centre, `[count, 2, 3]`, by least squares."""
    rows, columns = np.meshgrid(
        np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32), indexing="ij"
    )
    place = layer.coordinates(rows[None], columns[None], seeds=_seeds(count), size=size)
    middle = [(size[0] - 1) / 2, (size[1] - 1) / 2]
    known = np.stack([rows - middle[0], columns - middle[1], np.ones_like(rows)], axis=-1).reshape(-1, 3)
    found = np.stack([(np.asarray(p) - m).reshape(count, -1) for p, m in zip(place, middle, strict=True)], axis=1)
    return np.linalg.lstsq(known, found.reshape(2 * count, -1).T, rcond=None)[0].T.reshape(count, 2, 3)


def test_rotation_zoom_and_translation_fill_their_limits_and_keep_them():
    turned = _motion(geometry.RandomAffine(rotation=30), (40, 30))
    angles = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    np.testing.assert_allclose(np.linalg.det(turned[:, :, :2]), 1, atol=1e-4)
    zoomed = _motion(geometry.RandomAffine(zoom=0.2), (40, 30))
    shifted = _motion(geometry.RandomAffine(translation=0.1), (40, 30))
    for drawn, limit in (
        (angles, 30),
        (1 / zoomed[:, 0, 0] - 1, 0.2),
        (shifted[:, 0, 2] / 40, 0.1),
        (shifted[:, 1, 2] / 30, 0.1),
    ):
        assert scipy.stats.kstest(drawn, "uniform", args=(-limit, 2 * limit)).pvalue > 1e-3
        assert np.abs(drawn).max() <= limit * 1.0001


def test_affine_equals_scipy():
    image = _images(1, (41, 40))
    layer = geometry.RandomAffine(25.0, 0.2, translation=0.1)
    matrix = _motion(layer, (41, 40), count=1)[0]
    middle = np.array([20, 19.5])
    offset = middle + matrix[:, 2] - matrix[:, :2] @ middle
    expected = scipy.ndimage.affine_transform(image[0, ..., 0], matrix[:, :2], offset, order=1, mode="mirror")
    np.testing.assert_allclose(layer(image, _seeds(1))[0, ..., 0], expected, atol=0.05)


def test_elastic_displacement_is_smooth_and_within_its_limit():
    size = (60, 90)
    rows, columns = np.arange(60.0, dtype=np.float32)[None, :, None], np.arange(90.0, dtype=np.float32)[None, None]
    moved = geometry.RandomElastic(0.05).coordinates(rows, columns, seeds=_seeds(50), size=size)
    for place, start, side in zip(moved, (rows, columns), size, strict=True):
        field = (np.asarray(place) - start) / side
        assert 0.02 < np.abs(field).max() <= 0.05
        # Half a displacement takes at least a tenth of the image: no folds.
        assert np.abs(np.diff(field, axis=1)).max() < 0.05 * 10 / 60


def test_a_chain_of_motions_is_one_sampling_of_the_composed_motion():
    images = np.repeat(np.repeat(data.camera()[None, ::8, ::8, None], 3, axis=0), 1, axis=-1).astype(np.float32)
    flip, turn = geometry.RandomFlip("horizontal"), geometry.RandomAffine(20.0)
    chained = augment.Augmenter([flip, turn], BYTES)(images, np.zeros((3, 2), np.float32), _seeds(3))[0]
    np.testing.assert_allclose(chained, turn(flip(images, _seeds(3)), _seeds(3)), atol=0.01)


def test_intensity_is_gamma_contrast_and_brightness():
    images = _images(200, (8, 8))
    changed = augment.RandomIntensity(0.2, BYTES)(images, _seeds(200)).numpy() / 255
    gamma, contrast, brightness = np.moveaxis(
        0.2 * (2 * random.uniform(_seeds(200), augment._INTENSITY, (3, 1, 1, 1)).numpy() - 1), 1, 0
    )
    bent = (images / 255) ** (2**gamma)
    mean = bent.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(changed, (bent - mean) * (1 + contrast) + mean + brightness, atol=1e-5)


def test_intensity_is_relative_to_the_value_range():
    images, seeds = _images(), _seeds(4)
    bytes_ = augment.RandomIntensity(0.2, BYTES)(images, seeds).numpy()
    units = augment.RandomIntensity(0.2, (-1000.0, 3000.0))(images / 255 * 4000 - 1000, seeds).numpy()
    np.testing.assert_allclose((units + 1000) / 4000, bytes_ / 255, atol=1e-5)


def test_noise_has_the_deviation_asked_for():
    images = np.zeros((8, 50, 50, 3), np.float32)
    noise = augment.RandomNoise(0.05, (100.0, 300.0))(images, _seeds(8)).numpy()
    assert abs(noise.mean()) < 0.15
    assert noise.std() == pytest.approx(10, rel=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03


def test_cutout_fills_one_rectangle_with_the_mean():
    images = _images(60, (40, 20), 3)
    cut = augment.RandomCutout(0.5)(images, _seeds(60)).numpy()
    changed = (cut != images).any(axis=-1)
    for image, result, where in zip(images, cut, changed, strict=True):
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        assert where.sum() == len(rows) * len(columns)
        assert len(rows) <= 20
        assert len(columns) <= 10
        np.testing.assert_allclose(result[where], np.tile(image.mean(axis=(0, 1)), (where.sum(), 1)), atol=1e-3)
    assert changed.sum(axis=(1, 2)).max() == 200


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_shares_follow_the_beta_distribution(alpha):
    images = np.arange(3000, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 1), np.float32)
    targets = np.eye(2, dtype=np.float32)[np.arange(3000) % 2]
    mixed, blended = augment.Mixup(alpha)(images, targets, _seeds(3000))
    share = np.take_along_axis(blended.numpy(), (np.arange(3000) % 2)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(blended.numpy().sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed[1:, 0, 0, 0], images[1:, 0, 0, 0] - (1 - share[1:]), atol=1e-2)
    folded = scipy.stats.beta(alpha, alpha)
    assert scipy.stats.kstest(share, lambda x: 2 * folded.cdf(x) - 1).pvalue > 1e-3


def test_augmenter_for_the_defaults_changes_pixels_and_stays_in_the_range():
    augmenter = preprocessor.augmenter_for(config.AugmentConfig(), value_range=BYTES)
    images, targets = _images().astype(np.uint8), np.eye(4, dtype=np.float32)
    changed, same_targets = augmenter(images, targets, _seeds(4))
    assert changed.dtype == tf.float32
    assert np.abs(changed - images.astype(np.float32)).mean() > 1
    assert changed.numpy().min() >= 0
    assert changed.numpy().max() <= 255
    np.testing.assert_array_equal(same_targets, targets)
    assert not np.array_equal(augmenter(images, targets, _seeds(4, epoch=1))[0], changed)


OFF = dict.fromkeys(("rotation", "zoom", "translation", "intensity", "noise", "elastic", "cutout", "mixup"), 0.0)


def test_everything_switched_off_changes_nothing():
    augmenter = preprocessor.augmenter_for(config.AugmentConfig(flips="none", **OFF), value_range=(0, 10))
    images, targets = _images(), np.eye(4, dtype=np.float32)
    for given, result in zip((images, targets), augmenter(images, targets, _seeds(4)), strict=True):
        np.testing.assert_array_equal(given, result)


@pytest.mark.parametrize("name", [*OFF, "flips"])
def test_each_setting_switches_its_step_on(name):
    settings = {"flips": "none", **OFF, name: "both" if name == "flips" else 0.2}
    augmenter = preprocessor.augmenter_for(config.AugmentConfig(**settings), value_range=BYTES)
    assert len(augmenter.steps) == 1
    images, targets = _images(), np.eye(4, dtype=np.float32)
    changed, mixed = augmenter(images, targets, _seeds(4))
    assert not np.array_equal(changed, images)
    assert np.array_equal(mixed, targets) == (name != "mixup")


@pytest.mark.parametrize(
    "make",
    [
        lambda: geometry.RandomFlip("vertical"),
        lambda: geometry.RandomAffine(-1.0),
        lambda: geometry.RandomAffine(zoom=1.0),
        lambda: geometry.RandomElastic(0.7),
        lambda: augment.RandomIntensity(-0.1, BYTES),
        lambda: augment.RandomNoise(0.1, (5, 5)),
        lambda: augment.RandomCutout(1.5),
        lambda: augment.Mixup(0.0),
        lambda: augment.Augmenter([], (1, 0)),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(errors.ConfigError, match="Received: "):
        make()
