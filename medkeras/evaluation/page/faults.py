"""What went wrong: the confusion matrix, and the worst mistakes with their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medkeras.evaluation import figures, markup
from medkeras.evaluation.page import content

MOST_MISTAKES = 24
_MOST_DRAWN = 30
_MOST_BESIDE = 5
_MOST_CONFUSIONS = 8


def confusion(report: content.Report) -> content.Section:
    """Returns the confusion matrix; of many labels, or very many classes, tables alone."""
    counts, classes = np.array(report.metrics["confusion_matrix"]), report.predictions.classes
    if report.predictions.multilabel:
        rows = [
            [markup.text(name), *(f"{n:,}" for n in (c[1, 1], c[1, 0], c[0, 1], c[0, 0]))]
            for name, c in zip(classes, counts, strict=True)
        ]
        header = ("Class", "Found", "Missed", "False alarms", "Rightly absent")
        table = markup.table(header, rows, numeric=range(1, 5), label="Right and wrong calls of each class")
        body = f'<p class="muted">Called from a probability of 0.5 on.</p><div class="card">{table}</div>'
        return content.Section("confusion", "Right and wrong", body)
    if len(classes) > _MOST_DRAWN:
        body = f'<div class="stack">{_confusions(counts, classes, most=3 * _MOST_CONFUSIONS)}</div>'
        return content.Section("confusion", "Right and wrong", body)
    drawn = markup.drawing(
        figures.confusion_matrix(counts, classes),
        title="Confusion matrix",
        caption="Images, and their share of the row. Blue: right. Orange: wrong.",
    )
    layout = "pair" if len(classes) <= _MOST_BESIDE else "stack"
    table = _confusions(counts, classes, most=_MOST_CONFUSIONS)
    return content.Section("confusion", "Right and wrong", f'<div class="{layout}">{drawn}{table}</div>')


def _confusions(counts: np.ndarray, classes: Sequence[str], *, most: int) -> str:
    wrong = counts - np.diag(np.diag(counts))
    pairs = [divmod(int(i), len(classes)) for i in np.argsort(-wrong, axis=None, kind="stable")[:most]]
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
    header = ("Truth", "Called", "Images", "Share")
    table = markup.table(header, rows, numeric=(2, 3), label="Most frequent confusions")
    return f'<div class="card">{title}{table}</div>'


def mistakes(report: content.Report) -> content.Section | None:
    """Returns pictures of the worst mistakes, each with what the model itself said of the case."""
    if not report.mistakes:
        return None
    rows = {name: row for row, name in enumerate(report.predictions.case_id)}
    cards = "".join(_mistake(each, _flags(report, rows.get(each.case_id))) for each in report.mistakes[:MOST_MISTAKES])
    return content.Section(
        "mistakes",
        "The worst mistakes",
        '<p class="muted">The wrong calls that were made with most confidence. Beside each image, where one was '
        "computed, a heatmap of what spoke for the class it was called: the brighter, the more. A mark says where the "
        f'model itself declined to answer.</p><div class="mistakes">{cards}</div>',
    )


def _flags(report: content.Report, row: int | None) -> list[str]:
    """Returns what the model said of a case beside its probabilities."""
    table = report.predictions
    flags: list[str] = []
    if row is None:
        return flags
    level = gate_level(report)
    strange = table.familiarity is not None and level is not None and table.familiarity[row] < level
    if strange:
        flags.append("unfamiliar")
    if table.abstain is not None and table.abstain[row]:
        flags.append("declined to answer")
    if table.sets is not None and len(table.classes) <= _MOST_DRAWN:
        names = [name for name, within in zip(table.classes, table.sets[row], strict=True) if within]
        flags.append(f"set: {', '.join(names) or 'empty'}")
    return flags


def gate_level(report: content.Report) -> float | None:
    """Returns the familiarity below which a case is refused, where it is known."""
    level = (report.metrics.get("input_gate") or {}).get("level")
    if level is None:
        level = (report.fitted.get("abstain") or {}).get("familiarity")
    return None if level is None else float(level)


def _mistake(mistake: content.Mistake, flags: Sequence[str]) -> str:
    said = f"called {mistake.prediction}, is {mistake.label}"
    views = markup.picture(mistake.image, f"Case {mistake.case_id}: {said}")
    css = "views one"
    if mistake.heatmap is not None:
        css = "views"
        shown = markup.overlay(mistake.image, mistake.heatmap)
        views += markup.picture(shown, f"Case {mistake.case_id} under its heatmap")
    tags = "".join(
        f'<span class="tag{" plain" if flag.startswith("set: ") else ""}">{markup.text(flag)}</span> ' for flag in flags
    )
    return (
        f'<figure class="card"><div class="{css}">{views}</div><figcaption>Called '
        f"<b>{markup.text(mistake.prediction)}</b> ({mistake.probability:.2f}), is <b>{markup.text(mistake.label)}</b>"
        f"<br>{markup.text(mistake.case_id)}{f'<br>{tags}' if tags else ''}</figcaption></figure>"
    )
