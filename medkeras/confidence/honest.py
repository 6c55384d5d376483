"""Layers after the logits: calibrated probabilities, prediction sets, and whether to answer at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras.evaluation import scaling as scalings


@keras.saving.register_keras_serializable("medkeras")
class Calibrated(keras.layers.Layer):
    """Logits become calibrated probabilities.

    Args:
        scaling: What `evaluation.scaling.Scaling.to_json` returned.
        **options: Options of `keras.layers.Layer`.
    """

    def __init__(self, scaling: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.scaling = dict(scaling)
        self._scaling = scalings.from_json(scaling)
        self.built = True

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[B, K]` of logits `[B, K]`."""
        scaling = self._scaling
        scaled = tf.cast(logits, tf.float32) * _constant(scaling.slope) + _constant(scaling.offset)
        stated = tf.nn.sigmoid(scaled) if scaling.multilabel else tf.nn.softmax(scaled)
        if not scaling.knots:
            return stated
        columns = [_interpolated(stated[:, k], x, y) for k, (x, y) in enumerate(scaling.knots)]
        calibrated = tf.stack(columns, axis=1)
        return calibrated if scaling.multilabel else calibrated / tf.reduce_sum(calibrated, axis=1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "scaling": self.scaling}


@keras.saving.register_keras_serializable("medkeras")
class PredictionSet(keras.layers.Layer):
    """The classes that a case may have: those whose probability lacks no more of 1 than their threshold.

    Args:
        thresholds: One a class, met from `scaling.ROUNDING` below; of 1 and above, the class is in every set.
        **options: Options of `keras.layers.Layer`.

    Reference: Sadinle, Lei and Wasserman (2019), Least Ambiguous Set-Valued Classifiers, JASA 114: 223-234.
    """

    def __init__(self, thresholds: Sequence[float], **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.thresholds = [min(float(threshold), 1.0) for threshold in thresholds]
        self.built = True

    def call(self, probabilities: tf.Tensor) -> tf.Tensor:
        """Returns bool `[B, K]` of probabilities `[B, K]`."""
        return 1.0 - probabilities <= _constant(np.array(self.thresholds) + scalings.ROUNDING)

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "thresholds": self.thresholds}


@keras.saving.register_keras_serializable("medkeras")
class Abstain(keras.layers.Layer):
    """Whether to leave a case to somebody else: it is not familiar, or no answer is sure enough.

    Args:
        familiarity: The least that is answered, 0…1.
        confidence: The least that is answered, 0…1: the probability of the likeliest class; multi-label: of the
            least sure label's likelier state. It is met from `scaling.ROUNDING` below.
        multilabel: Whether a case may have any number of classes.
        **options: Options of `keras.layers.Layer`.
    """

    def __init__(self, familiarity: float, confidence: float, multilabel: bool, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        self.familiarity = float(familiarity)
        self.confidence = float(confidence)
        self.multilabel = bool(multilabel)
        self.built = True

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns bool `[B]` of probabilities `[B, K]` and familiarities `[B]`."""
        probabilities, familiarity = inputs
        if self.multilabel:
            sure = tf.reduce_min(tf.maximum(probabilities, 1.0 - probabilities), axis=1)
        else:
            sure = tf.reduce_max(probabilities, axis=1)
        # Not ">=" turned round, which answers where there is no number.
        surely = sure >= self.confidence - scalings.ROUNDING
        return tf.logical_not(tf.logical_and(familiarity >= self.familiarity, surely))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        own = {"familiarity": self.familiarity, "confidence": self.confidence, "multilabel": self.multilabel}
        return {**super().get_config(), **own}


def _constant(values: np.ndarray) -> tf.Tensor:
    return tf.constant(values, tf.float32)


def _interpolated(values: tf.Tensor, x: np.ndarray, y: np.ndarray) -> tf.Tensor:
    """Returns float32 `[B]` on the line through the points (x, y), flat beyond its ends."""
    low, step = _constant(x[:-1]), _constant(np.diff(x))
    rise = _constant(np.diff(y))
    share = tf.clip_by_value((values[:, tf.newaxis] - low) / step, 0.0, 1.0)
    return float(y[0]) + tf.reduce_sum(share * rise, axis=1)
