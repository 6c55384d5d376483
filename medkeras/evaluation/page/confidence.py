"""How far a model's own word can be believed: probabilities, sets, refusals, and what it knows as strange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras.evaluation import figures, intervals, markup, selective, trust_figures
from medkeras.evaluation.page import content, faults

_MANY_CLASSES = 20
_NEVER = 1.0


def calibration(report: content.Report) -> content.Section:
    """Returns the reliability diagram and what the calibration error is made of."""
    table, target = report.predictions, report.target
    reliability = markup.drawing(
        figures.reliability_diagram(table, target),
        title="Reliability",
        caption="Below the diagonal the model is too sure, above it not sure enough. Bars: 95% intervals.",
    )
    histogram = markup.drawing(
        figures.score_histogram(table, target),
        title="Scores",
        caption="The less the two overlap, the better they are told apart.",
    )
    return content.Section(
        "calibration",
        "Can its probabilities be believed?",
        f'{_calibration_facts(report)}<div class="pair">{reliability}{histogram}</div>',
    )


def _calibration_facts(report: content.Report) -> str:
    found = report.metrics.get("calibration")
    if not found:
        return ""
    facts = {
        "Calibration error (ECE)": _with_interval(
            found["ece"], report.metrics["metrics"]["expected_calibration_error"]
        ),
        "ECE, debiased": markup.number(found["ece_debiased"]),
        "Brier score": markup.number(found["brier"]),
        "= lack of calibration": markup.number(found["reliability"]),
        "− what the ranking is worth": markup.number(found["resolution"]),
        "+ uncertainty of the classes": markup.number(found["uncertainty"]),
        **_scaling(report, found),
    }
    rows = [
        [markup.text(name), *(markup.number(values[key]) for key in _OF_A_CLASS)]
        for name, values in found["per_class"].items()
    ]
    header = ("Class", *_OF_A_CLASS.values())
    each = markup.table(header, rows, numeric=range(1, len(header)), label="Calibration of each class")
    return (
        f'<p class="muted">The calibration error is biased upwards: in each of {found["bins"]} bins chance alone sets '
        "what came true apart from what was stated. The debiased one takes most of that away.</p>"
        f'<div class="stack"><div class="card">{markup.facts(facts)}</div>'
        f"{markup.folded('Calibration of each class', each)}</div>"
    )


_OF_A_CLASS = {
    "ece": "ECE",
    "ece_debiased": "ECE,<br>debiased",
    "brier": "Brier<br>score",
    "reliability": "Lack of<br>calibration",
    "resolution": "Worth of<br>the ranking",
    "uncertainty": "Uncertainty",
}


def _with_interval(value: float, entry: content.Entry) -> str:
    return markup.number(value) + (f" ({markup.limits(entry)})" if entry["low"] is not None else "")


def _scaling(report: content.Report, found: Mapping[str, Any]) -> dict[str, str]:
    method = (report.fitted.get("calibration") or {}).get("method")
    facts = {"Calibrated on validation by": method} if method else {}
    if found.get("temperature"):
        words = "it was too sure" if found["temperature"] > 1 else "it was not sure enough"
        facts["Temperature"] = f"{markup.number(found['temperature'])} ({words})"
    return facts


def sets(report: content.Report) -> content.Section | None:
    """Returns what was promised of the prediction sets, and what they hold."""
    found = report.metrics.get("conformal")
    if not found:
        return None
    alpha = found.get("alpha")
    nominal = None if alpha is None else 1 - alpha
    word = "classes" if report.predictions.multilabel else "class"
    promised = "" if nominal is None else f" They promise to hold the true {word} for {content.percent(nominal)}."
    facts = {
        **({} if nominal is None else {"Promised": content.percent(nominal)}),
        "Hold the truth": content.brief(found["coverage"]),
        **({"Mean over patients": content.percent(found["coverage_of_patients"])} if report.names_patients else {}),
        "Mean number of classes": markup.number(found["mean_set_size"]),
        "One class": content.percent(found["single"]),
        "No class (a refusal)": content.percent(found["empty"]),
        **({"Promise": _KINDS[found["kind"]]} if found.get("kind") in _KINDS else {}),
    }
    return content.Section(
        "sets",
        "Prediction sets",
        f'<p class="muted">Beside its probabilities the model names the classes that it cannot rule out.{promised} The '
        "promise was made on validation and holds for patients like those.</p>"
        f"{markup.note('The promise does not simply hold', found.get('warnings', ()))}"
        f'<div class="stack"><div class="card">{markup.facts(facts)}</div>{_sets_of_classes(found, nominal)}</div>',
    )


_KINDS = {"marginal": "over all cases together", "class": "within each class"}


def _sets_of_classes(found: Mapping[str, Any], nominal: float | None) -> str:
    rows = [
        [
            markup.text(name),
            f"{values['support']:,}",
            markup.with_limits(values["coverage"]),
            markup.bar(values["coverage"], mark=nominal),
            markup.number(values["mean_set_size"]),
        ]
        for name, values in found["per_class"].items()
    ]
    header = ("Class", "Images", "Hold the truth", "Tick: promised", "Mean number<br>of classes")
    table = markup.table(header, rows, numeric=(1, 2, 4), label="Prediction sets of each class")
    return markup.folded("Each class", table) if len(rows) > _MANY_CLASSES else f'<div class="card">{table}</div>'


def refusal(report: content.Report) -> content.Section:
    """Returns what answering only the surest cases brings, and where the model's own threshold lies."""
    table, fitted = report.predictions, report.fitted.get("abstain") or {}
    curve = selective.risk_coverage(table.confidence, report.correct, table.patients)
    least = float(fitted.get("confidence") or 0.0)
    answered = float((table.confidence >= np.float32(least)).mean()) if 0 < least <= _NEVER else None
    line = " Dashed: what its threshold answers." if answered is not None else ""
    line += " Wrong is a case with any label wrong." if table.multilabel else ""
    drawn = markup.drawing(
        trust_figures.risk_coverage(curve, answered),
        title="Risk and coverage",
        caption=f"How often it is wrong if only the surest cases are answered. Band: 95% interval.{line}",
    )
    facts = {
        **_refused(report, fitted, least),
        "Area under the curve (AURC; 0 is best)": markup.number(curve.area),
        **{f"Wrong among the surest {share}%": _risk_at(curve, share / 100) for share in (50, 80, 90, 100)},
    }
    return content.Section(
        "refusal",
        "When it should not answer",
        f'<div class="pair">{drawn}<div class="card"><h3>Answers and refusals</h3>{markup.facts(facts)}</div></div>',
    )


def _refused(report: content.Report, fitted: Mapping[str, Any], least: float) -> dict[str, str]:
    table, facts = report.predictions, {}
    if table.abstain is not None:
        facts["Declined to answer"] = f"{table.abstain.sum():,} of {len(table):,}"
        level = faults.gate_level(report)
        if table.familiarity is not None and level is not None:
            facts["of them unfamiliar"] = f"{(table.abstain & (table.familiarity < level)).sum():,}"
        answered = ~table.abstain
        if answered.any():
            right = report.correct[answered]
            low, high = intervals.proportion(right, np.ones(len(right)), table.take(answered).patients)
            facts["Right among the answers"] = content.brief({"value": float(right.mean()), "low": low, "high": high})
    if fitted.get("risk"):
        facts["Risk allowed"] = content.percent(fitted["risk"])
        facts["Answers from a confidence of"] = "none: no threshold keeps it" if least > _NEVER else f"{least:.3f}"
    return facts


def _risk_at(curve: selective.RiskCoverage, share: float) -> str:
    """Returns the risk at the least coverage drawn that answers at least a share."""
    place = min(int(np.searchsorted(curve.coverage, share - 1e-9)), len(curve.coverage) - 1)
    entry = {"value": float(curve.risk[place]), "low": float(curve.low[place]), "high": float(curve.high[place])}
    return content.brief(entry)


def gate(report: content.Report) -> content.Section | None:
    """Returns how well the model tells foreign images, and how often it refuses proper ones."""
    found, table = report.metrics.get("input_gate"), report.predictions
    if not found and table.familiarity is None:
        return None
    words = (
        '<p class="muted">Familiarity says how like the training images an image is, from 0 to 1. It asks what kind of '
        "image it is and not whether the answer is right.</p>"
    )
    parts = []
    if table.familiarity is not None:
        level = faults.gate_level(report)
        parts.append(
            markup.drawing(
                trust_figures.familiarity(table.familiarity, report.correct, level),
                title="Familiarity of the test images",
                caption="" if level is None else "Images left of the dashed line are refused.",
            )
        )
    if found:
        parts.append(_families(found))
    return content.Section("gate", "Does it notice foreign images?", f'{words}<div class="pair">{"".join(parts)}</div>')


def _families(found: Mapping[str, Any]) -> str:
    low, high = found["false_alarm_interval"]
    alarms = content.brief({"value": found["false_alarm_rate"], "low": low, "high": high})
    rows = [
        [
            markup.text(name.replace("_", " ")),
            f"{found['images'][name]:,}",
            markup.number(value),
            content.percent(found["flagged"][name]),
        ]
        for name, value in found["auroc"].items()
    ]
    header = ("Foreign images", "Images", "AUROC", "Refused")
    table = markup.table(header, rows, numeric=(1, 2, 3), label="Foreign images")
    return (
        f'<div class="card"><h3>Foreign images</h3><p class="muted">Refused below a familiarity of {found["level"]:g}. '
        f"False alarms: {alarms} of the test images.</p>{table}</div>"
    )
