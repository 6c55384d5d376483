"""One page that a reader can judge a model by: a single HTML file, without scripts and without references."""

from __future__ import annotations

import os
from typing import TypeAlias

from medkeras.evaluation import markup
from medkeras.evaluation.page import (
    checklists,
    confidence,
    content,
    explained,
    faults,
    groups,
    measures,
    opening,
    origin,
)

Report: TypeAlias = content.Report
Mistake: TypeAlias = content.Mistake
automatic_notes, overlay = opening.automatic_notes, markup.overlay

_SECTIONS = (
    measures.overall,
    measures.classes,
    faults.confusion,
    faults.mistakes,
    measures.ranking,
    measures.operating,
    confidence.calibration,
    confidence.sets,
    confidence.refusal,
    confidence.gate,
    groups.subgroups,
    explained.explanations,
    origin.training,
    origin.data,
    origin.data_check,
    origin.model,
    origin.limits,
    origin.settings,
    origin.method,
    checklists.claim,
    checklists.tripod,
)


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Writes the report as one HTML file in UTF-8."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(render(report))


def render(report: Report) -> str:
    """Returns the report as HTML."""
    sections = [section for make in _SECTIONS if (section := make(report)) is not None]
    body = f"{opening.render(report)}{opening.contents(sections)}\n" + "\n".join(
        f'<section id="{each.identity}"><h2>{markup.text(each.title)}</h2>{each.body}</section>' for each in sections
    )
    return markup.page(report.title, body, footer="")
