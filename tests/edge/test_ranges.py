"""The ranges that int8 tensors are quantised by."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from medkeras.edge import flat, parts, ranges


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    zero = np.round(-low / step)
    return float(((np.clip(np.round(values / step) + zero, 0, 255) - zero) * step - values).var())


def test_values_that_fill_their_range_keep_it() -> None:
    values = np.linspace(-1, 3, 10_000)
    assert ranges.narrowed(values, -1.0, 3.0) == pytest.approx((-1.0, 3.0))


def test_a_rare_outlier_does_not_coarsen_every_step() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 1_000_000), 40.0)
    low, high = ranges.narrowed(values, values.min(), 40.0)
    assert high < 20
    assert squared_error(values, low, high) < 0.6 * squared_error(values, values.min(), 40.0)


@pytest.mark.parametrize(("low", "high"), [(2.0, 6.0), (-6.0, -2.0), (0.0, 0.0)])
def test_zero_is_exact(low, high) -> None:
    found = ranges.narrowed(np.linspace(low, high, 1000), low, high)
    assert found[0] <= 0 <= found[1]


def test_what_is_added_to_keeps_its_own_range() -> None:
    """The converter's own calibration records the sum, whose tensor shares the memory."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 2)).astype(np.float32)

    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        small = tf.nn.conv2d(x, 0.01 * kernel, 1, "SAME", name="small")
        return {"y": tf.nn.relu(small + 10.0 * x, name="sum")}

    samples = [{"x": np.random.default_rng(n).normal(size=(1, 8, 8, 2)).astype(np.float32)} for n in range(4)]
    part = parts.Part(function, {"x": tf.TensorSpec((1, 8, 8, 2), tf.float32)}, [])
    small = tf.nn.conv2d(np.concatenate([each["x"] for each in samples]), 0.01 * kernel, 1, "SAME").numpy()
    extremes, _ = part.int8(samples)
    model = flat.load(extremes)
    graph = model.subgraphs[0]
    (convolution,) = [each for each in graph.operators if flat.name(model.operatorCodes[each.opcodeIndex]) == "CONV_2D"]
    scale = graph.tensors[convolution.outputs[0]].quantization.scale
    np.testing.assert_allclose(scale, [np.ptp(small) / 255], rtol=1e-3)
