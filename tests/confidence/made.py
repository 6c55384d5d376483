"""An assurance for any model, fitted to images that are made up."""

from __future__ import annotations

import keras
import numpy as np

from medkeras.confidence import assurance, familiarity
from medkeras.evaluation import conformal, scaling


def images(count: int, shape: tuple[int, ...], value_range: tuple[float, float], *, seed: int = 0) -> np.ndarray:
    """Returns float32 `[count, *shape]` of whole stored values: a bright upper half, noise, and a spot somewhere."""
    random = np.random.default_rng(seed)
    height, width, _ = shape
    ramp = np.linspace(0.8, 0.2, height)[:, None, None] + random.normal(0, 0.05, (count, *shape))
    rows, columns = random.integers(0, height - 3, count), random.integers(0, width - 3, count)
    for image, row, column in zip(ramp, rows, columns, strict=True):
        image[row : row + 3, column : column + 3] += 0.2
    low, high = value_range
    return np.rint(low + (high - low) * np.clip(ramp, 0, 1)).astype(np.float32)


def assured(
    model: keras.Model, *, value_range: tuple[float, float], multilabel: bool = False, method: str = "none"
) -> keras.Model:
    """Returns the model with every output that an answer has."""
    shape = model.input.shape[1:]
    probe = assurance.probe(model, value_range=value_range)
    training, held_out = images(60, shape, value_range), images(40, shape, value_range, seed=1)
    parts = (training, held_out, np.flip(training, 1).copy())
    found = [{name: value.numpy() for name, value in probe(part, training=False).items()} for part in parts]
    features = [[each[kind] for kind in assurance.KINDS] for each in found]
    logits = found[1][assurance.LOGITS]
    classes = logits.shape[1]
    target = np.eye(classes)[np.arange(len(logits)) % classes]
    patients = np.arange(len(logits))
    scaled = scaling.fit(logits, target, method=method, multilabel=multilabel, patients=patients)
    sets = conformal.fit(
        scaled.apply(logits), target, alpha=0.2, kind="class", patients=patients, multilabel=multilabel
    )
    complete = assurance.Assurance(scaled, sets.thresholds, familiarity.fit(*features), gate=0.05, confidence=0.4)
    return assurance.attach(model, complete, value_range=value_range)
