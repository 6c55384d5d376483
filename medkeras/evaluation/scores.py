"""The values of a report, by scikit-learn; NaN where a metric is undefined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn import metrics

from medkeras.evaluation import calibration, rates
from medkeras.evaluation import predictions as tables

AVERAGED = ("precision", "recall", "specificity", "f1", "auroc", "average_precision")
OVERALL = (
    "accuracy",
    "balanced_accuracy",
    *(f"{name}_macro" for name in AVERAGED),
    *(f"{name}_micro" for name in AVERAGED),
    "log_loss",
    "brier_score_loss",
    "expected_calibration_error",
    "cohen_kappa",
    "cohen_kappa_linear",
    "cohen_kappa_quadratic",
    "matthews_corrcoef",
)
PER_CLASS = (
    *AVERAGED,
    "accuracy",
    "balanced_accuracy",
    "positive_predictive_value",
    "negative_predictive_value",
    "positive_likelihood_ratio",
    "negative_likelihood_ratio",
    "cohen_kappa",
    "matthews_corrcoef",
    "log_loss",
    "brier_score_loss",
)


def of_class(name: str) -> str:
    """Returns the name that tells a class' metric from that of all classes.

    >>> of_class("accuracy")
    'class:accuracy'
    """
    return f"class:{name}"


NAMES = (*OVERALL, *map(of_class, PER_CLASS))


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


def prevalences(table: tables.Predictions, stated: float) -> np.ndarray:
    """Returns the stated prevalence of each class, float64 `[K]`: of two classes the second has it, the first the rest.

    Args:
        table: The predictions.
        stated: 0…1; 0: none is stated, and all are 0.
    """
    if stated and len(table.classes) == 2 and not table.multilabel:
        return np.array([1 - stated, stated])
    return np.full(len(table.classes), stated)


def averages(by_class: Mapping[str, np.ndarray], counts: rates.Counts, *, two: bool) -> dict[str, np.ndarray]:
    """Returns the macro averages `[...]` of metrics `[K, ...]`, and the micro averages of those that counts tell.

    Args:
        by_class: Each name of `AVERAGED`, NaN where undefined.
        counts: Of each class against all others, `[K, ...]`.
        two: Whether there are two classes of which each case has one: their AUROC is that of the second.
    """
    pooled = counts.sum(axis=0)
    found = {f"{name}_macro": mean_defined(by_class[name]) for name in AVERAGED}
    if two:
        found["auroc_macro"] = by_class["auroc"][1]
    return found | {
        "precision_micro": rates.precision(pooled),
        "recall_micro": rates.sensitivity(pooled),
        "specificity_micro": rates.specificity(pooled),
        "f1_micro": rates.f1(pooled),
    }


def per_class(table: tables.Predictions, target: np.ndarray, *, prevalence: float = 0.0) -> dict[str, np.ndarray]:
    """Returns float64 `[K]` for each name of `PER_CLASS`: the class against all others.

    Args:
        table: The predictions.
        target: int8 `[N, K]`, their known labels.
        prevalence: What the predictive values are stated for, 0…1; 0: the prevalence of the table.
    """
    stated = table.probabilities.astype(np.float64) if table.multilabel else normalised(table.probabilities)
    decisions = table.decisions
    columns = [
        _one_class(target[:, k], decisions[:, k], table.probabilities[:, k], stated[:, k])
        for k in range(len(table.classes))
    ]
    counts = rates.Counts.of(target, decisions)
    positive, negative = rates.predictive_values(counts, prevalences(table, prevalence))
    more, less = rates.likelihood_ratios(counts)
    return {name: np.array([column[name] for column in columns]) for name in columns[0]} | {
        "positive_predictive_value": positive,
        "negative_predictive_value": negative,
        "positive_likelihood_ratio": more,
        "negative_likelihood_ratio": less,
    }


def overall(table: tables.Predictions, target: np.ndarray, by_class: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the value of each name of `OVERALL`.

    Args:
        table: The predictions.
        target: int8 `[N, K]`, their known labels.
        by_class: What `per_class` returned.
    """
    counts = rates.Counts.of(target, table.decisions)
    values: dict[str, Any] = averages(by_class, counts, two=len(table.classes) == 2 and not table.multilabel)
    pooled = _areas(target.ravel(), table.probabilities.ravel())
    values |= {f"{name}_micro": value for name, value in pooled.items()}
    values["expected_calibration_error"] = calibration.expected_calibration_error(
        *calibration.statements(table, target)
    )
    values |= _multilabel(table, target, by_class) if table.multilabel else _multiclass(table, target, by_class)
    return {name: float(values[name]) for name in OVERALL}


def _areas(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    both = 0 < truth.sum() < len(truth)
    return {
        "auroc": metrics.roc_auc_score(truth, score) if both else np.nan,
        "average_precision": metrics.average_precision_score(truth, score) if truth.any() else np.nan,
    }


def _one_class(truth: np.ndarray, decided: np.ndarray, score: np.ndarray, stated: np.ndarray) -> dict[str, float]:
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, decided, labels=[0, 1], zero_division=np.nan
    )
    pair = np.stack([1 - stated, stated], axis=1)
    return {
        "precision": precision[1],
        "recall": recall[1],
        "specificity": recall[0],
        "f1": f1[1],
        "accuracy": metrics.accuracy_score(truth, decided),
        "balanced_accuracy": (recall[0] + recall[1]) / 2,
        "cohen_kappa": _kappa(truth, decided),
        "matthews_corrcoef": _matthews(truth, decided),
        "log_loss": metrics.log_loss(truth, pair, labels=[0, 1]),
        "brier_score_loss": metrics.brier_score_loss(truth, pair, labels=[0, 1]),
        **_areas(truth, score),
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
        "cohen_kappa": _kappa(truth, named, labels=labels),
        "cohen_kappa_linear": _kappa(truth, named, labels=labels, weights="linear"),
        "cohen_kappa_quadratic": _kappa(truth, named, labels=labels, weights="quadratic"),
        "matthews_corrcoef": _matthews(truth, named),
    }


def _multilabel(table: tables.Predictions, target: np.ndarray, by_class: dict[str, np.ndarray]) -> dict[str, float]:
    names = ("balanced_accuracy", "log_loss", "brier_score_loss", "cohen_kappa", "matthews_corrcoef")
    means = {name: float(mean_defined(by_class[name])) for name in names}
    return means | {
        "accuracy": float(np.mean((target == table.decisions).all(axis=1))),
        # Of a yes and a no, each disagreement is as far as any other.
        "cohen_kappa_linear": means["cohen_kappa"],
        "cohen_kappa_quadratic": means["cohen_kappa"],
    }


def _kappa(
    truth: np.ndarray, named: np.ndarray, *, labels: np.ndarray | None = None, weights: str | None = None
) -> float:
    if np.unique([truth, named]).size < 2:
        return float("nan")
    return float(metrics.cohen_kappa_score(truth, named, labels=labels, weights=weights))


def _matthews(truth: np.ndarray, named: np.ndarray) -> float:
    if np.unique(truth).size < 2 or np.unique(named).size < 2:
        return float("nan")
    return float(metrics.matthews_corrcoef(truth, named))
