"""The pictures of a comparison: how far intervals overlap, and what accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from medkeras.evaluation import figures

KINDS = ("traditional", "embedding", "network", "saved")
KIND_NAMES = ("hand-made features", "frozen pretrained features", "trained network", "saved model")
_MARKERS = ("s", "D", "o", "^")
_FONT = 9.5
_ROW = 0.3


def forest(models: Mapping[str, Mapping[str, Any]], metric: str, title: str) -> mpl_figure.Figure:
    """Draws each model's value and 95% interval, the best on top.

    Args:
        models: What `comparison.json` holds under `models`.
        metric: Which of their metrics.
        title: What the axis says.
    """
    names = ranked(models, metric)
    left = 0.35 + 0.073 * max(len(models[name]["title"]) for name in names)
    figure = mpl_figure.Figure(figsize=(left + 4.3, 0.62 + _ROW * len(names)))
    figure.set_label(f"forest-{metric}")
    ax = _axes(figure, left=left, bottom=0.5, width=4.15, height=_ROW * len(names))
    best = models[names[0]][metric]
    if best["low"] is not None:
        ax.axvspan(best["low"], best["high"], color=figures.SERIES[0], alpha=0.1, lw=0)
    for row, name in enumerate(reversed(names)):
        entry, kind = models[name][metric], KINDS.index(models[name]["kind"])
        if entry["low"] is not None:
            ax.plot([entry["low"], entry["high"]], [row, row], color=figures.SERIES[kind], lw=2, alpha=0.75)
        if entry["value"] is not None:
            ax.plot(entry["value"], row, _MARKERS[kind], color=figures.SERIES[kind], ms=6)
    ax.set_yticks(range(len(names)), [_plain(models[name]["title"]) for name in reversed(names)])
    ax.set(ylim=(-0.6, len(names) - 0.4), xlabel=title)
    ax.grid(False, axis="y")
    return figure


def cost(models: Mapping[str, Mapping[str, Any]], metric: str, title: str) -> mpl_figure.Figure:
    """Draws each model's value against its time for an answer, and against its time to learn where it has one."""
    figure = mpl_figure.Figure(figsize=(10.2, 3.75))
    figure.set_label(f"cost-{metric}")
    panels = (("predict_ms_per_case", "Time for an answer (ms a case)"), ("train_seconds", "Time to learn (s)"))
    numbers = {name: number for number, name in enumerate(ranked(models, metric), start=1)}
    for place, (key, label) in enumerate(panels):
        ax = _axes(figure, left=0.62 + 5.05 * place, bottom=0.85, width=4.3, height=2.75)
        shown = [name for name in numbers if models[name][metric]["value"] is not None and models[name][key]]
        _scatter(ax, models, {name: numbers[name] for name in shown}, metric=metric, key=key)
        ax.set(xlabel=label, ylabel=title)
    _legend(figure, [models[name]["kind"] for name in numbers])
    return figure


def ranked(models: Mapping[str, Mapping[str, Any]], metric: str) -> list[str]:
    """Returns the names, the highest value first, those without one last."""
    values = {name: model[metric]["value"] for name, model in models.items()}
    return sorted(values, key=lambda name: -math.inf if values[name] is None else values[name], reverse=True)


def _scatter(
    ax: mpl_axes.Axes, models: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, int], *, metric: str, key: str
) -> None:
    for name, number in numbers.items():
        entry, kind, at = models[name][metric], KINDS.index(models[name]["kind"]), models[name][key]
        color = figures.SERIES[kind]
        if entry["low"] is not None:
            ax.plot([at, at], [entry["low"], entry["high"]], color=color, lw=1.4, alpha=0.45)
        ax.plot(at, entry["value"], _MARKERS[kind], color=color, ms=7)
        ax.annotate(
            str(number), (at, entry["value"]), xytext=(6, 4), textcoords="offset points", size=_FONT, color=figures.INK
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    ax.margins(0.1)


def _legend(figure: mpl_figure.Figure, kinds: Sequence[str]) -> None:
    ax = figure.axes[0]
    for kind, (name, marker) in enumerate(zip(KIND_NAMES, _MARKERS, strict=True)):
        if KINDS[kind] in kinds:
            ax.plot([], [], marker, color=figures.SERIES[kind], ms=7, label=name)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.05, 0.0),
        bbox_transform=figure.transFigure,
        ncols=len(KINDS),
        frameon=False,
        fontsize=_FONT,
        labelcolor=figures.INK,
    )


def _axes(figure: mpl_figure.Figure, *, left: float, bottom: float, width: float, height: float) -> mpl_axes.Axes:
    """Adds axes at a place given in inches."""
    across, up = figure.get_size_inches()
    ax = figure.add_axes((left / across, bottom / up, width / across, height / up))
    ax.set_facecolor("none")
    ax.grid(True, color=figures.GRID, lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(figures.MUTED)
    ax.tick_params(colors=figures.MUTED, labelcolor=figures.INK, labelsize=_FONT, length=3)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set(color=figures.INK, size=_FONT)
    return ax


def _plain(name: str) -> str:
    """Returns a name that matplotlib writes as it is: no line break, no formula."""
    return "".join(c if c.isprintable() else " " for c in name).replace("$", r"\$")
