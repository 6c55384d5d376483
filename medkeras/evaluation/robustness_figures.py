"""The picture of robustness: small multiples, a corruption each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from medkeras.evaluation import figures, robustness

_COLUMNS = 4
_WIDTH, _HEIGHT = 2.05, 1.3
_ACROSS, _DOWN = 0.22, 0.5
_LEFT, _BOTTOM, _ROW = 0.66, 0.62, 0.2
_MARKERS = "osD^v"
_DASHES = ("-", (0, (3, 1.4)))
_DODGE = 0.13


def draw(found: robustness.Robustness, metric: str = "accuracy") -> mpl_figure.Figure:
    """Draws a metric against severity, a panel a corruption and a line a model, with 95% intervals.

    Args:
        found: What was measured; severity 0 are the clean pictures.
        metric: One of `robustness.METRICS`.
    """
    names = list(dict.fromkeys(row.corruption for row in found.rows[1:]))
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    entries = 1 if max(map(len, found.models)) > 40 else min(3, len(found.models))
    bottom = _BOTTOM + _ROW * math.ceil(len(found.models) / entries)
    width = _LEFT + columns * _WIDTH + (columns - 1) * _ACROSS + 0.15
    figure = figures.blank(f"robustness-{metric}", width, bottom + rows * (_HEIGHT + _DOWN))
    panels = []
    for place, name in enumerate(names):
        down, across = divmod(place, columns)
        up = bottom + (rows - 1 - down) * (_HEIGHT + _DOWN)
        ax = figures.axes(figure, left=_LEFT + across * (_WIDTH + _ACROSS), bottom=up, width=_WIDTH, height=_HEIGHT)
        _panel(ax, found, name, metric)
        ax.tick_params(labelleft=across == 0)
        ax.set_ylabel(_capital(robustness.WORDS[metric]) if across == 0 else "")
        ax.set_xlabel("Severity" if place + columns >= len(names) else "")
        panels.append(ax)
    _level(panels, found, metric)
    figures.legend_below(figure, panels[0], columns=entries)
    return figure


def _panel(ax: mpl_axes.Axes, found: robustness.Robustness, corruption: str, metric: str) -> None:
    shown = [row for row in found.rows if row.corruption in (robustness.CLEAN[0], corruption)]
    for place, name in enumerate(found.models):
        shift = _DODGE * (place - (len(found.models) - 1) / 2)
        values, low, high = (_column(shown, name, metric, key) for key in ("value", "low", "high"))
        x = np.array([row.severity + shift for row in shown])
        color, marker = figures.SERIES[place % len(figures.SERIES)], _MARKERS[place % len(_MARKERS)]
        ax.vlines(x, low, high, color=color, lw=1.2, alpha=0.45)
        # Lines of models that answer alike lie on each other: of every second one the first shows through.
        dashes = _DASHES[place % len(_DASHES)]
        ax.plot(x, values, color=color, ls=dashes, marker=marker, lw=1.5, ms=3.8, label=figures.shortened(name, 60))
    title = _capital(robustness.spoken(corruption))
    ax.set_title(figures.shortened(title, 24), loc="left", color=figures.INK, size=figures.FONT, weight="bold")


def _level(panels: list[mpl_axes.Axes], found: robustness.Robustness, metric: str) -> None:
    """Gives all panels the same axes: all severities, and all values with their limits."""
    values = [_column(found.rows, name, metric, key) for name in found.models for key in ("value", "low", "high")]
    known = np.concatenate(values)[~np.isnan(np.concatenate(values))]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    room = max(0.02, 0.05 * (high - low))
    last = max(row.severity for row in found.rows)
    for ax in panels:
        ax.set(xlim=(-0.35, last + 0.35), ylim=(low - room, high + room))
        ax.set_xticks(range(last + 1), ["clean", *map(str, range(1, last + 1))])
        ax.yaxis.set_major_locator(ticker.MaxNLocator(4))


def _column(rows: Sequence[robustness.Row], name: str, metric: str, key: str) -> np.ndarray:
    """Returns one number of each row, float64 `[R]`, NaN where there is none."""
    return np.array([row.models[name][metric][key] for row in rows], np.float64)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
