"""In what form a device wants a model."""

from __future__ import annotations

import dataclasses
from typing import Literal

from medkeras import errors

Quantize = Literal["none", "float16", "dynamic", "int8", "int16x8"]
QUANTIZE = ("none", "float16", "dynamic", "int8", "int16x8")
DTYPES = ("uint8", "uint16", "float32")


@dataclasses.dataclass(frozen=True)
class Form:
    """What a device gives, and in what numbers it computes.

    Attributes:
        quantize: Of the network between the pixels' preparation and the logits: `none`, `float16` weights, `dynamic`
            (int8 weights, activations quantised as they come), `int8`, or `int16x8` (int16 activations, int8 weights).
        dtype: Of the pixels that the device gives: stored values as uint8, uint16 or float32.
        size: Height and width of the pictures that the device gives.
        channels: 1 or 3.
        batch: Pictures in one call; 0: any number.

    Raises:
        ConfigError: A value is none of those.
    """

    size: tuple[int, int]
    channels: int
    quantize: str = "none"
    dtype: str = "uint8"
    batch: int = 1

    def __post_init__(self) -> None:
        for name, known in (("quantize", QUANTIZE), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise errors.ConfigError(errors.unknown(name, getattr(self, name), known))
        if min(self.size) < 1 or self.batch < 0:
            raise errors.ConfigError(
                f"A device gives pictures of at least one pixel, at least one at a time (0: any number). "
                f"Received: size {self.size[0]}x{self.size[1]}, batch {self.batch}"
            )
