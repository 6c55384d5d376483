"""What devices do to pictures: how much, to which values, and always the same."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medkeras import errors
from medkeras.edge import corruptions

NAMES = tuple(corruptions.CORRUPTIONS)
RANGES = {"uint8": (0.0, 255.0), "uint16": (100.0, 4000.0), "float32": (-1000.0, 2000.0)}
# JPEG has no such strength: it always rounds.
NEUTRAL = {
    **dict.fromkeys(("resize", "pixelate", "contrast_up", "contrast_down", "gamma"), 1.0),
    **dict.fromkeys(("rotation", "gaussian_noise", "speckle_noise", "defocus_blur", "motion_blur"), 0.0),
    **dict.fromkeys(("brightness_up", "brightness_down", "colour_shift", "dark_corners", "occlusion"), 0.0),
}


def scene(count=6, size=(28, 36), channels=3, dtype="uint8", seed=0):
    """Smooth shapes with sharp rims that fill the range of values."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((count, *size, channels)), (0, 4, 4, 0.5))
    smooth -= smooth.min(axis=(1, 2, 3), keepdims=True)
    smooth /= smooth.max(axis=(1, 2, 3), keepdims=True)
    smooth = np.where(smooth > 0.6, np.minimum(1.0, smooth + 0.2), smooth)
    low, high = RANGES[dtype]
    values = low + (high - low) * smooth
    return values.astype(dtype) if dtype == "float32" else np.rint(values).astype(dtype)


def corrupted(images, name, severity, *, seed=0, **more):
    return corruptions.corrupt(images, name, severity, seed=seed, value_range=RANGES[images.dtype.name], **more)


def change(before, after):
    return float(np.abs(before.astype(np.float64) - after).mean())


def blurred(image, radius):
    """Returns the mean of a picture over a disc, from many pictures shifted by parts of a pixel."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (4000, 2))
    inside = points[np.sum(points**2, axis=1) <= 1][:2500] * radius
    plane = image[..., 0].astype(np.float64)
    return np.mean([ndimage.shift(plane, point, order=1, mode="nearest") for point in inside], axis=0)


@pytest.mark.parametrize("size", [(28, 36), (96, 80)])
@pytest.mark.parametrize("name", NAMES)
def test_each_severity_changes_more_than_the_one_before(name, size):
    images = scene(size=size)
    changes = [change(images, corrupted(images, name, severity)) for severity in corruptions.SEVERITIES]
    assert changes[0] > 0.1
    assert all(after > before for before, after in zip(changes, changes[1:], strict=False)), changes


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("name", NAMES)
def test_shape_dtype_and_range_are_kept(name, dtype):
    channels = 3 if corruptions.CORRUPTIONS[name].colour else 1
    images, (low, high) = scene(3, channels=channels, dtype=dtype), RANGES[dtype]
    found = corrupted(images, name, 5)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    assert low <= found.min()
    assert found.max() <= high
    assert change(images, found) > 0.004 * (high - low)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_depends_on_seed_and_position_alone(name):
    images = scene(4)
    whole = corrupted(images, name, 3)
    np.testing.assert_array_equal(whole, corrupted(images, name, 3))
    np.testing.assert_array_equal(whole[[3, 1]], corrupted(images[[3, 1]], name, 3, positions=[3, 1]))


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise", "motion_blur", "colour_shift", "occlusion"])
def test_what_is_drawn_is_another_for_another_seed_or_position(name):
    image = scene(1)
    found = corrupted(image, name, 5)
    assert change(found, corrupted(image, name, 5, seed=1)) > 0.3
    assert change(found, corrupted(image, name, 5, positions=[1])) > 0.3


@pytest.mark.parametrize("name", ["rotation", "gamma"])
def test_some_go_one_way_and_some_the_other(name):
    images = np.repeat(scene(1), 12, axis=0)
    assert len({image.tobytes() for image in corrupted(images, name, 3)}) == 2


def test_noises_of_two_names_are_not_the_same():
    images = np.full((1, 20, 20, 1), 0.5, np.float32)
    drawn = [
        corruptions.corrupt(images, name, 1, seed=0, value_range=(0.0, 1.0)) - images
        for name in ("gaussian_noise", "speckle_noise")
    ]
    assert abs(np.corrcoef(*(each.ravel() for each in drawn))[0, 1]) < 0.2


@pytest.mark.parametrize("name", NEUTRAL)
def test_at_no_strength_nothing_changes(name):
    pixels = scene(1)[0] / 255.0
    found = corruptions.CORRUPTIONS[name].apply(pixels, NEUTRAL[name], np.random.default_rng(0))
    np.testing.assert_allclose(found, pixels, atol=1e-6)


@pytest.mark.parametrize("name", ["resize", "pixelate", "defocus_blur", "motion_blur"])
def test_where_nothing_is_seen_nothing_blurs(name):
    flat = np.full((1, 28, 28, 1), 77, np.uint8)
    np.testing.assert_array_equal(corrupted(flat, name, 5), flat)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("severity", "quality"), [(1, 90), (5, 20)])
def test_jpeg_is_what_pillow_writes_and_reads(channels, severity, quality):
    images = scene(1, channels=channels)
    buffer = io.BytesIO()
    Image.fromarray(images[0].squeeze()).save(buffer, "JPEG", quality=quality)
    expected = np.asarray(Image.open(buffer)).reshape(images[0].shape)
    np.testing.assert_array_equal(corrupted(images, "jpeg", severity)[0], expected)


def test_jpeg_of_sixteen_bits_is_that_of_eight_stretched():
    images = scene(1, channels=1, dtype="uint16")
    low, high = RANGES["uint16"]
    bytes_ = np.rint((images - low) / (high - low) * 255).astype(np.uint8)
    expected = np.rint(low + corrupted(bytes_, "jpeg", 3) / 255.0 * (high - low))
    np.testing.assert_array_equal(corrupted(images, "jpeg", 3), expected)


def test_noise_has_the_stated_deviation():
    images = np.full((20, 40, 40, 1), 0.5, np.float32)
    for name, expected in (("gaussian_noise", 0.08), ("speckle_noise", 0.5 * 0.2)):
        found = corruptions.corrupt(images, name, 3, seed=3, value_range=(0.0, 1.0))
        assert np.std(found) == pytest.approx(expected, rel=0.02)
        assert np.mean(found) == pytest.approx(0.5, abs=0.003)


def test_a_turn_is_by_the_stated_angle():
    images = np.zeros((1, 101, 101, 1), np.uint8)
    images[0, 48:53, 80:] = 255
    rows, columns = np.nonzero(corrupted(images, "rotation", 4)[0, ..., 0] > 128)
    angle = np.degrees(np.arctan2(rows.mean() - 50, columns.mean() - 50))
    assert abs(angle) == pytest.approx(22, abs=0.5)


def test_defocus_is_the_mean_over_a_disc():
    image = scene(1, size=(40, 40), channels=1, dtype="float32")
    expected = blurred(image[0], 0.05 * 40)
    found = corrupted(image, "defocus_blur", 5)[0, ..., 0]
    assert np.abs(found - expected)[4:-4, 4:-4].max() < 0.01 * 3000


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur"])
def test_a_blur_keeps_the_light(name):
    image = np.zeros((1, 41, 41, 1), np.float32)
    image[0, 20, 20] = 1.0
    found = corruptions.corrupt(image, name, 5, seed=0, value_range=(0.0, 1.0))
    assert found.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(ndimage.center_of_mass(found[0, ..., 0]), (20, 20), atol=0.01)


def test_motion_smears_along_one_line():
    image = np.zeros((1, 101, 101, 1), np.float32)
    image[0, 50, 50] = 1.0
    found = corruptions.corrupt(image, "motion_blur", 5, seed=0, value_range=(0.0, 1.0))[0, ..., 0]
    places = np.indices(found.shape).reshape(2, -1)
    along, across = np.sqrt(np.linalg.eigvalsh(np.cov(places, aweights=found.ravel() + 1e-12))[::-1])
    assert along == pytest.approx(0.15 * 101 / np.sqrt(12), rel=0.05)
    assert across < 0.6


def test_light_and_contrast_are_exact():
    images = scene(1, channels=1)
    values = images[0].astype(np.float64)
    up = np.clip(np.rint(values + 0.06 * 255), 0, 255)
    half = values.mean() + 0.5 * (values - values.mean())
    np.testing.assert_array_equal(corrupted(images, "brightness_up", 1)[0], up)
    np.testing.assert_allclose(corrupted(images, "contrast_down", 3)[0], half, atol=0.51)


def test_a_colour_shift_weighs_whole_channels_and_keeps_black():
    images = np.full((1, 8, 8, 3), 100, np.uint8)
    images[0, 0, 0] = 0
    found = corrupted(images, "colour_shift", 5)[0]
    assert (found[0, 0] == 0).all()
    assert len(np.unique(found[1:].reshape(-1, 3), axis=0)) == 1
    assert np.abs(found[1, 1] - 100.0).max() == 30
    assert found[1, 1].mean() == pytest.approx(100, abs=1)


def test_corners_lose_light_and_the_middle_none():
    images = np.full((1, 33, 33, 1), 200, np.uint8)
    found = corrupted(images, "dark_corners", 3)[0, ..., 0]
    assert found[16, 16] == 200
    assert {int(found[y, x]) for y in (0, -1) for x in (0, -1)} == {80}


def test_an_occlusion_covers_the_stated_share_and_grows_in_place():
    images = np.full((8, 100, 100, 1), 200, np.uint8)
    covered = [corrupted(images, "occlusion", severity) == 0 for severity in corruptions.SEVERITIES]
    assert covered[4].mean() == pytest.approx(0.18, abs=0.005)
    assert all((more | ~less).all() for less, more in zip(covered, covered[1:], strict=False))
    assert len({each.tobytes() for each in covered[4]}) == 8


def test_a_value_beyond_the_range_is_not_cut():
    image = np.full((1, 8, 8, 1), 100, np.uint16)
    image[0, 4, 4] = 5000
    found = corruptions.corrupt(image, "occlusion", 1, seed=0, value_range=(0.0, 4000.0))
    assert found.max() == 5000


def test_grey_pictures_have_no_colour():
    assert "colour_shift" not in corruptions.names(1)
    assert corruptions.names(3) == NAMES
    with pytest.raises(errors.ConfigError, match="no colour to shift"):
        corrupted(scene(1, channels=1), "colour_shift", 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "jpg"}, "'jpeg'"),
        ({"severity": 0}, "severity=0"),
        ({"severity": 6}, "severity=6"),
        ({"seed": -1}, "seed=-1"),
        ({"value_range": (1.0, 1.0)}, "low and a high end"),
        ({"images": np.zeros((1, 8, 8, 2), np.uint8)}, r"\[8, 8, 2\]"),
        ({"images": np.zeros((1, 8, 8, 1))}, "float64"),
    ],
)
def test_what_is_refused(changes, sentence):
    given = {"images": scene(1), "name": "jpeg", "severity": 1, "seed": 0, "value_range": (0.0, 255.0)} | changes
    with pytest.raises(errors.ConfigError, match=sentence):
        corruptions.corrupt(given.pop("images"), given.pop("name"), given.pop("severity"), **given)
