"""Prediction sets that hold the truth as often as promised, whatever the model is worth.

The promise is about a new patient who is exchangeable with those of the validation split, and a case drawn at
random from his. It says nothing about patients of another kind; `unexchangeable` tells when the test split's are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from medkeras import errors
from medkeras.evaluation import intervals, scaling
from medkeras.evaluation import predictions as tables

KINDS = ("marginal", "class")
SIGNIFICANT = 0.01
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Conformal:
    """Which classes cannot be ruled out.

    Attributes:
        alpha: Share of truths that a set may miss.
        kind: "marginal": over all cases; "class": within every class.
        thresholds: float64 `[K]`, values of float32: class k is in the set when `1 - p_k` is at most `thresholds[k]`,
            or above it by no more than `scaling.ROUNDING`; infinite: always.
        patients: int `[K]`, the validation patients behind each threshold.
    """

    alpha: float
    kind: str
    thresholds: np.ndarray
    patients: np.ndarray

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns bool `[N, K]`, the classes that probabilities `[N, K]` do not rule out; a set may be empty."""
        return _strangeness(probabilities) <= (self.thresholds + scaling.ROUNDING).astype(np.float32)

    def notes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Returns a sentence for each class `[K]` that too few patients have for a threshold, or one for all."""
        needed = math.ceil((1 - self.alpha) / self.alpha - _ROUNDING)
        places = [f"class {name!r}" for name in classes] if self.kind == "class" else ["every class"]
        return tuple(
            f"{place} is in every set: {count} validation patient(s), and alpha={self.alpha:g} needs at least {needed}"
            for place, threshold, count in zip(places, self.thresholds, self.patients, strict=False)
            if math.isinf(threshold)
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps(..., allow_nan=False)` can write; an infinite threshold is None."""
        return {
            "alpha": self.alpha,
            "kind": self.kind,
            "thresholds": [float(t) if math.isfinite(t) else None for t in self.thresholds],
            "patients": self.patients.tolist(),
        }


def from_json(content: Mapping[str, Any]) -> Conformal:
    """Returns the sets that `Conformal.to_json` wrote."""
    return Conformal(
        alpha=content["alpha"],
        kind=content["kind"],
        thresholds=np.array([math.inf if t is None else t for t in content["thresholds"]], np.float64),
        patients=np.array(content["patients"], np.int64),
    )


def fit(
    probabilities: np.ndarray, target: np.ndarray, *, alpha: float, kind: str, patients: np.ndarray, multilabel: bool
) -> Conformal:
    """Finds the thresholds under which the sets miss the truth of at most a share `alpha`.

    How strange a true class is, is 1 minus its probability. Each of P patients weighs 1 / (P + 1), shared equally
    by his cases, and the patient to come weighs as much with an infinite strangeness; the threshold is the
    smallest value at which the weights reach 1 - alpha. With one case a patient that is the split-conformal rule,
    the ceil((P + 1) (1 - alpha))-th smallest. Multi-label: the truths of a case are the labels it has, each
    on its own, so a set holds the labels that cannot be ruled out, and misses at most a share `alpha` of those present.

    Args:
        probabilities: `[N, K]` of the validation split, calibrated as they will be served.
        target: `[N, K]` in {0, 1}, one-hot or multi-hot.
        alpha: Between 0 and 1.
        kind: "marginal": one threshold, a promise over all cases (multi-label: over all labels that are present);
            "class": a threshold for each class and the promise within it.
        patients: int `[N]`, the patient of each case.
        multilabel: Whether a case may have any number of classes.

    Raises:
        ConfigError: `alpha` or `kind` is out of its range.
        DataError: A probability is NaN.
        InternalError: A case that is not multi-label has not one class.

    Reference:
        Vovk, Gammerman and Shafer (2005), Algorithmic Learning in a Random World. Sadinle, Lei and Wasserman (2019),
        Journal of the American Statistical Association 114: 223-234. Lee, Barber and Willett (2023), Distribution-free
        inference with hierarchical data, arXiv 2306.06342 (patients).
    """
    if kind not in KINDS:
        raise errors.ConfigError(errors.unknown("kind of conformal set", kind, KINDS))
    if not 0 < alpha < 1:
        raise errors.ConfigError(f"The share that a set may miss lies between 0 and 1. Received: alpha={alpha}")
    if np.isnan(probabilities).any():
        received = f"{np.isnan(probabilities).any(axis=1).sum()} of {len(probabilities)} cases with NaN"
        raise errors.DataError(f"Prediction sets are fitted to probabilities that are numbers. Received: {received}")
    present = np.asarray(target) > 0
    if not multilabel and (present.sum(axis=1) != 1).any():
        raise errors.InternalError("A case has one class unless labels are many. Received: another number of ones")
    strange = _strangeness(probabilities)
    if kind == "class":
        found = [_threshold(strange[here, k], patients[here], alpha) for k, here in enumerate(present.T)]
    else:
        rows = np.nonzero(present)[0]
        found = [_threshold(strange[present], patients[rows], alpha)] * present.shape[1]
    thresholds, counts = np.array([t for t, _ in found]), np.array([count for _, count in found])
    return Conformal(alpha, kind, thresholds, counts)


def coverage(table: tables.Predictions, sets: np.ndarray) -> dict[str, Any]:
    """Returns what the sets of labelled cases are worth, ready for JSON.

    Args:
        table: N cases, K classes, labels known.
        sets: bool `[N, K]`.

    Returns:
        `coverage` (`value`, `low`, `high`: share of cases whose set holds the class, multi-label: of present labels
        that are in the set; Wilson with the design effect of patients), `coverage_of_patients` (mean of each patient's
        own share, which is what the method promises), `mean_set_size`, `empty` and `single` (shares of cases whose set
        has no class, or one), `per_class` (`{class: {coverage, mean_set_size, support}}`, over the cases of the class).
        A number without cases is None.

    Raises:
        DataError: The labels are not known.
    """
    if table.target is None:
        raise errors.DataError(f"Coverage needs labelled cases. Received: {len(table)} cases without labels")
    present, sizes = table.target > 0, sets.sum(axis=1)
    rows, columns = np.nonzero(present)
    held, patients = sets[rows, columns], table.patients[rows]
    return {
        "coverage": _share(held, patients),
        "coverage_of_patients": _mean(_of_patients(held, patients)),
        "mean_set_size": _mean(sizes),
        "empty": _mean(sizes == 0),
        "single": _mean(sizes == 1),
        "per_class": {
            name: {
                "coverage": _share(held[columns == k], patients[columns == k]),
                "mean_set_size": _mean(sizes[present[:, k]]),
                "support": int(present[:, k].sum()),
            }
            for k, name in enumerate(table.classes)
        },
    }


def unexchangeable(conformal: Conformal, table: tables.Predictions, sets: np.ndarray) -> tuple[str, ...]:
    """Returns a sentence where fewer truths of the test split are held than chance explains, else nothing.

    Were the patients exchangeable, the number of m test patients whose truth is held would be at least beta-binomial,
    as the threshold is an order statistic of n validation patients. With several cases a patient, m is the number of
    independent cases whose share varies as much as the mean of the patients' shares does, at most that of the cases.
    Classes that have their own thresholds are tested each, and Holm's rule keeps the chance of a false alarm near 1%.

    Reference:
        Vovk (2012), Conditional validity of inductive conformal predictors, ACML. Angelopoulos and Bates (2023),
        Conformal Prediction: A Gentle Introduction, section 3.
    """
    if table.target is None:
        raise errors.DataError(f"Coverage needs labelled cases. Received: {len(table)} cases without labels")
    rows, columns = np.nonzero(table.target > 0)
    held, patients = sets[rows, columns], table.patients[rows]
    parts = {"all cases": np.ones(len(rows), bool)}
    if conformal.kind == "class":
        parts = {f"class {name!r}": columns == k for k, name in enumerate(table.classes)}
    counts = {name: int(conformal.patients[k]) for k, name in enumerate(parts)}
    shares = {name: _of_patients(held[part], patients[part]) for name, part in parts.items() if part.any()}
    chances = {
        name: _chance(share, counts[name], conformal.alpha, cases=int(parts[name].sum()))
        for name, share in shares.items()
    }
    unit = "cases" if table.patient_id == table.case_id else "patients"
    sentences = []
    for done, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        if chances[name] * (len(chances) - done) >= SIGNIFICANT:
            break
        sentences.append(
            f"The test split is not exchangeable with validation: of {name}, sets hold the truth in "
            f"{shares[name].mean():.1%} where {1 - conformal.alpha:.1%} was promised "
            f"({len(shares[name])} {unit}, p = {chances[name]:.2g})"
        )
    return tuple(sentences)


def _chance(share: np.ndarray, calibrated: int, alpha: float, *, cases: int) -> float:
    """Returns the chance of shares `[m]` of `cases` as low as these, `calibrated` patients having set the threshold."""
    rank = math.ceil((calibrated + 1) * (1 - alpha) - _ROUNDING)
    if rank > calibrated:
        return 1.0
    mean, worth = float(share.mean()), len(share)
    if worth > 1:
        coins = worth * mean * (1 - mean) / max(float(np.var(share, ddof=1)), _ROUNDING)
        worth = max(worth, min(cases, int(coins + _ROUNDING)))
    return float(stats.betabinom.cdf(math.floor(worth * mean + _ROUNDING), worth, rank, calibrated + 1 - rank))


def _strangeness(probabilities: np.ndarray) -> np.ndarray:
    """Returns 1 - p in float32, so that the graph finds the same sets to the last bit."""
    return np.float32(1) - np.asarray(probabilities, np.float32)


def _threshold(strange: np.ndarray, patients: np.ndarray, alpha: float) -> tuple[float, int]:
    """Returns the weighted quantile of strangeness `[n]`, infinite if they are too few, and the number of patients."""
    _, owner, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    order = np.argsort(strange, kind="stable")
    reached: np.ndarray = np.cumsum(1 / sizes[owner][order])
    needed = (len(sizes) + 1) * (1 - alpha) - _ROUNDING
    if len(sizes) < needed:
        return math.inf, len(sizes)
    place = min(int(np.searchsorted(reached, needed)), len(order) - 1)
    return float(strange[order[place]]), len(sizes)


def _of_patients(held: np.ndarray, patients: np.ndarray) -> np.ndarray:
    _, owner, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    return np.bincount(owner, held, len(sizes)) / sizes


def _share(held: np.ndarray, patients: np.ndarray) -> dict[str, float | None]:
    if not len(held):
        return {"value": None, "low": None, "high": None}
    low, high = intervals.proportion(held, np.ones(len(held)), np.unique(patients, return_inverse=True)[1])
    return {"value": float(np.mean(held)), "low": low, "high": high}


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
