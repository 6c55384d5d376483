"""What training cases look like, as a Gaussian in few directions, and how far others lie from it."""

from __future__ import annotations

import dataclasses

import numpy as np

DIRECTIONS = 64
"""Most directions whose spread is kept one by one; what lies beyond them shares one."""
_SMALLEST_SHARE = 1e-3
_LEAST_REST = 1e-2
TINY = 1e-9
"""Added to a distance before its logarithm is taken."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian over D features, after each was brought to mean 0 and spread 1.

    Attributes:
        mean: float32 `[D]`.
        scale: float32 `[D]`, positive.
        basis: float32 `[D, R]`, orthonormal directions of the largest spread.
        variance: float32 `[R]`, the variance along each, in scaled features.
        rest: The variance along any other direction.
        centre: Mean of the logarithm of the distance of cases that were held out.
        spread: Its standard deviation.

    Reference:
        Tipping and Bishop (1999), Probabilistic Principal Component Analysis, JRSS B 61: 611-622. Lee et al. (2018),
        A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    variance: np.ndarray
    rest: float
    centre: float = 0.0
    spread: float = 1.0

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Returns the Mahalanobis distance float64 `[N]` of features `[N, D]`."""
        scaled = (np.asarray(features, np.float64) - self.mean) / self.scale
        along = scaled @ self.basis
        beyond = np.maximum((scaled**2).sum(1) - (along**2).sum(1), 0.0)
        return np.sqrt((along**2 / self.variance).sum(1) + beyond / self.rest)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns by how many standard deviations a case's log distance exceeds that of held-out cases, `[N]`."""
        return (np.log(self.distance(features) + TINY) - self.centre) / self.spread


def fit(training: np.ndarray, held_out: np.ndarray) -> Gaussian:
    """Fits mean and directions to training features `[N, D]`, centre and spread to held-out ones `[M, D]`."""
    training = np.asarray(training, np.float64)
    mean, deviation = training.mean(0), training.std(0)
    scale = np.maximum(deviation, max(_SMALLEST_SHARE * deviation.max(), TINY))
    scaled = (training - mean) / scale
    variance, directions = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    kept = max(1, min(DIRECTIONS, len(training) - 1, int((variance > TINY).sum())))
    rest = max(float(variance[:-kept].mean()) if kept < len(variance) else 0.0, _LEAST_REST)
    found = Gaussian(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        basis=directions[:, ::-1][:, :kept].astype(np.float32),
        variance=np.maximum(variance[::-1][:kept], rest).astype(np.float32),
        rest=rest,
    )
    logarithms = np.log(found.distance(held_out) + TINY)
    return dataclasses.replace(found, centre=float(logarithms.mean()), spread=max(float(logarithms.std()), TINY))
