"""Made pictures that are all different and have something in common: a bright disc of texture on black."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SIDE = 96


def scene(index: int, *, side: int = SIDE) -> np.ndarray:
    """Returns uint8 `[side, side]`."""
    noise = np.random.default_rng(index).standard_normal((side, side))
    texture = ndimage.gaussian_filter(noise, 1.5)
    texture /= texture.std()
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    disc = np.clip((0.38 * side - np.hypot(rows, columns)) / 4, 0, 1)
    return np.clip(disc * (120 + 35 * texture), 0, 255).astype(np.uint8)


def written(image: np.ndarray, words: str, *, size: int = 10, bottom: bool = False) -> np.ndarray:
    """Returns the picture with words burned into its upper left or lower right corner."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size)
    _, _, right, low = draw.textbbox((0, 0), words, font=font)
    place = (image.shape[1] - right - 2, image.shape[0] - low - 2) if bottom else (2, 1)
    draw.text(place, words, fill=255, font=font)
    return np.asarray(picture)
