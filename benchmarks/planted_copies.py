"""Of copies that are planted in a data set, cropped, padded, made small or encoded again, how many are found?

Takes pictures at random, copies a tenth of them in one way, and counts the copies that stand in a group with their
original. Pictures of 8 bits, as files or the phantom's.

    python benchmarks/planted_copies.py --data=phantom [--pictures=1000] [--seed=0]
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from medkeras import config
from medkeras.audit import fingerprints, near
from medkeras.data import cases, schemes


def cropped(image: np.ndarray, share: float, corner: bool = False) -> np.ndarray:
    """Cuts away a share of each side's length: half at either end, or all at the beginning."""
    gone = [round(length * share) for length in image.shape]
    first = gone if corner else [length // 2 for length in gone]
    return image[tuple(slice(low, low + side - cut) for low, side, cut in zip(first, image.shape, gone, strict=True))]


def padded(image: np.ndarray, share: float) -> np.ndarray:
    return np.pad(
        image, [(round(side * share) // 2, round(side * share) - round(side * share) // 2) for side in image.shape]
    )


def small(image: np.ndarray) -> np.ndarray:
    height = max(1, round(32 * image.shape[0] / image.shape[1]))
    return np.asarray(Image.fromarray(image).resize((32, height), Image.Resampling.BILINEAR))


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cropped by 2%": lambda image: cropped(image, 0.02),
    "cropped by 5%, evenly": lambda image: cropped(image, 0.05),
    "cropped by 5%, at a corner": lambda image: cropped(image, 0.05, corner=True),
    "cropped by 8%": lambda image: cropped(image, 0.08),
    "padded by 3%": lambda image: padded(image, 0.03),
    "padded by 5%": lambda image: padded(image, 0.05),
    "mirrored": lambda image: image[:, ::-1],
    "made 32 pixels wide": small,
    "made 32 pixels wide, with noise of 4": lambda image: noisy(small(image)),
    "JPEG of quality 50": jpeg,
    "gamma of 0.75": lambda image: (255 * (image / 255) ** 0.75).astype(np.uint8),
    "noise of 4": noisy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = schemes.read(config.DataConfig(source=options.data), seed=options.seed)
    random = np.random.default_rng(options.seed)
    chosen = random.permutation(len(found.cases))[: options.pictures]
    pictures = [found.images.read(found.cases[row], 1)[..., 0] for row in chosen]
    copied = random.permutation(len(pictures))[: len(pictures) // 10].tolist()
    names = [cases.Case(f"{row}", "", f"{row}") for row in range(len(pictures) + len(copied))]
    prints = [fingerprints.take(image[..., np.newaxis]) for image in pictures]
    for kind, make in KINDS.items():
        start = time.perf_counter()
        more = [fingerprints.take(make(pictures[row])[..., np.newaxis]) for row in copied]
        groups = [{case.case_id for case in group.members} for group in near.find(names, [*prints, *more]).groups]
        pairs = [{f"{row}", f"{len(pictures) + place}"} for place, row in enumerate(copied)]
        hits = sum(any(pair <= group for group in groups) for pair in pairs)
        print(f"{kind:40} {hits / len(pairs):.2f}   {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
