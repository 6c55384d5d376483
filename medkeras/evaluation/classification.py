"""A table of predictions becomes the numbers of `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn import metrics

from medkeras import errors
from medkeras.evaluation import intervals, resampled, scores
from medkeras.evaluation import predictions as tables

METHOD = (
    "Accuracy, and precision, recall and specificity of a class: Wilson with the design effect of patients; "
    "everything else: percentile bootstrap of patients, within classes"
)
_WHY_UNDEFINED = {
    "precision": "no case was given this class",
    "recall": "no case has this class",
    "specificity": "every case has this class",
    "f1": "no case has this class and none was given it",
    "auroc": "needs cases with and without this class",
    "average_precision": "no case has this class",
}


def evaluate(predictions: tables.Predictions, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Returns every metric with its 95% interval, ready for `json.dumps(..., allow_nan=False)`.

    Args:
        predictions: Cases with known labels.
        resamples: Bootstrap resamples of patients.
        seed: Root of the resamples' random numbers.

    Returns:
        `task`, `n`, `n_patients`, `classes`, `metrics` (`{name: {value, low, high}}`), `per_class`
        (`{class: {name: {value, low, high}, "support": int}}`), `confusion_matrix` (rows are true:
        `[K][K]`, multi-label `[K][2][2]`), `undefined` (a sentence for each number that does not
        exist, which is None) and `interval`.

    Raises:
        DataError: There is no case, no label, or nothing to tell apart.
        ConfigError: `resamples` is below 1.
    """
    target = _known_target(predictions)
    if resamples < 1:
        raise errors.ConfigError(f"An interval needs at least 1 resample. Received: resamples={resamples}")
    by_class = scores.per_class(predictions, target)
    values = scores.overall(predictions, target, by_class)
    limits = _limits(predictions, target, by_class | values, resamples=resamples, seed=seed)
    return {
        "task": "multilabel" if predictions.multilabel else "multiclass",
        "n": len(predictions),
        "n_patients": len(set(predictions.patient_id)),
        "classes": list(predictions.classes),
        "metrics": {name: _entry(value, limits[name]) for name, value in values.items()},
        "per_class": {
            class_name: {name: _entry(by_class[name][k], limits[name, k]) for name in scores.PER_CLASS}
            | {"support": int(target[:, k].sum())}
            for k, class_name in enumerate(predictions.classes)
        },
        "confusion_matrix": _confusion_matrix(predictions, target).tolist(),
        "undefined": _undefined(predictions.classes, by_class, values),
        "interval": {
            "method": METHOD,
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


def _limits(
    table: tables.Predictions, target: np.ndarray, values: Mapping[str, Any], *, resamples: int, seed: int
) -> dict[Any, tuple[float, float]]:
    """Returns the limits of each overall metric by its name, and of each metric of a class by (name, k)."""
    patients = table.patients
    replicates = intervals.bootstrap(
        resampled.Resampled(table, target),
        patients,
        strata=_strata(table, target, patients),
        resamples=resamples,
        seed=seed,
    )
    replicates["expected_calibration_error"] = _centred(
        replicates["expected_calibration_error"], values["expected_calibration_error"]
    )
    lone = np.array([len(np.unique(patients[column > 0])) < 2 for column in target.T])
    found: dict[Any, tuple[float, float]] = {}
    for name, drawn in replicates.items():
        low, high = intervals.percentile(drawn)
        if name in scores.PER_CLASS:
            low, high = np.where(lone, np.nan, low), np.where(lone, np.nan, high)
            found |= {(name, k): (low[k], high[k]) for k in range(len(low))}
        else:
            found[name] = (float(low), float(high))
    return found | _proportions(table, target, patients)


def _proportions(table: tables.Predictions, target: np.ndarray, patients: np.ndarray) -> dict[Any, tuple[float, float]]:
    decisions = table.decisions
    right = target == decisions
    everyone = np.ones(len(table))
    found: dict[Any, tuple[float, float]] = {"accuracy": intervals.proportion(right.all(axis=1), everyone, patients)}
    for k in range(len(table.classes)):
        denominators = {"precision": decisions[:, k], "recall": target[:, k], "specificity": 1 - target[:, k]}
        for name, counted in denominators.items():
            found[name, k] = intervals.proportion(right[:, k], counted, patients)
    return found


def _strata(table: tables.Predictions, target: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Returns each patient's stratum `[P]`: the most frequent class; multi-label: one for all."""
    if table.multilabel:
        return np.zeros(patients.max() + 1, np.int64)
    counts = np.zeros((patients.max() + 1, len(table.classes)), np.int64)
    np.add.at(counts, patients, target)
    return counts.argmax(axis=1)


def _centred(replicates: np.ndarray, value: float) -> np.ndarray:
    """Returns replicates moved so that their mean is the value, cut at 0 and 1.

    A calibration error grows whenever cases are drawn twice, so its plain percentiles lie too high.
    """
    return np.clip(replicates - replicates.mean() + value, 0.0, 1.0)


def _entry(value: float, limits: tuple[float, float]) -> dict[str, float | None]:
    known = not math.isnan(value)
    low, high = (float(x) if known and not math.isnan(x) else None for x in limits)
    return {"value": float(value) if known else None, "low": low, "high": high}


def _undefined(classes: tuple[str, ...], by_class: Mapping[str, np.ndarray], values: Mapping[str, float]) -> list[str]:
    of_classes = [
        f"{name} of {class_name}: {_WHY_UNDEFINED[name]}"
        for k, class_name in enumerate(classes)
        for name in scores.PER_CLASS
        if math.isnan(by_class[name][k])
    ]
    return of_classes + [f"{name}: undefined on these cases" for name, value in values.items() if math.isnan(value)]
