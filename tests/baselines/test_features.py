"""Hand-made features: scikit-image's and SciPy's numbers, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from skimage import feature

from medkeras.baselines import features


def noise(side: tuple[int, int] = (28, 28), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.8, side)


def test_gradients_are_scikit_images_histograms_over_eight_cells_a_side() -> None:
    image = noise((64, 48))
    expected = feature.hog(image, 9, pixels_per_cell=(8, 6), cells_per_block=(2, 2), block_norm="L2-Hys")
    np.testing.assert_array_equal(features.gradients(image), expected)
    assert len(expected) == 7 * 7 * 4 * 9


def test_gradients_see_shapes_and_no_brightness() -> None:
    image = noise()
    np.testing.assert_allclose(features.gradients(image + 0.1), features.gradients(image), atol=1e-12)
    assert np.abs(features.gradients(image.T) - features.gradients(image)).max() > 0.1


def test_a_cell_has_four_pixels_or_more() -> None:
    assert len(features.gradients(noise((8, 8)))) == 4 * 9
    assert len(features.gradients(noise((12, 10)))) == 2 * 1 * 4 * 9


def test_patterns_are_shares_of_scikit_images_codes() -> None:
    image = noise()
    found = features.patterns(image)
    codes = feature.local_binary_pattern(np.rint(image * 255).astype(np.uint8), 8, 1.0, method="uniform")
    np.testing.assert_allclose(found[:10], [(codes == code).mean() for code in range(10)])
    assert found[10:].sum() == pytest.approx(1.0)
    assert found.shape == (28,)


def test_a_flat_image_has_one_pattern_but_at_its_border() -> None:
    found = features.patterns(np.full((16, 16), 0.5))
    assert found[8] == 14**2 / 16**2
    assert found[10 + 16] == 12**2 / 16**2


def test_pairs_of_grey_levels_counted_by_hand() -> None:
    """Columns of black and white in turn: neighbours across differ by 31 levels, neighbours below by none."""
    image = np.tile([0.0, 1.0], (12, 6))
    found = dict(zip(features.PROPERTIES, features.co_occurrence(image)[:12].reshape(6, 2), strict=True))
    # At distance 1 three of the four angles step one column; at 3 the slanted ones step two, which are alike.
    np.testing.assert_allclose(found["contrast"], [3 / 4 * 31**2, 1 / 4 * 31**2])
    np.testing.assert_allclose(found["dissimilarity"], [3 / 4 * 31, 1 / 4 * 31])
    np.testing.assert_allclose(found["ASM"], 0.5, atol=0.01)
    ranges = features.co_occurrence(image)[12:].reshape(6, 2)
    np.testing.assert_allclose(ranges[0], 31**2)


def test_statistics_of_grey_values_are_scipys() -> None:
    image = noise() ** 2
    found = features.intensity(image)
    values = image.ravel()
    expected = [values.mean(), values.std(), stats.skew(values), stats.kurtosis(values)]
    np.testing.assert_allclose(found[:4], expected)
    np.testing.assert_allclose(found[4:11], np.percentile(values, features.PERCENTILES))
    shares = np.bincount(np.rint(values * 31).astype(int)) / values.size
    assert found[11] == pytest.approx(stats.entropy(shares, base=2))


def test_an_image_of_one_value_has_finite_features() -> None:
    found = features.describe(np.full((1, 16, 16), 0.3))
    assert np.isfinite(found).all()
    assert found[0, -12:-8].tolist() == pytest.approx([0.3, 0.0, 0.0, 0.0], abs=1e-7)


def test_an_images_features_do_not_depend_on_its_batch() -> None:
    images = np.stack([noise(seed=seed) for seed in range(3)])
    whole = features.describe(images)
    assert whole.dtype == np.float32
    assert whole.shape == (3, sum(len(family(images[0])) for family in features.FAMILIES.values()))
    np.testing.assert_array_equal(whole[::-1], features.describe(images[::-1]))


def test_values_outside_are_cut() -> None:
    image = noise() * 3 - 1
    np.testing.assert_array_equal(features.describe(image[None]), features.describe(np.clip(image, 0, 1)[None]))
