"""A table of predictions becomes the numbers of `metrics.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from medkeras import errors
from medkeras.evaluation import (
    calibration,
    clustered,
    conformal,
    intervals,
    operating,
    resampled,
    scores,
    subgroups,
    undefined,
)
from medkeras.evaluation import predictions as tables

_METHODS = {
    "percentile": "percentile bootstrap of patients, within classes",
    "bca": "bootstrap of patients, within classes, corrected for bias and acceleration (BCa)",
}
_BRIER_PARTS = ("reliability", "resolution", "uncertainty")


def evaluate(
    predictions: tables.Predictions,
    *,
    resamples: int = 1000,
    seed: int = 0,
    interval: str = "percentile",
    prevalence: float = 0.0,
    operating_points: Sequence[operating.OperatingPoint] = (),
) -> dict[str, Any]:
    """Returns every metric with its 95% interval, ready for `json.dumps(..., allow_nan=False)`.

    Args:
        predictions: Cases with known labels.
        resamples: Bootstrap resamples of patients.
        seed: Root of the resamples' random numbers.
        interval: `percentile` or `bca`.
        prevalence: What predictive values are stated for, 0…1, of two classes the second's, of more each one's; 0: the
            prevalence among the cases.
        operating_points: Thresholds that were chosen on other cases.

    Returns:
        `task`, `n`, `n_patients`, `classes`, `metrics` (`{name: {value, low, high}}`), `per_class`
        (`{class: {name: {value, low, high}, "support": int}}`), `confusion_matrix` (rows are true:
        `[K][K]`, multi-label `[K][2][2]`), `undefined` (a sentence for each number that does not
        exist, which is None), `prevalence`, `calibration`, `operating_points` (`operating.report`), `subgroups`
        (`subgroups.evaluate`), `conformal` (`conformal.coverage`, where the table has sets) and `interval`.

    Raises:
        DataError: There is no case, no label, or nothing to tell apart.
        ConfigError: `resamples` is below 1, `seed` below 0, `prevalence` outside 0…1, or `interval` unknown.
    """
    target = _known_target(predictions)
    drawing = clustered.Drawing(resamples=resamples, seed=seed, kind=interval)
    operating.check_prevalence(prevalence)
    by_class = scores.per_class(predictions, target, prevalence=prevalence)
    values = scores.overall(predictions, target, by_class)
    limits = _limits(predictions, target, values | _of_classes(by_class), drawing, prevalence)
    drawn: dict[str, Any] = {"resamples": resamples, "seed": seed, "interval": interval}
    sets = predictions.sets
    return {
        "task": "multilabel" if predictions.multilabel else "multiclass",
        "n": len(predictions),
        "n_patients": len(set(predictions.patient_id)),
        "classes": list(predictions.classes),
        "metrics": {name: clustered.entry(value, limits[name]) for name, value in values.items()},
        "per_class": _per_class(predictions.classes, by_class, limits, target),
        "confusion_matrix": _confusion_matrix(predictions, target).tolist(),
        "undefined": undefined.sentences(predictions, by_class, values),
        "prevalence": prevalence or None,
        "calibration": _calibration(predictions, target),
        "operating_points": operating.report(operating_points, predictions, prevalence=prevalence, **drawn),
        "subgroups": subgroups.evaluate(predictions, **drawn),
        **({} if sets is None else {"conformal": conformal.coverage(predictions, sets)}),
        "interval": {
            "method": "Proportions: Wilson with the design effect of patients; everything else: " + _METHODS[interval],
            "kind": interval,
            "level": intervals.LEVEL,
            "resamples": resamples,
            "seed": seed,
            "unit": "patient",
        },
    }


def _known_target(table: tables.Predictions) -> np.ndarray:
    if not len(table):
        raise errors.DataError("An evaluation needs at least one case. Received: 0 cases")
    if table.target is None:
        raise errors.DataError(f"An evaluation needs labelled cases. Received: {len(table)} cases without labels")
    if len(table.classes) < 2 and not table.multilabel:
        raise errors.DataError(f"An evaluation needs two classes to tell apart. Received: {list(table.classes)}")
    return table.target


def _confusion_matrix(table: tables.Predictions, target: np.ndarray) -> np.ndarray:
    decisions = table.decisions
    if table.multilabel:
        pairs = zip(target.T, decisions.T, strict=True)
        return np.stack([metrics.confusion_matrix(*pair, labels=[0, 1]) for pair in pairs])
    labels = np.arange(len(table.classes))
    return metrics.confusion_matrix(target.argmax(axis=1), decisions.argmax(axis=1), labels=labels)


def _of_classes(by_class: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {scores.of_class(name): by_class[name] for name in scores.PER_CLASS}


def _limits(
    table: tables.Predictions,
    target: np.ndarray,
    values: Mapping[str, Any],
    drawing: clustered.Drawing,
    prevalence: float,
) -> dict[str, Any]:
    """Returns the limits of each name of `scores.NAMES`, those of classes as arrays `[K]`."""
    patients = table.patients
    statistics = resampled.Resampled(table, patients, prevalence=prevalence)
    found = clustered.limits(
        statistics,
        {name: np.asarray(value) for name, value in values.items()},
        clustered.strata(table),
        drawing,
        width=statistics.width,
        centred=("expected_calibration_error",),
    )
    lone = np.array([len(np.unique(patients[column > 0])) < 2 for column in target.T])
    for name in map(scores.of_class, scores.PER_CLASS):
        low, high = found[name]
        found[name] = np.where(lone, np.nan, low), np.where(lone, np.nan, high)
    return found | _proportions(table, target, patients, prevalence)


def _proportions(
    table: tables.Predictions, target: np.ndarray, patients: np.ndarray, prevalence: float
) -> dict[str, Any]:
    decisions, everyone = table.decisions, np.ones(len(table))
    right = target == decisions
    counted = {
        "accuracy": np.ones_like(decisions),
        "precision": decisions,
        "recall": target,
        "specificity": 1 - target,
    }
    if not prevalence:
        counted |= {"positive_predictive_value": decisions, "negative_predictive_value": 1 - decisions}
    found: dict[str, Any] = {"accuracy": intervals.proportion(right.all(axis=1), everyone, patients)}
    for name, columns in counted.items():
        pairs = [intervals.proportion(*pair, patients) for pair in zip(right.T, columns.T, strict=True)]
        found[scores.of_class(name)] = tuple(np.array(pairs).T)
    return found


def _per_class(
    classes: Sequence[str], by_class: Mapping[str, np.ndarray], limits: Mapping[str, Any], target: np.ndarray
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k, class_name in enumerate(classes):
        bounds = {name: [side[k] for side in limits[scores.of_class(name)]] for name in scores.PER_CLASS}
        entries = {name: clustered.entry(by_class[name][k], tuple(bounds[name])) for name in scores.PER_CLASS}
        found[class_name] = entries | {"support": int(target[:, k].sum())}
    return found


def _calibration(table: tables.Predictions, target: np.ndarray) -> dict[str, Any]:
    """Returns calibration errors and the Brier score in parts, of the whole table and of each class."""
    patients = table.patients
    stated = table.probabilities.astype(np.float64) if table.multilabel else scores.normalised(table.probabilities)
    parts = [calibration.brier(p, t) for p, t in zip(stated.T, target.T.astype(np.float64), strict=True)]
    share = 1.0 if len(table.classes) > 2 else 0.5
    share = 1 / len(table.classes) if table.multilabel else share
    whole = {name: share * sum(getattr(part, name) for part in parts) for name in _BRIER_PARTS}
    columns = zip(stated.T[..., None], target.T[..., None].astype(np.float64), parts, strict=True)
    return (
        _errors(*calibration.statements(table, target), patients)
        | {"brier": whole["reliability"] - whole["resolution"] + whole["uncertainty"], **whole}
        | {
            "bins": calibration.BINS,
            "per_class": {
                name: _errors(p, t, patients) | {"brier": part.score} | dataclasses.asdict(part)
                for name, (p, t, part) in zip(table.classes, columns, strict=True)
            },
        }
    )


def _errors(stated: np.ndarray, observed: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    return {
        "ece": calibration.expected_calibration_error(stated, observed),
        "ece_debiased": calibration.debiased_calibration_error(stated, observed, patients),
    }
