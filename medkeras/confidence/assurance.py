"""Everything about a model's honesty that was fitted after its training, and how it becomes part of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from medkeras.confidence import appearance, familiarity, honest
from medkeras.evaluation import scaling as scalings

KINDS = ("embedding", "thumbnail", "statistics")
"""Kinds of features that a case's familiarity is measured by."""
OUTPUTS = ("probabilities", "prediction_set", "abstain", "familiarity")
LOGITS, EMBEDDING = "logits", "embedding"


@dataclasses.dataclass(frozen=True, eq=False)
class Assurance:
    """What stands between the logits and the answer.

    Attributes:
        scaling: Logits to calibrated probabilities.
        thresholds: How much of 1 the probability of a class may lack, for the class to be in the prediction set, `[K]`.
        known: What is familiar, by the features of `KINDS`.
        gate: The least familiarity that is answered.
        confidence: The least confidence that is answered.
    """

    scaling: scalings.Scaling
    thresholds: np.ndarray
    known: familiarity.Known
    gate: float
    confidence: float


def probe(model: keras.Model, *, value_range: Sequence[float]) -> keras.Model:
    """Returns a model from images `[B, H, W, C]` to `logits` and the features of each of `KINDS`, `[B, D]`."""
    return keras.Model(model.input, {LOGITS: model.output[LOGITS], **_features(model, value_range)})


def attach(model: keras.Model, found: Assurance, *, value_range: Sequence[float]) -> keras.Model:
    """Returns the model with `OUTPUTS` beside its `logits`; the weights are shared.

    Args:
        model: Functional, from stored values `[B, H, W, C]` to a dict with `logits` `[B, K]`, with a layer `embedding`.
        found: What was fitted.
        value_range: The range of the stored values, as `probe` was given it.
    """
    logits = model.output[LOGITS]
    probabilities = honest.Calibrated(found.scaling.to_json(), name="probabilities")(logits)
    known = found.known
    sizes = [each.basis.shape for each in known.gaussians]
    upright = known.upright is not None
    familiar = familiarity.Familiarity(sizes, len(known.scores), upright=upright, name="familiarity")
    features = _features(model, value_range)
    likeness = familiar([features[kind] for kind in KINDS])
    familiar.remember(known)
    abstain = honest.Abstain(found.gate, found.confidence, found.scaling.multilabel, name="abstain")
    outputs = {
        LOGITS: logits,
        "probabilities": probabilities,
        "prediction_set": honest.PredictionSet(found.thresholds.tolist(), name="prediction_set")(probabilities),
        "abstain": abstain([probabilities, likeness]),
        "familiarity": likeness,
    }
    return keras.Model(model.input, outputs, name=model.name)


def _features(model: keras.Model, value_range: Sequence[float]) -> dict[str, Any]:
    image = model.input
    return {
        "embedding": model.get_layer(EMBEDDING).output,
        "thumbnail": appearance.Thumbnail(value_range, name="thumbnail")(image),
        "statistics": appearance.Statistics(value_range, name="statistics")(image),
    }
