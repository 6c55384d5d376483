"""How far LiteRT's implementations of one file lie apart, which is what devices differ by."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import interpreter as litert

# XNNPACK, and the kernels that run where it does not; they round sums of int8 otherwise.
_RESOLVERS = (litert.OpResolverType.AUTO, litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def disagreement(content: bytes, images: np.ndarray) -> np.ndarray:
    """Returns for each picture the largest difference between two implementations, over all numbers of all outputs.

    A test case for devices is a picture of a small one: on the others devices differ that are both right.

    Args:
        content: A TFLite file.
        images: Pictures `[N, H, W, C]`, as the file takes them.

    Returns:
        float64 `[N]`; a true that is a false elsewhere counts as 1.
    """
    one, other = (_answers(content, images, resolver) for resolver in _RESOLVERS)
    return np.abs(one - other).max(axis=1)


def _answers(content: bytes, images: np.ndarray, resolver: litert.OpResolverType) -> np.ndarray:
    run = litert.Interpreter(model_content=content, experimental_op_resolver_type=resolver).get_signature_runner()
    batch = max(1, int(run.get_input_details()["image"]["shape_signature"][0]))
    each = [run(image=np.stack([image] * batch)) for image in images]
    return np.stack(
        [np.concatenate([np.ravel(one[name][0]) for name in sorted(one)]) for one in each], dtype=np.float64
    )
