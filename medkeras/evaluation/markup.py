"""Small pure functions that turn values into HTML; every text from outside passes through `text`."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import image as mpl_image
from scipy import ndimage

from medkeras import errors
from medkeras.evaluation import figures, stylesheet

NOT_A_DEVICE = "This is research software, not a medical device: no decision about a patient may rest on it."
_LONGEST_SIDE = 288
_SMALL = 96
_MOST_HEAT = 0.65
_VARIABLES = {figures.INK: "--ink", figures.MUTED: "--muted", figures.GRID: "--grid"} | {
    color: f"--series-{i}" for i, color in enumerate(figures.SERIES)
}


def page(title: str, body: str, *, footer: str, style: str = "") -> str:
    """Returns a whole page: one file in light and dark, without scripts and without references.

    Args:
        title: The title, plain text.
        body: HTML.
        footer: HTML.
        style: CSS of this page alone.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{text(title)}</title><style>{stylesheet.CSS}{style}</style></head><body><main>{body}"
        f"<footer>{footer} Made with medkeras.</footer></main></body></html>\n"
    )


def text(value: object) -> str:
    """Returns a value as HTML text, markup escaped and unprintable characters replaced.

    >>> text("<b>")
    '&lt;b&gt;'
    """
    shown = errors.printable(value)
    return html.escape("".join(c if c.isprintable() else " " for c in shown))


def number(value: float | None) -> str:
    """Returns a number with three decimals, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}".replace("-", "−")


def limits(entry: Mapping[str, float | None]) -> str:
    """Returns `low – high` of a metric."""
    return "" if entry["low"] is None else f"{number(entry['low'])} – {number(entry['high'])}"


def with_limits(entry: Mapping[str, float | None]) -> str:
    """Returns a cell with a metric and, below it, its interval."""
    return f"{number(entry['value'])}<small>{limits(entry) or '&nbsp;'}</small>"


def bar(entry: Mapping[str, float | None], *, least: float = 0.0, mark: float | None = None) -> str:
    """Returns a drawing of a metric and its interval between `least` and 1, with a tick at `mark`."""
    value = entry["value"]
    if value is None:
        return ""

    def place(x: float | None) -> float:
        return 3 + 144 * min(1.0, max(0.0, ((value if x is None else x) - least) / (1 - least)))

    at, left, right = (place(x) for x in (value, entry["low"], entry["high"]))
    tick = (
        ""
        if mark is None
        else f'<rect x="{place(mark) - 0.5:.1f}" y="0" width="1" height="14" fill="var(--ink)"></rect>'
    )
    return (
        '<svg class="bar" viewBox="0 0 150 14" aria-hidden="true">'
        f'<rect x="3" y="6" width="144" height="2" rx="1" fill="var(--track)"></rect>{tick}'
        f'<rect x="{left:.1f}" y="4" width="{right - left:.1f}" height="6" rx="1" fill="var(--band)"></rect>'
        f'<rect x="{at - 1:.1f}" y="1" width="2" height="12" rx="1" fill="var(--accent)"></rect></svg>'
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Iterable[int] = (), label: str = "Table"
) -> str:
    """Returns a table of cells that are HTML already; the first cell of a row is its heading, `label` what it is."""
    numeric = set(numeric)
    css = [' class="number"' if i in numeric else "" for i in range(len(header))]
    head = "".join(f'<th scope="col"{css[i]}>{cell}</th>' for i, cell in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(f"<{tag}{css[i]}>{cell}</{tag.partition(' ')[0]}>" for i, (tag, cell) in enumerate(_tagged(row)))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def note(title: str, sentences: Iterable[str]) -> str:
    """Returns a box of plain sentences that nobody should pass over; nothing without sentences."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    return f'<div class="note" role="note"><b>{text(title)}</b><ul>{items}</ul></div>' if items else ""


def folded(summary: str, body: str) -> str:
    """Returns a card that opens when asked, and always on paper; nothing without a body."""
    return f'<details class="card"><summary>{text(summary)}</summary>{body}</details>' if body else ""


def facts(values: Mapping[str, Any]) -> str:
    """Returns names and values as a compact list."""
    rows = "".join(f"<div><dt>{text(key)}</dt><dd>{text(value) or '–'}</dd></div>" for key, value in values.items())
    return f'<dl class="facts">{rows}</dl>'


def drawing(figure: mpl_figure.Figure, *, title: str, caption: str) -> str:
    """Returns a card with a matplotlib figure as inline SVG, whose colours follow the page's theme.

    Title and caption are HTML without tags: they also tell those who do not see the figure what it is.
    """
    return (
        f'<figure class="card"><h3>{title}</h3><figcaption>{caption}</figcaption>'
        f"{_inline_svg(figures.render(figure).decode(), str(figure.get_label()), f'{title}. {caption}')}</figure>"
    )


def picture(image: np.ndarray, description: str) -> str:
    """Returns an image uint8 `[H, W, 1 or 3]` as `<img>`, its data inside; small ones keep their pixels."""
    shown = _shrunk(_colour(image))
    small = max(shown.shape[:2]) < _SMALL
    buffer, kind = io.BytesIO(), "png" if small else "jpeg"
    mpl_image.imsave(buffer, shown, format=kind, pil_kwargs=None if small else {"quality": 88})
    data = base64.b64encode(buffer.getvalue()).decode()
    css = ' class="small"' if small else ""
    return f'<img{css} alt="{text(description)}" src="data:image/{kind};base64,{data}">'


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Returns the image under its heatmap: the hotter, the more colour and the less image.

    Args:
        image: uint8 `[H, W, 1 or 3]`.
        heatmap: float `[h, w]` in 0…1 of any size; values outside are cut, NaN is 0.

    Returns:
        uint8 `[H, W, 3]`; where the heat is 0 the image is unchanged.
    """
    base = _colour(image).astype(np.float64)
    layer = heat(heatmap, base.shape[:2])
    opacity = _MOST_HEAT * layer[..., 3:]
    return np.rint(base * (1 - opacity) + 255 * layer[..., :3] * opacity).astype(np.uint8)


def heat(heatmap: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Returns a heatmap as a layer to lay over an image: colour, and the heat itself as its opacity.

    Args:
        heatmap: float `[h, w]` in 0…1; values outside are cut, NaN is 0.
        size: Height and width of the layer.

    Returns:
        float64 `[H, W, 4]`, red, green, blue and opacity in 0…1.
    """
    found = np.clip(np.nan_to_num(np.asarray(heatmap, np.float64), nan=0.0), 0.0, 1.0)
    factors = [out / side for out, side in zip(size, found.shape, strict=True)]
    found = np.clip(ndimage.zoom(found, factors, order=1, mode="nearest", grid_mode=True), 0.0, 1.0)
    return np.dstack((matplotlib.colormaps["inferno"](0.25 + 0.75 * found)[..., :3], found))


def _tagged(row: Sequence[str]) -> Iterable[tuple[str, str]]:
    return (("td" if i else 'th scope="row"', cell) for i, cell in enumerate(row))


def _colour(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _shrunk(image: np.ndarray) -> np.ndarray:
    factor = _LONGEST_SIDE / max(image.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(image)
    smooth = ndimage.gaussian_filter(image.astype(np.float64), (0.4 / factor, 0.4 / factor, 0))
    zoomed = ndimage.zoom(smooth, (factor, factor, 1), order=1, mode="nearest", grid_mode=True)
    return np.clip(np.rint(zoomed), 0, 255).astype(np.uint8)


def _inline_svg(svg: str, prefix: str, description: str) -> str:
    """Returns matplotlib's SVG as part of a page: themed, without references, its ids unlike any other figure's."""
    svg = svg[svg.index("<svg") :]
    for unwanted in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>"):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _themed(tag.group(), prefix), svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def _themed(tag: str, prefix: str) -> str:
    tag = re.sub(r' xmlns(:xlink)?="[^"]*"', "", tag)
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag)
    return re.sub(r"#[0-9a-f]{6}\b", _variable, tag)


def _variable(color: re.Match[str]) -> str:
    name = _VARIABLES.get(color.group())
    return f"var({name})" if name else color.group()
