"""`tfds:PLACE`: an image-classification set of TensorFlow Datasets."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medkeras import errors
from medkeras.data import arrays, cases, split


def load(place: str) -> cases.CaseSet:
    """Reads every split of a TensorFlow Datasets builder, or of an ImageFolder.

    Args:
        place: A registered name (`malaria`, `cifar10`, `name/config:version`), the folder of a prepared version
            (it holds `dataset_info.json`), or a folder laid out `SPLIT/CLASS/IMAGE` for `ImageFolder`.

    Examples are read once, in order, into a temporary file; splits keep their names, and those that are not
    train, validation or test by name are left out with a note.

    Raises:
        DataError: The name is unknown, the data cannot be prepared, or they are not single-label images.
    """
    builder = _builder(place)
    image_key, label_key = _features(place, builder)
    names = list(builder.info.features[label_key].names)
    images = arrays.SpooledImages()
    found: list[cases.Case] = []
    skipped = []
    for given in sorted(builder.info.splits):
        name = split.split_name(given)
        if name is None:
            skipped.append(given)
            continue
        for index, (image, label) in enumerate(_examples(builder, given, image_key, label_key)):
            path = f"{given}/{index:06d}"
            images.append(path, image)
            found.append(cases.Case(case_id=path, path=path, patient_id=path, split=name, label=names[label]))
    if not found:
        received = ", ".join(skipped) or "no splits"
        raise errors.DataError(f"tfds: needs a train split. Received: {place!r} with {received}")
    notes = [f"Splits without a use here were left out: {', '.join(skipped)}."] if skipped else []
    return cases.CaseSet(
        name=str(builder.info.name).lower(), cases=tuple(found), classes=tuple(names), images=images, notes=tuple(notes)
    )


def _builder(place: str) -> Any:
    folder = pathlib.Path(place)
    if folder.is_dir() and (folder / "dataset_info.json").is_file():
        return tfds.builder_from_directory(folder)
    if folder.is_dir():
        return _attempt(place, lambda: tfds.folder_dataset.ImageFolder(str(folder)))
    builder = _attempt(place, lambda: tfds.builder(place))
    _attempt(place, builder.download_and_prepare)
    return builder


def _attempt(place: str, action: Callable[[], Any]) -> Any:
    """Runs one step of TFDS; its failures (network, registry, disk) have no common base class."""
    try:
        return action()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise errors.DataError(
            f"tfds: needs a data set that is prepared on disk or can be downloaded. "
            f"Received: {place!r} ({type(error).__name__}: {reason})"
        ) from error


def _features(place: str, builder: Any) -> tuple[str, str]:
    features = builder.info.features
    images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not images or not labels:
        raise errors.DataError(
            f"tfds: needs an Image and a ClassLabel feature. Received: {place!r} with {', '.join(features)}"
        )
    supervised = builder.info.supervised_keys or (images[0], labels[0])
    return (
        supervised[0] if supervised[0] in images else images[0],
        supervised[1] if supervised[1] in labels else labels[0],
    )


def _examples(builder: Any, name: str, image_key: str, label_key: str) -> Iterator[tuple[np.ndarray, int]]:
    read = tfds.ReadConfig(try_autocache=False, shuffle_seed=0, interleave_cycle_length=1)
    dataset = builder.as_dataset(split=name, shuffle_files=False, read_config=read)
    for example in tfds.as_numpy(dataset):
        yield example[image_key], int(example[label_key])
