"""How fast do images come from disk into training batches, beside a bare tf.data pipeline and PyTorch's DataLoader?

All read the same JPEG files whole, shuffled, once a round, and give uint8 batches of 32; the rounds alternate and the
medians are compared. Ours knows the order by (seed, epoch), weights, targets, EXIF, 16 bits and a canvas; the others
know none of it. PyTorch (2 workers, Pillow) takes part where it is installed: it is no requirement of medkeras.

Two questions. One pass: every file is decoded, by all. A run of EPOCHS passes, from nothing: medkeras decodes while it
looks at every image once, as it does before a training (`data.cache=memory`); the others decode in each pass.

    python benchmarks/input_pipeline.py --folder=DIR [--rounds=5] [--limit=4000] [--epochs=10]
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from medkeras.data import cases, files, folder, pipeline, store

BATCH = 32


def ours(
    paths: list[pathlib.Path], canvas: store.Canvas, *, policy: str = "none", epochs: int = 1
) -> Callable[[], Iterable]:
    members = [cases.Case(case_id=str(path), path=str(path), patient_id=str(path), split="train") for path in paths]
    source = files.FileImages()
    headers = [source.header(case) for case in members]
    images, _ = store.fill(
        members, source, headers=headers, canvas=canvas, policy=policy, folder=".", track=lambda items, *_: items
    )
    targets = np.zeros((len(paths), 4), np.float32)
    return lambda: pipeline.training_dataset(images, targets, batch_size=BATCH, seed=0, epochs=epochs)


def bare(paths: list[pathlib.Path], canvas: store.Canvas) -> Callable[[], Iterable]:
    names = tf.constant([str(path) for path in paths])

    def dataset() -> tf.data.Dataset:
        shuffled = tf.data.Dataset.from_tensor_slices(names).shuffle(len(paths), seed=0)
        decoded = shuffled.map(
            lambda path: tf.ensure_shape(tf.io.decode_jpeg(tf.io.read_file(path), canvas.channels), canvas.shape),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return decoded.batch(BATCH).prefetch(tf.data.AUTOTUNE)

    return dataset


def pytorch(paths: list[pathlib.Path], canvas: store.Canvas) -> Callable[[], Iterable]:
    import torch.utils.data
    from PIL import Image

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(paths[index]) as image:
                return torch.from_numpy(np.array(image.convert("RGB" if canvas.channels == 3 else "L")))

    return lambda: torch.utils.data.DataLoader(Files(), batch_size=BATCH, shuffle=True, num_workers=2)


def seconds(make: Callable[[], Iterable], passes: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(passes):
        for _ in make():
            pass
    return time.perf_counter() - start


def usable(root: str, canvas: store.Canvas, limit: int) -> list[pathlib.Path]:
    source = files.FileImages()
    paths = []
    for path in folder.image_paths(root):
        header = source.header(cases.Case(case_id="", path=str(path), patient_id=""))
        if (header.height, header.width) == canvas.size and header.native:
            paths.append(path)
    return paths[:limit]


def compare(question: str, contenders: dict[str, Callable[[], float]], rounds: int, images: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            times[name].append(measure())
    print(f"{question}, median of {rounds} rounds")
    ours_median = statistics.median(times["medkeras"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<20} {images / median:7.0f} images/s   medkeras is {median / ours_median:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    canvas = store.Canvas(size=(224, 224), channels=3, dtype="uint8", mode="pad")
    paths = usable(options.folder, canvas, options.limit)
    peers = {"bare tf.data": bare(paths, canvas)}
    if importlib.util.find_spec("torch"):
        peers["PyTorch DataLoader"] = pytorch(paths, canvas)
    streaming = ours(paths, canvas)
    compare(
        f"{len(paths)} JPEG files of 224x224, batches of {BATCH}, one pass",
        {name: lambda make=make: seconds(make) for name, make in {"medkeras": streaming, **peers}.items()},
        options.rounds,
        len(paths),
    )
    compare(
        f"The same files, {options.epochs} passes from nothing",
        {
            "medkeras": lambda: seconds(lambda: ours(paths, canvas, policy="memory", epochs=options.epochs)()),
            **{name: lambda make=make: seconds(make, options.epochs) for name, make in peers.items()},
        },
        min(options.rounds, 3),
        len(paths) * options.epochs,
    )


if __name__ == "__main__":
    main()
