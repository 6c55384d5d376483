"""Channels of one tensor brought to like ranges, where that changes nothing of what the network computes."""

from __future__ import annotations

import keras
import numpy as np

from medkeras.edge import simulated

LARGEST_GAIN = 8.0
"""How much more than the median channel a channel may be enlarged: one that the images hardly wake may yet wake."""
HOMOGENEOUS = ("linear", "relu")


def equalise(network: simulated.Simulated, images: np.ndarray) -> int:
    """Divides channels by their range before a layer and multiplies its kernel by the same; returns how many tensors.

    It is done where one kernel gives a tensor and one takes it, with nothing but normalisation, ReLU without a ceiling
    and layers that move numbers between them. The weights of the model that the network shares are changed.

    Args:
        network: Its points are visited in order, each as the ones before have left it.
        images: Stored values `[N, H, W, C]`, for the ranges.

    Reference: Nagel et al., Data-free quantization through weight equalization and bias correction, ICCV 2019.
    """
    ranges = [np.maximum(-low, high) for low, high in network.extremes(images)]
    pairs = [(point, found, _taker(network, point)) for point, found in zip(network.points, ranges, strict=True)]
    fitting = [(point, found, taker) for point, found, taker in pairs if taker is not None and _scales(point.made_by)]
    for point, found, taker in fitting:
        factors = _factors(found, taker)
        _divide(point.made_by, factors)
        _multiply(taker, factors)
    return len(fitting)


def _taker(network: simulated.Simulated, point: simulated.Point) -> keras.Layer | None:
    """Returns the one layer with a kernel that takes the tensor, if nothing else does."""
    taken = network.kernels.get(next(iter(point.users), ""))
    return taken.layer if taken and len(point.users) == 1 else None


def _scales(made_by: tuple[keras.Layer, ...]) -> bool:
    """Whether channels that are computed by these layers can be divided by dividing weights."""
    if not made_by or not isinstance(made_by[0], simulated.KERNELS):
        return False
    first, *rest = made_by
    norms = [layer for layer in rest if isinstance(layer, keras.layers.BatchNormalization)]
    ceilings = [layer for layer in rest if getattr(layer, "max_value", None) is not None]
    named = [layer.activation.__name__ for layer in made_by if hasattr(layer, "activation")]
    linear = not norms or first.activation.__name__ == "linear"
    return all(each.scale and each.center for each in norms) and not ceilings and linear and {*named} <= {*HOMOGENEOUS}


def _factors(ranges: np.ndarray, taker: keras.Layer) -> np.ndarray:
    """Returns what to divide each channel by, `[channels]`, so that channels and kernel rows have like ranges."""
    kernel = np.abs(taker.kernel.numpy())
    if simulated.is_depthwise(taker):
        rows = np.where(ranges > 0.0, 1.0 / np.maximum(ranges, 1e-30), 0.0)
    else:
        rows = kernel.max(axis=(*range(kernel.ndim - 2), kernel.ndim - 1)).reshape(-1, len(ranges)).max(0)
    alive = (ranges > 0.0) & (rows > 0.0)
    factors = np.sqrt(np.where(alive, ranges, 1.0) / np.where(alive, rows, 1.0))
    middle = float(np.median(factors[alive])) if alive.any() else 1.0
    return np.where(alive, np.maximum(factors / middle, 1.0 / LARGEST_GAIN), 1.0).astype(np.float32)


def _divide(made_by: tuple[keras.Layer, ...], factors: np.ndarray) -> None:
    norm = next((layer for layer in made_by if isinstance(layer, keras.layers.BatchNormalization)), None)
    if norm is not None:
        scaled = [(norm.gamma, factors), (norm.beta, factors)]
    else:
        first = made_by[0]
        shape = first.kernel.shape[-2:] if simulated.is_depthwise(first) else first.kernel.shape[-1:]
        scaled = [(first.kernel, factors.reshape(shape))]
        scaled += [(first.bias, factors)] if first.use_bias else []
    for variable, by in scaled:
        variable.assign(variable.numpy() / by)


def _multiply(taker: keras.Layer, factors: np.ndarray) -> None:
    """Multiplies the rows of a kernel; a flattened map has every channel once a position, channels running fastest."""
    kernel = taker.kernel.numpy()
    taker.kernel.assign(kernel * np.tile(factors, kernel.shape[-2] // len(factors))[:, None])
