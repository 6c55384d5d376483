"""Images that are arrays already, in memory or spooled to a file."""

from __future__ import annotations

import pathlib
import tempfile
import weakref
from collections.abc import Mapping, Sequence

import numpy as np

from medkeras import errors
from medkeras.data import cases, npz, table

_NPZ_SPLITS = {"train": "train", "val": "validation", "test": "test"}


class ArrayImages:
    """An `ImageSource` over arrays in memory.

    Args:
        arrays: Case path to `[H, W]` or `[H, W, C]`, uint8, uint16 or float32.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the array's size and type."""
        return array_header(self._arrays[case.path])

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the stored values `[H, W, channels]`; raises `BadInputError` for NaN or infinite ones."""
        array = self._arrays[case.path]
        if not np.isfinite(array).all():
            raise errors.BadInputError(case.path, "pixels are finite numbers; the image holds NaN or infinite ones")
        return with_channels(array, channels)


class SpooledImages:
    """An `ImageSource` over arrays written one after the other to a temporary file.

    Memory holds an offset a case, so that a data set that can only be read in order is read at random
    whatever its size. The file has no name and is gone with the process.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="medkeras-")
        weakref.finalize(self, self._file.close)
        self._entries: dict[str, tuple[int, tuple[int, ...], str]] = {}

    def append(self, path: str, array: np.ndarray) -> None:
        """Adds the image of the case at `path`."""
        offset = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).tobytes())
        self._entries[path] = (offset, array.shape, array.dtype.name)

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the array's size and type."""
        _, shape, dtype = self._entries[case.path]
        return _header(shape, dtype)

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the stored values `[H, W, channels]`."""
        offset, shape, dtype = self._entries[case.path]
        self._file.flush()
        array = np.memmap(self._file, dtype=dtype, mode="r", offset=offset, shape=shape)
        return with_channels(np.array(array), channels)


def array_header(array: np.ndarray) -> cases.ImageHeader:
    """Returns what an ImageHeader says of an array `[H, W]` or `[H, W, C]`."""
    return _header(array.shape, array.dtype.name)


def with_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Returns `[H, W, channels]`: grey repeated, colour as ITU-R BT.601 luminance, alpha dropped."""
    array = array[..., np.newaxis] if array.ndim == 2 else array
    have = array.shape[-1]
    if have in (2, 4):
        array = array[..., : have - 1]
    if array.shape[-1] == channels:
        return array
    if channels == 3:
        return np.repeat(array, 3, axis=-1)
    grey = array.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return (np.rint(grey) if array.dtype.kind in "ui" else grey).astype(array.dtype)


def load_npz(place: str) -> cases.CaseSet:
    """Reads `{train,val,test}_{images,labels}` as MedMNIST lays them out.

    Images are `[N, H, W]` or `[N, H, W, 3]`, labels `[N, 1]` (class index) or `[N, K]` (multi-hot).

    Raises:
        DataError: The file is missing, is not such an archive, or holds volumes.
    """
    path = pathlib.Path(place)
    if not path.exists():
        raise errors.DataError(f"npz: needs a file that exists. Received: {errors.printable(path)!r}")
    arrays, held = npz.read(path, [f"{split}_{part}" for split in _NPZ_SPLITS for part in ("images", "labels")])
    present = _present_splits(path, arrays, held)
    found: list[cases.Case] = []
    images: dict[str, np.ndarray] = {}
    labels = {key: _checked_labels(path, f"{key}_labels", arrays[f"{key}_labels"]) for key in present}
    if len({values.shape[1] for values in labels.values()}) > 1:
        shapes = ", ".join(f"{key}_labels {list(values.shape)}" for key, values in labels.items())
        raise errors.BadInputError(path, f"labels of all splits are of one width. Received: {shapes}")
    multilabel = any(values.shape[1] > 1 for values in labels.values())
    for key, values in labels.items():
        pixels = _checked_images(path, f"{key}_images", arrays[f"{key}_images"], len(values))
        for index, (image, row) in enumerate(zip(pixels, values, strict=True)):
            name = f"{key}/{index:05d}"
            images[name] = image
            found.append(_npz_case(name, _NPZ_SPLITS[key], row, multilabel))
    width = next(iter(labels.values())).shape[1]
    names = [str(index) for index in range(width)] if multilabel else {case.label for case in found}
    return cases.CaseSet(
        name=path.stem.lower(),
        cases=tuple(found),
        classes=tuple(sorted(names, key=table.natural_key)),
        images=ArrayImages(images),
        multilabel=multilabel,
    )


def _header(shape: tuple[int, ...], dtype: str) -> cases.ImageHeader:
    channels = 3 if len(shape) == 3 and shape[2] >= 3 else 1
    kinds = {"bool": "uint8", "uint8": "uint8", "uint16": "uint16"}
    return cases.ImageHeader(height=shape[0], width=shape[1], channels=channels, dtype=kinds.get(dtype, "float32"))


def _present_splits(path: pathlib.Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> list[str]:
    present = [key for key in _NPZ_SPLITS if f"{key}_images" in arrays and f"{key}_labels" in arrays]
    if "train" not in present:
        held = errors.printable(", ".join(names)[:200]) or "no arrays"
        raise errors.BadInputError(path, f"the MedMNIST layout has train_images and train_labels. Received: {held}")
    return present


def _checked_images(path: pathlib.Path, name: str, array: np.ndarray, count: int) -> np.ndarray:
    colour = array.ndim == 4 and array.shape[-1] == 3
    if not (array.ndim == 3 or colour) or array.dtype.kind not in "uif":
        raise errors.BadInputError(
            path, f"{name} is [N, H, W] or [N, H, W, 3] numbers. Received: {array.dtype} {list(array.shape)}"
        )
    if len(array) != count or not count:
        raise errors.BadInputError(
            path, f"{name} holds an image a label, at least one. Received: {len(array)} images, {count} labels"
        )
    if array.dtype in (np.uint8, np.uint16):
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _checked_labels(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    """Returns int64 `[N, K]`."""
    whole = array.dtype.kind in "uib" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
    if array.ndim not in (1, 2) or not whole or not np.isfinite(array).all():
        raise errors.BadInputError(
            path, f"{name} is [N], [N, 1] or [N, K] whole numbers. Received: {array.dtype} {list(array.shape)}"
        )
    labels = array.reshape(len(array), -1).astype(np.int64) if array.size else np.zeros((0, 1), np.int64)
    if labels.shape[1] > 1 and not np.isin(labels, (0, 1)).all():
        raise errors.BadInputError(
            path, f"{name} of several classes a case are 0 or 1. Received: {labels.min()} to {labels.max()}"
        )
    return labels


def _npz_case(name: str, split: str, row: np.ndarray, multilabel: bool) -> cases.Case:
    labels = tuple(str(index) for index in np.flatnonzero(row)) if multilabel else ()
    label = "" if multilabel else str(row[0].item())
    return cases.Case(case_id=name, path=name, patient_id=name, split=split, label=label, labels=labels)
