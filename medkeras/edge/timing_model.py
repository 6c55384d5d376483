"""What the process that measures a model holds, whichever runtime computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

_BYTE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A model that answers.

    Attributes:
        run: From stored values of `dtype` `[B, H, W, C]`, any B, to arrays `[B, ...]` by name.
        shape: `(H, W, C)` of an image.
        dtype: `uint8`, `uint16` or `float32`.
    """

    run: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    shape: tuple[int, ...]
    dtype: str

    def answer(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Answers for images `[B, H, W, C]`."""
        return self.run(images)

    def pixels(self, batch: int) -> np.ndarray:
        """Returns noise `[B, H, W, C]` in 0…255, always the same."""
        generator = np.random.default_rng(batch)
        return generator.integers(0, _BYTE, (batch, *self.shape)).astype(self.dtype)

    def answer_bytes(self, content: bytes, batch: int) -> tuple[list[tuple[str, list[int], str]], list[bytes]]:
        """Answers for images given as bytes; returns name, shape and dtype of each output, and its bytes."""
        images = np.frombuffer(content, self.dtype).reshape(batch, *self.shape)
        outputs = {name: np.ascontiguousarray(value) for name, value in self.run(images).items()}
        kinds = [(name, list(value.shape), value.dtype.name) for name, value in outputs.items()]
        return kinds, [value.tobytes() for value in outputs.values()]


def require_image(shape: Sequence[object], dtype: str) -> tuple[int, ...]:
    """Returns `(H, W, C)` of an input `[B, H, W, C]`.

    Raises:
        ValueError: The input is something else.
    """
    sides = tuple(side for side in shape[1:] if isinstance(side, int) and side > 0)
    if len(shape) != 4 or len(sides) != 3 or dtype not in ("uint8", "uint16", "float32"):
        given = ", ".join(map(str, shape))
        raise ValueError(f"its input is no picture of stored values [B, H, W, C] but {dtype} [{given}]")
    return sides


def in_parts(
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]], images: np.ndarray, batch: int
) -> dict[str, np.ndarray]:
    """Answers for any number of images by calls of a fixed number, the last one filled up."""
    short = -len(images) % batch
    whole = np.concatenate((images, np.repeat(images[-1:], short, axis=0))) if short else images
    parts = [run(whole[start : start + batch]) for start in range(0, len(whole), batch)]
    return {name: np.concatenate([part[name] for part in parts])[: len(images)] for name in parts[0]}
