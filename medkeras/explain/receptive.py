"""Where in the image the cells of a map look: padding that is not the same on both sides moves them off the middle.

Keras pads an even side for a stride of 2 at its end alone. After the five strides of most networks a cell looks half a
cell further down and right than where it lies in the map.
"""

from __future__ import annotations

import dataclasses
import statistics

import keras


@dataclasses.dataclass(frozen=True)
class Grid:
    """Centres of receptive fields along one axis, in pixels: `first`, `first + step`, `first + 2 * step` …"""

    first: float = 0.0
    step: float = 1.0


def grids(model: keras.Model, *, start: keras.KerasTensor, end: keras.KerasTensor) -> tuple[Grid, ...]:
    """Returns the grid of a map's cells on an image's pixels, along each axis.

    Where branches of different grids meet, such as a strided shortcut and what it bypasses, the grid is their mean.

    Args:
        model: A functional model that holds both tensors.
        start: The image, `[B, H, W, C]`.
        end: The map, `[B, h, w, F]`, that depends on it.
    """
    axes = len(start.shape) - 2
    found = {id(start): (Grid(),) * axes}
    for operation in model.operations:
        given = [tensor for tensor in keras.tree.flatten(operation.input) if id(tensor) in found]
        if given and operation.output is not start and len(getattr(operation.output, "shape", ())) == axes + 2:
            found[id(operation.output)] = _through(operation, given, found)
    return found[id(end)]


def _through(
    operation: keras.Operation, given: list[keras.KerasTensor], found: dict[int, tuple[Grid, ...]]
) -> tuple[Grid, ...]:
    sides = operation.output.shape[1:-1]
    # What is broadcast (squeeze-and-excitation) has lost its places.
    placed = [tensor for tensor in given if tensor.shape[1:-1] == sides] or given
    grids = []
    for axis, (source, target) in enumerate(zip(placed[0].shape[1:-1], sides, strict=True)):
        offset, stride = _move(operation, axis, source=source, target=target)
        first = statistics.fmean(found[id(tensor)][axis].first for tensor in placed)
        step = statistics.fmean(found[id(tensor)][axis].step for tensor in placed)
        grids.append(Grid(first + step * offset, step * stride))
    return tuple(grids)


def _move(operation: keras.Operation, axis: int, *, source: int, target: int) -> tuple[float, float]:
    """Returns the middle of the cells that a layer's first output sees, and the distance to those of the next."""
    if isinstance(operation, keras.layers.ZeroPadding2D | keras.layers.ZeroPadding3D):
        return -operation.padding[axis][0], 1
    kernel = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    if kernel is None:
        return (source / target - 1) / 2, source / target
    stride = operation.strides[axis]
    padded = max((target - 1) * stride + kernel[axis] - source, 0) if operation.padding == "same" else 0
    return (kernel[axis] - 1) / 2 - padded // 2, stride
