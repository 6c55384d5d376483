"""What devices and clinics do to pictures before a model sees them, each in five severities.

Every corruption is a function of the picture, the severity and numbers drawn from (seed, case, corruption) alone. The
severity does not change what is drawn: a picture of severity 5 is that of severity 1, disturbed more. Strengths that
are lengths are shares of the picture's shorter side, so they mean the same for 28 pixels and for 1,024.

Reference:
    In the spirit of Hendrycks and Dietterich (2019), ICLR, and of Di Salvo, Doerrich and Ledig (2024), MedMNIST-C.
"""

from __future__ import annotations

import dataclasses
import io
import math
import types
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy import ndimage

from medkeras import errors

SEVERITIES = (1, 2, 3, 4, 5)

_Disturb = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One thing that happens to pictures.

    Attributes:
        levels: How strong it is at severity 1 to 5.
        says: What the levels are, in words.
        disturb: Takes a picture float64 `[H, W, C]` in 0…1, a level and a generator; returns the picture disturbed,
            not yet cut to 0…1.
        colour: Whether it is for colour pictures alone.
    """

    levels: tuple[float, float, float, float, float]
    says: str
    disturb: _Disturb
    colour: bool = False

    def __call__(
        self,
        image: np.ndarray,
        severity: int,
        generator: np.random.Generator,
        *,
        value_range: tuple[float, float],
    ) -> np.ndarray:
        """Returns the picture disturbed, in its own shape and dtype, its values cut to `value_range`.

        Args:
            image: uint8, uint16 or float32 `[H, W, C]`.
            severity: 1 to 5.
            generator: Where random numbers come from.
            value_range: What counts as black and as white.

        Raises:
            ConfigError: There is no such severity, the range is empty, or a grey picture has no colours to shift.
        """
        if severity not in SEVERITIES:
            raise errors.ConfigError(f"A severity is a whole number from 1 to 5. Received: {severity!r}")
        if self.colour and image.shape[-1] == 1:
            raise errors.ConfigError("Colours are shifted where there are some. Received: a grey picture")
        low, high = value_range
        if not low < high:
            raise errors.ConfigError(f"A range of values runs from black up to white. Received: {low:g}:{high:g}")
        unit = np.clip((image.astype(np.float64) - low) / (high - low), 0.0, 1.0)
        disturbed = np.clip(self.disturb(unit, self.levels[severity - 1], generator), 0.0, 1.0)
        stored = low + disturbed * (high - low)
        return (np.rint(stored) if np.issubdtype(image.dtype, np.integer) else stored).astype(image.dtype)


def corrupt(images: np.ndarray, name: str, severity: int, *, seed: int, value_range: tuple[float, float]) -> np.ndarray:
    """Returns pictures `[N, H, W, C]` disturbed, in their own dtype.

    Args:
        images: uint8, uint16 or float32 `[N, H, W, C]`; the place of a picture among them is its case.
        name: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Root of the random numbers, 0 or above.
        value_range: What counts as black and as white; values beyond are cut.

    Raises:
        ConfigError: The name or the severity is unknown, the range is empty, or it is about colours and the pictures
            are grey.
    """
    if name not in CORRUPTIONS:
        raise errors.ConfigError(errors.unknown("corruption", name, CORRUPTIONS))
    stream, disturbed = zlib.crc32(name.encode()), np.empty_like(images)
    for case, image in enumerate(images):
        generator = np.random.default_rng((seed, case, stream))
        disturbed[case] = CORRUPTIONS[name](image, severity, generator, value_range=value_range)
    return disturbed


def applicable(channels: int) -> tuple[str, ...]:
    """Returns the names of what can happen to pictures of 1 or 3 channels."""
    return tuple(name for name, each in CORRUPTIONS.items() if channels > 1 or not each.colour)


def _jpeg(image: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    eight = np.rint(255 * image).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(eight[..., 0] if eight.shape[-1] == 1 else eight).save(buffer, "JPEG", quality=int(quality))
    with Image.open(buffer) as opened:
        return np.asarray(opened).reshape(image.shape) / 255


def _rotated(image: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    return ndimage.rotate(image, degrees * generator.choice((-1, 1)), axes=(1, 0), reshape=False, order=1)


def _resized(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    return _through(image, share, Image.Resampling.BILINEAR, Image.Resampling.BILINEAR)


def _pixelated(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    return _through(image, share, Image.Resampling.BOX, Image.Resampling.NEAREST)


def _through(image: np.ndarray, share: float, down: Image.Resampling, up: Image.Resampling) -> np.ndarray:
    """Returns a picture that was resized to a share of its sides and back."""
    height, width, _ = image.shape
    small = max(1, round(share * width)), max(1, round(share * height))
    planes = (Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(image, -1, 0))
    passed = [np.asarray(plane.resize(small, down).resize((width, height), up)) for plane in planes]
    return np.stack(passed, axis=-1).astype(np.float64)


def _noisy(image: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    return image + deviation * generator.standard_normal(image.shape)


def _speckled(image: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    return image * (1 + deviation * generator.standard_normal(image.shape))


def _defocused(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    radius = share * min(image.shape[:2])
    reach = math.ceil(radius)
    across = np.arange(-reach, reach + 1)
    # Pixels on the rim count by how much of them the disc covers, so that radii need not be whole.
    return _spread(image, np.clip(radius + 0.5 - np.hypot(across[:, None], across), 0.0, 1.0))


def _moved(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    half, angle = share * min(image.shape[:2]) / 2, generator.uniform(0, math.pi)
    reach = math.ceil(half) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step in np.linspace(-half, half, 16 * reach + 1):
        row, column = reach + step * math.sin(angle), reach + step * math.cos(angle)
        top, left = math.floor(row), math.floor(column)
        down, right = row - top, column - left
        kernel[top : top + 2, left : left + 2] += np.outer((1 - down, down), (1 - right, right))
    return _spread(image, kernel)


def _spread(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.convolve(image, kernel[..., np.newaxis] / kernel.sum(), mode="nearest")


def _lit(image: np.ndarray, added: float, _: np.random.Generator) -> np.ndarray:
    return image + added


def _contrasted(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    mean = np.mean(image)
    return mean + factor * (image - mean)


def _curved(image: np.ndarray, exponent: float, generator: np.random.Generator) -> np.ndarray:
    return image ** (exponent ** generator.choice((-1, 1)))


def _shifted(image: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    drawn = np.asarray(generator.standard_normal(image.shape[-1]))
    direction = drawn - drawn.mean()
    return image * (1 + strength * direction / np.abs(direction).max())


def _occluded(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    row, column = generator.uniform(0.25, 0.75, 2) * (height, width)
    half = math.sqrt(share * height * width) / 2
    hidden, (rows, columns) = image.copy(), np.ogrid[:height, :width]
    hidden[(np.abs(rows + 0.5 - row) <= half) & (np.abs(columns + 0.5 - column) <= half)] = 0
    return hidden


def _cornered(image: np.ndarray, radius: float, _: np.random.Generator) -> np.ndarray:
    return image * (_distance(image) <= radius)


def _vignetted(image: np.ndarray, lost: float, _: np.random.Generator) -> np.ndarray:
    return image * (1 - lost * _distance(image) ** 2)


def _distance(image: np.ndarray) -> np.ndarray:
    """Returns how far pixels are from the picture's centre, `[H, W, 1]`, 1 in the corners."""
    rows, columns = (np.linspace(-1, 1, side + 1)[:-1] + 1 / side for side in image.shape[:2])
    return np.hypot(rows[:, None], columns)[..., np.newaxis] / math.sqrt(2)


CORRUPTIONS: Mapping[str, Corruption] = types.MappingProxyType({
    "jpeg": Corruption((90, 70, 50, 35, 20), "JPEG of quality", _jpeg),
    "rotation": Corruption((5, 10, 20, 30, 45), "degrees, to either side, black beyond the edge", _rotated),
    "resize": Corruption((0.8, 0.65, 0.5, 0.35, 0.25), "of the sides, bilinear, and back", _resized),
    "pixelate": Corruption((0.7, 0.5, 0.35, 0.25, 0.15), "of the sides, by mean, and back in blocks", _pixelated),
    "gaussian_noise": Corruption((0.02, 0.04, 0.08, 0.12, 0.18), "standard deviation, share of the range", _noisy),
    "speckle": Corruption((0.05, 0.1, 0.2, 0.3, 0.45), "standard deviation, share of each value", _speckled),
    "defocus": Corruption((0.02, 0.03, 0.045, 0.065, 0.09), "radius of the disc, share of the side", _defocused),
    "motion_blur": Corruption((0.05, 0.08, 0.12, 0.17, 0.25), "length of the way, share of the side", _moved),
    "brightness_up": Corruption((0.05, 0.1, 0.2, 0.3, 0.4), "added, share of the range", _lit),
    "brightness_down": Corruption((-0.05, -0.1, -0.2, -0.3, -0.4), "added, share of the range", _lit),
    "contrast_up": Corruption((1.2, 1.4, 1.7, 2.1, 2.6), "times the distance from the mean", _contrasted),
    "contrast_down": Corruption((0.8, 0.65, 0.5, 0.35, 0.2), "times the distance from the mean", _contrasted),
    "gamma": Corruption((1.2, 1.4, 1.7, 2.1, 2.6), "exponent, or one over it", _curved),
    "colour_shift": Corruption((0.05, 0.1, 0.15, 0.22, 0.3), "of the channel changed most", _shifted, colour=True),
    "occlusion": Corruption((0.02, 0.05, 0.1, 0.15, 0.25), "of the picture behind a black square", _occluded),
    "black_corners": Corruption((0.95, 0.88, 0.8, 0.72, 0.62), "of the half diagonal is seen, a circle", _cornered),
    "vignetting": Corruption((0.2, 0.35, 0.5, 0.65, 0.8), "of the light lost in the corners", _vignetted),
})  # fmt: skip
