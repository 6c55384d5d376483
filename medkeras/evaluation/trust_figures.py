"""The pictures of trust: what refusing brings, what is familiar, how groups differ, whether heatmaps matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from medkeras.evaluation import figures, selective

_BLUE, _ORANGE = figures.SERIES[0], figures.SERIES[1]
_ROW = 0.27
_EDGES = np.linspace(0, 1, 41)


def risk_coverage(curve: selective.RiskCoverage, answered: float | None = None) -> mpl_figure.Figure:
    """Draws the share of wrong answers against the share of cases answered, the surest first.

    Args:
        curve: What `selective.risk_coverage` returned.
        answered: The share of cases that the model did answer, marked; None: it answers every one.
    """
    figure = figures.blank("risk-coverage", 5.2, 4.1)
    ax = figures.axes(figure, left=0.62, bottom=0.48, width=4.35, height=3.49)
    ax.fill_between(curve.coverage, curve.low, curve.high, color=_BLUE, alpha=0.15, lw=0)
    ax.plot(curve.coverage, curve.risk, color=_BLUE, lw=1.6)
    if answered is not None:
        ax.axvline(answered, color=_ORANGE, lw=1.4, ls=(0, (4, 2)))
    ax.set(xlim=(-0.02, 1.02), ylim=(0, None), xlabel="Share of cases answered, the surest first")
    ax.set_ylabel("Share of the answers that are wrong")
    return figure


def familiarity(values: np.ndarray, correct: np.ndarray, level: float | None) -> mpl_figure.Figure:
    """Draws how familiar the cases are, those called right and those called wrong.

    Args:
        values: float `[N]`, 0…1.
        correct: bool `[N]`.
        level: Below it a case is refused; None: not known.
    """
    figure = figures.blank("familiarity", 5.2, 4.1)
    ax = figures.axes(figure, left=0.62, bottom=0.8, width=4.35, height=3.17)
    for name, members, color in (("Right", correct, _BLUE), ("Wrong", ~correct, _ORANGE)):
        count, _ = np.histogram(values[members], _EDGES)
        share = 100 * count / max(1, count.sum())
        ax.stairs(share, _EDGES, fill=True, color=color, alpha=0.25, lw=0)
        ax.stairs(share, _EDGES, color=color, lw=1.5, label=f"{name} (n = {members.sum()})")
    if level is not None:
        ax.axvline(level, color=figures.INK, lw=1.2, ls=(0, (4, 2)), label="Refused below")
    ax.set(xlim=(-0.02, 1.02), ylim=(0, None), xlabel="Familiarity", ylabel="Share of the group (%)")
    figures.legend_below(figure, ax, columns=3)
    return figure


def gaps(groups: Sequence[Mapping[str, Any]], metrics: Mapping[str, str], *, number: int = 0) -> mpl_figure.Figure:
    """Draws how far each group of a column lies from all other cases, a panel a metric.

    Args:
        groups: What `subgroups.evaluate` holds under `groups`; those without a gap leave their row empty.
        metrics: Names of the gaps to draw, and what the panels are called.
        number: Tells the figure from those of other columns.
    """
    names = [figures.shortened(group["name"], 26) for group in groups]
    left = 0.3 + 0.075 * max(map(len, names))
    width, height = min(3.0, (10.2 - left) / len(metrics) - 0.25), _ROW * len(groups)
    figure = figures.blank(f"gaps-{number}", left + (width + 0.25) * len(metrics), height + 0.6)
    widest = _reach(groups, metrics)
    for place, (metric, title) in enumerate(metrics.items()):
        ax = figures.axes(figure, left=left + place * (width + 0.25), bottom=0.32, width=width, height=height)
        _gap_panel(ax, groups, metric, reach=widest)
        ax.set_yticks(range(len(groups)), names if place == 0 else [""] * len(groups))
        ax.set_title(title, loc="left", color=figures.INK, size=figures.FONT, weight="bold")
    return figure


def evidence(curves: Mapping[str, Any]) -> mpl_figure.Figure:
    """Draws the probability of the answer as the hottest places vanish, and as they appear.

    Args:
        curves: `fractions`, `deletion` and `insertion`, as `metrics.json` holds them.
    """
    figure = figures.blank("evidence", 5.2, 3.6)
    ax = figures.axes(figure, left=0.62, bottom=0.8, width=4.35, height=2.67)
    for name, label, color in (
        ("insertion", "hottest places appear first", _BLUE),
        ("deletion", "hottest places vanish first", _ORANGE),
    ):
        ax.plot(curves["fractions"], curves[name], color=color, lw=1.6, label=label)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="Share of the image", ylabel="Probability of the answer")
    figures.legend_below(figure, ax, columns=2)
    return figure


def _reach(groups: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> float:
    """Returns how far from 0 the intervals reach, at least 0.05."""
    entries = [group["gaps"][metric] for group in groups for metric in metrics if metric in group["gaps"]]
    ends = [abs(entry[key]) for entry in entries for key in ("value", "low", "high") if entry[key] is not None]
    return 1.05 * max(ends, default=0.0) if max(ends, default=0.0) > 0.05 else 0.05


def _gap_panel(ax: mpl_axes.Axes, groups: Sequence[Mapping[str, Any]], metric: str, *, reach: float) -> None:
    ax.axvline(0, color=figures.MUTED, lw=1)
    for row, group in enumerate(groups):
        entry = group["gaps"].get(metric)
        if entry is None or entry["value"] is None:
            continue
        clear = entry["low"] is not None and (entry["low"] > 0 or entry["high"] < 0)
        color = _ORANGE if clear else _BLUE
        if entry["low"] is not None:
            ax.plot([entry["low"], entry["high"]], [row, row], color=color, lw=2, alpha=0.75)
        ax.plot(entry["value"], row, "o", color=color, ms=5.5)
    ax.set(xlim=(-reach, reach), ylim=(len(groups) - 0.4, -0.6))
    ax.xaxis.set_major_locator(ticker.MaxNLocator(4, symmetric=True))
    ax.grid(False, axis="y")
