"""Several honest models as one: the mean of their probabilities, the median of their familiarities."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from medkeras.confidence import honest

_LEAST = 1e-7


def combine(
    members: Sequence[keras.Model],
    *,
    thresholds: Sequence[float],
    gate: float,
    confidence: float,
    multilabel: bool,
    name: str,
) -> keras.Model:
    """Returns one model with the outputs of its members and nested models `member1`, `member2` …

    The logits are those that give the mean probabilities back: their logarithms, multi-label their log odds.

    Args:
        members: Models with `assurance.OUTPUTS` and `logits`, all from images of one shape.
        thresholds: Of the prediction sets, `[K]`.
        gate: The least familiarity that is answered.
        confidence: The least confidence that is answered.
        multilabel: Whether a case may have any number of classes.
        name: Name of the model.
    """
    image = keras.Input(members[0].input.shape[1:], dtype="float32", name="image")
    nested = [keras.Model(each.input, each.output, name=f"member{n}") for n, each in enumerate(members, start=1)]
    answers = [each(image) for each in nested]
    probabilities = keras.layers.Average(dtype="float32", name="probabilities")(
        [answer["probabilities"] for answer in answers]
    )
    logits = keras.ops.log(keras.ops.maximum(probabilities, _LEAST))
    if multilabel:
        logits = logits - keras.ops.log(keras.ops.maximum(1.0 - probabilities, _LEAST))
    stacked = keras.ops.stack([answer["familiarity"] for answer in answers], axis=1)
    familiarity = keras.ops.median(stacked, axis=1)
    outputs = {
        "logits": logits,
        "probabilities": probabilities,
        "prediction_set": honest.PredictionSet(thresholds, name="prediction_set")(probabilities),
        "abstain": honest.Abstain(gate, confidence, multilabel, name="abstain")([probabilities, familiarity]),
        "familiarity": familiarity,
    }
    return keras.Model(image, outputs, name=name)
