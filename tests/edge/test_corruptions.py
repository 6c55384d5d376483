"""What happens to pictures: it grows with the severity, keeps dtype and range, and is the same again."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import transform

from medkeras import errors
from medkeras.edge import corruptions

NAMES = tuple(corruptions.CORRUPTIONS)
RANGES = {"uint8": (0.0, 255.0), "uint16": (100.0, 4095.0), "float32": (-1000.0, 400.0)}


@pytest.fixture(scope="module")
def unit() -> np.ndarray:
    """Smooth colour pictures in 0…1, `[4, 40, 32, 3]`, none of them touching black or white everywhere."""
    drawn = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(4, 40, 32, 3)), (0, 2, 2, 0))
    return 0.5 + 0.4 * drawn / np.abs(drawn).max()


def stored(unit: np.ndarray, dtype: str) -> np.ndarray:
    low, high = RANGES[dtype]
    return (low + unit * (high - low)).astype(dtype)


def disturbed(images: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    return corruptions.corrupt(images, name, severity, seed=seed, value_range=RANGES[images.dtype.name])


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_severity_changes_more(name, unit):
    images = stored(unit, "float32")
    changes = [np.abs(disturbed(images, name, severity) - images).mean() for severity in corruptions.SEVERITIES]
    assert changes[0] > 0
    assert (np.diff(changes) > 0).all()


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("name", NAMES)
def test_shape_dtype_and_range_are_kept(name, dtype, unit):
    images = stored(unit, dtype)
    before = images.copy()
    found = disturbed(images, name, 5)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    low, high = RANGES[dtype]
    assert low <= found.min()
    assert found.max() <= high
    assert not np.array_equal(found, images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_say_the_same(name, unit):
    coarse, fine = (disturbed(stored(unit, dtype), name, 3).astype(float) for dtype in ("uint8", "float32"))
    low, high = RANGES["float32"]
    # The unit values differ by half an 8 bit step; contrast and gamma may stretch that.
    assert np.abs(coarse / 255 - (fine - low) / (high - low)).mean() < 4 / 255


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_pictures_whatever_stands_beside_them(name, unit):
    images = stored(unit, "uint8")
    found = disturbed(images, name, 4, seed=3)
    np.testing.assert_array_equal(disturbed(images, name, 4, seed=3), found)
    np.testing.assert_array_equal(disturbed(images[:2], name, 4, seed=3), found[:2])


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle", "motion_blur", "colour_shift", "occlusion"])
def test_seeds_and_cases_differ(name, unit):
    images = np.repeat(stored(unit, "uint8")[:1], 3, axis=0)
    found = disturbed(images, name, 4, seed=3)
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(disturbed(images, name, 4, seed=4)[0], found[0])


def test_sides_of_a_rotation_and_of_gamma_are_drawn(unit):
    images = np.repeat(stored(unit, "float32")[:1], 12, axis=0)
    for name in ("rotation", "gamma"):
        assert len(np.unique(disturbed(images, name, 2), axis=0)) == 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("severity", "quality"), [(1, 90), (2, 70), (3, 50), (4, 35), (5, 20)])
def test_jpeg_is_pillows_round_trip(severity, quality, channels, unit):
    image = stored(unit, "uint8")[:1, ..., :channels]
    buffer = io.BytesIO()
    Image.fromarray(image[0].squeeze()).save(buffer, "JPEG", quality=quality)
    expected = np.asarray(Image.open(buffer)).reshape(image[0].shape)
    np.testing.assert_array_equal(disturbed(image, "jpeg", severity)[0], expected)


def test_rotation_is_scikit_images(unit):
    found = corruptions.CORRUPTIONS["rotation"].disturb(unit[0], 20.0, np.random.default_rng(0))
    ways = [transform.rotate(unit[0], angle, order=1) for angle in (20, -20)]
    assert min(np.abs(found - way)[10:-10, 8:-8].max() for way in ways) < 1e-6


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(("rotation", 0), ("resize", 1), ("pixelate", 1), ("gaussian_noise", 0), ("speckle", 0), ("defocus", 0.01)),
        *(("motion_blur", 0), ("brightness_up", 0), ("contrast_up", 1), ("gamma", 1), ("colour_shift", 0)),
        *(("occlusion", 0), ("black_corners", 1), ("vignetting", 0)),
    ],
)
def test_no_strength_is_no_change(name, level, unit):
    found = corruptions.CORRUPTIONS[name].disturb(unit[0], level, np.random.default_rng(0))
    np.testing.assert_allclose(found, unit[0], atol=1e-6)


def test_strengths_are_what_they_say():
    grey = np.full((1, 100, 100, 1), 100, np.uint8)
    assert (disturbed(grey, "brightness_up", 5) == 202).all()
    assert (disturbed(grey, "brightness_down", 5) == 0).all()
    assert (disturbed(grey, "occlusion", 5) == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (disturbed(grey, "black_corners", 5) > 0).mean() == pytest.approx(np.pi * 0.62**2 / 2, abs=0.01)
    assert float(disturbed(grey, "vignetting", 5)[0, 0, 0, 0]) == pytest.approx(20, abs=2)
    noisy = disturbed(grey, "gaussian_noise", 2).astype(float)
    assert noisy.std() / 255 == pytest.approx(0.04, rel=0.05)
    assert disturbed(grey, "speckle", 2).astype(float).std() / 100 == pytest.approx(0.1, rel=0.05)


def test_blurs_keep_the_light_and_spread_a_point():
    point = np.zeros((1, 101, 101, 1), np.float32)
    point[0, 50, 50] = 1
    for name, across in (("defocus", 18), ("motion_blur", 25)):
        spread = corruptions.corrupt(point, name, 5, seed=0, value_range=(0, 1))[0, ..., 0]
        assert spread.sum() == pytest.approx(1, rel=1e-5)
        rows, columns = np.nonzero(spread)
        reach = np.hypot(rows - 50, columns - 50).max()
        assert 2 * reach == pytest.approx(across, abs=3)


def test_blocks_are_flat():
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    blocks = disturbed(image, "pixelate", 4).reshape(1, 10, 4, 10, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_a_grey_picture_has_no_colours_to_shift():
    assert set(NAMES) - set(corruptions.applicable(1)) == {"colour_shift"}
    assert corruptions.applicable(3) == NAMES
    with pytest.raises(errors.ConfigError, match="a grey picture"):
        disturbed(np.zeros((1, 8, 8, 1), np.uint8), "colour_shift", 1)


@pytest.mark.parametrize(
    ("name", "severity", "value_range", "says"),
    [
        ("jpg", 1, (0, 255), "did you mean 'jpeg'"),
        ("jpeg", 0, (0, 255), "from 1 to 5. Received: 0"),
        ("jpeg", 6, (0, 255), "from 1 to 5. Received: 6"),
        ("jpeg", 1, (5, 5), "Received: 5:5"),
    ],
)
def test_what_there_is_not_is_refused(name, severity, value_range, says):
    with pytest.raises(errors.ConfigError, match=says):
        corruptions.corrupt(np.zeros((1, 8, 8, 1), np.uint8), name, severity, seed=0, value_range=value_range)
