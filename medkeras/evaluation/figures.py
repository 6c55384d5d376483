"""The pictures of a report: matplotlib figures, colour-blind safe, drawn without pyplot's global state."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import patches, ticker
from sklearn import metrics

from medkeras.evaluation import calibration, intervals
from medkeras.evaluation import predictions as tables

INK = "#1f2933"
MUTED = "#5d6875"
GRID = "#e2e6ea"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7f87")
"""Okabe and Ito's colours without black and yellow, which vanish on one background or the other."""

_RIGHT, _WRONG = SERIES[0], SERIES[1]
_DASHES = ("-", (0, (4, 1.5)))
_MOST_CURVES = 10
_MOST_POINTS = 300
FONT = 9.5
_LEGEND_ROW = 0.175
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": FONT,
    "path.simplify_threshold": 0.3,
}


def render(figure: mpl_figure.Figure, file_format: str = "svg") -> bytes:
    """Returns the figure as a file: `svg`, or `png` at 200 dots an inch."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {}
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": figure.get_label()}), warnings.catch_warnings():
        # A reader's browser has the letters of a class name that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=file_format, dpi=200, metadata=metadata, transparent=file_format == "svg")
    return buffer.getvalue()


def training_curves(history: Sequence[Mapping[str, Any]]) -> mpl_figure.Figure:
    """Draws loss, accuracy and learning rate, whichever the rows hold, against the epoch.

    Args:
        history: One mapping an epoch; `val_loss` beside `loss`; values may be texts, as read from a CSV.
    """
    panels = [name for name in ("loss", "accuracy", "learning_rate") if _column(history, name).size]
    figure = blank("training", 3.55 * max(1, len(panels)), 2.75)
    for position, name in enumerate(panels):
        ax = axes(figure, left=0.62 + 3.55 * position, bottom=0.48, width=2.75, height=1.82)
        _history_panel(ax, history, name)
    return figure


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> mpl_figure.Figure:
    """Draws counts `[K, K]` (rows are true) and each as a share of its row."""
    size = len(classes)
    names = [shortened(name, 24) for name in classes]
    longest = max(map(len, names))
    cell = max(0.28, min(0.95, 5.6 / size))
    slanted = longest * 0.085 > cell
    left, top = 0.45 + 0.078 * longest, 0.4 + (0.06 * longest if slanted else 0.1)
    right = 0.1 + max(0.0, 0.065 * longest - cell / 2 if slanted else 0.0)
    figure = blank("confusion", left + cell * size + right, top + cell * size + 0.1)
    ax = axes(figure, left=left, bottom=0.1, width=cell * size, height=cell * size)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for (row, column), count in np.ndenumerate(counts):
        _confusion_cell(ax, row, column, int(count), share=share[row, column], cell=cell)
    ax.set(xlim=(0, size), ylim=(size, 0), xlabel="Called", ylabel="Truth")
    ax.set_xticks(np.arange(size) + 0.5, names, rotation=40 if slanted else 0, ha="left" if slanted else "center")
    ax.set_yticks(np.arange(size) + 0.5, names)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0, colors=INK)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return figure


def roc_curves(
    table: tables.Predictions, target: np.ndarray, points: Mapping[str, tuple[float, float]] | None = None
) -> mpl_figure.Figure:
    """Draws the ROC curve of each class against all others (two classes: of the second), AUROC in the legend.

    Args:
        table: N cases, K classes.
        target: The truth, `[N, K]`.
        points: Class name to the sensitivity and specificity of its operating point: a ring on the figure.
    """

    def curve(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        false_rate, true_rate, _ = metrics.roc_curve(truth, score)
        return false_rate, true_rate, metrics.auc(false_rate, true_rate)

    figure, ax = _curves("roc", table, target, curve)
    for place, k in enumerate(_shown_classes(table, target)):
        if table.classes[k] in (points or {}):
            found, cleared = (points or {})[table.classes[k]]
            color = SERIES[place % len(SERIES)]
            ax.plot(1 - cleared, found, "o", ms=9, mfc="none", mec=color, mew=2, zorder=4)
    ax.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
    ax.set(xlabel="1 − specificity", ylabel="Sensitivity")
    return figure


def precision_recall_curves(table: tables.Predictions, target: np.ndarray) -> mpl_figure.Figure:
    """Draws precision against recall of each class (two classes: of the second), average precision in the legend."""

    def curve(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        precision, recall, _ = metrics.precision_recall_curve(truth, score)
        return *_steps(recall[-2::-1], precision[-2::-1]), metrics.average_precision_score(truth, score)

    figure, ax = _curves("precision-recall", table, target, curve)
    for line in ax.lines:
        line.set_drawstyle("steps-pre")
    ax.set(xlabel="Recall", ylabel="Precision")
    return figure


def reliability_diagram(table: tables.Predictions, target: np.ndarray) -> mpl_figure.Figure:
    """Draws how often a statement came true against the probability it was made with."""
    stated, observed = calibration.statements(table, target)
    bins = calibration.reliability(stated, observed)
    figure = blank("reliability", 5.2, 4.1)
    ax = axes(figure, left=0.62, bottom=1.22, width=4.35, height=2.75)
    below = axes(figure, left=0.62, bottom=0.48, width=4.35, height=0.6)
    ax.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
    low, high = _bin_limits(table, stated, observed)
    ax.vlines(bins.stated, low, high, color=_RIGHT, lw=1.3, alpha=0.45)
    ax.plot(bins.stated, bins.observed, "o-", color=_RIGHT, lw=1.4, ms=4.5)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Came true")
    ax.tick_params(labelbottom=False)
    below.bar((np.arange(calibration.BINS) + 0.5) / calibration.BINS, bins.count, 0.9 / calibration.BINS, color=_RIGHT)
    below.set(xlim=(-0.02, 1.02), xlabel="Stated probability", ylabel="Cases")
    below.yaxis.set_major_locator(ticker.MaxNLocator(2, integer=True))
    return figure


def score_histogram(table: tables.Predictions, target: np.ndarray) -> mpl_figure.Figure:
    """Draws how probabilities spread: by true class for two classes, by right and wrong for more."""
    values, groups, label = _score_groups(table, target)
    figure = blank("scores", 5.2, 4.1)
    ax = axes(figure, left=0.62, bottom=0.6 + _LEGEND_ROW, width=4.35, height=3.37 - _LEGEND_ROW)
    edges = np.linspace(0, 1, 26)
    for (name, members), color in zip(groups.items(), (_RIGHT, _WRONG), strict=True):
        count, _ = np.histogram(values[members], edges)
        share = 100 * count / max(1, count.sum())
        ax.stairs(share, edges, fill=True, color=color, alpha=0.25, lw=0)
        ax.stairs(share, edges, color=color, lw=1.5, label=f"{shortened(name, 30)} (n = {members.sum()})")
    ax.set(xlim=(-0.02, 1.02), ylim=(0, None), xlabel=label, ylabel="Share of the group (%)")
    legend_below(figure, ax, columns=2)
    return figure


def blank(label: str, width: float, height: float) -> mpl_figure.Figure:
    """Returns an empty figure of a size in inches; the label tells it from every other figure of a page."""
    figure = mpl_figure.Figure(figsize=(width, height))
    figure.set_label(label)
    return figure


def axes(figure: mpl_figure.Figure, *, left: float, bottom: float, width: float, height: float) -> mpl_axes.Axes:
    """Adds axes at a place given in inches."""
    across, up = figure.get_size_inches()
    ax = figure.add_axes((left / across, bottom / up, width / across, height / up))
    ax.set_facecolor("none")
    ax.grid(True, color=GRID, lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=FONT - 1, length=3)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set(color=INK, size=FONT)
    return ax


def legend_below(figure: mpl_figure.Figure, ax: mpl_axes.Axes, *, columns: int) -> None:
    """Adds the legend at the figure's lower edge."""
    legend = ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.01, 0.0),
        bbox_transform=figure.transFigure,
        ncols=columns,
        frameon=False,
        fontsize=FONT - 0.5,
        handlelength=2.0,
        labelspacing=0.45,
        borderaxespad=0.2,
    )
    for text in legend.get_texts():
        text.set_color(INK)


def shortened(name: str, longest: int) -> str:
    """Returns a name that matplotlib writes as it is: no line break, no formula, no `_` that a legend would hide."""
    line = "".join(c if c.isprintable() else " " for c in name)
    cut = line if len(line) <= longest else line[: longest - 1] + "…"
    return ("\N{THIN SPACE}" if cut.startswith("_") else "") + cut.replace("$", r"\$")


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Returns `[E, 2]`: epochs that have the value, counted from 1, and the value."""
    first = 1 - min((float(row.get("epoch", 1)) for row in history), default=1.0)
    pairs = [(float(row.get("epoch", i + 1)) + max(0.0, first), row.get(name)) for i, row in enumerate(history)]
    return np.array([(epoch, float(value)) for epoch, value in pairs if value not in (None, "")])


def _history_panel(ax: mpl_axes.Axes, history: Sequence[Mapping[str, Any]], name: str) -> None:
    for key, label, color in ((name, "training", _RIGHT), (f"val_{name}", "validation", _WRONG)):
        points = _column(history, key)
        if points.size:
            ax.plot(*points.T, color=color, lw=1.6, marker="o", ms=2.5 if len(points) < 40 else 0, label=label)
    ax.set_title(name.replace("_", " ").capitalize(), loc="left", color=INK, size=FONT + 0.5, weight="bold")
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(ticker.MaxNLocator(5))
    if name == "learning_rate":
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif len(ax.lines) > 1:
        ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK, handlelength=1.4)


def _confusion_cell(ax: mpl_axes.Axes, row: int, column: int, count: int, *, share: float, cell: float) -> None:
    strength = 0.05 + 0.5 * share**0.7
    color = _RIGHT if row == column else _WRONG
    ax.add_patch(patches.Rectangle((column + 0.02, row + 0.02), 0.96, 0.96, color=color, alpha=strength, lw=0))
    if cell >= 0.5:
        ax.text(column + 0.5, row + 0.42, f"{count}", ha="center", va="center", color=INK, size=11, weight="bold")
        ax.text(column + 0.5, row + 0.73, f"{100 * share:.0f}%", ha="center", va="center", color=INK, size=FONT - 1.5)
    elif count and cell > 0.3:
        ax.text(column + 0.5, row + 0.5, f"{count}", ha="center", va="center", color=INK, size=FONT - 2)


def _curves(
    label: str,
    table: tables.Predictions,
    target: np.ndarray,
    curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, float]],
) -> tuple[mpl_figure.Figure, mpl_axes.Axes]:
    shown = _shown_classes(table, target)
    longest = max((len(shortened(table.classes[k], 40)) for k in shown), default=0)
    columns = 2 if longest <= 20 and len(shown) > 1 else 1
    rows = math.ceil(len(shown) / columns)
    figure = blank(label, 5.2, 3.75 + _LEGEND_ROW * rows)
    ax = axes(figure, left=0.62, bottom=0.6 + _LEGEND_ROW * rows, width=4.35, height=3.05)
    for place, k in enumerate(shown):
        x, y, area = curve(target[:, k], table.probabilities[:, k])
        color, dashes = SERIES[place % len(SERIES)], _DASHES[place // len(SERIES)]
        ax.plot(*_thinned(x, y), color=color, ls=dashes, lw=1.6, label=f"{shortened(table.classes[k], 40)}  {area:.3f}")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if shown:
        legend_below(figure, ax, columns=columns)
    return figure, ax


def _shown_classes(table: tables.Predictions, target: np.ndarray) -> list[int]:
    """Returns the classes to draw: those with and without cases, the largest where they are many."""
    support = target.sum(axis=0)
    drawable = [k for k in range(len(table.classes)) if 0 < support[k] < len(table)]
    if len(table.classes) == 2 and not table.multilabel:
        return drawable[1:]
    return sorted(sorted(drawable, key=lambda k: -support[k])[:_MOST_CURVES])


def _steps(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps of rising recall that find something, the first of them drawn from recall 0 on."""
    steps = np.diff(recall, prepend=0.0) > 0
    return np.append(0.0, recall[steps]), np.append(precision[steps][:1], precision[steps])


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= _MOST_POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int))
    return x[kept], y[kept]


def _bin_limits(table: tables.Predictions, stated: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    patients = np.repeat(table.patients, stated.shape[1])
    where, hits = calibration.bins(stated).ravel(), observed.ravel()
    limits = [intervals.proportion(hits, (where == b).astype(float), patients) for b in range(calibration.BINS)]
    low, high = np.array(limits).T
    return low, high


def _score_groups(table: tables.Predictions, target: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], str]:
    if table.multilabel:
        present = target.ravel() > 0
        return table.probabilities.ravel(), {"Present": present, "Absent": ~present}, "Probability of each class"
    if len(table.classes) == 2:
        second = target[:, 1] > 0
        groups = {table.classes[0]: ~second, table.classes[1]: second}
        return table.probabilities[:, 1], groups, f"Probability of {shortened(table.classes[1], 40)}"
    right = (target == table.decisions).all(axis=1)
    return (
        table.probabilities.max(axis=1),
        {"Right": right, "Wrong": ~right},
        "Probability of the class that was called",
    )
