"""Simulated heads, and what may happen to a picture on its way into a data set a second time."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from medkeras.audit import fingerprints
from medkeras.data import cases, phantom


@functools.cache
def heads(patients: int, slices: int = 1, size: int = 128) -> tuple[tuple[str, np.ndarray], ...]:
    """Patient and picture uint8 `[size, size]` of every slice."""
    made = phantom.slices(patients=patients, slices_per_patient=slices, image_size=size, seed=5)
    return tuple((one.patient_id, one.stored()) for one in made)


def case(name: str, split: str = "", label: str = "", patient: str = "") -> cases.Case:
    return cases.Case(case_id=name, path=name, patient_id=patient or name, split=split, label=label)


def prints(images: list[np.ndarray]) -> list[fingerprints.Fingerprint]:
    return [fingerprints.take(image[..., np.newaxis]) for image in images]


def _jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def encode(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return encode


def _resized(share: float) -> Callable[[np.ndarray], np.ndarray]:
    side = round(128 * share)
    return lambda image: np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _linear(gain: float, offset: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: np.clip(image * gain + offset, 0, 255).astype(np.uint8)


def _noisy(image: np.ndarray) -> np.ndarray:
    return np.clip(image + np.random.default_rng(3).normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def _sharpened(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.UnsharpMask(2, 100, 0)))


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg 95": _jpeg(95),
    "jpeg 50": _jpeg(50),
    "half the size": _resized(0.5),
    "twice the size": _resized(2.0),
    "brighter": _linear(1.0, 25.0),
    "darker": _linear(0.6, 0.0),
    "less contrast": _linear(0.7, 40.0),
    "gamma": lambda image: (255 * (image / 255) ** 0.75).astype(np.uint8),
    "noise": _noisy,
    "sharpened": _sharpened,
    "16 bits": lambda image: image.astype(np.uint16) * 257 + 3,
    "floating point": lambda image: image.astype(np.float32) * 4.0 - 1024.0,
}
SHIFTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cropped by 2%": lambda image: image[2:-1, 1:-2],
    "cropped by 3%": lambda image: image[4:, :-4],
    "padded": lambda image: np.pad(image, ((3, 0), (1, 2))),
}
TURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped left to right": lambda image: image[:, ::-1],
    "flipped upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "turned by 90 degrees": np.rot90,
    "transposed": np.transpose,
    "transposed the other way": lambda image: image[::-1, ::-1].T,
}
