"""Classification: one class a case, or any number of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import config
from medkeras.confidence import assurance
from medkeras.data import cases
from medkeras.evaluation import classification, conformal, operating
from medkeras.evaluation import predictions as tables
from medkeras.training import losses


@dataclasses.dataclass(frozen=True)
class Classification:
    """All that the rest of medkeras needs to know of a classification.

    Attributes:
        classes: Class names; the position is the class index.
        multilabel: Whether a case may have any number of the classes.
        loss_name: `crossentropy`, `weighted` or `focal`.
        class_weights: Weight of each class in a weighted loss.
        outputs: What the exported model answers with; models that were published long ago give probabilities alone.
    """

    classes: tuple[str, ...]
    multilabel: bool = False
    loss_name: str = "crossentropy"
    class_weights: tuple[float, ...] = ()
    outputs: tuple[str, ...] = assurance.OUTPUTS

    name = "classification"

    def targets(self, members: Sequence[cases.Case]) -> np.ndarray:
        """Returns the targets float32 `[N, K]`: one-hot, or multi-hot; zeros for a case without a label."""
        position = {name: index for index, name in enumerate(self.classes)}
        table = np.zeros((len(members), len(self.classes)), np.float32)
        for row, case in zip(table, members, strict=True):
            for label in case.labels or filter(None, (case.label,)):
                row[position[label]] = 1.0
        return table

    def head(self, embedding: Any) -> dict[str, Any]:
        """Returns `logits` and `probabilities`, float32 `[B, K]`, of an embedding `[B, F]`."""
        logits = keras.layers.Dense(len(self.classes), dtype="float32", name="logits")(embedding)
        activation = "sigmoid" if self.multilabel else "softmax"
        return {
            "logits": logits,
            "probabilities": keras.layers.Activation(activation, dtype="float32", name="probabilities")(logits),
        }

    def loss(self, target: tf.Tensor, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the loss of each example, float32 `[B]`."""
        return _LOSSES[self.loss_name == "focal", self.multilabel](target, outputs["logits"], **self._class_weight())

    def metrics(self) -> dict[str, keras.metrics.Metric]:
        """Returns fresh training metrics over (target, probabilities)."""
        if self.multilabel:
            return {"auroc": keras.metrics.AUC(multi_label=True, num_labels=len(self.classes), name="auroc")}
        return {"accuracy": keras.metrics.CategoricalAccuracy(name="accuracy")}

    def explained(self, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the score `[B]` that an explanation explains: the logit of the class that is called likeliest."""
        chosen = tf.one_hot(tf.argmax(outputs["probabilities"], axis=-1), len(self.classes))
        return tf.reduce_sum(chosen * outputs["logits"], axis=-1)

    def predictions(self, members: Sequence[cases.Case], outputs: Mapping[str, np.ndarray]) -> tables.Predictions:
        """Returns the table of predictions of these cases, in order."""
        return tables.Predictions(
            case_id=tuple(case.case_id for case in members),
            patient_id=tuple(case.patient_id for case in members),
            path=tuple(case.path for case in members),
            split=tuple(case.split for case in members),
            classes=self.classes,
            target=self.targets(members),
            probabilities=np.asarray(outputs["probabilities"], np.float32),
            multilabel=self.multilabel,
            metadata=_metadata(members),
            sets=outputs.get("prediction_set"),
            abstain=outputs.get("abstain"),
            familiarity=outputs.get("familiarity"),
        )

    def evaluate(
        self, table: tables.Predictions, *, seed: int, settings: config.EvaluationConfig, fitted: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns what `metrics.json` holds.

        Args:
            table: Predictions of labelled cases.
            seed: Root of the bootstrap's random numbers.
            settings: How they are judged.
            fitted: What the card says was fitted on validation; empty for a model that was published long ago.
        """
        points = tuple(operating.OperatingPoint.from_json(each) for each in fitted.get("operating_points", ()))
        metrics = classification.evaluate(
            table,
            resamples=settings.resamples,
            seed=seed,
            interval=settings.interval,
            prevalence=settings.prevalence,
            operating_points=points,
        )
        if fitted and table.sets is not None:
            metrics["conformal"] = _conformal(table, fitted["conformal"])
            metrics["calibration"]["temperature"] = fitted["calibration"]["temperature"]
        return metrics

    def _class_weight(self) -> dict[str, np.ndarray]:
        return {"class_weight": np.array(self.class_weights, np.float32)} if self.class_weights else {}

    def description(self) -> dict[str, Any]:
        """Returns what the card says of the task; `from_description` reads it back."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "outputs": list(self.outputs),
        }


def _conformal(table: tables.Predictions, fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the prediction sets are worth, and whether the promise holds for these cases."""
    promised, sets = conformal.from_json(fitted), np.asarray(table.sets)
    found = conformal.coverage(table, sets)
    warnings = [*promised.notes(table.classes), *conformal.unexchangeable(promised, table, sets)]
    return {"alpha": promised.alpha, "kind": promised.kind, **found, "warnings": warnings}


def _metadata(members: Sequence[cases.Case]) -> dict[str, tuple[str, ...]]:
    names = [name for name, _ in members[0].metadata] if members else []
    return {name: tuple(dict(case.metadata).get(name, "") for case in members) for name in names}


def for_training(case_set: cases.CaseSet, settings: config.TrainConfig) -> Classification:
    """Returns the task of a data set, class weights from the training split."""
    task = Classification(case_set.classes, case_set.multilabel, settings.loss)
    if settings.loss != "weighted":
        return task
    counts = task.targets(case_set.of_split("train")).sum(0)
    weights = tuple(float(weight) for weight in losses.class_weights(counts))
    return dataclasses.replace(task, class_weights=weights)


def from_description(description: Mapping[str, Any]) -> Classification:
    """Returns the task that a card describes."""
    outputs = tuple(description.get("outputs", ("probabilities",)))
    return Classification(tuple(description["classes"]), bool(description["multilabel"]), outputs=outputs)


_LOSSES: dict[tuple[bool, bool], Callable[..., tf.Tensor]] = {
    (False, False): losses.softmax_crossentropy,
    (False, True): losses.sigmoid_crossentropy,
    (True, False): losses.softmax_focal,
    (True, True): losses.sigmoid_focal,
}
