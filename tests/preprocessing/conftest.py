"""One list of every public preprocessing layer, tiny; a test that asks for `case` runs once for each."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras.preprocessing import augment, canvas, denoise, equalise, geometry, grayscale, normalise, random, window

BYTES = (0.0, 255.0)


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer, and what it is given.

    Attributes:
        make: Builds the layer.
        channels: Channels of the images.
        high: The images' values lie in 0…high.
        with_seeds: Whether it is an augmentation, called with seeds.
        with_targets: Whether it takes and returns targets, too.
    """

    make: Callable[[], keras.layers.Layer]
    channels: int = 3
    high: float = 255.0
    with_seeds: bool = False
    with_targets: bool = False

    def inputs(self, count: int = 3) -> tuple[np.ndarray, ...]:
        """Returns the arguments of a call on `count` examples of 19 x 22 pixels."""
        generator = np.random.default_rng(7)
        levels = generator.integers(0, 256, (count, 19, 22, self.channels))
        images = (levels * (self.high / 255)).astype(np.float32)
        targets = np.eye(4, dtype=np.float32)[np.arange(count) % 4]
        seeds = random.example_seeds(3, 1, np.arange(count)).numpy()
        return (images, *((targets,) if self.with_targets else ()), *((seeds,) if self.with_seeds else ()))


def _augmenter() -> augment.Augmenter:
    steps = [geometry.RandomFlip("both"), geometry.RandomElastic(0.05), augment.RandomNoise(0.05, BYTES)]
    return augment.Augmenter([*steps, augment.RandomCutout(0.3)], BYTES)


CASES = {
    "canvas_pad": LayerCase(lambda: canvas.Canvas((24, 16))),
    "canvas_stretch": LayerCase(lambda: canvas.Canvas((11, 30), "stretch", round_values=True)),
    "median_3": LayerCase(lambda: denoise.MedianDenoise(3)),
    "median_5": LayerCase(lambda: denoise.MedianDenoise(5)),
    "gaussian": LayerCase(lambda: denoise.GaussianDenoise(1.2)),
    "bilateral": LayerCase(lambda: denoise.BilateralDenoise(1.5, 0.2, size=3, value_range=BYTES)),
    "total_variation": LayerCase(lambda: denoise.TotalVariationDenoise(0.1, 10, value_range=BYTES)),
    "grayscale": LayerCase(grayscale.Grayscale),
    "repeat": LayerCase(lambda: grayscale.RepeatChannels(3), channels=1),
    "fixed_window": LayerCase(lambda: window.FixedWindow(10.0, 200.0)),
    "percentile_window": LayerCase(lambda: window.PercentileWindow(2.0, 97.0)),
    "histogram": LayerCase(lambda: equalise.HistogramEqualise(64), high=1.0),
    "clahe": LayerCase(lambda: equalise.CLAHE(0.03, 4, bins=64), high=1.0),
    "zscore": LayerCase(normalise.ZScore),
    "minmax": LayerCase(normalise.MinMax),
    "affine": LayerCase(lambda: normalise.Affine([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])),
    "flip": LayerCase(lambda: geometry.RandomFlip("both"), with_seeds=True),
    "affine_motion": LayerCase(lambda: geometry.RandomAffine(20.0, 0.2, translation=0.1), with_seeds=True),
    "elastic": LayerCase(lambda: geometry.RandomElastic(0.1), with_seeds=True),
    "intensity": LayerCase(lambda: augment.RandomIntensity(0.2, BYTES), with_seeds=True),
    "noise": LayerCase(lambda: augment.RandomNoise(0.1, BYTES), with_seeds=True),
    "cutout": LayerCase(lambda: augment.RandomCutout(0.4), with_seeds=True),
    "mixup": LayerCase(lambda: augment.Mixup(0.4), with_seeds=True, with_targets=True),
    "augmenter": LayerCase(_augmenter, with_seeds=True, with_targets=True),
}
IN_MODEL = {name: case for name, case in CASES.items() if not case.with_seeds}
AUGMENTATIONS = {name: case for name, case in CASES.items() if case.with_seeds}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, cases in (("case", CASES), ("in_model", IN_MODEL), ("augmentation", AUGMENTATIONS)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, cases.values(), ids=cases.keys())


@pytest.fixture
def all_cases() -> dict[str, LayerCase]:
    return CASES


@pytest.fixture
def outputs() -> Callable[..., list[np.ndarray]]:
    """Returns a function that calls a layer (or a function) and lists what comes back as arrays."""

    def call(layer: Callable, *inputs: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(value) for value in tf.nest.flatten(layer(*map(tf.convert_to_tensor, inputs)))]

    return call
