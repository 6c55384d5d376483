"""One tiny folder of scans, and one tiny training that many tests look at."""

from __future__ import annotations

import collections
import pathlib
import warnings

import numpy as np
import pytest
from PIL import Image

from medkeras import config
from medkeras.workflows import train

TINY = {
    "model.name": "cnn",
    "model.weights": "none",
    "train.epochs": 2,
    "train.batch_size": 5,
    "train.learning_rate": 0.002,
    "data.cache": "memory",
    "seed": 7,
}
COUNTS = {"train": 8, "validation": 3, "test": 4}


def draw(index: int, label: str, *, high: int = 255) -> np.ndarray:
    """A noisy image `[12, 10]`, bright above (`up`) or below (`down`)."""
    image = np.random.default_rng(index).uniform(0, 0.5, (12, 10))
    image[slice(0, 6) if label == "up" else slice(6, 12)] += 0.25
    return (image * high).astype(np.uint8 if high < 256 else np.uint16)


def write_scans(folder: pathlib.Path, *, labels: tuple[str, ...] = ("down", "up"), high: int = 255) -> str:
    """Writes SPLIT/CLASS/IMAGE and returns the data's `SCHEME:PLACE`."""
    number = 0
    for split, count in COUNTS.items():
        for label in labels:
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                number += 1
                Image.fromarray(draw(number, label, high=high)).save(folder / split / label / f"{index}.png")
    return f"folder:{folder}"


Trained = collections.namedtuple("Trained", "published settings root")


@pytest.fixture(name="write_scans", scope="session")
def write_scans_fixture():
    return write_scans


@pytest.fixture(name="draw", scope="session")
def draw_fixture():
    return draw


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> str:
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="session")
def fit(source, tmp_path_factory):
    """Trains on the tiny folder, or on other data, with the tiny settings and those given."""

    def call(root: pathlib.Path | None = None, **changes: object) -> Trained:
        root = root or tmp_path_factory.mktemp("work")
        named = {key.replace("__", "."): value for key, value in changes.items()}
        settings = config.Config().override({"data.source": source, **TINY, **named})
        with warnings.catch_warnings():
            # TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            published = train.train(settings, output=root / "models", workdir=root / "runs")
        return Trained(published, settings, root)

    return call


@pytest.fixture(scope="session")
def trained(fit) -> Trained:
    """The one training that tests must leave as it is."""
    return fit()
