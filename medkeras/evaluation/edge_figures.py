"""The pictures of a benchmark: what an answer costs, and how accurate it is for that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from medkeras.evaluation import figures

RUNTIMES: Mapping[str, str] = {"tensorflow": "TensorFlow", "litert": "LiteRT", "onnx": "ONNX Runtime"}
"""What computes a model, as `benchmark.json` calls it and as people do."""

_COLORS = dict(zip(RUNTIMES, figures.SERIES, strict=False))
_MARKERS = dict(zip(RUNTIMES, "osD", strict=True))
_ROW = 0.36
_LETTER = 0.068
_LINE = 0.17
_POINT = 0.06
_LONGEST = 44


def trade(models: Mapping[str, Mapping[str, Any]]) -> mpl_figure.Figure:
    """Draws accuracy with its 95% interval against the median latency: a point a model, its name beside it.

    Args:
        models: What `benchmark.json` holds under `models`, those that have an accuracy.
    """
    figure = figures.blank("trade", 10.2, 4.6)
    width, height = 9.3, 3.55
    ax = figures.axes(figure, left=0.72, bottom=0.8, width=width, height=height)
    for entry in models.values():
        at, accuracy, runtime = entry["latency_ms"]["median"], entry["accuracy"], entry["runtime"]
        ax.plot([at, at], [accuracy["low"], accuracy["high"]], color=_COLORS[runtime], lw=1.6, alpha=0.45)
        ax.plot(at, accuracy["value"], _MARKERS[runtime], color=_COLORS[runtime], ms=7)
    ax.set_xscale("log")
    ax.set(xlabel="Latency of one picture (ms, median)", ylabel="Accuracy")
    ax.set_xlim(*_across(entry["latency_ms"]["median"] for entry in models.values()))
    ax.xaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    _name(ax, models, width, height)
    _legend(figure, ax, (entry["runtime"] for entry in models.values()))
    return figure


def latency(models: Mapping[str, Mapping[str, Any]]) -> mpl_figure.Figure:
    """Draws the median latency of each model as a bar, the fastest on top, and how far 95 and 99 of 100 calls go."""
    names = fastest(models)
    left = 0.35 + _LETTER * max(len(_shown(name)) for name in names)
    figure = figures.blank("latency", left + 5.6, 1.0 + _ROW * len(names))
    ax = figures.axes(figure, left=left, bottom=0.82, width=4.6, height=_ROW * len(names))
    for row, name in enumerate(reversed(names)):
        entry, color = models[name]["latency_ms"], _COLORS[models[name]["runtime"]]
        ax.barh(row, entry["median"], height=0.56, color=color, alpha=0.85)
        ax.plot([entry["median"], entry["p99"]], [row, row], color=figures.MUTED, lw=1)
        ax.plot([entry["p95"]], [row], "|", color=figures.MUTED, ms=9, mew=1.4)
        ax.plot([entry["p99"]], [row], "|", color=figures.MUTED, ms=5, mew=1.4)
        ax.annotate(
            f"{milliseconds(entry['median'])}",
            (entry["p99"], row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            size=figures.FONT - 1,
            color=figures.INK,
        )
    ax.set_yticks(range(len(names)), [_shown(name) for name in reversed(names)])
    ax.set(ylim=(-0.6, len(names) - 0.4), xlabel="Latency of one picture (ms)")
    ax.set_xlim(0, 1.02 * max(models[name]["latency_ms"]["p99"] for name in names))
    ax.grid(False, axis="y")
    _legend(figure, ax, (models[name]["runtime"] for name in names))
    return figure


def fastest(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the names, the lowest median latency first."""
    return sorted(models, key=lambda name: models[name]["latency_ms"]["median"])


def milliseconds(value: float) -> str:
    """Returns a time with three digits, and from a second on in seconds.

    >>> milliseconds(0.5401), milliseconds(154.2), milliseconds(13425.7)
    ('0.54 ms', '154 ms', '13.4 s')
    """
    if value >= 1000:
        return f"{value / 1000:.3g} s" if value < 100_000 else f"{value / 1000:,.0f} s"
    return f"{float(f'{value:.3g}'):g} ms"


def _across(values: Iterable[float]) -> tuple[float, float]:
    """Returns the ends of a logarithmic axis that leaves room at both sides, and is not all one decade's dot."""
    found = list(values)
    low, high = min(found), max(found)
    room = max(1.25, (high / low) ** 0.08)
    return low / room, high * room


def _name(ax: mpl_axes.Axes, models: Mapping[str, Mapping[str, Any]], width: float, height: float) -> None:
    """Writes each name beside its point, at the first height at which no name stands yet."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    places = {
        name: (
            width * math.log(entry["latency_ms"]["median"] / left) / math.log(right / left),
            height * (entry["accuracy"]["value"] - low) / (high - low),
        )
        for name, entry in models.items()
    }
    taken = [(x - _POINT, x + _POINT, y) for x, y in places.values()]
    for name, (x, y) in sorted(places.items(), key=lambda item: -item[1][1]):
        entry = models[name]
        long = _LETTER * len(_shown(name))
        before = x + 0.12 + long > width
        start = x - 0.12 - long if before else x + 0.12
        at = next(each for each in _heights(y) if not _meets(taken, start, start + long, each))
        taken.append((start, start + long, at))
        ax.annotate(
            _shown(name),
            (entry["latency_ms"]["median"], entry["accuracy"]["value"]),
            xytext=(-8.6 if before else 8.6, 72 * (at - y)),
            textcoords="offset points",
            ha="right" if before else "left",
            va="center",
            size=figures.FONT - 1,
            color=figures.INK,
        )


def _heights(y: float) -> Iterator[float]:
    """Yields places ever farther from a point's own, above and below."""
    yield y
    for n in itertools.count(1):
        yield y + _LINE * n
        yield y - _LINE * n


def _meets(taken: Iterable[tuple[float, float, float]], start: float, end: float, y: float) -> bool:
    return any(abs(at - y) < 0.99 * _LINE and start < right and left < end for left, right, at in taken)


def _legend(figure: mpl_figure.Figure, ax: mpl_axes.Axes, runtimes: Iterable[str]) -> None:
    present = set(runtimes)
    for runtime, name in RUNTIMES.items():
        if runtime in present:
            ax.plot([], [], _MARKERS[runtime], color=_COLORS[runtime], ms=7, label=name)
    figures.legend_below(figure, ax, columns=len(RUNTIMES))


def _shown(name: str) -> str:
    return figures.shortened(name, _LONGEST)
