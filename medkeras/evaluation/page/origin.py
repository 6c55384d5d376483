"""Where model and numbers come from: training, data, what was found in them, the model card, settings, method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medkeras.evaluation import figures, markup
from medkeras.evaluation.page import content

AUTHORS = "to be filled in by the authors"


def training(report: content.Report) -> content.Section | None:
    """Returns the training curves."""
    if not report.history:
        return None
    drawn = markup.drawing(
        figures.training_curves(report.history), title="Training curves", caption="One point an epoch."
    )
    return content.Section("training", "How it learned", f'<div class="stack">{drawn}</div>')


def data(report: content.Report) -> content.Section | None:
    """Returns the cases by split and class."""
    if not report.data_counts:
        return None
    known = {name for counts in report.data_counts.values() for name in counts}
    names = [name for name in report.predictions.classes if name in known]
    names += [name for counts in report.data_counts.values() for name in counts if name not in names]
    rows = [
        [markup.text(name), *(f"{counts.get(name, 0):,}" for counts in report.data_counts.values())]
        for name in dict.fromkeys(names)
    ]
    if not report.predictions.multilabel:
        rows.append(["All images", *(f"{sum(counts.values()):,}" for counts in report.data_counts.values())])
    if report.patient_counts and report.names_patients:
        rows.append(["Patients", *(f"{report.patient_counts.get(split, 0):,}" for split in report.data_counts)])
    header = ("Class", *map(markup.text, report.data_counts))
    table = markup.table(header, rows, numeric=range(1, len(header)), label="Images by split and class")
    origin = content.source(report)
    words = f'<p class="muted">{markup.text(origin)}</p>' if origin else ""
    return content.Section("data", "The data", f'{words}<div class="card">{table}</div>')


def data_check(report: content.Report) -> content.Section | None:
    """Returns which pictures or patients stand in two splits."""
    if report.data_check is None:
        return None
    body = markup.note("Copies and patients", report.data_check) or (
        '<div class="card"><p>No copies of a picture were found in two splits, and no patient in two.</p></div>'
    )
    return content.Section("data-check", "Data check", body + _copies(report.card.get("leakage") or {}))


def _copies(leakage: Mapping[str, Any]) -> str:
    """Returns how many copies the data hold that the model was trained on."""
    rows = [
        [title, *(f"{leakage[kind][name]:,}" for name in ("groups", "cases", "across_splits", "conflicting_labels"))]
        for kind, title in (("exact", "Identical pictures"), ("near", "Near copies"))
        if leakage.get(kind)
    ]
    if not rows:
        return ""
    header = ("In the data of training", "Groups", "Images", "Groups in two splits", "Groups with two labels")
    table = markup.table(header, rows, numeric=range(1, 5), label="Copies in the data of training")
    return f'<div class="stack"><div class="card">{table}</div></div>'


def model(report: content.Report) -> content.Section | None:
    """Returns the model card: what it is, what it learned from, what it answers, what it is not for."""
    if not report.model_facts and not report.card:
        return None
    facts = markup.facts({**report.model_facts, **_of_card(report.card)})
    unknown = "".join(f"<li>{entry}: {AUTHORS}</li>" for entry in _OF_AUTHORS)
    return content.Section(
        "model",
        "Model card",
        f'<div class="stack"><div class="card"><h3>What it is</h3>{facts}</div>{_promises(report)}'
        f'<div class="card"><h3>What a run cannot know</h3><ul class="plain">{unknown}</ul></div></div>',
    )


_OF_AUTHORS = (
    "Intended use, users and place in care",
    "Who the patients are, where and when they were imaged, and who was left out",
    "How the labels were made, and by whom",
    "Ethical approval and consent",
)


def _of_card(card: Mapping[str, Any]) -> dict[str, str]:
    if not card:
        return {}
    libraries = ", ".join(f"{name} {version}" for name, version in (card.get("libraries") or {}).items())
    facts = {
        "Made": str(card.get("created") or "")[:19].replace("T", " "),
        "Task": "any number of labels" if card["task"].get("multilabel") else "one class an image",
        "Classes": ", ".join(card["task"]["classes"][:12]) + (" …" if len(card["task"]["classes"]) > 12 else ""),
        "Answers with": ", ".join(card["task"].get("outputs", ("probabilities",))),
        "Values of the input": card["input"]["units"],
        "Libraries": libraries,
    }
    return {name: value for name, value in facts.items() if value}


def _promises(report: content.Report) -> str:
    """Returns what was fitted on validation."""
    fitted = report.fitted
    if not fitted:
        return ""
    facts = {"Calibration": (fitted.get("calibration") or {}).get("method", "–")}
    if fitted.get("conformal"):
        facts["Prediction sets"] = f"{fitted['conformal']['kind']}, alpha {fitted['conformal']['alpha']:g}"
    abstain = fitted.get("abstain") or {}
    if abstain:
        facts["Refuses below a familiarity of"] = f"{abstain['familiarity']:g}"
        facts["Refuses below a confidence of"] = _least(abstain["confidence"])
    for point in fitted.get("operating_points", ())[:5]:
        facts[f"Threshold of {point['class']}"] = f"{point['threshold']:.3f}"
    return f'<div class="card"><h3>Fitted on the validation split</h3>{markup.facts(facts)}</div>'


def _least(confidence: float) -> str:
    if confidence > 1:
        return "any: no threshold kept the risk"
    return f"{confidence:g}" if confidence else "none is asked for"


def limits(report: content.Report) -> content.Section | None:
    """Returns what the model must not be used for, beside the sentence at the top."""
    if len(report.limits) < 2:
        return None
    items = "".join(f"<li>{markup.text(sentence)}</li>" for sentence in report.limits[1:])
    return content.Section("limits", "Limits", f'<div class="card"><ul class="plain">{items}</ul></div>')


def settings(report: content.Report) -> content.Section | None:
    """Returns every setting of the run."""
    if not report.settings:
        return None
    body = markup.folded(f"{len(report.settings)} settings", markup.facts(report.settings))
    return content.Section("settings", "Settings of the run", body)


def method(report: content.Report) -> content.Section:
    """Returns how the intervals were made."""
    interval = report.metrics["interval"]
    return content.Section(
        "method",
        "How the numbers were made",
        '<div class="card"><p>Images of one patient resemble each other, so every '
        f"interval takes the {markup.text(interval['unit'])} as its unit. A 95% interval is made so that, over many "
        f"such tests, 95 in 100 hold the true value. {markup.text(interval['method'])}. Resamples: "
        f"{interval['resamples']:,}, seed {interval['seed']}. Means over classes "
        "leave out classes for which a measure is undefined.</p><p>The same numbers stand in metrics.json, and those "
        "of each case in predictions.csv; this page can be made from the two without the model.</p></div>",
    )
