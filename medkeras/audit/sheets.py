"""Pictures for people: any image brought to 8 bits, and contact sheets of a class in a split."""

from __future__ import annotations

import io
import os
import pathlib
import re
import zlib
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medkeras import errors
from medkeras.data import cases, guard, headers
from medkeras.data.readers import dicom

MOST_TILES = 48

_TILE, _CAPTION, _COLUMNS, _TITLE, _GAP = 128, 16, 8, 26, 4
_HU_WINDOW = (-160.0, 240.0)
_PAPER, _INK, _MUTED = (24, 26, 30), (235, 237, 240), (160, 166, 174)


def shown(image: np.ndarray, units: str = "") -> np.ndarray:
    """Returns uint8 `[H, W, 1 or 3]` of stored values `[H, W, C]` or `[D, H, W, C]`: of a volume, its middle slice.

    8-bit values stay as they are; HU are shown in a soft-tissue window (-160 to 240); others between their 0.5th and
    99.5th percentiles.
    """
    plane = image[len(image) // 2] if image.ndim == 4 else image
    if plane.dtype == np.uint8:
        return plane
    low, high = _HU_WINDOW if units == "HU" else np.percentile(plane, (0.5, 99.5)).tolist()
    scaled = (plane.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def read(case: cases.Case, images: cases.ImageSource) -> np.ndarray | None:
    """Returns a case as uint8 `[H, W, 1 or 3]`, or None where it cannot be read any more.

    A DICOM image is shown through its first window.
    """
    try:
        header = images.header(case)
        image = images.read(case, header.channels)
        if image.ndim == 3 and os.path.isfile(case.path) and headers.identify(case.path) == "DICOM":
            return dicom.voi(image, guard.inspect("dicom", case.path))
        return shown(image, header.units)
    except errors.BadInputError:
        return None


def write(
    case_set: cases.CaseSet, members: Sequence[cases.Case], folder: pathlib.Path, *, seed: int
) -> dict[str, bytes]:
    """Writes `contact_SPLIT_CLASS.png` for each split and class of the members.

    Args:
        case_set: Where pixels come from.
        members: Cases that can be read.
        folder: Where the sheets go.
        seed: Chooses the cases where there are more than a sheet holds.

    Returns:
        Name of each file, and the sheet as JPEG.
    """
    groups: dict[tuple[str, str], list[cases.Case]] = {}
    for case in members:
        for label in case.labels or (case.label,):
            groups.setdefault((case.split, label), []).append(case)
    pages: dict[str, bytes] = {}
    for (split, label), group in sorted(groups.items()):
        name = _file_name(split, label, pages)
        chosen = sample(group, MOST_TILES, seed, name)
        title = f"{split or 'no split'} / {label or 'no label'}: {len(chosen)} of {len(group)}"
        page = sheet([(each.case_id, read(each, case_set.images)) for each in chosen], title)
        page.save(folder / name)
        buffer = io.BytesIO()
        page.save(buffer, "JPEG", quality=80)
        pages[name] = buffer.getvalue()
    return pages


def sample(group: Sequence[cases.Case], count: int, seed: int, name: str) -> list[cases.Case]:
    """Returns at most `count` cases in their order, chosen by (seed, name)."""
    chosen = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(len(group))[:count]
    return [group[position] for position in sorted(chosen.tolist())]


def sheet(tiles: Sequence[tuple[str, np.ndarray | None]], title: str) -> Image.Image:
    """Returns pictures uint8 `[H, W, 1 or 3]` side by side, each over its caption."""
    columns = min(_COLUMNS, max(4, len(tiles)))
    rows = -(-len(tiles) // columns)
    wide, high = _TILE + _GAP, _TILE + _CAPTION + _GAP
    page = Image.new("RGB", (columns * wide + _GAP, _TITLE + rows * high + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP + 2, 6), errors.printable(title), fill=_INK, font=ImageFont.load_default(13))
    for number, (caption, pixels) in enumerate(tiles):
        left, top = _GAP + number % columns * wide, _TITLE + number // columns * high
        if pixels is not None:
            tile = thumbnail(pixels, _TILE)
            page.paste(tile, (left + (_TILE - tile.width) // 2, top + (_TILE - tile.height) // 2))
        draw.text((left + 2, top + _TILE + 1), shortened(caption), fill=_MUTED, font=ImageFont.load_default(10))
    return page


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """Returns a picture uint8 `[H, W, 1 or 3]` that fits a square, small ones enlarged pixel by pixel."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def shortened(case_id: str, longest: int = 24) -> str:
    """Returns the end of a case id, which tells cases apart, the beginning cut off.

    >>> shortened("Training/glioma/Tr-gl_0012.jpg", 20)
    '…lioma/Tr-gl_0012.jpg'
    """
    line = "".join(letter if letter.isprintable() else " " for letter in errors.printable(case_id))
    return line if len(line) <= longest else f"…{line[-longest:]}"


def _file_name(split: str, label: str, taken: Collection[str]) -> str:
    stem = "_".join(re.sub(r"[^\w.-]+", "-", errors.printable(part))[:60] or "none" for part in (split, label))
    name, number = f"contact_{stem}.png", 2
    while name in taken:
        name, number = f"contact_{stem}_{number}.png", number + 1
    return name
