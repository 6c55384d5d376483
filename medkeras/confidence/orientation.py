"""Whether a picture lies as those of the training do: a line between them and themselves turned round."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn import linear_model

_INVERSE_PENALTY = 3e-3
_LEAST = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Upright:
    """A linear score of D features: the higher, the more turned a picture looks.

    Attributes:
        weight: float32 `[D]`.
        centre: Mean of the plain score of held-out cases.
        spread: Its standard deviation.

    Reference:
        Hendrycks, Mazeika, Kadavath and Song (2019), Using Self-Supervised Learning Can Improve Model Robustness and
        Uncertainty, NeurIPS (rotations as stand-ins for what is foreign).
    """

    weight: np.ndarray
    centre: float
    spread: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns by how many standard deviations a case's score `[N]` exceeds that of held-out cases."""
        return (np.asarray(features, np.float64) @ self.weight - self.centre) / self.spread


def fit(upright: np.ndarray, turned: np.ndarray, held_out: np.ndarray) -> Upright:
    """Fits the line to training features `[N, D]` and those of the turned pictures `[M, D]`.

    Centre and spread are those of held-out features `[V, D]`.
    """
    both = np.concatenate([upright, turned]).astype(np.float64)
    scale = np.maximum(both.std(0), _LEAST)
    is_turned = np.arange(len(both)) >= len(upright)
    model = linear_model.LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    model.fit((both - both.mean(0)) / scale, is_turned)
    weight = (model.coef_[0] / scale).astype(np.float32)
    plain = np.asarray(held_out, np.float64) @ weight
    return Upright(weight, float(plain.mean()), max(float(plain.std()), _LEAST))
