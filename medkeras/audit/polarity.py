"""Which pictures are negatives: those that say the opposite of what tells a picture from its negative in the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ENOUGH = 10
_COMMON, _POLAR = 0.6, 0.3
_FOLDS, _ROUNDS, _RIDGE = 5, 10, 0.1
_CLEAR, _CLEARLY_NEGATIVE = 0.6, 0.3


def negatives(thumbnails: np.ndarray, owners: Sequence[str]) -> np.ndarray:
    """Returns how much each picture is a negative, float `[N]`, 0 for those that are none and where no sign is told.

    Where most pictures share a pattern, a negative shows its opposite: that holds whatever share of the set is
    inverted, up to half. Where they share none, as slices through a volume, a linear rule that tells pictures from
    their negatives is learned and asked of pictures of other patients; it is believed where it is sure of nearly all.

    Args:
        thumbnails: `[N, S, S]`, none of one value only.
        owners: Whose picture each is.
    """
    if len(thumbnails) < ENOUGH:
        return np.zeros(len(thumbnails))
    pictures = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    pictures -= pictures.mean(axis=1, keepdims=True)
    pictures /= np.maximum(np.linalg.norm(pictures, axis=1, keepdims=True), 1e-6)
    likeness = pictures @ _common(pictures)
    if np.median(np.abs(likeness)) >= _COMMON:
        return np.where(likeness < -_POLAR, -likeness, 0)
    margins = _margins(pictures, np.unique(np.asarray(owners, str), return_inverse=True)[1])
    typical = float(np.median(np.abs(margins)))
    if np.quantile(np.abs(margins), 0.1) < _CLEAR * typical:
        return np.zeros(len(pictures))
    return np.where(margins < -_CLEARLY_NEGATIVE * typical, np.clip(-margins, 0, 1), 0)


def _common(pictures: np.ndarray) -> np.ndarray:
    """Returns the leading pattern `[F]` of length 1, found with each picture's sign left open, upright for most."""
    common = pictures[0]
    for _ in range(_ROUNDS):
        common = np.sign(pictures @ common) @ pictures
        common /= max(float(np.linalg.norm(common)), 1e-6)
    return common if np.median(pictures @ common) >= 0 else -common


def _margins(pictures: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Returns for each picture `[N, F]` what a rule says that was learned from other owners: 1 upright, -1 negative."""
    fold = np.random.default_rng(0).permutation(int(owners.max()) + 1)[owners] % _FOLDS
    whole = _rule(pictures)
    margins = np.zeros(len(pictures))
    for number in range(_FOLDS):
        asked = fold == number
        if asked.any() and not asked.all():
            rule = _rule(pictures[~asked])
            margins[asked] = pictures[asked] @ (rule if rule @ whole >= 0 else -rule)
    return margins


def _rule(pictures: np.ndarray) -> np.ndarray:
    """Returns weights `[F]`, by ridge regression, under which most pictures are 1 and the rest, their negatives, -1."""
    products = (pictures.T @ pictures).astype(np.float64)
    products[np.diag_indices_from(products)] += _RIDGE * np.trace(products) / len(products)
    signs = np.ones(len(pictures))
    for _ in range(_ROUNDS):
        rule = np.linalg.solve(products, signs @ pictures)
        found = np.where(pictures @ rule < 0, -1.0, 1.0)
        found *= 1 if found.sum() >= 0 else -1
        if np.array_equal(found, signs):
            break
        signs = found
    return rule
