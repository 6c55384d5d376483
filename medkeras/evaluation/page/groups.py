"""Subgroups: the same measures for the young and the old, for one scanner and another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medkeras.evaluation import markup, trust_figures
from medkeras.evaluation.page import content

_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc_macro": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_DRAWN_OF_TWO = ("sensitivity", "specificity", "auroc_macro")
_DRAWN = ("accuracy", "balanced_accuracy", "auroc_macro")


def subgroups(report: content.Report) -> content.Section | None:
    """Returns, for each column of metadata, a table, the gaps as a forest plot, and what could not be judged."""
    found = report.metrics.get("subgroups") or {}
    if not found:
        return None
    parts = "".join(_column(number, column, each["groups"]) for number, (column, each) in enumerate(found.items()))
    return content.Section(
        "subgroups",
        "Does it serve everyone alike?",
        '<p class="muted">Each group of cases by itself, and how far it lies from all other cases. Of many gaps one '
        f"in twenty leaves out 0 by chance: they are a reason to look, and no finding.</p>"
        f'<div class="stack">{parts}</div>',
    )


def _column(number: int, column: str, groups: list[Mapping[str, Any]]) -> str:
    shown = [name for name in _NAMES if any(name in group["metrics"] for group in groups)]
    rows = [
        [
            markup.text(group["name"]),
            f"{group['n']:,}",
            f"{group['n_patients']:,}",
            *(markup.with_limits(group["metrics"][name]) if name in group["metrics"] else "–" for name in shown),
        ]
        for group in groups
    ]
    header = (markup.text(column), "Images", "Patients", *(_NAMES[name] for name in shown))
    table = markup.table(header, rows, numeric=range(1, len(header)), label=f"Groups by {column}")
    silent = "".join(f"<li>{sentence}</li>" for sentence in _suppressed(groups))
    reasons = f'<p class="muted">Not judged, or not fully:</p><ul class="muted">{silent}</ul>' if silent else ""
    return f'<div class="card"><h3>By {markup.text(column)}</h3>{table}{reasons}</div>{_forest(number, column, groups)}'


def _suppressed(groups: list[Mapping[str, Any]]) -> Iterator[str]:
    for group in groups:
        if group["suppressed"]:
            yield f"{markup.text(group['name'])}: {markup.text(group['suppressed'])}"


def _forest(number: int, column: str, groups: list[Mapping[str, Any]]) -> str:
    known = {name for group in groups for name in group["gaps"]}
    names = _DRAWN_OF_TWO if "sensitivity" in known else _DRAWN
    drawn = {name: _NAMES[name] for name in names if name in known}
    if not drawn:
        return ""
    return markup.drawing(
        trust_figures.gaps(groups, drawn, number=number),
        title=f"Gaps by {markup.text(column)}",
        caption="Group less all other cases, with 95% intervals. Orange: the interval leaves out 0.",
    )
