"""Does resident memory stay flat as the data set grows?

Streams one epoch of training batches from N copies of a JPEG folder's files and prints the peak resident memory of the
process, for each N in a process of its own. `--cache=disk` measures the cache on disk instead.

    python benchmarks/memory.py --folder=DIR [--counts=5000,60000] [--cache=none|disk]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile

import numpy as np

from medkeras.data import cases, files, folder, pipeline, store

BATCH = 64


def measure(directory: str, count: int, cache: str) -> None:
    paths = [str(path) for path in folder.image_paths(directory)]
    chosen = [paths[index % len(paths)] for index in range(count)]
    source = files.FileImages()
    members = [cases.Case(f"{i}", path, f"{i}", "train") for i, path in enumerate(chosen)]
    headers = [source.header(case) for case in members]
    size = (headers[0].height, headers[0].width)
    canvas = store.Canvas(size=size, channels=3, dtype="uint8", mode="pad")
    with tempfile.TemporaryDirectory() as cache_folder:
        images, _ = store.fill(
            members,
            source,
            headers=headers,
            canvas=canvas,
            policy=cache,
            folder=cache_folder,
            track=lambda items, *_: items,
        )
        targets = np.zeros((count, 10), np.float32)
        seen = 0
        for batch in pipeline.training_dataset(images, targets, batch_size=BATCH, seed=0, epochs=1):
            seen += int(batch["weight"].numpy().sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:>7} images of {size[0]}x{size[1]}, cache={cache}: {seen} seen, peak resident memory {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--counts", default="5000,60000")
    parser.add_argument("--cache", default="none", choices=("none", "disk", "memory"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.measure, options.cache)
        return
    for count in options.counts.split(","):
        command = [sys.executable, __file__, f"--folder={options.folder}", f"--cache={options.cache}"]
        subprocess.run([*command, f"--measure={count}"], check=True)


if __name__ == "__main__":
    main()
