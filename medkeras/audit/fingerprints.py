"""What is kept of an image to know its copies by: a digest of its pixels, and a thumbnail of 4 KiB."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np
import scipy.sparse

SIDE = 64

_LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True, eq=False)
class Fingerprint:
    """What identifies an image, whatever file it came in.

    Attributes:
        digest: BLAKE2b, 16 bytes, of shape and values; equal for equal pictures, whatever their dtype, and for a grey
            picture stored once or three times.
        thumbnail: uint8 `[64, 64]`: the grey picture averaged by area and stretched to 0..255; of a volume, four of its
            slices side by side.
        flat: Whether the thumbnail holds one value only, so that nothing can be compared with it.
        side: Pixels behind the thumbnail along the picture's shorter side; below 64 the thumbnail is interpolated.
    """

    digest: bytes
    thumbnail: np.ndarray
    flat: bool
    side: int


def take(image: np.ndarray) -> Fingerprint:
    """Returns the fingerprint of stored values `[H, W, C]` or `[D, H, W, C]`, C being 1 or 3, of any numeric dtype."""
    image = one_channel(image)
    small = _thumbnail(image)
    low, high = float(small.min()), float(small.max())
    flat = not high - low > 1e-6 * max(abs(low), abs(high), 1e-30)
    stretched = np.zeros_like(small) if flat else (small - low) * (255.0 / (high - low))
    side = min(image.shape[-3:-1]) * (1 if image.ndim == 3 else 2)
    return Fingerprint(digest(image), np.rint(stretched).astype(np.uint8), flat, side)


def digest(image: np.ndarray) -> bytes:
    """Returns 16 bytes that stand for the shape and the values of `image`, its dtype aside."""
    image = one_channel(image)
    state = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    state.update(_narrowest(image).tobytes())
    return state.digest()


def one_channel(image: np.ndarray) -> np.ndarray:
    """Returns `[..., 1]` where three channels `[..., 3]` say the same, else the image."""
    if image.shape[-1] == 3 and np.array_equal(image[..., 0], image[..., 1]):
        return image[..., :1] if np.array_equal(image[..., 0], image[..., 2]) else image
    return image


def grey(image: np.ndarray) -> np.ndarray:
    """Returns the luma of `[..., C]` as float32 `[...]`.

    Reference:
        Rec. ITU-R BT.601-7, 2.5.1.
    """
    if image.shape[-1] == 1:
        return image[..., 0].astype(np.float32)
    return image.astype(np.float32) @ np.array(_LUMA, np.float32)


def _narrowest(image: np.ndarray) -> np.ndarray:
    """Returns the same values as little-endian uint8, uint16 or float32, whichever holds them first."""
    if image.dtype == np.uint8:
        return image
    low, high = image.min(), image.max()
    if low >= 0 and high <= 65535 and (image.dtype.kind in "bu" or np.array_equal(image, np.floor(image))):
        return image.astype(np.uint8 if high <= 255 else "<u2")
    return image.astype("<f4") + np.float32(0)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns float32 `[64, 64]` of stored values `[H, W, C]` or `[D, H, W, C]`."""
    if image.ndim == 3:
        return _averaged(grey(image), SIDE)
    places = np.rint(np.array([0.2, 0.4, 0.6, 0.8]) * (len(image) - 1)).astype(int)
    tiles = [_averaged(grey(image[place]), SIDE // 2) for place in places]
    return np.block([tiles[:2], tiles[2:]])


def _averaged(plane: np.ndarray, side: int) -> np.ndarray:
    """Returns float32 `[side, side]`: `[H, W]` averaged by area, or interpolated where it is smaller."""
    height, width = plane.shape
    # Sparse, for dense products start threads of their own, which fight those that decode.
    return (weights(width, side) @ (weights(height, side) @ plane).T).T


@functools.lru_cache(maxsize=256)
def weights(source: int, target: int) -> scipy.sparse.csr_array:
    """Returns float32 `[target, source]`, rows that sum to 1."""
    scale = source / target
    if scale >= 1:
        start, pixel = np.arange(target)[:, np.newaxis] * scale, np.arange(source)
        overlap = np.minimum(start + scale, pixel + 1) - np.maximum(start, pixel)
        return scipy.sparse.csr_array((np.maximum(overlap, 0) / scale).astype(np.float32))
    centre = np.clip((np.arange(target) + 0.5) * scale - 0.5, 0, source - 1)[:, np.newaxis]
    return scipy.sparse.csr_array(np.maximum(1 - np.abs(centre - np.arange(source)), 0).astype(np.float32))
