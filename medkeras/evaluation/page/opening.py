"""The top of a report: what was tested and what came out, in words first, and what to know before reading on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medkeras.evaluation import intervals, markup
from medkeras.evaluation import predictions as tables
from medkeras.evaluation.page import content, measures

_STRONG_FOR, _STRONG_AGAINST = 10.0, 0.1
_CONTENTS_FROM = 3
_UNNAMED = (
    "The data name no patients, so each image counts as a patient of its own: where several images are of one patient, "
    "the true intervals are wider, and a patient may be in training and test."
)


def render(report: content.Report) -> str:
    """Returns title, summary, the first numbers and the warnings."""
    sentences = "".join(f"<li>{markup.text(sentence)}</li>" for sentence in summary(report))
    limit = f'<p class="muted">{markup.text(report.limits[0])}</p>' if report.limits else ""
    known = markup.note(
        "Before you read the numbers",
        [*report.notes, *promises(report), *automatic_notes(report.metrics, report.predictions)],
    )
    return (
        f'<p class="eyebrow">Evaluation report</p><h1>{markup.text(report.title)}</h1>'
        f'<p class="lead">{markup.text(verdict(report))}</p><ul class="summary">{sentences}</ul>{limit}'
        f'<div class="headline">{_cards(report)}</div>{known}'
    )


def contents(sections: list[content.Section]) -> str:
    """Returns links to the sections; nothing where they are few."""
    if len(sections) <= _CONTENTS_FROM:
        return ""
    links = "".join(f'<li><a href="#{each.identity}">{markup.text(each.title)}</a></li>' for each in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def verdict(report: content.Report) -> str:
    """Returns the first sentence: on what, how often right, how sure that is."""
    right = "every label was right" if report.predictions.multilabel else "the right class was named"
    origin = content.source(report)
    where = f" from {origin}" if origin else ""
    return f"On {content.tested(report)}{where}, {right} for {content.span(report.metrics['metrics']['accuracy'])}."


def summary(report: content.Report) -> list[str]:
    """Returns what a doctor must know, a sentence each."""
    return [
        *_calls(report),
        *_by_class(report),
        *_refusals(report),
        *_strangers(report),
        *_probabilities(report),
        *_groups(report),
    ]


def promises(report: content.Report) -> list[str]:
    """Returns the warnings that a promise of the model, or the separation of the splits, does not hold."""
    sentences = list((report.metrics.get("conformal") or {}).get("warnings", ()))
    if report.data_check:
        sentences.append("Pictures or patients stand in two parts of the data: see Data check.")
    return sentences


def automatic_notes(metrics: Mapping[str, Any], predictions: tables.Predictions) -> list[str]:
    """Returns the warnings that follow from the numbers themselves."""
    notes = [] if predictions.patient_id != predictions.case_id else [_UNNAMED]
    undefined = [sentence for sentence in metrics["undefined"] if not measures.is_ratio(sentence)]
    if undefined:
        notes.append(f"Undefined, and left out of the means: {'; '.join(undefined)}.")
    flat = [name for name in measures.MEASURES if _is_flat(metrics["metrics"].get(name))]
    if flat:
        names = ", ".join(measures.MEASURES[name][0] for name in flat)
        notes.append(f"Every resample gave the same value, so the interval says nothing: {names}.")
    return notes


def _is_flat(entry: Mapping[str, float | None] | None) -> bool:
    return entry is not None and entry["low"] is not None and entry["low"] == entry["high"]


def _cards(report: content.Report) -> str:
    metrics = report.metrics["metrics"]
    shown = [(measures.MEASURES[key][0], metrics[key], "") for key in ("accuracy", "auroc_macro")]
    points = report.metrics.get("operating_points") or []
    if len(points) == 1:
        (point,) = points
        where = f"of “{point['class']}”, called from {point['threshold']:.3f} on"
        shown += [(name.capitalize(), point["test"][name], where) for name in ("sensitivity", "specificity")]
    else:
        shown.append((measures.MEASURES["f1_macro"][0], metrics["f1_macro"], ""))
    cards = "".join(
        f'<div class="card"><div class="name">{name}</div><div class="value">{markup.number(entry["value"])}</div>'
        f'<div class="muted">{markup.limits(entry)}</div>{markup.bar(entry)}'
        f'<div class="muted">{markup.text(words)}</div></div>'
        for name, entry, words in shown
    )
    patients = f"of {report.metrics['n_patients']:,} patients" if report.names_patients else ""
    return (
        f'{cards}<div class="card"><div class="name">Images tested</div>'
        f'<div class="value">{report.metrics["n"]:,}</div><div class="muted">{patients}</div></div>'
    )


def _calls(report: content.Report) -> Iterator[str]:
    """Yields what the operating point of two classes reaches, and what a call is worth."""
    points = report.metrics.get("operating_points") or []
    if len(points) != 1:
        return
    (point,), name = points, points[0]["class"]
    counts, test = point["counts"], point["test"]
    yield (
        f"At its operating point, chosen on validation (called “{name}” from a probability of {point['threshold']:.3f} "
        f"on), it finds {content.brief(test['sensitivity'])} of the images of “{name}”, missing {counts['fn']:,} of "
        f"{counts['tp'] + counts['fn']:,}; of the others it clears {content.brief(test['specificity'])}, with "
        f"{counts['fp']:,} false alarms in {counts['fp'] + counts['tn']:,}."
    )
    up, down = test["lr_positive"], test["lr_negative"]
    sure, unsure = up["low"], down["high"]
    ratios = f"likelihood ratios {measures.ratio(up['value'])} and {measures.ratio(down['value'])}"
    weighty = [
        *(["a call is strong evidence for it"] if sure is not None and sure >= _STRONG_FOR else []),
        *(["no call is strong evidence against it"] if unsure is not None and unsure <= _STRONG_AGAINST else []),
    ]
    if weighty:
        yield f"On images like these, {' and '.join(weighty)} ({ratios})."
    elif up["value"] is not None and down["value"] is not None:
        yield f"Neither a call nor its absence is strong evidence by itself ({ratios}, intervals considered)."


def _by_class(report: content.Report) -> Iterator[str]:
    """Yields the class that is found least often."""
    found = {
        name: values["recall"]
        for name, values in report.metrics["per_class"].items()
        if values["recall"]["value"] is not None
    }
    if len(report.metrics.get("operating_points") or []) == 1 or not found:
        return
    worst = min(found, key=lambda name: found[name]["value"])
    best = max(found, key=lambda name: found[name]["value"])
    if worst == best:
        return
    yield (
        f"The class it finds least often is “{worst}”: {content.brief(found[worst])} of its images; the one it finds "
        f"most often is “{best}”: {content.brief(found[best])}."
    )


def _refusals(report: content.Report) -> Iterator[str]:
    table = report.predictions
    if table.abstain is None:
        return
    refused, answered = table.abstain, ~table.abstain
    if not refused.any():
        yield "It declined to answer on none of these images."
        return
    sentence = (
        f"It declined to answer on {refused.sum():,} of {len(table):,} images ({content.percent(refused.mean())})"
    )
    if answered.any():
        right = report.correct[answered]
        low, high = intervals.proportion(right, np.ones(len(right)), table.take(answered).patients)
        entry = {"value": float(right.mean()), "low": low, "high": high}
        sentence += f"; of those it answered, {content.brief(entry)} are right"
    yield f"{sentence}."


def _strangers(report: content.Report) -> Iterator[str]:
    """Yields how many foreign images were refused, of the kind that got past most often."""
    found = report.metrics.get("input_gate")
    if found and found["flagged"]:
        worst = min(found["flagged"], key=lambda name: found["flagged"][name])
        proper, least = (content.percent(x) for x in (found["false_alarm_rate"], found["flagged"][worst]))
        yield (
            f"It refused {proper} of the test images, and of every kind of image that it should not judge at least "
            f"{least} (fewest: {worst.replace('_', ' ')})."
        )


def _probabilities(report: content.Report) -> Iterator[str]:
    found = report.metrics.get("calibration")
    if found:
        yield (
            f"The probabilities it states are off by {100 * found['ece']:.1f} percentage points on average; by "
            f"{100 * found['ece_debiased']:.1f} once most of what chance adds is taken away."
        )


def _groups(report: content.Report) -> Iterator[str]:
    for column, found in (report.metrics.get("subgroups") or {}).items():
        apart = [
            group["name"]
            for group in found["groups"]
            for gap in [group["gaps"].get("accuracy")]
            if gap and gap["low"] is not None and gap["high"] < 0
        ]
        if apart:
            yield f"By {column}, it is right less often than elsewhere, beyond chance, for: {', '.join(apart)}."
