"""An .onnx file in the process that measures it: ONNX Runtime and NumPy, nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkeras.edge import timing_model

_DTYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(float)": "float32"}


def load(path: str, threads: int, shape: object = None) -> timing_model.Loaded:
    """Returns the model of a file.

    Args:
        path: The file.
        threads: How many compute.
        shape: Not needed: the file says it.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: The file's input is no picture.
    """
    session = _session(path, threads)
    given, *more = session.get_inputs()
    dtype = _DTYPES.get(given.type, given.type)
    sides = timing_model.require_image(given.shape, dtype)
    if more:
        raise ValueError(f"its inputs are {1 + len(more)} and not one picture")
    names = [each.name for each in session.get_outputs()]

    def call(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {given.name: images}), strict=True))

    fixed = given.shape[0]
    if not isinstance(fixed, int):
        return timing_model.Loaded(call, sides, dtype)
    return timing_model.Loaded(lambda images: timing_model.in_parts(call, images, fixed), sides, dtype)


def _session(path: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ImportError("ONNX Runtime is needed for it: pip install medkeras[onnx]") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
