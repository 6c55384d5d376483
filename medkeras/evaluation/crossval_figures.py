"""The pictures of a cross-validation: folds beside their pooled value, and what more cases bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import figure as mpl_figure

from medkeras.evaluation import figures

_PANEL = 1.5
_JITTER = 0.5


def folds(
    rows: Sequence[Mapping[str, Any]], pooled: Mapping[str, Mapping[str, Any]], shown: Mapping[str, str]
) -> mpl_figure.Figure:
    """Draws for each metric a dot a fold, and the pooled value with its 95% interval.

    Args:
        rows: What `crossval.json` holds under `folds`.
        pooled: Metrics of all answers out of fold.
        shown: Metrics and what they are called.
    """
    names = list(shown)[::-1]
    height = 0.5 * len(names)
    figure = mpl_figure.Figure(figsize=(7.6, height + 0.75))
    figure.set_label("crossval-folds")
    ax = figures.axes(figure, left=_PANEL, bottom=0.55, width=5.9, height=height)
    for place, name in enumerate(names):
        entry = pooled[name]
        if entry["low"] is not None:
            ax.fill_betweenx(
                [place - 0.34, place + 0.34], entry["low"], entry["high"], color=figures.SERIES[0], alpha=0.2, lw=0
            )
        if entry["value"] is not None:
            ax.plot([entry["value"]] * 2, [place - 0.34, place + 0.34], color=figures.SERIES[0], lw=2)
        values = [row["metrics"][name]["value"] for row in rows]
        heights = [place + _JITTER * ((number + 0.5) / len(values) - 0.5) for number in range(len(values))]
        known = [(value, at) for value, at in zip(values, heights, strict=True) if value is not None]
        ax.plot([value for value, _ in known], [at for _, at in known], "o", color=figures.SERIES[1], ms=4.5)
    ax.set_yticks(range(len(names)), [shown[name] for name in names])
    ax.set(ylim=(-0.6, len(names) - 0.4), xlabel="Value on the patients held out")
    ax.grid(False, axis="y")
    return figure


def curve(found: Mapping[str, Any]) -> mpl_figure.Figure:
    """Draws accuracy against the number of training cases, with the fitted law where there is one.

    Args:
        found: What `crossval.json` holds under `learning_curve`.
    """
    figure = mpl_figure.Figure(figsize=(7.6, 3.6))
    figure.set_label("crossval-curve")
    ax = figures.axes(figure, left=0.75, bottom=0.6, width=6.6, height=2.85)
    law, points = found["fit"]["curve"], found["points"]
    if law:
        largest = max(point["n"] for point in points)
        n = [each["n"] for each in law]
        ax.fill_between(
            n, [each["low"] for each in law], [each["high"] for each in law], color=figures.SERIES[0], alpha=0.15, lw=0
        )
        measured = sum(each["n"] <= largest for each in law)
        for style, part in (("-", law[:measured]), ("--", law[measured - 1 :])):
            ax.plot(
                [each["n"] for each in part], [each["value"] for each in part], style, color=figures.SERIES[0], lw=1.8
            )
    for point in points:
        entry = point["accuracy"]
        ax.plot([point["n"]] * 2, [entry["low"], entry["high"]], color=figures.SERIES[1], lw=1.6, alpha=0.7)
        ax.plot(point["n"], entry["value"], "o", color=figures.SERIES[1], ms=6)
    ax.set(xlabel="Training cases", ylabel="Accuracy out of fold")
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks([point["n"] for point in points], [f"{point['n']:,.0f}" for point in points])
    return figure
