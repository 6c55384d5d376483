"""The order of the data: a pure function of the seed and the epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Slots:
    """Which cases make a batch.

    Attributes:
        index: int64 `[B]`, positions in the split.
        weight: float32 `[B]`, 1 for a case and 0 for padding, which repeats real cases.
    """

    index: np.ndarray
    weight: np.ndarray


def permutation(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the order int64 `[count]` of one epoch."""
    key = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def slots(order: np.ndarray, batch_size: int) -> Iterator[Slots]:
    """Yields full batches; the last one is padded from the start of the order with weight 0.

    >>> [slot.index.tolist() for slot in slots(np.array([4, 2, 7]), 2)]
    [[4, 2], [7, 4]]
    """
    steps = steps_per_epoch(len(order), batch_size)
    padded = np.resize(order, steps * batch_size).astype(np.int64)
    weight = (np.arange(len(padded)) < len(order)).astype(np.float32)
    for start in range(0, len(padded), batch_size):
        yield Slots(padded[start : start + batch_size], weight[start : start + batch_size])


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Returns the number of batches that hold `count` cases."""
    return -(-count // batch_size)
