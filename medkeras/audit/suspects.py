"""Pictures that look wrong: empty, negative, written on, or framed. Suspects, not verdicts: a person looks at them."""

from __future__ import annotations

import collections
import dataclasses
import types
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medkeras.audit import facts, fingerprints, polarity, survey
from medkeras.data import cases

KINDS = ("constant", "nearly_black", "inverted", "burned_in_header", "burned_in_text", "borders")

_LARGEST_SIDE = 512
_DARK = 0.05
_ENOUGH = 10
_EVEN = 0.04
_STEP = 0.1
_MOST_OF_THE_EDGE = 0.6
_LEAST_BAR = 0.01

_BAND = 0.25
_SMALLEST_PAGE = 64
_GLYPH_HEIGHTS = (5, 0.09)
_CLOSINGS = (5, 9, 17)
_STROKE_CONTRAST = 0.3
_LEAST_STROKES = 3


@dataclasses.dataclass(frozen=True)
class Measures:
    """What one look at a picture tells; of a volume, at its middle slice.

    Attributes:
        dark: First percentile of the stored values.
        bright: 99th percentile of the stored values.
        strokes: Strokes that a horizontal cut through what looks like a line of text meets; 0: nothing looks like one.
        bars: Share of the picture, 0..1, in even bars that end in a straight edge.
    """

    dark: float
    bright: float
    strokes: float
    bars: float


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A case that a person should look at, and how strongly it stands out, in the unit of its kind."""

    case_id: str
    score: float


class Measuring:
    """An `ImageSource` that measures every image on its way through.

    Attributes:
        found: Case id to what was measured.
    """

    def __init__(self, images: cases.ImageSource) -> None:
        self._images = images
        self.found: dict[str, Measures] = {}

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the header that the source gives."""
        return self._images.header(case)

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the pixels that the source gives."""
        image = self._images.read(case, channels)
        self.found[case.case_id] = measure(image)
        return image


def measure(image: np.ndarray) -> Measures:
    """Measures stored values `[H, W, C]` or `[D, H, W, C]`, C being 1 or 3."""
    plane = fingerprints.grey(fingerprints.one_channel(image[len(image) // 2] if image.ndim == 4 else image))
    plane = _shrunk(plane)
    sample = plane[:: 1 + (plane.shape[0] > _SMALLEST_PAGE), :: 1 + (plane.shape[1] > _SMALLEST_PAGE)]
    low, dark, bright, high = np.percentile(sample, (0.1, 1, 99, 99.9)).tolist()
    if not high > low:
        low, high = float(plane.min()), float(plane.max())
    page = np.clip((plane - low) / (high - low), 0, 1) if high > low else np.zeros_like(plane)
    return Measures(dark=dark, bright=bright, strokes=strokes(page), bars=bars(page))


def find(
    records: Sequence[survey.Record],
    measures: Mapping[str, Measures],
    stated: Mapping[str, Mapping[str, str]] = types.MappingProxyType({}),
) -> dict[str, tuple[Suspect, ...]]:
    """Returns the suspects of each of `KINDS`, the strongest first.

    Scores: `constant` the one value; `nearly_black` the brightness as a share of white; `inverted` how much the
    picture is a negative, 0..1; `burned_in_header` 1 where the header announces it; `burned_in_text`
    strokes in a line; `borders` share of the picture.

    Args:
        records: The cases that were read.
        measures: Case id to what was measured.
        stated: Case id to what its header says.
    """
    rows = {
        "constant": [(each, each.low) for each in records if each.low == each.high],
        "nearly_black": _nearly_black(records, measures),
        "inverted": _inverted(records),
        "burned_in_header": [(each, 1.0) for each in records if stated.get(each.case.case_id, {}).get(facts.BURNED_IN)],
        "burned_in_text": [(each, strokes) for each in records if (strokes := measures[each.case.case_id].strokes)],
        "borders": [(each, share) for each in records if (share := measures[each.case.case_id].bars) >= _LEAST_BAR],
    }
    return {kind: _sorted(rows[kind], weakest_first=kind == "nearly_black") for kind in KINDS}


def _sorted(rows: Sequence[tuple[survey.Record, float]], *, weakest_first: bool) -> tuple[Suspect, ...]:
    found = (Suspect(record.case.case_id, round(float(score), 4)) for record, score in rows)
    return tuple(sorted(found, key=lambda each: (each.score if weakest_first else -each.score, each.case_id)))


def _nearly_black(
    records: Sequence[survey.Record], measures: Mapping[str, Measures]
) -> list[tuple[survey.Record, float]]:
    """Returns those whose bright parts are within 5% of black, by the 8-bit range or by their dtype's others."""
    found = []
    by_dtype = collections.defaultdict(list)
    for record in records:
        by_dtype[record.header.dtype].append((record, measures[record.case.case_id]))
    for dtype, members in by_dtype.items():
        black, white = 0.0, 255.0
        if dtype != "uint8":
            black = float(np.median([each.dark for _, each in members]))
            white = float(np.median([each.bright for _, each in members]))
        if white > black and (dtype == "uint8" or len(members) >= _ENOUGH):
            shares = [(record, (each.bright - black) / (white - black)) for record, each in members]
            found += [(record, share) for record, share in shares if share < _DARK and record.low < record.high]
    return found


def _inverted(records: Sequence[survey.Record]) -> list[tuple[survey.Record, float]]:
    """Returns the pictures that are negatives beside the others."""
    members = [record for record in records if not record.fingerprint.flat]
    if not members:
        return []
    thumbnails = np.stack([record.fingerprint.thumbnail[::4, ::4] for record in members])
    scores = polarity.negatives(thumbnails, [record.case.patient_id for record in members])
    return [(record, score) for record, score in zip(members, scores.tolist(), strict=True) if score > 0]


def bars(page: np.ndarray) -> float:
    """Returns the share of a picture `[H, W]` in 0..1 that lies in even bars along its sides.

    A bar ends in a straight edge: most of the line behind it differs at once, which is what padding and frames do and
    the dark surroundings of a body do not.
    """
    height, width = page.shape
    rows = _bar(page) + _bar(page[::-1])
    columns = _bar(page.T) + _bar(page[:, ::-1].T)
    return 1.0 - max(height - rows, 0) * max(width - columns, 0) / (height * width)


def _bar(page: np.ndarray) -> int:
    """Returns how many rows at the top form a bar."""
    level = float(np.median(page[0]))
    if np.abs(page[0] - level).max() > _EVEN:
        return 0
    even = np.abs(page - level).max(axis=1) <= _EVEN
    count = int(np.argmin(even)) if not even.all() else 0
    if not count:
        return 0
    behind = np.abs(page[count : count + 2] - level) > _STEP
    return count if behind.mean(axis=1).max() >= _MOST_OF_THE_EDGE else 0


def strokes(page: np.ndarray) -> float:
    """Returns the strokes that a cut through the longest line of text meets, in the bands at the top and the bottom.

    A line of text is a flat group of strokes of high contrast, evenly many at every height, on an even ground.

    Args:
        page: Float `[H, W]` in 0..1.
    """
    if min(page.shape) < _SMALLEST_PAGE:
        return 0.0
    band = int(page.shape[0] * _BAND)
    return max((_line(part, max(page.shape)) for part in (page[:band], page[-band:])), default=0.0)


def _line(part: np.ndarray, side: int) -> float:
    part = 1 - part if np.median(part) > 0.5 else part
    window = max(5, round(side * 0.03) | 1)
    thin = part - ndimage.maximum_filter(ndimage.minimum_filter(part, window), window) > _STROKE_CONTRAST
    if np.count_nonzero(_runs(thin) >= _LEAST_STROKES) < _GLYPH_HEIGHTS[0] - 1:
        return 0.0
    return max((_longest(part, thin, reach, _GLYPH_HEIGHTS[1] * side) for reach in _CLOSINGS), default=0.0)


def _longest(part: np.ndarray, thin: np.ndarray, reach: int, tallest: float) -> float:
    groups, _ = ndimage.label(ndimage.maximum_filter1d(thin.view(np.uint8), reach, axis=1))
    best = 0.0
    for number, (rows, columns) in enumerate(ndimage.find_objects(groups), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start - reach + 1
        fits = _GLYPH_HEIGHTS[0] <= height <= tallest and width >= 2 * height and 0.35 * height <= reach <= 2.2 * height
        if fits:
            ink = thin[rows, columns] & (groups[rows, columns] == number)
            best = max(best, _strokes_of(ink, part[rows, columns], width))
    return best


def _strokes_of(ink: np.ndarray, part: np.ndarray, width: int) -> float:
    """Returns the strokes of a group that has the density, the ground and the contrast of text, else 0."""
    height = len(ink)
    runs = _runs(ink)
    ground = ~ndimage.binary_dilation(ink)
    if np.count_nonzero(ground) < 5:
        return 0.0
    typical = float(np.median(runs))
    like_text = (
        typical >= _LEAST_STROKES
        and np.percentile(runs, 20) >= _LEAST_STROKES - 1
        and 0.15 <= np.count_nonzero(ink) / (height * width) <= 0.75
        and 0.8 <= typical * height / width <= 3
        and part[ground].std() < 0.08
        and np.median(part[ink]) - np.median(part[ground]) > _STROKE_CONTRAST
    )
    return typical if like_text else 0.0


def _runs(ink: np.ndarray) -> np.ndarray:
    """Returns how many runs of ink each row of bool `[H, W]` holds."""
    return np.count_nonzero(ink[:, 1:] & ~ink[:, :-1], axis=1) + ink[:, 0]


def _shrunk(plane: np.ndarray) -> np.ndarray:
    """Returns `[H, W]` averaged over squares, so that no side is longer than 512 pixels."""
    factor = -(-max(plane.shape) // _LARGEST_SIDE)
    if factor == 1:
        return plane
    height, width = (side // factor for side in plane.shape)
    if not height or not width:
        return plane[::factor, ::factor]
    return plane[: height * factor, : width * factor].reshape(height, factor, width, factor).mean(axis=(1, 3))
