"""What devices and clinics do to pictures: compression, turning, scaling, noise, blur, light, colour, dirt.

Each corruption has five severities. What it draws (a direction, a place, a pattern of noise) is the same at all of
them, so that a severity differs from the next in strength alone, and no curve over severities bends by luck.

Reference:
    Hendrycks and Dietterich (2019), Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    ICLR. Di Salvo, Doerrich and Ledig (2024), MedMNIST-C, MICCAI workshop ADSMI.
"""

from __future__ import annotations

import dataclasses
import io
import math
import types
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage, signal

from medkeras import errors

SEVERITIES = (1, 2, 3, 4, 5)
DTYPES = ("uint8", "uint16", "float32")

_BYTE = 255
_POINTS = 64
"""Points across the aperture of a lens, and along the path of a motion."""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One thing that happens to pictures.

    Attributes:
        apply: From pixels float64 `[H, W, C]`, scaled so that the range of values is 0…1, a strength and a generator
            to pixels `[H, W, C]`, which may leave 0…1.
        strengths: Of the severities 1…5.
        measure: What the strengths are, in words.
        colour: Whether it needs colour.
    """

    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, float, float, float, float]
    measure: str
    colour: bool = False

    def __call__(
        self, image: np.ndarray, severity: int, generator: np.random.Generator, value_range: tuple[float, float]
    ) -> np.ndarray:
        """Returns the picture corrupted: shape and dtype are kept, and values in the range stay in it.

        Args:
            image: uint8, uint16 or float32 `[H, W, C]`, C is 1 or 3.
            severity: 1…5.
            generator: Draws what is drawn.
            value_range: Lowest and highest value that pictures have; in a picture that goes beyond, its own count.

        Raises:
            ConfigError: An argument is none of these, or the picture is grey and the corruption one of colour.
        """
        self._check(image, severity, value_range)
        low, high = value_range
        pixels = (image.astype(np.float64) - low) / (high - low)
        found = low + (high - low) * self.apply(pixels, self.strengths[severity - 1], generator)
        found = np.clip(found, min(low, float(image.min())), max(high, float(image.max())))
        return (found if image.dtype == np.float32 else np.rint(found)).astype(image.dtype)

    def _check(self, image: np.ndarray, severity: int, value_range: tuple[float, float]) -> None:
        if severity not in SEVERITIES:
            raise errors.ConfigError(f"A severity is 1, 2, 3, 4 or 5. Received: severity={severity!r}")
        if image.dtype.name not in DTYPES or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
            raise errors.ConfigError(
                f"A picture is {', '.join(DTYPES)} [H, W, C], C is 1 or 3. "
                f"Received: {image.dtype.name} {list(image.shape)}"
            )
        if self.colour and image.shape[2] == 1:
            raise errors.ConfigError("A grey picture has no colour to shift. Received: 1 channel")
        if not value_range[0] < value_range[1]:
            raise errors.ConfigError(f"A range of values has a low and a high end. Received: {value_range}")


def corrupt(
    images: np.ndarray,
    name: str,
    severity: int,
    *,
    seed: int,
    value_range: tuple[float, float],
    positions: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Returns pictures corrupted, each by itself: a function of the seed, its position, the name and the severity.

    Args:
        images: uint8, uint16 or float32 `[N, H, W, C]`, C is 1 or 3.
        name: A key of `CORRUPTIONS`.
        severity: 1…5.
        seed: Root of the random numbers, 0 or above.
        value_range: Lowest and highest value that pictures have.
        positions: int `[N]`, of the pictures in the whole that they were taken from; None: 0…N - 1.

    Raises:
        ConfigError: The name is unknown, or an argument is none of these.
    """
    if name not in CORRUPTIONS:
        raise errors.ConfigError(errors.unknown("corruption", name, CORRUPTIONS))
    if seed < 0:
        raise errors.ConfigError(f"A seed is 0 or above. Received: seed={seed}")
    stream, found = zlib.crc32(name.encode()), np.empty_like(images)
    for row, position in enumerate(range(len(images)) if positions is None else positions):
        generator = np.random.default_rng((seed, stream, int(position)))
        found[row] = CORRUPTIONS[name](images[row], severity, generator, value_range)
    return found


def names(channels: int) -> tuple[str, ...]:
    """Returns the corruptions of pictures of so many channels.

    >>> set(names(3)) - set(names(1))
    {'colour_shift'}
    """
    return tuple(name for name, corruption in CORRUPTIONS.items() if channels == 3 or not corruption.colour)


def _jpeg(pixels: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    """Compresses in 8 bits, as a JPEG file has them, colour at half the resolution."""
    stored = np.rint(np.clip(pixels, 0, 1) * _BYTE).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(stored[..., 0] if stored.shape[2] == 1 else stored).save(buffer, "JPEG", quality=int(quality))
    with Image.open(buffer) as image:
        return np.asarray(image, np.float64).reshape(pixels.shape) / _BYTE


def _rotation(pixels: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """Turns about the middle, either way; what comes in at the corners has the lowest value."""
    angle = _way(generator) * degrees
    return ndimage.rotate(pixels, angle, axes=(1, 0), reshape=False, order=1, mode="grid-constant", cval=0.0)


def _resize(pixels: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    small = _scaled(pixels, _reduced(pixels, factor), Image.Resampling.BILINEAR)
    return _scaled(small, pixels.shape[:2], Image.Resampling.BILINEAR)


def _pixelate(pixels: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    small = _scaled(pixels, _reduced(pixels, factor), Image.Resampling.BOX)
    return _scaled(small, pixels.shape[:2], Image.Resampling.NEAREST)


def _gaussian_noise(pixels: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    return pixels + deviation * generator.standard_normal(pixels.shape)


def _speckle_noise(pixels: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    """Adds noise that grows with the value, as coherent waves make it."""
    return pixels * (1 + deviation * generator.standard_normal(pixels.shape))


def _defocus_blur(pixels: np.ndarray, radius: float, _: np.random.Generator) -> np.ndarray:
    """Blurs by a disc, its radius a share of the shorter side."""
    grid = (np.arange(_POINTS) + 0.5) / _POINTS * 2 - 1
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = points[np.sum(points**2, axis=1) <= 1]
    return _smeared(pixels, radius * min(pixels.shape[:2]) * inside)


def _motion_blur(pixels: np.ndarray, length: float, generator: np.random.Generator) -> np.ndarray:
    """Blurs along a line in any direction, its length a share of the shorter side."""
    angle = generator.uniform(0, math.pi)
    line = ((np.arange(_POINTS) + 0.5) / _POINTS - 0.5)[:, np.newaxis] * [math.sin(angle), math.cos(angle)]
    return _smeared(pixels, length * min(pixels.shape[:2]) * line)


def _brightness(pixels: np.ndarray, shift: float, _: np.random.Generator) -> np.ndarray:
    return pixels + shift


def _contrast(pixels: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    mean = pixels.mean()
    return mean + factor * (pixels - mean)


def _gamma(pixels: np.ndarray, exponent: float, generator: np.random.Generator) -> np.ndarray:
    """Raises to a power, or to one over it."""
    return np.clip(pixels, 0, 1) ** (exponent ** _way(generator))


def _colour_shift(pixels: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Weighs red, green and blue as another white balance does: some gain what others lose."""
    gains = generator.standard_normal(3)
    gains -= gains.mean()
    return pixels * (1 + strength * gains / np.abs(gains).max())


def _dark_corners(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    """Darkens with the square of the distance from the middle; in the very corners this share of light is lost."""
    down, across = (np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in pixels.shape[:2])
    squared = (down[:, np.newaxis] ** 2 + across**2) / 2
    return pixels * (1 - strength * squared[..., np.newaxis])


def _occlusion(pixels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Covers this share of the area, a rectangle of the picture's own proportions at any place, at the lowest value."""
    sides = [round(side * math.sqrt(share)) for side in pixels.shape[:2]]
    places = generator.random(2)
    starts = [int(place * (whole - side)) for place, whole, side in zip(places, pixels.shape, sides, strict=False)]
    found = pixels.copy()
    found[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = 0.0
    return found


def _way(generator: np.random.Generator) -> int:
    return 1 if generator.random() < 0.5 else -1


def _reduced(pixels: np.ndarray, factor: float) -> tuple[int, int]:
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return height, width


def _scaled(pixels: np.ndarray, size: Sequence[int], resample: Image.Resampling) -> np.ndarray:
    planes = np.moveaxis(pixels.astype(np.float32), 2, 0)
    scaled = [Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), resample) for plane in planes]
    return np.stack([np.asarray(plane, np.float64) for plane in scaled], axis=-1)


def _smeared(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns the mean of the picture shifted by points `[P, 2]` in pixels, each between four pixels of the grid.

    The shorter the shifts the less changes, also below a pixel, so that small pictures have five severities too.
    """
    reach = math.floor(float(np.abs(points).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    whole = np.floor(points)
    part = points - whole
    for down in (0, 1):
        for across in (0, 1):
            weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - across - part[:, 1])
            rows, columns = (whole + (down, across)).astype(np.int64).T + reach
            np.add.at(kernel, (rows, columns), weight / len(points))
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    return signal.fftconvolve(padded, kernel[..., np.newaxis], mode="valid", axes=(0, 1))


_SHARE = "share of the range of values"
_FACTOR = "times the distance from the mean"
_SCALE = "times the sides, and back"

CORRUPTIONS: Mapping[str, Corruption] = types.MappingProxyType(
    {
        "jpeg": Corruption(_jpeg, (90, 70, 50, 35, 20), "quality"),
        "rotation": Corruption(_rotation, (3, 8, 15, 22, 30), "degrees, either way"),
        "resize": Corruption(_resize, (0.8, 0.65, 0.5, 0.35, 0.25), _SCALE),
        "pixelate": Corruption(_pixelate, (0.8, 0.65, 0.5, 0.35, 0.25), _SCALE),
        "gaussian_noise": Corruption(_gaussian_noise, (0.02, 0.04, 0.08, 0.12, 0.18), f"deviation, {_SHARE}"),
        "speckle_noise": Corruption(_speckle_noise, (0.05, 0.1, 0.2, 0.3, 0.45), "deviation, share of each value"),
        "defocus_blur": Corruption(_defocus_blur, (0.012, 0.02, 0.03, 0.04, 0.05), "radius, share of the shorter side"),
        "motion_blur": Corruption(_motion_blur, (0.03, 0.05, 0.08, 0.11, 0.15), "length, share of the shorter side"),
        "brightness_up": Corruption(_brightness, (0.06, 0.12, 0.18, 0.25, 0.35), f"added, {_SHARE}"),
        "brightness_down": Corruption(_brightness, (-0.06, -0.12, -0.18, -0.25, -0.35), f"added, {_SHARE}"),
        "contrast_up": Corruption(_contrast, (1.2, 1.4, 1.7, 2.0, 2.5), _FACTOR),
        "contrast_down": Corruption(_contrast, (0.8, 0.65, 0.5, 0.35, 0.25), _FACTOR),
        "gamma": Corruption(_gamma, (1.15, 1.3, 1.55, 1.8, 2.2), "exponent, or one over it"),
        "colour_shift": Corruption(
            _colour_shift, (0.05, 0.1, 0.16, 0.23, 0.3), "share that a channel gains or loses at most", colour=True
        ),
        "dark_corners": Corruption(_dark_corners, (0.2, 0.4, 0.6, 0.8, 1.0), "share of light lost in the very corners"),
        "occlusion": Corruption(_occlusion, (0.02, 0.04, 0.08, 0.12, 0.18), "share of the area"),
    }
)
