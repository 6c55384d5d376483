"""How familiar a case is: whether the model was trained on anything like it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras.confidence import gaussian, orientation

KNOTS = 1000
"""Most held-out scores that a familiarity is counted against."""


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """What a model knows, so that it can tell what it does not.

    Attributes:
        gaussians: What training cases look like, for each kind of features.
        upright: How they lie; None where that does not matter.
        scores: How strange held-out cases are, `[M]`.
    """

    gaussians: Sequence[gaussian.Gaussian]
    upright: orientation.Upright | None
    scores: np.ndarray


def fit(training: Sequence[np.ndarray], held_out: Sequence[np.ndarray], turned: Sequence[np.ndarray] | None) -> Known:
    """Fits what is familiar.

    Args:
        training: Features of training cases, `[N, D]` of each kind.
        held_out: Features of cases that trained nothing.
        turned: Features of training cases that were turned round; None: it does not matter how a picture lies.
    """
    gaussians = [gaussian.fit(*pair) for pair in zip(training, held_out, strict=True)]
    scores = [each.score(features) for each, features in zip(gaussians, held_out, strict=True)]
    upright = None
    if turned is not None:
        joined = [np.concatenate(each, axis=1) for each in (training, turned, held_out)]
        upright = orientation.fit(*joined)
        scores.append(upright.score(joined[-1]))
    strangest = np.max(scores, axis=0)
    if len(strangest) > KNOTS:
        strangest = np.quantile(strangest, (np.arange(KNOTS) + 0.5) / KNOTS)
    return Known(gaussians, upright, strangest)


@keras.saving.register_keras_serializable("medkeras")
class Familiarity(keras.layers.Layer):
    """The share of held-out cases that are at least as strange as this one.

    A case is as strange as the strangest of its kinds of features (`gaussian.Gaussian.score`), or as turned as it looks
    (`orientation.Upright.score`). Of familiar cases a share of x or less has a familiarity below x, as of a p-value.

    Args:
        sizes: D and R of the Gaussian of each kind of features, in the order of the inputs.
        scores: Number of held-out scores.
        upright: Whether it matters how a picture lies.
        **options: Options of `keras.layers.Layer`.

    Reference:
        Bates, Candès, Lei, Romano and Sesia (2023), Testing for Outliers with Conformal p-values, Annals of
        Statistics 51: 149-178.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], scores: int, upright: bool, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **options})
        self.sizes = [(int(features), int(directions)) for features, directions in sizes]
        self.scores = int(scores)
        self.upright = bool(upright)

    def build(self, _: Any) -> None:
        """Makes room for the Gaussians and the held-out scores."""
        self._parts = [self._part(f"part{k}", *size) for k, size in enumerate(self.sizes)]
        self._scores = self._weight("scores", (self.scores,))
        if self.upright:
            features = sum(size for size, _ in self.sizes)
            self._upright = {"weight": self._weight("upright_weight", (features,))}
            self._upright |= {name: self._weight(f"upright_{name}", ()) for name in ("centre", "spread")}
        self.built = True

    def call(self, features: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns float32 `[B]` in 0…1 of features `[B, D]` of each kind."""
        scores = [_score(part, each) for part, each in zip(self._parts, features, strict=True)]
        if self.upright:
            scores.append(_turned(self._upright, tf.concat(features, axis=1)))
        strangest = tf.reduce_max(tf.stack(scores, axis=1), axis=1, keepdims=True)
        # Not "strangest <= score", which a NaN passes for the largest.
        stranger = tf.cast(self._scores[tf.newaxis] >= strangest, tf.float32)
        return (1.0 + tf.reduce_sum(stranger, axis=1)) / (1.0 + self.scores)

    def remember(self, known: Known) -> None:
        """Takes what the scores are made with."""
        pairs: list[tuple[Mapping[str, keras.Variable], Any]] = list(zip(self._parts, known.gaussians, strict=True))
        if known.upright is not None:
            pairs.append((self._upright, known.upright))
        for variables, values in pairs:
            for name, variable in variables.items():
                variable.assign(np.asarray(getattr(values, name), np.float32))
        self._scores.assign(np.sort(known.scores).astype(np.float32))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument."""
        return {**super().get_config(), "sizes": self.sizes, "scores": self.scores, "upright": self.upright}

    def _part(self, name: str, features: int, directions: int) -> dict[str, keras.Variable]:
        shapes: Mapping[str, tuple[int, ...]] = {
            "mean": (features,),
            "scale": (features,),
            "basis": (features, directions),
            "variance": (directions,),
            "rest": (),
            "centre": (),
            "spread": (),
        }
        return {key: self._weight(f"{name}_{key}", shape) for key, shape in shapes.items()}

    def _weight(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        return self.add_weight(name=name, shape=shape, dtype="float32", initializer="ones", trainable=False)


def _score(part: Mapping[str, tf.Tensor], features: tf.Tensor) -> tf.Tensor:
    scaled = (tf.cast(features, tf.float32) - part["mean"]) / part["scale"]
    along = tf.tensordot(scaled, tf.convert_to_tensor(part["basis"]), axes=1)
    within = tf.square(along)
    beyond = tf.nn.relu(tf.reduce_sum(tf.square(scaled), axis=1) - tf.reduce_sum(within, axis=1))
    distance = tf.sqrt(tf.reduce_sum(within / part["variance"], axis=1) + beyond / part["rest"])
    return (tf.math.log(distance + gaussian.TINY) - part["centre"]) / part["spread"]


def _turned(upright: Mapping[str, tf.Tensor], features: tf.Tensor) -> tf.Tensor:
    score = tf.reduce_sum(tf.cast(features, tf.float32) * upright["weight"], axis=1)
    return (score - upright["centre"]) / upright["spread"]
