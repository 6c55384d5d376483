"""The gate: whether a converted model still answers as the one it was made from, on the same cases.

A loss is held against a model when it is proven: chance alone would show so much in less than one split of twenty. A
split too small to prove a loss refuses nothing by it; the verdict then says what could have been lost unseen.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import clustered, comparison, intervals, moved, paired
from medkeras.evaluation import predictions as tables

FEWEST_LOST = 3
"""A class does not collapse by fewer cases than these."""

GUARDED = ("accuracy", "auroc", "sensitivity")
"""What a converted model is refused for when it is lost."""

PLAIN = 2
"""A loss of so many times the margin, as measured, need only be shown to be no chance."""

MOST_TOLD = 3
"""Of losses that may be chance, so many are named: the largest."""

_WORDS = {"accuracy": "Accuracy", "auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity"}


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What became of a model's answers; everything in it is ready for `json.dumps(..., allow_nan=False)`.

    Attributes:
        accepted: Whether nothing speaks against the converted model.
        reasons: Why it is refused, a sentence each, with the class and the figures.
        warnings: What a reader must know though nothing is refused for it, a sentence each.
        cases, patients: How many were judged.
        margin: The loss that is allowed, 0…1.
        agreement: `value`, `low`, `high` of the share of cases with equal decisions; `largest_difference` and
            `mean_difference` of probabilities; where both tables have them, `sets` and `abstain`, the shares of equal
            ones.
        metrics: `accuracy`, `auroc`, `ece`, and `sensitivity:CLASS`, `specificity:CLASS`, `auroc:CLASS`; each with
            `before`, `after` and `difference` (after less before), of these `value`, `low`, `high`
            (95%). None: undefined.
        mcnemar: Cases of which only the model before (`lost`) or only the one after (`gained`) named all classes right,
            and the exact p of so unequal numbers.
        unproven: Of each metric that may have lost more than is allowed without its being seen: `most`, the upper 95%
            limit of the loss, and `smallest_seen`, about the smallest loss that would have been refused (None: none).
    """

    accepted: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    cases: int
    patients: int
    margin: float
    agreement: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    mcnemar: Mapping[str, Any]
    unproven: Mapping[str, Mapping[str, float | None]]

    def to_json(self) -> dict[str, Any]:
        """Returns the verdict ready for `json.dumps`."""
        found = dataclasses.asdict(self)
        return found | {"reasons": list(self.reasons), "warnings": list(self.warnings)}


def judge(
    before: tables.Predictions,
    after: tables.Predictions,
    *,
    fitted: Mapping[str, Any],
    seed: int,
    margin: float = 0.01,
    resamples: int = 1000,
) -> Verdict:
    """Judges whether the answers of a converted model are as good as those of the model it was made from.

    It is refused for a proven loss of accuracy, of an AUROC or of the sensitivity of a class: either it is above
    `margin` with 95% confidence; or as measured it is above `margin` twice over, and its 95% interval leaves 0 out,
    which shows on fewer cases (`paired` says what the limits are). And it is refused for a class that collapsed: fewer
    than half as many of its cases are called as before, or of those without it fewer than half as many are left alone,
    by `FEWEST_LOST` cases at least.

    An operating point that was chosen on these very cases flatters the model before: part of what it called rightly
    was chance, which no other model repeats.

    Args:
        before: The model's answers, labelled.
        after: The converted model's answers to the same cases, in any order.
        fitted: What a card says was fitted on validation; `operating_points` of it are used. A class without one is
            called where it is the likeliest, multi-label at 0.5 and above.
        seed: Root of the resamples' random numbers.
        margin: The loss that is allowed, 0…1.
        resamples: Bootstrap resamples of patients, for the limits of AUROC and calibration error.

    Raises:
        DataError: The tables are not of the same labelled cases, or an operating point's class is none of theirs.
        ConfigError: `margin` is out of its range, `resamples` below 1, or `seed` below 0.
    """
    if not 0 <= margin < 1:
        raise errors.ConfigError(f"A loss that is allowed is at least 0 and below 1. Received: margin={margin}")
    drawing = clustered.Drawing(resamples=resamples, seed=seed)
    pair = moved.pair(before, after, fitted)
    metrics = moved.measured(pair, drawing)
    reasons = (*_collapsed(pair), *_losses(metrics, margin))
    unproven = _unproven(metrics, margin)
    return Verdict(
        accepted=not reasons,
        reasons=reasons,
        warnings=(
            *_undefined(metrics),
            *_perhaps(metrics, margin),
            *_unseen(unproven, margin),
            *_worsened(metrics, margin, two=pair.two),
            *_abstaining(pair, margin),
        ),
        cases=len(before),
        patients=len(set(before.patient_id)),
        margin=margin,
        agreement=_agreement(pair),
        metrics={name: metric.to_json() for name, metric in metrics.items()},
        mcnemar=_mcnemar(pair),
        unproven=unproven,
    )


def judge_probabilities(
    before: tables.Predictions,
    probabilities: np.ndarray,
    *,
    fitted: Mapping[str, Any],
    seed: int,
    margin: float = 0.01,
    resamples: int = 1000,
) -> Verdict:
    """Judges raw answers, of which nothing is known: those that are no probabilities are refused.

    Args:
        before: The model's answers, labelled.
        probabilities: `[N, K]`, the converted model's answers to the same cases in the same order.
        fitted, seed, margin, resamples: As for `judge`.

    Raises:
        DataError, ConfigError: As `judge`, or the shape is another.
    """
    if probabilities.shape != before.probabilities.shape:
        raise errors.DataError(
            f"A converted model answers every case with every class, {before.probabilities.shape}. "
            f"Received: {probabilities.shape}"
        )
    reason = _no_probabilities(probabilities, before.classes)
    if not reason:
        try:
            after = dataclasses.replace(before, probabilities=probabilities, sets=None, abstain=None, familiarity=None)
        except errors.DataError as error:
            reason = f"The converted model's answers are no probabilities: {error}"
    if reason:
        return Verdict(False, (reason,), (), len(before), len(set(before.patient_id)), margin, {}, {}, {}, {})
    return judge(before, after, fitted=fitted, seed=seed, margin=margin, resamples=resamples)


def table(verdict: Verdict) -> str:
    """Returns the verdict as text for a terminal: each metric before, after and the difference, with 95% intervals."""
    rows = [("", "before", "after", "difference")]
    rows += [
        (name, _cell(entry["before"]), _cell(entry["after"]), _cell(entry["difference"], sign="+"))
        for name, entry in verdict.metrics.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = lines if verdict.metrics else []
    if verdict.agreement:
        lines.append(_summary(verdict))
    lines += [f"Warning: {sentence}" for sentence in verdict.warnings]
    lines += [f"Refused: {sentence}" for sentence in verdict.reasons]
    return "\n".join([*lines, "Accepted." if verdict.accepted else "Not accepted."])


def _summary(verdict: Verdict) -> str:
    found, unequal = verdict.agreement, verdict.mcnemar
    return (
        f"Cases: {verdict.cases}, patients: {verdict.patients}. Equal decisions: {_cell(found)}. Probabilities: "
        f"{found['mean_difference']:.2g} apart on average, {found['largest_difference']:.2g} at most. "
        f"Right before only: {unequal['lost']}, after only: {unequal['gained']} (McNemar p = {unequal['p']:.3g})."
    )


def _cell(entry: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (entry[key] for key in ("value", "low", "high"))
    if value is None:
        return "undefined"
    limits = "" if low is None or high is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{value:{sign}.3f}{limits}"


def _guarded(metrics: Mapping[str, moved.Metric]) -> Iterator[tuple[str, moved.Metric]]:
    """Yields what a model is refused for: neither specificities nor the calibration error."""
    return ((name, metric) for name, metric in metrics.items() if name.partition(":")[0] in GUARDED)


def _named(name: str) -> str:
    metric, _, class_name = name.partition(":")
    return _WORDS[metric] + (f" of class {class_name!r}" if class_name else "")


def _proven(gap: paired.Difference, margin: float) -> bool:
    return gap.least_loss > margin or (gap.loss > PLAIN * margin and gap.high < 0)


def _losses(metrics: Mapping[str, moved.Metric], margin: float) -> Iterator[str]:
    for name, metric in _guarded(metrics):
        if _proven(metric.gap, margin):
            yield (
                f"{_fell_from(name, metric)}: a loss of {metric.gap.loss:.3f} where {margin:g} is allowed, "
                f"95% interval {-metric.gap.high:.3f} to {-metric.gap.low:.3f}."
            )


def _fell_from(name: str, metric: moved.Metric) -> str:
    return f"{_named(name)} fell from {metric.before[0]:.3f} to {metric.after[0]:.3f}"


def _collapsed(pair: moved.Pair) -> Iterator[str]:
    """Says which classes are called for fewer than half as many of their cases as before, or for nearly all others."""
    for k, name in enumerate(pair.before.classes):
        ways = ("", pair.decided), (" at its operating point", pair.called)
        found = (_collapse(name, way, pair.target[:, k], [c[:, k] for c in calls], pair.two) for way, calls in ways)
        yield from itertools.islice(filter(None, found), 1)


def _collapse(name: str, way: str, present: np.ndarray, called: Sequence[np.ndarray], two: bool) -> str:
    hits, clears = ([int(np.sum(side)) for side in sides] for sides in _rightly(present, called))
    if _fell(*hits):
        own = int(np.sum(present))
        return f"Class {name!r} collapsed: it is called{way} for {hits[1]} of its {own} cases, was for {hits[0]}."
    # Of two classes, what the one is called for wrongly is what the other lacks.
    if two or not _fell(*clears):
        return ""
    others = int(np.sum(~present))
    return (
        f"Class {name!r} is called nearly everywhere: it is called{way} for {others - clears[1]} of the {others} cases "
        f"without it, was for {others - clears[0]}."
    )


def _rightly(present: np.ndarray, called: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [present & calls for calls in called], [~present & ~calls for calls in called]


def _fell(before: int, after: int) -> bool:
    return 2 * after < before and before - after >= FEWEST_LOST


def _unproven(metrics: Mapping[str, moved.Metric], margin: float) -> dict[str, dict[str, float | None]]:
    return {
        name: {"most": metric.gap.most_loss, "smallest_seen": _seen(metric.gap, margin)}
        for name, metric in _guarded(metrics)
        if metric.gap.most_loss > margin and not _proven(metric.gap, margin)
    }


def _seen(gap: paired.Difference, margin: float) -> float | None:
    return max(gap.smallest_seen, margin) if math.isfinite(gap.smallest_seen) else None


def _undefined(metrics: Mapping[str, moved.Metric]) -> Iterator[str]:
    guarded = dict(_guarded(metrics))
    unknown = [_named(name) for name, metric in guarded.items() if math.isnan(metric.gap.value)]
    lone = [_named(name) for name, metric in guarded.items() if math.isnan(metric.gap.least_loss)]
    lone = [name for name in lone if name not in unknown]
    if unknown:
        yield f"Not judged, for the cases do not define it: {', '.join(unknown)}."
    if lone:
        yield f"Not judged, for all cases of a class, or all without it, are of one patient: {', '.join(lone)}."


def _perhaps(metrics: Mapping[str, moved.Metric], margin: float) -> Iterator[str]:
    fallen = {name: m for name, m in _guarded(metrics) if m.gap.loss > margin and not _proven(m.gap, margin)}
    if fallen:
        worst = sorted(fallen, key=lambda name: -fallen[name].gap.loss)
        told = "; ".join(_fell_from(name, fallen[name]) for name in worst[:MOST_TOLD])
        more = f"; {len(worst) - MOST_TOLD} more fell" if len(worst) > MOST_TOLD else ""
        yield f"More than {margin:g} was lost, which on so few cases may be chance: {told}{more}."


def _unseen(unproven: Mapping[str, Mapping[str, float | None]], margin: float) -> Iterator[str]:
    """Says of the metric of which most could be lost unseen how much that is, and how many others there are."""
    if not unproven:
        return
    name = max(unproven, key=lambda each: unproven[each]["most"] or 0.0)
    most, smallest = unproven[name]["most"], unproven[name]["smallest_seen"]
    shown = "no loss of it shows on them" if smallest is None else f"it shows from about {smallest:.3f} on"
    others = f"; other metrics as open: {len(unproven) - 1}" if len(unproven) > 1 else ""
    yield (
        f"The cases are too few to exclude a loss above {margin:g}: {_named(name)} may have lost up to {most:.3f} "
        f"({shown}){others}."
    )


def _worsened(metrics: Mapping[str, moved.Metric], margin: float, *, two: bool) -> Iterator[str]:
    """Says what else became worse, beyond chance, though nothing is refused for it."""
    error = metrics["ece"]
    if error.gap.value > margin and error.gap.low > 0:
        yield f"The calibration error rose from {error.before[0]:.3f} to {error.after[0]:.3f}."
    for name, metric in metrics.items():
        # Of two classes, it is the sensitivity of the other.
        if name.startswith("specificity:") and not two and _proven(metric.gap, margin):
            yield f"{_fell_from(name, metric)}."


def _abstaining(pair: moved.Pair, margin: float) -> Iterator[str]:
    if pair.before.abstain is None or pair.after.abstain is None:
        return
    were, are = int(pair.before.abstain.sum()), int(pair.after.abstain.sum())
    if are - were > margin * len(pair.before):
        yield f"It abstains on {are} of {len(pair.before)} cases, did on {were}."


def _agreement(pair: moved.Pair) -> dict[str, Any]:
    before, after = pair.before, pair.after
    apart = np.abs(before.probabilities.astype(np.float64) - after.probabilities)
    found: dict[str, Any] = _equal(*pair.decided, before.patients)
    found |= {"largest_difference": float(apart.max()), "mean_difference": float(apart.mean())}
    if before.sets is not None and after.sets is not None:
        found["sets"] = _equal(before.sets, after.sets, before.patients)
    if before.abstain is not None and after.abstain is not None:
        found["abstain"] = _equal(before.abstain[:, None], after.abstain[:, None], before.patients)
    return found


def _equal(before: np.ndarray, after: np.ndarray, patients: np.ndarray) -> dict[str, float | None]:
    same = (before == after).all(axis=1)
    return clustered.entry(float(same.mean()), intervals.proportion(same, np.ones(len(same)), patients))


def _mcnemar(pair: moved.Pair) -> dict[str, Any]:
    before, after = pair.right
    surplus = np.bincount(pair.before.patients, before.astype(np.int64) - after).astype(np.int64)
    return {
        "lost": int(np.sum(before & ~after)),
        "gained": int(np.sum(after & ~before)),
        "p": comparison.flipped(surplus),
    }


def _no_probabilities(probabilities: np.ndarray, classes: tuple[str, ...]) -> str:
    bad = ~np.isfinite(probabilities)
    if not bad.any():
        return ""
    names = ", ".join(repr(name) for name, column in zip(classes, bad.T, strict=True) if column.any())
    count = int(bad.any(axis=1).sum())
    return f"The converted model answers {count} of {len(bad)} cases with NaN or infinity, in class {names}."
