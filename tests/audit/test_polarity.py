"""Negatives are found where pictures share a pattern, and where only a rule tells them from their negatives."""

from __future__ import annotations

import numpy as np
import pytest

from medkeras import config
from medkeras.audit import fingerprints, polarity
from medkeras.data import nifti


def of_patterns(count: int, patterns: int, *, noise: float = 0.1) -> np.ndarray:
    """Pictures float `[count, 16, 16]`, each one of several patterns that have nothing in common."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(256, patterns)))[0].T
    chosen = basis[np.arange(count) % patterns] * 16 + noise * rng.normal(size=(count, 256))
    return (chosen * rng.uniform(0.5, 2, (count, 1)) + rng.normal(size=(count, 1))).reshape(count, 16, 16)


def told(pictures: np.ndarray, inverted: int, owners: list[str] | None = None) -> tuple[int, int]:
    """Returns how many of the first, turned into negatives, are found, and how many others."""
    signs = np.where(np.arange(len(pictures)) < inverted, -1, 1)[:, np.newaxis, np.newaxis]
    found = polarity.negatives(pictures * signs, owners or [str(row) for row in range(len(pictures))]) > 0
    return int(found[:inverted].sum()), int(found[inverted:].sum())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("patterns", [1, 8])
def test_negatives_are_found_among_pictures_of_one_kind_and_of_several(patterns, share) -> None:
    assert told(of_patterns(600, patterns), round(600 * share)) == (round(600 * share), 0)


def test_the_minority_is_inverted() -> None:
    assert told(of_patterns(600, 8), 500) == (0, 100)


def test_nothing_is_told_of_pictures_without_polarity() -> None:
    pictures = np.random.default_rng(0).normal(size=(600, 16, 16))
    assert told(pictures, 100) == (0, 0)
    assert told(of_patterns(9, 1), 1) == (0, 0)


def test_a_rule_is_asked_of_patients_that_it_has_not_seen() -> None:
    """Where each patient is a kind of his own, no rule holds for the next one."""
    pictures = of_patterns(600, 100, noise=0.05)
    alone = [str(row % 100) for row in range(600)]
    assert told(pictures, 30) == (30, 0)
    assert told(pictures, 30, alone) == (0, 0)


def test_inverted_hippocampi_are_found(real_data) -> None:
    case_set = nifti.load(str(real_data / "hippocampus" / "images"), config.DataConfig())
    members = case_set.cases[::6]
    taken = [fingerprints.take(case_set.images.read(case, 1)).thumbnail[::4, ::4] for case in members]
    pictures, owners = np.stack(taken).astype(np.float64), [case.patient_id for case in members]
    assert told(pictures, 0, owners)[1] <= 2
    found, others = told(pictures, 80, owners)
    assert found >= 72
    assert others <= 2
