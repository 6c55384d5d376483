"""A .tflite file in the process that measures it: LiteRT and NumPy, nothing else."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from medkeras.edge import timing_model


def load(path: str, threads: int, shape: object = None) -> timing_model.Loaded:
    """Returns the model of a file.

    Args:
        path: The file.
        threads: How many compute.
        shape: Not needed: the file says it.

    Raises:
        ValueError: The file is none, or its input is no picture.
    """
    engine = litert.Interpreter(model_path=path, num_threads=threads)
    given, *more = engine.get_input_details()
    dtype = np.dtype(given["dtype"]).name
    sides = timing_model.require_image([int(side) for side in given["shape"]], dtype)
    if more:
        raise ValueError(f"its inputs are {1 + len(more)} and not one picture")
    free = given["shape_signature"][0] < 0
    call = _Call(engine, given["index"], 1 if free else int(given["shape"][0]))
    run = call if free else functools.partial(timing_model.in_parts, call, batch=call.batch)
    return timing_model.Loaded(run, sides, dtype)


class _Call:
    """The calls that a device makes: pixels in, compute, numbers out; memory is laid out when the batch changes."""

    def __init__(self, engine: Any, place: int, batch: int) -> None:
        self.batch = batch
        self._engine = engine
        self._place = place
        self._named = _outputs(engine)
        engine.allocate_tensors()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        engine = self._engine
        if len(images) != self.batch:
            engine.resize_tensor_input(self._place, images.shape)
            engine.allocate_tensors()
            self.batch = len(images)
        engine.set_tensor(self._place, images)
        engine.invoke()
        return {name: engine.get_tensor(index) for name, index in self._named.items()}


def _outputs(engine: Any) -> dict[str, int]:
    """Returns the index of each output by its name in the signature, or where there is none in the graph."""
    signatures = engine.get_signature_list()
    if not signatures:
        return {each["name"]: each["index"] for each in engine.get_output_details()}
    details = engine.get_signature_runner(next(iter(signatures))).get_output_details()
    return {name: each["index"] for name, each in details.items()}
