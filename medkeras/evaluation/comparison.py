"""Whether one model is better than another on the same patients, or only luckier.

The unit is the patient everywhere: DeLong becomes Obuchowski's, and McNemar's exact test flips patients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from medkeras import errors
from medkeras.evaluation import clustered, delong, intervals, resampled, scores
from medkeras.evaluation import predictions as tables


def compare(
    models: Mapping[str, tables.Predictions],
    *,
    metrics: Sequence[str] = ("accuracy", "auroc_macro"),
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Tests every pair of models on every metric.

    `accuracy`: McNemar's exact test; where a patient has several cases, its form in which each patient's surplus of
    right answers flips as a whole. `auroc_macro`: DeLong's test of the mean area; where a patient has several cases,
    Obuchowski's. Anything else: the paired bootstrap of patients, within classes, whose p is the smallest level at
    which the percentile interval leaves 0 out. The interval of an accuracy's difference is that bootstrap's too.

    Args:
        models: Name to predictions of the same labelled cases, in any order.
        metrics: Names of `scores.OVERALL`.
        resamples: Bootstrap resamples of patients.
        seed: Root of their random numbers.

    Returns:
        A row for every metric and pair, ready for JSON: `a`, `b`, `metric`, `method`, `difference` (a minus b), `low`,
        `high` (95%), `statistic` (McNemar: cases that only a has right less those that only b has; DeLong: z;
        bootstrap: None), `p` (two-sided), `p_holm` (corrected for all the rows that have a p) and `note` (why a number
        is None, or empty).

    Raises:
        DataError: There are fewer than two models, or they were not judged on the same cases.
        ConfigError: A metric is unknown, or `resamples` is below 1.

    Reference:
        Holm (1979), Scandinavian Journal of Statistics 6: 65-70. Efron and Tibshirani (1993), An Introduction to the
        Bootstrap, chapters 13 and 15.
    """
    unknown = [name for name in metrics if name not in scores.OVERALL]
    if unknown:
        raise errors.ConfigError(errors.unknown("metric", unknown[0], scores.OVERALL))
    drawing = clustered.Drawing(resamples=resamples, seed=seed)
    judged = aligned(models)
    needed = [name for name in metrics if name != "auroc_macro"]
    drawn = {name: _drawn(table, needed, drawing) for name, table in judged.items()} if needed else {}
    rows = []
    for metric, (a, b) in itertools.product(metrics, itertools.combinations(judged, 2)):
        if metric == "auroc_macro":
            found = _areas(judged[a], judged[b])
        else:
            found = _bootstrapped(drawn[a][metric], drawn[b][metric])
        if metric == "accuracy":
            found |= _answers(judged[a], judged[b])
        rows.append({"a": a, "b": b, "metric": metric} | found)
    corrected = holm([row["p"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]


def holm(chances: Sequence[float | None]) -> list[float | None]:
    """Returns p-values corrected so that the chance of any false finding among them stays at the level.

    Those that are None stay None and count for nothing.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, i) for i, p in enumerate(chances) if p is not None)
    corrected: list[float | None] = [None] * len(chances)
    least = 0.0
    for done, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - done)))
        corrected[i] = least
    return corrected


def flipped(surplus: np.ndarray) -> float:
    """Returns the two-sided p of a sum, if the sign of each of its parts were drawn by a coin.

    With parts of 1 and -1 that is McNemar's exact test.

    Args:
        surplus: int `[P]`, of each patient: the cases that only a has right less those that only b has.

    Reference:
        Fisher (1935), The Design of Experiments, section 21. McNemar (1947), Psychometrika 12: 153-157.
    """
    seen, sizes = abs(int(surplus.sum())), np.abs(surplus[surplus != 0])
    if seen == 0:
        return 1.0
    chances = np.ones(1)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        spread = np.zeros(size * count + 1)
        spread[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    # The sum is twice the parts that count for a, less all of them.
    sums = 2 * np.arange(len(chances)) - int(sizes.sum())
    return min(1.0, float(chances[np.abs(sums) >= seen].sum()))


def aligned(models: Mapping[str, tables.Predictions]) -> dict[str, tables.Predictions]:
    """Returns the tables with their rows in the order of the case names.

    Raises:
        DataError: There are fewer than two, or they are not of the same labelled cases of the same patients.
    """
    if len(models) < 2:
        raise errors.DataError(f"A comparison needs two models or more. Received: {', '.join(models) or 'none'}")
    same = {name: table.take(np.argsort(np.array(table.case_id, object))) for name, table in models.items()}
    first_name, first = next(iter(same.items()))
    for name, table in same.items():
        wrong = _mismatch(first, table)
        if wrong:
            raise errors.DataError(
                f"Models are compared on the same labelled cases of the same patients. "
                f"Received: {wrong} of {name!r} and {first_name!r}"
            )
    return same


def _mismatch(a: tables.Predictions, b: tables.Predictions) -> str:
    if a.target is None or b.target is None or not len(a):
        return "no labelled cases"
    if (a.classes, a.multilabel) != (b.classes, b.multilabel):
        return "different classes"
    if a.case_id != b.case_id:
        return f"{len(set(a.case_id) ^ set(b.case_id))} cases that are not in both"
    if (a.patients != b.patients).any():
        return "different patients for a case"
    return "different labels for a case" if (a.target != b.target).any() else ""


def _drawn(table: tables.Predictions, names: Sequence[str], drawing: clustered.Drawing) -> dict[str, np.ndarray]:
    """Returns each metric `[1 + R]`: of the table itself, then of its resamples, the same for every model."""
    statistics = resampled.Resampled(table, table.patients, names=names)
    strata = clustered.strata(table)
    found = intervals.resample(
        statistics, strata, resamples=drawing.resamples, seed=drawing.seed, width=statistics.width
    )
    itself = statistics(np.ones((1, len(strata)), np.int32))
    for name in set(names) & {"expected_calibration_error"}:
        # It grows whenever a case is drawn twice.
        found[name] = found[name] - np.mean(found[name]) + itself[name]
    return {name: np.concatenate([itself[name], found[name]]) for name in names}


def _bootstrapped(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    gaps = a - b
    value, replicates = float(gaps[0]), gaps[1:][~np.isnan(gaps[1:])]
    low, high = (float(limit) for limit in intervals.percentile(gaps[1:]))
    if math.isnan(value) or math.isnan(low):
        return _row("paired bootstrap of patients", value, note="the metric is undefined on these cases")
    tail = min(np.sum(replicates <= 0), np.sum(replicates >= 0))
    p = min(1.0, 2 * (1 + float(tail)) / (1 + len(replicates)))
    return _row("paired bootstrap of patients", value, low=low, high=high, p=p)


def _answers(a: tables.Predictions, b: tables.Predictions) -> dict[str, Any]:
    target = np.asarray(a.target)
    right = [(target == table.decisions).all(axis=1).astype(np.int64) for table in (a, b)]
    surplus = np.bincount(a.patients, right[0] - right[1]).astype(np.int64)
    method = "McNemar, exact" if _alone(a) else "McNemar, exact, by patient"
    return {"method": method, "statistic": int(surplus.sum()), "p": flipped(surplus)}


def _areas(a: tables.Predictions, b: tables.Predictions) -> dict[str, Any]:
    kinds = slice(1, None) if len(a.classes) == 2 and not a.multilabel else slice(None)
    positive = np.asarray(a.target)[:, kinds] > 0
    value, error = delong.difference(positive, a.probabilities[:, kinds], b.probabilities[:, kinds], a.patients)
    method = "DeLong" if _alone(a) else "DeLong by patient (Obuchowski)"
    if math.isnan(value):
        return _row(method, value, note="no class has cases with and without it")
    if math.isnan(error):
        return _row(method, value, note=_lone(positive, a.patients, a.classes[kinds]))
    if error == 0:
        same = value == 0
        return _row(method, value, p=1.0 if same else None, note="" if same else "the difference does not vary")
    z, reach = value / error, float(stats.norm.ppf(0.5 + intervals.LEVEL / 2)) * error
    return _row(
        method,
        value,
        low=max(value - reach, -1.0),
        high=min(value + reach, 1.0),
        p=2 * float(stats.norm.sf(abs(z))),
        statistic=z,
    )


def _lone(positive: np.ndarray, patients: np.ndarray, classes: Sequence[str]) -> str:
    """Returns which of the classes, bool `[N, L]`, that have cases on both sides has all of one from one patient."""
    sides = (
        (f"only one patient has cases {word} class {name!r}", side)
        for name, kind in zip(classes, positive.T, strict=True)
        if kind.any() and not kind.all()
        for word, side in (("of", kind), ("without", ~kind))
    )
    return next(note for note, side in sides if len(np.unique(patients[side])) == 1)


def _row(
    method: str,
    difference: float,
    *,
    low: float | None = None,
    high: float | None = None,
    p: float | None = None,
    statistic: float | None = None,
    note: str = "",
) -> dict[str, Any]:
    known = None if math.isnan(difference) else difference
    return {
        "method": method,
        "difference": known,
        "low": low,
        "high": high,
        "statistic": statistic,
        "p": p,
        "note": note,
    }


def _alone(table: tables.Predictions) -> bool:
    """Whether every patient has one case."""
    return len(set(table.patient_id)) == len(table)
