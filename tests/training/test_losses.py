import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from medkeras import errors
from medkeras.training import losses

FUNCTIONS = (losses.softmax_crossentropy, losses.sigmoid_crossentropy, losses.softmax_focal, losses.sigmoid_focal)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)


@pytest.fixture
def one_hot():
    return np.eye(4, dtype=np.float32)[[0, 3, 1, 1, 2]]


@pytest.fixture
def multi_hot():
    return np.array([[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]], np.float32)


def binary_terms(logits):
    probability = scipy.special.expit(logits.astype(np.float64))
    return probability, np.log(probability), np.log1p(-probability)


def test_softmax_crossentropy_is_the_log_likelihood(one_hot, logits):
    expected = -scipy.special.log_softmax(logits.astype(np.float64), axis=1)[one_hot == 1]
    np.testing.assert_allclose(losses.softmax_crossentropy(one_hot, logits), expected, rtol=1e-5)


def test_softmax_crossentropy_takes_soft_targets(one_hot, logits):
    soft = 0.7 * one_hot + 0.3 * one_hot[::-1]
    parts = [losses.softmax_crossentropy(target, logits) for target in (one_hot, one_hot[::-1])]
    np.testing.assert_allclose(losses.softmax_crossentropy(soft, logits), 0.7 * parts[0] + 0.3 * parts[1], rtol=1e-5)


def test_class_weight_multiplies_the_loss_of_its_class(one_hot, logits):
    weight = np.array([1.0, 2.0, 0.5, 4.0])
    plain = losses.softmax_crossentropy(one_hot, logits)
    weighted = losses.softmax_crossentropy(one_hot, logits, class_weight=weight)
    np.testing.assert_allclose(weighted, plain * weight[[0, 3, 1, 1, 2]], rtol=1e-5)


def test_sigmoid_crossentropy_is_the_mean_log_likelihood(multi_hot, logits):
    _, present, absent = binary_terms(logits)
    expected = -np.where(multi_hot == 1, present, absent).mean(axis=1)
    np.testing.assert_allclose(losses.sigmoid_crossentropy(multi_hot, logits), expected, rtol=1e-5)


def test_class_weight_multiplies_present_classes_only(multi_hot, logits):
    weight = np.array([1.0, 2.0, 0.5, 4.0])
    _, present, absent = binary_terms(logits)
    expected = -np.where(multi_hot == 1, weight * present, absent).mean(axis=1)
    actual = losses.sigmoid_crossentropy(multi_hot, logits, class_weight=weight)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_softmax_focal_formula(one_hot, logits, gamma):
    probability = scipy.special.softmax(logits.astype(np.float64), axis=1)[one_hot == 1]
    expected = -((1 - probability) ** gamma) * np.log(probability)
    np.testing.assert_allclose(losses.softmax_focal(one_hot, logits, gamma=gamma), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_sigmoid_focal_formula(multi_hot, logits, gamma):
    probability, present, absent = binary_terms(logits)
    terms = np.where(multi_hot == 1, (1 - probability) ** gamma * present, probability**gamma * absent)
    actual = losses.sigmoid_focal(multi_hot, logits, gamma=gamma)
    np.testing.assert_allclose(actual, -terms.mean(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("focal", "crossentropy"),
    [
        (losses.softmax_focal, losses.softmax_crossentropy),
        (losses.sigmoid_focal, losses.sigmoid_crossentropy),
    ],
)
def test_focal_without_gamma_is_the_crossentropy(focal, crossentropy, one_hot, logits):
    np.testing.assert_allclose(focal(one_hot, logits, gamma=0.0), crossentropy(one_hot, logits), rtol=1e-5)


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_extreme_logits_give_finite_losses_and_gradients(loss, size):
    logits = tf.constant([[size, -size], [-size, size]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(tf.constant([[1.0, 0.0], [1.0, 0.0]]), logits)
    gradient = tape.gradient(value, logits)
    assert value[0].numpy() == pytest.approx(0, abs=1e-6)
    assert value[1].numpy() >= size
    assert np.isfinite(gradient).all()
    assert gradient[1, 0] < 0 < gradient[1, 1]


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.float16])
def test_the_dtype_of_the_target_changes_nothing(loss, dtype, one_hot, logits):
    value = loss(one_hot.astype(dtype), logits)
    assert value.dtype == tf.float32
    assert value.shape == (5,)
    np.testing.assert_array_equal(value, loss(one_hot, logits))


def test_half_precision_logits_are_computed_in_float32(one_hot, logits):
    half = tf.cast(logits, tf.float16)
    value = losses.softmax_crossentropy(one_hot, half)
    np.testing.assert_array_equal(value, losses.softmax_crossentropy(one_hot, tf.cast(half, tf.float32)))


def test_class_weights_are_inverse_frequencies_with_mean_one():
    count = np.array([10, 30, 60])
    weight = losses.class_weights(count)
    assert (weight * count).sum() / count.sum() == pytest.approx(1)
    np.testing.assert_allclose(weight * count, 100 / 3, rtol=1e-6)


def test_a_class_without_examples_leaves_the_others_as_they_were():
    np.testing.assert_allclose(losses.class_weights(np.array([10, 0, 30])), [2, 0, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("count", [[0, 0], [-1, 3], [], 4])
def test_class_weights_refuse_what_is_no_count(count):
    with pytest.raises(errors.DataError, match=r"at least one.*Received"):
        losses.class_weights(np.array(count))
