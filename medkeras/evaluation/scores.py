"""The values of a report, by scikit-learn; NaN where a metric is undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from medkeras.evaluation import calibration
from medkeras.evaluation import predictions as tables

OVERALL = (
    "accuracy",
    "balanced_accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "auroc_macro",
    "average_precision_macro",
    "log_loss",
    "brier_score_loss",
    "expected_calibration_error",
    "cohen_kappa",
    "matthews_corrcoef",
)
PER_CLASS = ("precision", "recall", "specificity", "f1", "auroc", "average_precision")


def normalised(probabilities: np.ndarray) -> np.ndarray:
    """Returns float64 `[N, K]` whose rows sum to 1 to the last bit, as log loss and Brier score ask."""
    exact = probabilities.astype(np.float64)
    return exact / exact.sum(axis=1, keepdims=True)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Returns the mean over axis 0 of the entries that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def per_class(table: tables.Predictions, target: np.ndarray) -> dict[str, np.ndarray]:
    """Returns float64 `[K]` for each name of `PER_CLASS`: the class against all others."""
    decisions = table.decisions
    columns = [_one_class(target[:, k], decisions[:, k], table.probabilities[:, k]) for k in range(len(table.classes))]
    return {name: np.array([column[name] for column in columns]) for name in PER_CLASS}


def overall(table: tables.Predictions, target: np.ndarray, by_class: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the value of each name of `OVERALL`.

    Args:
        table: The predictions.
        target: int8 `[N, K]`, their known labels.
        by_class: What `per_class` returned.
    """
    values: dict[str, Any] = {f"{name}_macro": mean_defined(by_class[name]) for name in PER_CLASS}
    if len(table.classes) == 2 and not table.multilabel:
        values["auroc_macro"] = by_class["auroc"][1]
    values["expected_calibration_error"] = calibration.expected_calibration_error(
        *calibration.statements(table, target)
    )
    values |= _multilabel(table, target) if table.multilabel else _multiclass(table, target, by_class)
    return {name: float(values[name]) for name in OVERALL}


def _one_class(truth: np.ndarray, decided: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, decided, labels=[0, 1], zero_division=np.nan
    )
    both = 0 < truth.sum() < len(truth)
    return {
        "precision": precision[1],
        "recall": recall[1],
        "specificity": recall[0],
        "f1": f1[1],
        "auroc": metrics.roc_auc_score(truth, scores) if both else np.nan,
        "average_precision": metrics.average_precision_score(truth, scores) if truth.any() else np.nan,
    }


def _multiclass(table: tables.Predictions, target: np.ndarray, by_class: dict[str, np.ndarray]) -> dict[str, float]:
    truth, named = target.argmax(axis=1), table.probabilities.argmax(axis=1)
    labels = np.arange(len(table.classes))
    probabilities = normalised(table.probabilities)
    return {
        "accuracy": metrics.accuracy_score(truth, named),
        "balanced_accuracy": mean_defined(by_class["recall"]),
        "log_loss": metrics.log_loss(truth, probabilities, labels=labels),
        "brier_score_loss": metrics.brier_score_loss(truth, probabilities, labels=labels),
        "cohen_kappa": _kappa(truth, named),
        "matthews_corrcoef": _matthews(truth, named),
    }


def _multilabel(table: tables.Predictions, target: np.ndarray) -> dict[str, float]:
    columns = [
        _one_label(*column)
        for column in zip(target.T, table.decisions.T, table.probabilities.T.astype(np.float64), strict=True)
    ]
    means = {name: float(mean_defined(np.array([column[name] for column in columns]))) for name in columns[0]}
    return means | {"accuracy": float(np.mean((target == table.decisions).all(axis=1)))}


def _one_label(truth: np.ndarray, decided: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    both = 0 < truth.sum() < len(truth)
    pair = np.stack([1 - probability, probability], axis=1)
    return {
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, decided) if both else np.nan,
        "log_loss": metrics.log_loss(truth, pair, labels=[0, 1]),
        "brier_score_loss": metrics.brier_score_loss(truth, pair, labels=[0, 1]),
        "cohen_kappa": _kappa(truth, decided),
        "matthews_corrcoef": _matthews(truth, decided),
    }


def _kappa(truth: np.ndarray, named: np.ndarray) -> float:
    if np.unique([truth, named]).size < 2:
        return float("nan")
    return float(metrics.cohen_kappa_score(truth, named))


def _matthews(truth: np.ndarray, named: np.ndarray) -> float:
    if np.unique(truth).size < 2 or np.unique(named).size < 2:
        return float("nan")
    return float(metrics.matthews_corrcoef(truth, named))
