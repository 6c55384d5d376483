"""One page that a reader can judge a model by: a single HTML file, without scripts and without references."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.evaluation import figures, markup, stylesheet
from medkeras.evaluation import predictions as tables

overlay = markup.overlay

_MOST_MISTAKES = 24
_MOST_CONFUSIONS = 8
_MOST_BESIDE = 5
_MEASURES = {
    "accuracy": ("Accuracy", "share of images called right"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall of the classes, each counting the same"),
    "precision_macro": ("Precision", "of the images called a class, the share that are; mean of the classes"),
    "recall_macro": (
        "Recall (sensitivity)",
        "of the images of a class, the share that were found; mean of the classes",
    ),
    "f1_macro": ("F1", "harmonic mean of precision and recall; mean of the classes"),
    "auroc_macro": ("AUROC", "chance that a case of a class scores higher than another case"),
    "average_precision_macro": ("Average precision", "area under the precision-recall steps; mean of the classes"),
    "cohen_kappa": ("Cohen’s kappa", "agreement beyond chance: 0 none, 1 full"),
    "matthews_corrcoef": ("Matthews correlation", "correlation of calls and truth: 0 none, 1 full"),
    "brier_score_loss": ("Brier score", "squared error of the probabilities; lower is better"),
    "log_loss": ("Log loss", "surprise at the truth in nats; lower is better"),
    "expected_calibration_error": ("Calibration error", "distance of stated from observed; lower is better"),
}
_MULTILABEL_MEANINGS = {
    "accuracy": "share of images with every label right",
    "balanced_accuracy": "mean of recall and specificity; mean of the classes",
}
_CLASS_MEASURES = {
    "recall": "Recall<br>(sensitivity)",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "Average<br>precision",
}


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A case that was called wrongly.

    Attributes:
        case_id: The case.
        label: What it is.
        prediction: What it was called.
        probability: Stated probability of what it was called, 0…1.
        image: uint8 `[H, W, 1 or 3]`.
        heatmap: float `[h, w]` in 0…1 of any size, or None.
    """

    case_id: str
    label: str
    prediction: str
    probability: float
    image: np.ndarray
    heatmap: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that a report shows. Texts are plain: they are escaped here.

    Attributes:
        title: The heading.
        metrics: What `classification.evaluate` returned.
        predictions: The table it was computed from.
        history: One mapping an epoch: `epoch`, `loss`, `val_loss`, `accuracy`, `val_accuracy`, `learning_rate`.
        mistakes: The worst first; at most 24 are shown.
        data_counts: Cases by split and class.
        patient_counts: Patients by split.
        settings: The settings of the run, `section.field` to value.
        model_facts: Name to value, such as parameters, input and training time.
        notes: Sentences the reader must see first.
        data_check: What was found to stand in two splits, a sentence each; None: nobody looked.
        limits: Sentences on what the model must not be used for; the first one also ends the page.
    """

    title: str
    metrics: Mapping[str, Any]
    predictions: tables.Predictions
    history: Sequence[Mapping[str, Any]] = ()
    mistakes: Sequence[Mistake] = ()
    data_counts: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    patient_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    data_check: Sequence[str] | None = None
    limits: Sequence[str] = ()


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Writes the report as one HTML file in UTF-8."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(render(report))


def render(report: Report) -> str:
    """Returns the report as HTML."""
    sections = (
        _headline,
        _notes,
        _measures,
        _classes,
        _confusion,
        _mistakes,
        _ranking,
        _calibration,
        _training,
        _data,
        _data_check,
        _model,
        _settings,
        _method,
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{markup.text(report.title)}</title><style>{stylesheet.CSS}</style></head><body><main>"
        + "\n".join(section(report) for section in sections)
        + f"<footer>{markup.text(' '.join(report.limits[:1]))} Made with medkeras.</footer></main></body></html>\n"
    )


def automatic_notes(metrics: Mapping[str, Any], predictions: tables.Predictions) -> list[str]:
    """Returns the warnings that follow from the numbers themselves."""
    notes = []
    if not _names_patients(predictions):
        notes.append(
            "The data name no patients, so each image counts as a patient of its own: where several images are "
            "of one patient, the true intervals are wider, and a patient may be in training and test."
        )
    if metrics["undefined"]:
        notes.append(f"Undefined, and left out of the means: {'; '.join(metrics['undefined'])}.")
    flat = [name for name in _MEASURES if _is_flat(metrics["metrics"][name])]
    if flat:
        names = ", ".join(_MEASURES[name][0] for name in flat)
        notes.append(f"Every resample gave the same value, so the interval says nothing: {names}.")
    return notes


def _names_patients(predictions: tables.Predictions) -> bool:
    return predictions.patient_id != predictions.case_id


def _is_flat(entry: Mapping[str, float | None]) -> bool:
    return entry["low"] is not None and entry["low"] == entry["high"]


def _headline(report: Report) -> str:
    metrics = report.metrics
    entry = metrics["metrics"]["accuracy"]
    right = "Every label was right" if report.predictions.multilabel else "The right class was named"
    cards = "".join(
        f'<div class="card"><div class="name">{name}</div><div class="value">{markup.number(e["value"])}</div>'
        f'<div class="muted">{markup.limits(e)}</div>{markup.bar(e)}</div>'
        for name, e in ((_MEASURES[key][0], metrics["metrics"][key]) for key in ("accuracy", "auroc_macro", "f1_macro"))
    )
    images, patients = f"{metrics['n']:,}", f"of {metrics['n_patients']:,} patients"
    if not _names_patients(report.predictions):
        patients = ""
    interval = f"{_percent(entry['low'])} to {_percent(entry['high'])}"
    return (
        f'<p class="eyebrow">Evaluation report</p><h1>{markup.text(report.title)}</h1>'
        f'<p class="lead">{right} for {_percent(entry["value"])} of {images} images {patients} '
        f'(95% interval {interval}).</p><div class="headline">{cards}<div class="card">'
        f'<div class="name">Images tested</div><div class="value">{images}</div><div class="muted">{patients}</div>'
        "</div></div>"
    )


def _notes(report: Report) -> str:
    notes = [*report.notes, *automatic_notes(report.metrics, report.predictions)]
    if not notes:
        return ""
    items = "".join(f"<li>{markup.text(note)}</li>" for note in notes)
    return f'<div class="note" role="note"><b>Before you read the numbers</b><ul>{items}</ul></div>'


def _measures(report: Report) -> str:
    meanings = _MULTILABEL_MEANINGS if report.predictions.multilabel else {}
    rows = [
        [
            name,
            markup.number(entry["value"]),
            markup.limits(entry),
            "" if key == "log_loss" else markup.bar(entry),
            f'<span class="muted">{meanings.get(key, meaning)}</span>',
        ]
        for key, (name, meaning) in _MEASURES.items()
        for entry in (report.metrics["metrics"][key],)
    ]
    header = (
        "Measure",
        "Value",
        "95% interval",
        '<span class="scale"><span>0</span><span>1</span></span>',
        "What it is",
    )
    return f'<h2>Measures</h2><div class="card wide">{markup.table(header, rows, numeric=(1, 2))}</div>'


def _classes(report: Report) -> str:
    rows = [
        [markup.text(name), f"{values['support']:,}", *(_with_limits(values[key]) for key in _CLASS_MEASURES)]
        for name, values in report.metrics["per_class"].items()
    ]
    table = markup.table(("Class", "Images", *_CLASS_MEASURES.values()), rows, numeric=range(1, 8))
    return (
        '<h2>Class by class</h2><p class="muted">Each class against all others, with 95% intervals. '
        f'A dash: undefined on these cases.</p><div class="card">{table}</div>'
    )


def _confusion(report: Report) -> str:
    counts = np.array(report.metrics["confusion_matrix"])
    classes = report.predictions.classes
    if report.predictions.multilabel:
        rows = [
            [markup.text(name), *(f"{n:,}" for n in (c[1, 1], c[1, 0], c[0, 1], c[0, 0]))]
            for name, c in zip(classes, counts, strict=True)
        ]
        header = ("Class", "Found", "Missed", "False alarms", "Rightly absent")
        return f'<h2>Right and wrong</h2><div class="card">{markup.table(header, rows, numeric=range(1, 5))}</div>'
    drawn = markup.drawing(
        figures.confusion_matrix(counts, classes),
        title="Confusion matrix",
        caption="Images, and their share of the row. Blue: right. Orange: wrong.",
    )
    layout = "pair" if len(classes) <= _MOST_BESIDE else "stack"
    return f'<h2>Right and wrong</h2><div class="{layout}">{drawn}{_confusions(counts, classes)}</div>'


def _confusions(counts: np.ndarray, classes: Sequence[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    pairs = [divmod(int(i), len(classes)) for i in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]]
    rows = [
        [
            markup.text(classes[true]),
            markup.text(classes[called]),
            f"{wrong[true, called]:,} of {counts[true].sum():,}",
            f"{100 * wrong[true, called] / counts[true].sum():.1f}%",
        ]
        for true, called in pairs
        if wrong[true, called]
    ]
    title = "<h3>Most frequent confusions</h3>"
    if not rows:
        return f'<div class="card">{title}<p class="muted">None: every image was called right.</p></div>'
    table = markup.table(("Truth", "Called", "Images", "Share"), rows, numeric=(2, 3))
    return f'<div class="card">{title}{table}</div>'


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    cards = "".join(_mistake(mistake) for mistake in report.mistakes[:_MOST_MISTAKES])
    return (
        '<h2>The worst mistakes</h2><p class="muted">The wrong calls that were made with most confidence. '
        "Beside each image, where one was computed, a heatmap of what spoke for the class it was called: the brighter, "
        f'the more.</p><div class="mistakes">{cards}</div>'
    )


def _mistake(mistake: Mistake) -> str:
    views = markup.picture(mistake.image, f"Case {mistake.case_id}")
    css = "views one"
    if mistake.heatmap is not None:
        css = "views"
        views += markup.picture(overlay(mistake.image, mistake.heatmap), f"Case {mistake.case_id} under its heatmap")
    return (
        f'<figure class="card"><div class="{css}">{views}</div><figcaption>Called '
        f"<b>{markup.text(mistake.prediction)}</b> ({mistake.probability:.2f}), is <b>{markup.text(mistake.label)}</b>"
        f"<br>{markup.text(mistake.case_id)}</figcaption></figure>"
    )


def _ranking(report: Report) -> str:
    table, target = report.predictions, _target(report)
    roc = markup.drawing(
        figures.roc_curves(table, target),
        title="ROC curves",
        caption="Every threshold at once, and the area under each curve. Dotted: guessing.",
    )
    recall = markup.drawing(
        figures.precision_recall_curves(table, target),
        title="Precision and recall",
        caption="How many calls stay right as more cases of a class are found, and the average precision.",
    )
    return f'<h2>How well it ranks</h2><div class="pair">{roc}{recall}</div>'


def _calibration(report: Report) -> str:
    table, target = report.predictions, _target(report)
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
    return f'<h2>Can its probabilities be believed?</h2><div class="pair">{reliability}{histogram}</div>'


def _training(report: Report) -> str:
    if not report.history:
        return ""
    drawn = markup.drawing(
        figures.training_curves(report.history), title="Training curves", caption="One point an epoch."
    )
    return f'<h2>How it learned</h2><div class="stack">{drawn}</div>'


def _data(report: Report) -> str:
    if not report.data_counts:
        return ""
    classes = list(dict.fromkeys(name for counts in report.data_counts.values() for name in counts))
    rows = [
        [markup.text(name), *(f"{counts.get(name, 0):,}" for counts in report.data_counts.values())] for name in classes
    ]
    if not report.predictions.multilabel:
        rows.append(["All images", *(f"{sum(counts.values()):,}" for counts in report.data_counts.values())])
    if report.patient_counts:
        rows.append(["Patients", *(f"{report.patient_counts.get(split, 0):,}" for split in report.data_counts)])
    header = ("Class", *map(markup.text, report.data_counts))
    return f'<h2>The data</h2><div class="card">{markup.table(header, rows, numeric=range(1, len(header)))}</div>'


def _data_check(report: Report) -> str:
    if report.data_check is None:
        return ""
    items = "".join(f"<li>{markup.text(sentence)}</li>" for sentence in report.data_check)
    if items:
        return f'<h2>Data check</h2><div class="note" role="note"><b>Copies and patients</b><ul>{items}</ul></div>'
    return (
        '<h2>Data check</h2><div class="card"><p>No copies of a picture were found in two splits, and no patient in '
        "two.</p></div>"
    )


def _model(report: Report) -> str:
    if not report.model_facts:
        return ""
    return f'<h2>The model</h2><div class="card">{markup.facts(report.model_facts)}</div>'


def _settings(report: Report) -> str:
    if not report.settings:
        return ""
    return f'<h2>Settings of the run</h2><div class="card">{markup.facts(report.settings)}</div>'


def _method(report: Report) -> str:
    interval = report.metrics["interval"]
    return (
        f'<h2>How the numbers were made</h2><div class="card"><p>Images of one patient resemble each other, so every '
        f"interval takes the {markup.text(interval['unit'])} as its unit. A 95% interval is made so that, over many "
        f"such tests, 95 in 100 hold the true value. {markup.text(interval['method'])}. Resamples: "
        f"{interval['resamples']:,}, seed {interval['seed']}. Means over classes "
        f"leave out classes for which a measure is undefined.</p><p>{markup.text(' '.join(report.limits))}</p></div>"
    )


def _target(report: Report) -> np.ndarray:
    return np.asarray(report.predictions.target)


def _with_limits(entry: Mapping[str, float | None]) -> str:
    return f"{markup.number(entry['value'])}<small>{markup.limits(entry) or '&nbsp;'}</small>"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"
