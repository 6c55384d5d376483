"""After training: what makes a model's answers honest is fitted on validation and becomes part of the model."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import config
from medkeras.confidence import assurance, familiarity
from medkeras.data import cases, order, prepare
from medkeras.evaluation import conformal, operating, predictions, scaling, selective
from medkeras.workflows import passing, terminal

IMAGES = 600
"""Training images that the model's idea of the familiar is made of, at most."""
TURNED = 300
"""Of them, those that are turned round to learn how pictures lie, at most."""
NEVER = 2.0
"""A confidence that no answer has: no threshold keeps the promise."""
_QUARTER = 90.0


@dataclasses.dataclass(frozen=True, eq=False)
class Assured:
    """A model that answers honestly.

    Attributes:
        model: The trained model with `assurance.OUTPUTS`.
        fitted: What the card says of it: `calibration`, `conformal`, `abstain` and `operating_points`.
    """

    model: keras.Model
    fitted: Mapping[str, Any]


def assure(model: keras.Model, data: prepare.Prepared, *, task: Any, settings: config.Config) -> Assured:
    """Fits calibration, prediction sets, operating points and the input gate, and makes them part of the model.

    Everything is fitted on the validation split, except what training cases look like. The test split is not read.

    Args:
        model: Trained, with the outputs `logits` and `probabilities`.
        data: The prepared data.
        task: Gives targets, and predictions as a table.
        settings: Settings of the run.
    """
    chosen, seen = settings.evaluation, _Probe(model, data, settings)
    held_out = seen.answers("validation")
    members = data.stores["validation"].cases
    table, fitted = calibrated(held_out[assurance.LOGITS], members, task, chosen)
    return _attached(model, data, table=table, fitted=fitted, known=seen.known(held_out), task=task, chosen=chosen)


def assure_from(
    model: keras.Model,
    data: prepare.Prepared,
    *,
    logits: np.ndarray,
    members: Sequence[cases.Case],
    task: Any,
    settings: config.Config,
) -> Assured:
    """Does what `assure` does for a model without a validation split, from what others like it said of unseen cases.

    What is familiar is fitted to one half of the training cases and counted against the other, which the network has
    seen too: somewhat more new cases than the gate allows may seem unfamiliar.

    Args:
        model: Trained on all of the training split.
        data: The prepared data; validation is empty.
        logits: `[N, K]` of models trained as this one, each for cases that it has not seen.
        members: Those cases.
        task: Gives targets, and predictions as a table.
        settings: Settings of the run.
    """
    chosen, seen = settings.evaluation, _Probe(model, data, settings)
    table, fitted = calibrated(logits, members, task, chosen)
    return _attached(model, data, table=table, fitted=fitted, known=seen.known(None), task=task, chosen=chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class Promises:
    """What calibrated probabilities of unseen cases allow to promise.

    Attributes:
        sets: The prediction sets.
        confidence: The least confidence that is answered.
        points: The operating points.
    """

    sets: conformal.Conformal
    confidence: float
    points: Sequence[operating.OperatingPoint]

    def to_json(self, chosen: config.EvaluationConfig) -> dict[str, Any]:
        """Returns what the card says beside `calibration`."""
        return {
            "conformal": self.sets.to_json(),
            "abstain": {
                "familiarity": chosen.gate,
                "confidence": self.confidence,
                "risk": chosen.risk,
                "notes": silent(self.confidence, chosen.risk),
            },
            "operating_points": [each.to_json() for each in self.points],
        }


def promises(table: predictions.Predictions, task: Any, chosen: config.EvaluationConfig) -> Promises:
    """Fits prediction sets, refusal and operating points to calibrated probabilities of unseen cases."""
    sets = conformal.fit(
        table.probabilities,
        np.asarray(table.target),
        alpha=chosen.alpha,
        kind=chosen.conformal,
        patients=table.patients,
        multilabel=task.multilabel,
    )
    return Promises(sets, _least_confidence(table, chosen.risk), operating.choose(table, chosen.operating_point))


def _attached(
    model: keras.Model,
    data: prepare.Prepared,
    *,
    table: predictions.Predictions,
    fitted: scaling.Scaling,
    known: familiarity.Known,
    task: Any,
    chosen: config.EvaluationConfig,
) -> Assured:
    found = promises(table, task, chosen)
    complete = assurance.Assurance(fitted, found.sets.thresholds, known, gate=chosen.gate, confidence=found.confidence)
    described = {"calibration": fitted.to_json() | {"temperature": fitted.temperature}, **found.to_json(chosen)}
    described["abstain"]["notes"] = [*powerless(len(known.scores), chosen.gate), *described["abstain"]["notes"]]
    for note in described["abstain"]["notes"]:
        terminal.say(f"Note: {note}")
    return Assured(assurance.attach(model, complete, value_range=data.value_range), described)


def powerless(count: int, gate: float) -> list[str]:
    """Returns a sentence where the gate can turn nothing away: the strangest image is one in `count` + 1."""
    if not 0 < gate <= 1 / (count + 1):
        return []
    return [
        f"The input gate turns nothing away: at evaluation.gate={gate:g} it needs {math.floor(1 / gate)} cases that "
        f"trained nothing to know the strange by, and had {count}."
    ]


def silent(confidence: float, risk: float) -> list[str]:
    """Returns a sentence where the model answers nothing: no `confidence` of validation keeps the error rate `risk`."""
    if confidence < NEVER:
        return []
    return [
        f"The model declines to answer every case: validation has too few cases, or too many errors, to promise "
        f"evaluation.risk={risk:g}."
    ]


@dataclasses.dataclass(frozen=True)
class _Probe:
    """Runs the trained model, with the features that familiarity is measured by, over a split."""

    model: keras.Model
    data: prepare.Prepared
    settings: config.Config

    def answers(self, split: str, *, most: int = 0, turns: int = 0) -> dict[str, np.ndarray]:
        """Returns logits and features of a split's cases, or of `most` of them, turned by quarters."""
        count = len(self.data.stores[split].cases)
        chosen = np.arange(count)
        if most:
            chosen = np.sort(order.permutation(count, seed=self.settings.seed, epoch=0)[:most])
        return passing.run(
            lambda image: self._answer(tf.image.rot90(tf.cast(image, tf.float32), turns)),
            self.data.stores[split],
            batch_size=self.settings.train.batch_size,
            description=f"What is familiar: {split}",
            positions=chosen,
        )

    @functools.cached_property
    def _answer(self) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """Traced once for all passes: for a deep network that takes seconds."""
        probe = assurance.probe(self.model, value_range=self.data.value_range)
        return tf.function(lambda image: probe(image, training=False), reduce_retracing=True)

    def known(self, held_out: dict[str, np.ndarray] | None) -> familiarity.Known:
        """Returns what is familiar, given the answers for validation; without any, half of training stands for it."""
        training = self.answers("train", most=IMAGES)
        if held_out is None:
            held_out = {kind: values[1::2] for kind, values in training.items()}
            training = {kind: values[::2] for kind, values in training.items()}
        turned = [self.answers("train", most=TURNED, turns=turns) for turns in self._foreign_turns()]
        parts = {kind: [each[kind] for each in turned] for kind in assurance.KINDS}
        return familiarity.fit(
            [training[kind] for kind in assurance.KINDS],
            [held_out[kind] for kind in assurance.KINDS],
            [np.concatenate(parts[kind]) for kind in assurance.KINDS] if turned else None,
        )

    def _foreign_turns(self) -> tuple[int, ...]:
        """Returns the quarter turns that training did not make itself; none where the canvas cannot be turned."""
        height, width = self.data.canvas.size
        augment = self.settings.augment
        if augment.rotation >= _QUARTER or height != width:
            return ()
        return (1, 3) if augment.flips == "both" else (1, 2, 3)


def calibrated(
    logits: np.ndarray, members: Sequence[cases.Case], task: Any, chosen: config.EvaluationConfig
) -> tuple[predictions.Predictions, scaling.Scaling]:
    """Returns the table of validation with calibrated probabilities, and what calibrated them."""
    target = task.targets(members)
    patients = np.unique([case.patient_id for case in members], return_inverse=True)[1]
    fitted = scaling.fit(logits, target, method=chosen.calibration, multilabel=task.multilabel, patients=patients)
    return task.predictions(members, {"probabilities": fitted.apply(logits)}), fitted


def _least_confidence(table: predictions.Predictions, risk: float) -> float:
    """Returns the confidence from which on the model answers, so that it errs on no more than `risk` of its answers."""
    if not risk:
        return 0.0
    right = (table.decisions == table.target).all(axis=1)
    return min(selective.abstain_threshold(table.confidence, right, table.patients, risk=risk), NEVER)
