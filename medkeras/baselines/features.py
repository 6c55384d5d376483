"""What an image looks like in numbers that a person chose: shapes, textures and grey values."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping

import numpy as np
from skimage import feature

CELLS = 8
"""Cells of gradient histograms along each side of an image, as far as they have 4 pixels."""
ORIENTATIONS = 9
PATTERNS = ((8, 1.0), (16, 2.0))
"""Points and radius in pixels of each local binary pattern."""
LEVELS = 32
"""Grey levels whose pairs are counted."""
DISTANCES = (1, 3)
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM")
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

_LEAST_CELL = 4
_BYTE = 255
_FLAT = 1e-9


def describe(images: np.ndarray) -> np.ndarray:
    """Returns the features of images, each image's on its own.

    Args:
        images: `[B, H, W]` in 0…1, of 8 x 8 pixels or more; what lies outside is cut.

    Returns:
        float32 `[B, D]`: histograms of oriented gradients, local binary patterns, grey-level co-occurrence and
        statistics of the grey values, in this order.
    """
    return np.stack([_describe(np.clip(image, 0.0, 1.0)) for image in np.asarray(images, np.float64)])


def gradients(image: np.ndarray) -> np.ndarray:
    """Returns histograms of oriented gradients, float64 `[D]`, of an image `[H, W]` in 0…1.

    Reference: Dalal and Triggs (2005), Histograms of Oriented Gradients for Human Detection, CVPR.
    """
    height, width = (max(_LEAST_CELL, round(side / CELLS)) for side in image.shape)
    return feature.hog(
        image, ORIENTATIONS, pixels_per_cell=(height, width), cells_per_block=(2, 2), block_norm="L2-Hys"
    )


def patterns(image: np.ndarray) -> np.ndarray:
    """Returns the shares of uniform local binary patterns, float64 `[28]`, of an image `[H, W]` in 0…1.

    Reference: Ojala, Pietikäinen and Mäenpää (2002), IEEE Trans. Pattern Anal. Mach. Intell. 24: 971-987.
    """
    levels = _quantised(image, _BYTE)
    found = []
    for points, radius in PATTERNS:
        codes = feature.local_binary_pattern(levels, points, radius, method="uniform")
        found.append(np.bincount(codes.astype(np.int64).ravel(), minlength=points + 2) / codes.size)
    return np.concatenate(found)


def co_occurrence(image: np.ndarray) -> np.ndarray:
    """Returns properties of pairs of grey levels, float64 `[24]`, of an image `[H, W]` in 0…1.

    Each property of each distance as its mean over four angles, then its range over them.

    Reference: Haralick, Shanmugam and Dinstein (1973), IEEE Trans. Syst. Man Cybern. 3: 610-621.
    """
    levels = _quantised(image, LEVELS - 1)
    pairs = feature.graycomatrix(levels, DISTANCES, ANGLES, levels=LEVELS, symmetric=True, normed=True)
    found = np.stack([feature.graycoprops(pairs, name) for name in PROPERTIES])
    return np.concatenate([found.mean(axis=2).ravel(), np.ptp(found, axis=2).ravel()])


def intensity(image: np.ndarray) -> np.ndarray:
    """Returns statistics of the grey values, float64 `[12]`, of an image `[H, W]` in 0…1.

    Mean, standard deviation, skewness, kurtosis (0 of a normal distribution), percentiles, and the entropy of 32
    levels in bits; skewness and kurtosis of an image of one value are 0.
    """
    mean, deviation = image.mean(), image.std()
    # The mean of equal values is off by a rounding, and so is their deviation.
    varies = deviation > _FLAT
    standard = (image - mean) / deviation if varies else np.zeros_like(image)
    kurtosis = (standard**4).mean() - 3 if varies else 0.0
    shares = np.bincount(_quantised(image, LEVELS - 1).ravel(), minlength=LEVELS) / image.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    moments = (mean, deviation, (standard**3).mean(), kurtosis)
    return np.array([*moments, *np.percentile(image, PERCENTILES), entropy])


FAMILIES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = types.MappingProxyType(
    {"gradients": gradients, "patterns": patterns, "co_occurrence": co_occurrence, "intensity": intensity}
)


def _describe(image: np.ndarray) -> np.ndarray:
    return np.concatenate([family(image) for family in FAMILIES.values()]).astype(np.float32)


def _quantised(image: np.ndarray, highest: int) -> np.ndarray:
    """Returns the levels 0…`highest` nearest to values in 0…1, uint8."""
    return np.rint(image * highest).astype(np.uint8)
