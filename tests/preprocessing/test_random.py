import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from medkeras.preprocessing import random

SEEDS = random.example_seeds(0, 0, np.arange(40))


def test_uniform_is_uniform_in_every_example():
    drawn = random.uniform(SEEDS, 1, (5000,)).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for example in drawn:
        counts = np.histogram(example, bins=50, range=(0, 1))[0]
        assert scipy.stats.chisquare(counts).pvalue > 1e-4
    assert scipy.stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3


def test_normal_is_normal():
    drawn = random.normal(SEEDS, 1, (5001,)).numpy()
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
    assert abs(drawn.var() - 1) < 4 * np.sqrt(2 / drawn.size)
    assert abs(scipy.stats.skew(drawn.ravel())) < 0.03
    assert abs(scipy.stats.kurtosis(drawn.ravel())) < 0.06
    assert scipy.stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("draw", [random.uniform, random.normal])
def test_positions_examples_streams_epochs_and_seeds_are_uncorrelated(draw):
    first = draw(SEEDS, 1, (2000,)).numpy()
    others = [
        draw(SEEDS, 2, (2000,)),
        draw(random.example_seeds(0, 1, np.arange(40)), 1, (2000,)),
        draw(random.example_seeds(1, 0, np.arange(40)), 1, (2000,)),
        np.roll(first, 1, axis=0),
        *(np.roll(first, lag, axis=1) for lag in (1, 2, 16, 1000)),
    ]
    for other in others:
        correlation = np.corrcoef(first.ravel(), np.ravel(other))[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(first.size)


def test_one_draw_an_example_is_uniform_over_examples():
    keys = random.example_seeds(7, 3, np.arange(20000))
    for stream in range(5):
        assert scipy.stats.kstest(random.uniform(keys, stream, ()).numpy(), "uniform").pvalue > 1e-3


def test_every_seed_bit_flips_half_the_bits():
    bits = np.unpackbits(random.example_seeds(0, 0, np.arange(256)).numpy().view(np.uint8), axis=1)
    for place in (0, 7, 31, 32, 40, 62):
        other = random.example_seeds(1 << place, 0, np.arange(256)).numpy()
        flipped = np.mean(bits != np.unpackbits(other.view(np.uint8), axis=1))
        assert abs(flipped - 0.5) < 0.02


def test_keys_differ_over_seeds_epochs_and_indices():
    keys = [random.example_seeds(seed, epoch, np.arange(500)).numpy() for seed in range(6) for epoch in range(6)]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 6 * 6 * 500


def test_prefix_of_a_draw_and_of_a_batch_stays():
    whole = random.uniform(SEEDS, 4, (30, 10)).numpy()
    np.testing.assert_array_equal(random.uniform(SEEDS[5:7], 4, (30, 10)), whole[5:7])
    np.testing.assert_array_equal(random.uniform(SEEDS, 4, (17,)), whole.reshape(40, -1)[:, :17])


def test_golden_values():
    """The numbers are part of what a seed means: a change here changes every training run."""
    np.testing.assert_array_equal(random.example_seeds(0, 0, 0), [1648682004, 1060615807])
    np.testing.assert_allclose(random.uniform(random.example_seeds(0, 0, [1]), 2, (2,)), [[0.28147155, 0.97202051]])


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64, tf.uint32])
def test_traced_keys_equal_eager_ones(dtype):
    index = tf.cast(tf.range(6), dtype)
    traced = tf.function(lambda epoch, index: random.example_seeds(5, epoch, index))
    np.testing.assert_array_equal(traced(tf.constant(3, tf.int64), index), random.example_seeds(5, 3, index))
    mapped = tf.data.Dataset.from_tensor_slices(index).map(lambda one: random.example_seeds(5, 3, one)).batch(6)
    np.testing.assert_array_equal(next(iter(mapped)), random.example_seeds(5, 3, index))


@pytest.mark.parametrize("draw", [random.uniform, random.normal])
def test_shapes_may_be_known_only_at_run_time(draw):
    traced = tf.function(lambda seeds, size: draw(seeds, 1, (size, 3)))
    expected = draw(SEEDS, 1, (7, 3))
    np.testing.assert_allclose(traced(SEEDS, tf.constant(7)), expected, atol=1e-6)
    assert draw(SEEDS, 1, ()).shape == (40,)


def test_one_number_an_example_is_a_key_too():
    numbers = tf.range(40, dtype=tf.int64)
    np.testing.assert_array_equal(random.uniform(numbers, 1, (3,)), random.uniform(SEEDS, 1, (3,)))
