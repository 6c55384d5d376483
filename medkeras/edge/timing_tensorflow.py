"""A SavedModel in the process that measures it: TensorFlow and NumPy, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from medkeras.edge import timing_model

_SIGNATURE = "serving_default"


def load(path: str, threads: int, shape: Sequence[int]) -> timing_model.Loaded:
    """Returns the model of a folder.

    Args:
        path: The folder.
        threads: How many compute.
        shape: `(H, W, C)` of the model's own pictures.

    Raises:
        ValueError: It has no signature of ours.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = tf.saved_model.load(path)
    if _SIGNATURE not in model.signatures:
        raise ValueError(f"it has no signature {_SIGNATURE}")

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        # Through the model, which holds the variables that a signature computes with.
        answers = model.signatures[_SIGNATURE](image=tf.constant(images))
        return {name: value.numpy() for name, value in answers.items()}

    return timing_model.Loaded(run, tuple(shape), "float32")
