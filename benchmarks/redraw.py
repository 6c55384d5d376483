"""What honest probabilities are worth where test and validation are of one kind.

Some published archives test on patients of another kind than they train and validate on: then no calibration and no
prediction set of validation can hold its promise. This writes the archive again with the same cases in splits of the
same sizes, drawn at random, so that the promise can be tried on it:

    python benchmarks/redraw.py FILE.npz REDRAWN.npz --seed=0
    python main.py --mode=train --recipe=pneumonia --data=npz:REDRAWN.npz
"""

from __future__ import annotations

import argparse

import numpy as np

SPLITS = ("train", "val", "test")


def redrawn(arrays: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Returns images and labels in the MedMNIST layout, every case in a split drawn at random."""
    sizes = [len(arrays[f"{split}_labels"]) for split in SPLITS]
    order = np.random.default_rng(seed).permutation(sum(sizes))
    found = {}
    for kind in ("images", "labels"):
        everything = np.concatenate([arrays[f"{split}_{kind}"] for split in SPLITS])
        parts = np.split(everything[order], np.cumsum(sizes)[:-1])
        found |= {f"{split}_{kind}": part for split, part in zip(SPLITS, parts, strict=True)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with np.load(options.source, allow_pickle=False) as arrays:
        np.savez_compressed(options.destination, **redrawn(dict(arrays), options.seed))


if __name__ == "__main__":
    main()
