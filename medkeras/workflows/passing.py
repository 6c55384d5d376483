"""One pass of a model over images that are kept in a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from medkeras.data import order, pipeline, store
from medkeras.workflows import terminal

Answer = Callable[[tf.Tensor], Mapping[str, np.ndarray]]


def run(
    answer: Answer, images: store.Store, *, batch_size: int, description: str, positions: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Returns what a model says of the images, each output as an array `[N, ...]` in order.

    Args:
        answer: From stored values `[B, H, W, C]` to arrays `[B, ...]` by name.
        images: The store.
        batch_size: Images at once; the last batch is filled up, and what is said of the filling is dropped.
        description: What the progress bar says.
        positions: Cases to look at, in this order; None: all.
    """
    chosen = np.arange(len(images.cases)) if positions is None else positions
    batches = pipeline.some(images, chosen, batch_size=batch_size)
    parts: list[Mapping[str, np.ndarray]] = []
    for batch in terminal.track(batches, order.steps_per_epoch(len(chosen), batch_size), description):
        real = batch["weight"].numpy() > 0
        parts.append({name: np.asarray(value)[real] for name, value in answer(batch["image"]).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
