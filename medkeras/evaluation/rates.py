"""What four counts say: the rates of a decision between yes and no."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each of the four outcomes came, arrays of one shape, weighted or whole.

    Attributes:
        hits: Called and there (true positives).
        misses: There and not called (false negatives).
        alarms: Called and not there (false positives).
        clears: Neither (true negatives).
    """

    hits: np.ndarray
    misses: np.ndarray
    alarms: np.ndarray
    clears: np.ndarray

    @classmethod
    def of(cls, present: np.ndarray, called: np.ndarray) -> Counts:
        """Counts over axis 0 of arrays `[N, ...]` of zeros and ones."""
        there, yes = present.astype(bool), called.astype(bool)
        return cls(*(np.sum(part, axis=0) for part in (there & yes, there & ~yes, ~there & yes, ~there & ~yes)))

    @classmethod
    def by_patient(cls, present: np.ndarray, called: np.ndarray, patients: np.ndarray) -> Counts:
        """Counts `[P, J]` of every patient, of arrays `[N, J]` of zeros and ones and patients int `[N]` from zero."""
        there, yes = present.astype(bool), called.astype(bool)
        parts = (there & yes, there & ~yes, ~there & yes, ~there & ~yes)
        count = patients.max() + 1
        return cls(*(np.stack([np.bincount(patients, column, count) for column in part.T], axis=1) for part in parts))

    def weighted(self, drawn: np.ndarray) -> Counts:
        """Returns the counts `[J, R]` of resamples from those of patients `[P, J]` and how often each is drawn."""
        stacked = np.concatenate([self.hits, self.misses, self.alarms, self.clears], axis=1)
        return Counts(*np.split((drawn @ stacked).T, 4))

    def sum(self, axis: int) -> Counts:
        """Returns the counts added up along an axis: micro averages are the rates of these."""
        return Counts(*(getattr(self, field.name).sum(axis=axis) for field in dataclasses.fields(self)))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, NaN where the whole is 0."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    return np.divide(part, whole, out=np.full(shape, np.nan), where=np.asarray(whole) > 0)


def precision(c: Counts) -> np.ndarray:
    """Returns the share of the calls that are right."""
    return ratio(c.hits, c.hits + c.alarms)


def sensitivity(c: Counts) -> np.ndarray:
    """Returns the share of those with the class that were called (recall)."""
    return ratio(c.hits, c.hits + c.misses)


def specificity(c: Counts) -> np.ndarray:
    """Returns the share of those without the class that were not called."""
    return ratio(c.clears, c.clears + c.alarms)


def f1(c: Counts) -> np.ndarray:
    """Returns the harmonic mean of precision and sensitivity."""
    return ratio(2 * c.hits, 2 * c.hits + c.misses + c.alarms)


def accuracy(c: Counts) -> np.ndarray:
    """Returns the share of all that are right."""
    return ratio(c.hits + c.clears, c.hits + c.misses + c.alarms + c.clears)


def balanced_accuracy(c: Counts) -> np.ndarray:
    """Returns the mean of sensitivity and specificity."""
    return (sensitivity(c) + specificity(c)) / 2


def predictive_values(c: Counts, prevalence: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positive and the negative predictive value.

    Args:
        c: The counts.
        prevalence: Share of those with the class where the values are to hold, 0…1; 0 throughout: as counted.

    Reference:
        Altman and Bland (1994), BMJ 309: 102.
    """
    if not np.any(prevalence):
        return precision(c), ratio(c.clears, c.clears + c.misses)
    found, cleared = sensitivity(c), specificity(c)
    right_call, right_clear = found * prevalence, cleared * (1 - prevalence)
    return (
        ratio(right_call, right_call + (1 - cleared) * (1 - prevalence)),
        ratio(right_clear, right_clear + (1 - found) * prevalence),
    )


def likelihood_ratios(c: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positive and the negative likelihood ratio; infinite where only the denominator is 0.

    Reference:
        Deeks and Altman (2004), BMJ 329: 168-169.
    """
    found, cleared = sensitivity(c), specificity(c)
    return _odds(found, 1 - cleared), _odds(1 - found, cleared)


def kappa(c: Counts) -> np.ndarray:
    """Returns Cohen's kappa of calls and truth; NaN where both are one and the same for all."""
    total = (c.hits + c.misses + c.alarms + c.clears).astype(np.float64)
    by_chance = (c.hits + c.misses) * (c.hits + c.alarms * 1.0) + (c.clears + c.misses) * (c.clears + c.alarms * 1.0)
    return ratio((c.hits + c.clears) * total - by_chance, total**2 - by_chance)


def matthews(c: Counts) -> np.ndarray:
    """Returns the Matthews correlation of calls and truth; NaN where either is the same for all."""
    hits, misses, alarms, clears = (np.asarray(x, np.float64) for x in (c.hits, c.misses, c.alarms, c.clears))
    spread = (hits + misses) * (hits + alarms) * (clears + misses) * (clears + alarms)
    return ratio(hits * clears - misses * alarms, np.sqrt(spread))


def _odds(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where((np.asarray(whole) == 0) & (np.asarray(part) > 0), np.inf, ratio(part, whole))
