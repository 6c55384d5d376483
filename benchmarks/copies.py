"""How does the search for near copies grow with the number of pictures, and what does it find?

Reads a folder of class folders, with or without split folders above them, surveys it once, and searches in parts of it
of growing size. The last column is the time that the time of the row before would have grown to by the square.

    python benchmarks/copies.py --folder=DIR [--sizes=7500,15000,30000,60000] [--seed=0]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from medkeras.audit import copies, near, survey
from medkeras.data import folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--sizes", default="7500,15000,30000,60000")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    records = survey.survey(folder.load(options.folder)).records
    print(f"survey: {len(records)} pictures in {time.perf_counter() - start:.1f} s")
    order = np.random.default_rng(options.seed).permutation(len(records))
    before = (0, 0.0)
    for size in (int(size) for size in options.sizes.split(",")):
        chosen = [records[row] for row in np.sort(order[:size]).tolist()]
        members, prints = [one.case for one in chosen], [one.fingerprint for one in chosen]
        start = time.perf_counter()
        exact = copies.exact(members, prints)
        found = near.find(members, prints)
        seconds = time.perf_counter() - start
        square = f"{before[1] * (len(chosen) / before[0]) ** 2:8.1f} s" if before[0] else ""
        print(
            f"{len(chosen):6} pictures: {seconds:7.1f} s   exact {len(exact.groups)} groups; near {len(found.groups)} "
            f"groups, {len(found.across_splits)} across splits, {len(found.pairs)} pairs   {square}",
            flush=True,
        )
        before = len(chosen), seconds


if __name__ == "__main__":
    main()
