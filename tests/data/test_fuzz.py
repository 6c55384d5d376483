"""Thousands of damaged files: each gives an array or one sentence, in time, in bounds, and nothing dies of it."""

from __future__ import annotations

import collections
import concurrent.futures
import gzip
import pathlib
import time

import numpy as np
import pydicom.data
import pytest

from medkeras import errors
from medkeras.data import files, guard
from tests.data import hostile_files, images, test_hostile, test_hostile_files

SOURCE = files.FileImages()
SEED = 20
# Mutants of each family; the larger files of pydicom's are as many as the small ones.
COUNTS = {"DICOM": 1900, "NIfTI": 600, "image": 700}
JARGON = test_hostile_files.JARGON
LARGEST = 350_000


def dicom_seeds() -> list[bytes]:
    """pydicom's own test files: those that it ships, none that it would download."""
    folder = pathlib.Path(pydicom.data.__file__).parent / "test_files"
    found = [path.read_bytes() for path in sorted(folder.glob("*.dcm"))]
    return [data for data in found if len(data) <= LARGEST]


def nifti_seeds() -> list[bytes]:
    wave = (np.sin(np.arange(4096) / 9) * 1000).astype("<i2")
    large = hostile_files.nifti(wave.tobytes(), dim=(3, 16, 16, 16, 1, 1, 1, 1))
    floating = hostile_files.nifti(hostile_files.floats(1.5, -2, 7), datatype=16, bitpix=32, slope=2, inter=-1)
    times = hostile_files.nifti(dim=(4, 4, 5, 3, 2, 1, 1, 1), sform_code=0, qform_code=1, quatern=(0, 0, 1))
    plain = [large, floating, times, *(hostile_files.NIFTI[name]() for name in ("colour", "big endian", "no affine"))]
    return [*plain, *map(gzip.compress, plain)]


def image_seeds() -> list[bytes]:
    grey16 = images.picture(60, 80, 1, high=65535)[..., 0]
    tiffs = [images.tiff(grey16, compression=each) for each in ("deflate", "packbits", "zstd", "jpeg2000")]
    tiles = images.tiff(images.picture(48, 64), photometric="rgb", tile=(16, 16), compression="deflate")
    return [*test_hostile.SOUND.values(), *tiffs, tiles]


SEEDS = {"DICOM": dicom_seeds, "NIfTI": nifti_seeds, "image": image_seeds}


def mutant(data: bytes, random: np.random.Generator) -> bytes:
    """Flips bits, overwrites, lies about lengths, cuts out, inserts, repeats or cuts short, mostly near the header."""
    out = bytearray(data)
    for _ in range(int(random.geometric(0.4))):
        reach = len(out) if random.random() < 0.5 else min(len(out), 1500)
        if reach < 8:
            break
        at = int(random.integers(0, reach - 4))
        MUTATIONS[int(random.integers(len(MUTATIONS)))](out, at, random)
    return bytes(out)


def flip(out: bytearray, at: int, random: np.random.Generator) -> None:
    out[at] ^= 1 << int(random.integers(8))


def overwrite(out: bytearray, at: int, random: np.random.Generator) -> None:
    out[at] = int(random.integers(256))


def lie(out: bytearray, at: int, random: np.random.Generator) -> None:
    numbers = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0")
    number = numbers[int(random.integers(len(numbers)))][: int(random.integers(1, 5))]
    out[at : at + len(number)] = number


def delete(out: bytearray, at: int, random: np.random.Generator) -> None:
    del out[at : at + int(random.integers(1, 64))]


def insert(out: bytearray, at: int, random: np.random.Generator) -> None:
    out[at:at] = random.bytes(int(random.integers(1, 64)))


def splice(out: bytearray, at: int, random: np.random.Generator) -> None:
    start = int(random.integers(0, len(out)))
    part = out[start : start + int(random.integers(1, 256))]
    out[at : at + len(part) * int(random.integers(2))] = part


def truncate(out: bytearray, at: int, random: np.random.Generator) -> None:
    del out[max(at, 8) :]


MUTATIONS = (flip, flip, overwrite, lie, lie, delete, insert, splice, truncate)


def outcome(path: pathlib.Path) -> tuple[str, float]:
    """Returns what became of a file, and the seconds that it took; what is wrong begins with `wrong`."""
    started = time.monotonic()
    try:
        pixels = SOURCE.read(images.case(path), 1)
        sound = pixels.dtype in ("uint8", "uint16", "float32") and pixels.shape[-1] == 1 and pixels.ndim in (3, 4)
        what = "read" if sound and np.isfinite(pixels).all() else f"wrong array {pixels.dtype} {pixels.shape}"
    except errors.BadInputError as error:
        what = kind_of_refusal(error.reason)
        if error.path != str(path) or any(word in error.reason for word in JARGON) or len(error.reason) > 300:
            what = f"wrong sentence: {error}"
    except Exception as error:
        what = f"wrong exception: {error!r}"
    return what, time.monotonic() - started


def kind_of_refusal(reason: str) -> str:
    marks = {"cannot go on": "worker died", "takes longer": "too slow", "more memory": "too large"}
    return next((what for mark, what in marks.items() if mark in reason), "refused")


def fuzz(family: str, count: int, folder: pathlib.Path) -> tuple[collections.Counter[str], float]:
    """Returns how often each outcome came, and the slowest file's seconds."""
    random = np.random.default_rng([SEED, *family.encode()])
    seeds = SEEDS[family]()

    def one(number: int) -> tuple[str, float]:
        path = images.write(folder, made[number], f"{family}{number}")
        try:
            return outcome(path)
        finally:
            path.unlink()

    made = [mutant(seeds[number % len(seeds)], random) for number in range(count)]
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        results = list(threads.map(one, range(count)))
    return collections.Counter(what for what, _ in results), max(seconds for _, seconds in results)


def test_the_mutants_are_many():
    assert sum(COUNTS.values()) >= 3000
    assert len(dicom_seeds()) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("family", COUNTS)
def test_mutants(family, tmp_path, record_property):
    outcomes, slowest = fuzz(family, COUNTS[family], tmp_path)
    record_property("outcomes", dict(outcomes))
    assert not [what for what in outcomes if what.startswith("wrong")]
    assert outcomes["refused"] > COUNTS[family] / 10
    assert outcomes["read"] > COUNTS[family] / 50
    # The guard ends a file after nine seconds of processor time; by the clock, it also waits for what else runs.
    assert not outcomes["too slow"]
    assert slowest < guard.PATIENCE
    # A file that ends its worker costs the next one half a second: that is rare.
    assert outcomes["worker died"] + outcomes["too large"] < COUNTS[family] / 100
    assert all(test_hostile_files.used(worker.pid)[0] < 1e9 for worker in guard._pool.workers())
