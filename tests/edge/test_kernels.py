"""How far two implementations of one file lie apart."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from medkeras.edge import kernels

SIZE = (8, 8)


def network(image: tf.Tensor) -> tf.Tensor:
    random = np.random.default_rng(0)
    value = tf.cast(image, tf.float32) / 255
    for channels in (8, 16, 16):
        filters = random.normal(size=(3, 3, value.shape[-1], channels)).astype(np.float32) / 4
        value = tf.nn.relu(tf.nn.conv2d(value, filters, 1, "SAME"))
    logits = tf.reduce_mean(value, axis=(1, 2)) @ random.normal(size=(16, 3)).astype(np.float32)
    return tf.nn.softmax(4 * logits)


def converted(images: np.ndarray, *, quantised: bool, threshold: float = 0.5, batch: int = 1) -> bytes:
    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = network(image)
        return {"probabilities": probabilities, "prediction_set": probabilities >= threshold}

    spec = tf.TensorSpec([batch, *SIZE, 1], tf.float32, name="image")
    function = tf.function(answer, input_signature=[spec]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    return converter.convert()


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(0, 255, (count, *SIZE, 1)).astype(np.float32)


def by_hand(content: bytes, image: np.ndarray, resolver: litert.OpResolverType) -> dict[str, np.ndarray]:
    machine = litert.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    return machine.get_signature_runner()(image=image[np.newaxis])


@pytest.mark.parametrize("quantised", [False, True])
def test_it_is_the_largest_difference_of_all_outputs(quantised) -> None:
    images = pictures(12)
    content = converted(images, quantised=quantised)
    found = kernels.disagreement(content, images)
    assert (found.shape, found.dtype) == ((12,), np.float64)
    for value, image in zip(found, images, strict=True):
        one = by_hand(content, image, litert.OpResolverType.AUTO)
        other = by_hand(content, image, litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        apart = np.abs(one["probabilities"] - other["probabilities"]).max()
        flipped = (one["prediction_set"] != other["prediction_set"]).any()
        assert value == pytest.approx(1.0 if flipped else apart, abs=1e-9)


def test_floats_agree_and_sums_of_int8_do_not() -> None:
    images = pictures(60)
    floats = kernels.disagreement(converted(images, quantised=False), images)
    whole = kernels.disagreement(converted(images, quantised=True), images)
    assert floats.max() < 1e-5
    assert 1e-3 < whole.max() < 0.2


def test_a_decision_at_its_threshold_counts_as_one() -> None:
    images = pictures(60)
    plain = converted(images, quantised=True)
    where = int(kernels.disagreement(plain, images).argmax())
    pair = [
        by_hand(plain, images[where], resolver)["probabilities"][0]
        for resolver in (litert.OpResolverType.AUTO, litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    ]
    k = int(np.abs(pair[0] - pair[1]).argmax())
    between = converted(images, quantised=True, threshold=float((pair[0][k] + pair[1][k]) / 2))
    assert kernels.disagreement(between, images)[where] == 1


def test_a_fixed_batch_is_filled() -> None:
    images = pictures(3)
    one = kernels.disagreement(converted(images, quantised=False), images)
    four = kernels.disagreement(converted(images, quantised=False, batch=4), images)
    assert four.shape == (3,)
    assert four == pytest.approx(one, abs=1e-5)
