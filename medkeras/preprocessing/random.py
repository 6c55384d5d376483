"""Random numbers as pure functions of (key, stream, position): counters are hashed, no state is kept.

What an example is given does not depend on its neighbours in the batch, on the number of replicas or on the device.
All arithmetic is on uint32, which wraps around and has kernels on every device (int32 stays on the host beside a GPU).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from medkeras.preprocessing import base

# Reference: the constants of MurmurHash3's 32-bit finaliser and of C. Wellons, "Prospecting for hash functions", 2018;
# the golden ratio spreads counters that follow one another.
_MURMUR = (0x85EBCA6B, 0xC2B2AE35)
_WELLONS = (0x7FEB352D, 0x846CA68B)
_GOLDEN = 0x9E3779B9


def example_seeds(seed: tf.Tensor | int, epoch: tf.Tensor | int, index: tf.Tensor | int) -> tf.Tensor:
    """Returns the keys of examples, uint32 `[..., 2]`.

    Args:
        seed: The run's seed, a scalar of any integer dtype.
        epoch: The epoch, a scalar of any integer dtype.
        index: Positions of the examples in their split, `[...]` of any integer dtype.
    """
    key = _absorb(_absorb(tf.constant([0x243F6A88, 0x85A308D3], tf.uint32), seed), epoch)
    return _absorb(key, tf.convert_to_tensor(index)[..., tf.newaxis])


def uniform(seeds: tf.Tensor, stream: int, shape: Sequence[base.Size]) -> tf.Tensor:
    """Returns uniform numbers in `[0, 1)`, multiples of 2^-24, float32 `[B, *shape]`.

    Args:
        seeds: One key an example, integers `[B]` or `[B, 2]`.
        stream: Draws of different streams are independent.
        shape: Shape of one example's draw; sizes may be scalar tensors.
    """
    return tf.cast(_shifted(_bits(seeds, stream, shape), 8), tf.float32) * 2.0**-24


def normal(seeds: tf.Tensor, stream: int, shape: Sequence[base.Size]) -> tf.Tensor:
    """Returns standard normal numbers, at most 5.8 from 0, float32 `[B, *shape]`; arguments as in `uniform`.

    Reference: G. E. P. Box and M. E. Muller, Ann. Math. Stat. 29, 1958.
    """
    count = _count(shape)
    pairs = (count + 1) // 2
    drawn = uniform(seeds, stream, (2, pairs))
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - drawn[:, 0]))
    angle = (2.0 * math.pi) * drawn[:, 1]
    values = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)
    return tf.reshape(values[:, :count], [tf.shape(seeds)[0], *shape])


def _bits(seeds: tf.Tensor, stream: int, shape: Sequence[base.Size]) -> tf.Tensor:
    """Returns 32 random bits a position, uint32 `[B, *shape]`."""
    keys = _absorb(_keys(seeds), stream)
    count = _count(shape)
    positions = tf.cast(tf.range(count), tf.uint32) * _word(_GOLDEN)
    bits = positions + keys[:, :1]
    bits = (bits ^ _shifted(bits, 16)) * _word(_WELLONS[0])
    bits = bits ^ keys[:, 1:]
    bits = (bits ^ _shifted(bits, 15)) * _word(_WELLONS[1])
    bits = bits ^ _shifted(bits, 16)
    return tf.reshape(bits, [tf.shape(seeds)[0], *shape])


def _count(shape: Sequence[base.Size]) -> base.Size:
    return math.prod(shape) if all(isinstance(size, int) for size in shape) else tf.reduce_prod(tf.stack(list(shape)))


def _keys(seeds: tf.Tensor) -> tf.Tensor:
    """Returns keys uint32 `[B, 2]` of seeds `[B]` or `[B, 2]`."""
    seeds = tf.convert_to_tensor(seeds)
    if seeds.shape.rank == 1:
        return example_seeds(0, 0, seeds)
    return tf.cast(seeds, tf.uint32)


def _absorb(keys: tf.Tensor, value: tf.Tensor | int) -> tf.Tensor:
    """Returns keys `[..., 2]` that depend on an integer of up to 64 bits, too."""
    value = tf.cast(value, tf.int64)
    low, high = tf.cast(value & 0xFFFFFFFF, tf.uint32), tf.cast(_shifted(value, 32), tf.uint32)
    first, second = keys[..., :1], keys[..., 1:]
    first = _mixed(first + low * _word(_GOLDEN))
    second = _mixed(second ^ first ^ (high * _word(_WELLONS[1]) + _word(1)))
    first = _mixed(first + second)
    return tf.concat([first, second], axis=-1)


def _mixed(words: tf.Tensor) -> tf.Tensor:
    """Returns MurmurHash3's finaliser of uint32 words: every bit in changes about half the bits out."""
    words = (words ^ _shifted(words, 16)) * _word(_MURMUR[0])
    words = (words ^ _shifted(words, 13)) * _word(_MURMUR[1])
    return words ^ _shifted(words, 16)


def _shifted(words: tf.Tensor, places: int) -> tf.Tensor:
    return tf.bitwise.right_shift(words, tf.constant(places, words.dtype))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
