"""How does the search for near copies grow with the number of pictures, and what does it find?

Reads a folder of class folders, with or without split folders above them, surveys it once, and searches in parts of it
of growing size. The last column is the time that the time of the row before would have grown to by the square.

    python benchmarks/copies.py --folder=DIR [--sizes=7500,15000,30000,60000] [--seed=0]

With `--sheets=DIR` it draws 20 of the pairs of the largest part from each of five bands of likeness, for a person to
judge, and writes them as sheets there: the first picture, turned as it was found, the second, and their difference.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from medkeras.audit import copies, near, sheets, survey
from medkeras.data import cases, folder

BANDS = (near.THRESHOLD, 0.95, 0.965, 0.98, 0.99, 1.01)
A_BAND, A_SHEET, COLUMNS, TILE, CAPTION = 20, 10, 2, 224, 18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--sizes", default="7500,15000,30000,60000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", help="folder for pairs to judge, outside this repository")
    options = parser.parse_args()
    start = time.perf_counter()
    case_set = folder.load(options.folder)
    records = survey.survey(case_set).records
    print(f"survey: {len(records)} pictures in {time.perf_counter() - start:.1f} s")
    order = np.random.default_rng(options.seed).permutation(len(records))
    before = (0, 0.0)
    for size in (int(size) for size in options.sizes.split(",")):
        chosen = [records[row] for row in np.sort(order[:size]).tolist()]
        members, prints = [one.case for one in chosen], [one.fingerprint for one in chosen]
        start, processor = time.perf_counter(), time.process_time()
        exact = copies.exact(members, prints)
        found = near.find(members, prints)
        seconds = time.perf_counter() - start
        square = f"{before[1] * (len(chosen) / before[0]) ** 2:8.1f} s" if before[0] else ""
        print(
            f"{len(chosen):6} pictures: {seconds:7.1f} s ({time.process_time() - processor:.1f} s of processor)   "
            f"exact {len(exact.groups)} groups; near {len(found.groups)} groups, {len(found.across_splits)} across "
            f"splits, {len(found.pairs)} pairs   {square}",
            flush=True,
        )
        before = len(chosen), seconds
    if options.sheets:
        draw(found.pairs, case_set.images, pathlib.Path(options.sheets), seed=options.seed)


def draw(pairs: Sequence[copies.Pair], images: cases.ImageSource, target: pathlib.Path, *, seed: int) -> None:
    """Writes sheets of pairs sampled from each band, and prints how many pairs each band holds."""
    target.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    number = 0
    for low, high in zip(BANDS[:-1], BANDS[1:], strict=True):
        band = [pair for pair in pairs if low <= pair.score < high]
        chosen = [band[row] for row in np.sort(rng.permutation(len(band))[:A_BAND]).tolist()]
        first = number + 1
        for start in range(0, len(chosen), A_SHEET):
            page = sheet(chosen[start : start + A_SHEET], images, number)
            number += len(chosen[start : start + A_SHEET])
            page.save(target / f"pairs_{number:03d}.png")
        print(f"likeness {low:.3f} to {high:.3f}: {len(band)} pairs; sampled: {first} to {number}")


def sheet(pairs: Sequence[copies.Pair], images: cases.ImageSource, before: int) -> Image.Image:
    wide, high = 3 * TILE + 8, TILE + CAPTION
    page = Image.new("L", (COLUMNS * wide, -(-len(pairs) // COLUMNS) * high))
    pen = ImageDraw.Draw(page)
    for position, pair in enumerate(pairs):
        left, top = position % COLUMNS * wide, position // COLUMNS * high
        one, two = (grey(case, images) for case in (pair.first, pair.second))
        one = near.TURNS.get(pair.kind, near.TURNS["altered"])(one[np.newaxis])[0]
        for place, tile in enumerate((one, two, np.abs(one - two))):
            page.paste(Image.fromarray(tile.astype(np.uint8)), (left + place * TILE, top + CAPTION))
        names = f"{sheets.shortened(pair.first.case_id, 30)}  {sheets.shortened(pair.second.case_id, 30)}"
        pen.text((left, top + 3), f"{before + position + 1}: {pair.score:.3f} {pair.kind}  {names}", fill=255)
    return page


def grey(case: cases.Case, images: cases.ImageSource) -> np.ndarray:
    """Returns float32 `[224, 224]` in 0..255."""
    pixels = sheets.read(case, images)
    if pixels is None:
        return np.zeros((TILE, TILE), np.float32)
    return np.asarray(sheets.thumbnail(pixels, TILE).resize((TILE, TILE)).convert("L"), np.float32)


if __name__ == "__main__":
    main()
