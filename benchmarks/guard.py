"""What does the guard cost a file?

Reads each file in this process and through the guarded worker, the two in turn, and prints the median time of both, the
difference, and the worker's start. The files are pydicom's own and 512 x 512 CT slices that are made here.

    python benchmarks/guard.py [--rounds=5] [--count=24]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import importlib
import pathlib
import statistics
import tempfile
import time

import nibabel
import numpy as np
import pydicom
import pydicom.data
import pydicom.uid
import tifffile

from medkeras import errors
from medkeras.data import guard

SYNTAXES = {
    "CT 512x512, uncompressed": pydicom.uid.ExplicitVRLittleEndian,
    "CT 512x512, RLE": pydicom.uid.RLELossless,
    "CT 512x512, JPEG-LS": pydicom.uid.JPEGLSLossless,
    "CT 512x512, JPEG 2000": pydicom.uid.JPEG2000Lossless,
}


def slices(count: int) -> list[np.ndarray]:
    """Smooth structure with the noise of a scanner, uint16 `[512, 512]`, 12 bits."""
    y, x = np.mgrid[:512, :512] / 512
    random = np.random.default_rng(0)
    shapes = [np.sin(9 * x + k) * np.cos(7 * y - k) for k in np.linspace(0, 2, count)]
    return [np.clip(1500 + 900 * shape + random.normal(0, 20, x.shape), 0, 4095).astype(np.uint16) for shape in shapes]


def ct(pixels: np.ndarray, syntax: pydicom.uid.UID) -> pydicom.Dataset:
    """Returns a CT slice of one frame."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality = "CT"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.set_pixel_data(pixels, "MONOCHROME2", 12)
    if syntax != pydicom.uid.ExplicitVRLittleEndian:
        dataset.compress(syntax)
    return dataset


def write(folder: pathlib.Path, count: int) -> dict[str, tuple[str, list[str]]]:
    """Writes the files; returns a name to the guard's kind and the paths."""
    files: dict[str, tuple[str, list[str]]] = {}
    images = slices(count)
    for number, (name, syntax) in enumerate(SYNTAXES.items()):
        paths = [str(folder / f"{number}-{index}.dcm") for index in range(count)]
        for path, pixels in zip(paths, images, strict=True):
            ct(pixels, syntax).save_as(path, enforce_file_format=True)
        files[name] = ("dicom", paths)
    tiffs = [str(folder / f"{index}.tif") for index in range(count)]
    volumes = [str(folder / f"{index}.nii.gz") for index in range(count)]
    for image, tiff, volume in zip(images, tiffs, volumes, strict=True):
        tifffile.imwrite(tiff, image, compression="deflate")
        voxels = nibabel.Nifti1Image(image[:256].reshape(64, 64, 32).astype(np.int16), np.eye(4))
        pathlib.Path(volume).write_bytes(gzip.compress(voxels.to_bytes(), 1))
    return {**files, "TIFF 512x512, deflate": ("image", tiffs), "NIfTI 64x64x32, gzip": ("nifti", volumes)}


def bundled() -> list[str]:
    """Returns pydicom's own test files that are read."""
    folder = pathlib.Path(pydicom.data.__file__).parent / "test_files"
    readable = []
    for path in sorted(folder.glob("*.dcm")):
        try:
            guard.read("dicom", str(path))
        except errors.BadInputError:
            continue
        readable.append(str(path))
    return readable


def milliseconds(read: object, paths: list[str]) -> list[float]:
    """Returns the time of each file."""
    times = []
    for path in paths:
        start = time.perf_counter()
        read(path)  # type: ignore[operator]
        times.append(1000 * (time.perf_counter() - start))
    return times


def measure(name: str, kind: str, paths: list[str], rounds: int) -> None:
    reader = importlib.import_module(guard.KINDS[kind][0])
    inside: list[float] = []
    guarded: list[float] = []
    milliseconds(reader.read, paths[:2])
    milliseconds(lambda path: guard.read(kind, path), paths[:2])
    for _ in range(rounds):
        inside += milliseconds(reader.read, paths)
        guarded += milliseconds(lambda path: guard.read(kind, path), paths)
    both = statistics.median(inside), statistics.median(guarded)
    print(f"{name:27s} {both[0]:8.2f} {both[1]:8.2f} {both[1] - both[0]:8.2f} {both[1] / both[0]:7.2f}")


def throughput(kind: str, paths: list[str], threads: int) -> float:
    """Returns files a second."""
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda path: guard.read(kind, path), paths))
    return len(paths) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write(pathlib.Path(folder), options.count)
        kind, paths = next(iter(files.values()))
        (start,) = milliseconds(lambda path: guard.read(kind, path), paths[:1])
        print(f"first file, with the start of a worker: {start:.0f} ms")
        print(f"{'median ms a file':27s} {'here':>8s} {'guarded':>8s} {'cost':>8s} {'ratio':>7s}")
        measure("pydicom's test files", "dicom", bundled(), options.rounds)
        for name, (kind, paths) in files.items():
            measure(name, kind, paths, options.rounds)
        kind, paths = next(iter(files.values()))
        for threads in (1, 2, 4):
            print(f"{threads} threads: {throughput(kind, paths * options.rounds, threads):.0f} CT slices/s")


if __name__ == "__main__":
    main()
