"""Losses: one number an example, from soft targets and logits.

Every function takes `target` `[B, K]` (one-hot, soft or multi-hot, 0…1) and
`logits` `[B, K]` (any finite number), computes in float32, and returns `[B]`,
natural logarithms. The loop averages over the examples.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from medkeras import errors


def softmax_crossentropy(target: tf.Tensor, logits: tf.Tensor, *, class_weight: np.ndarray | None = None) -> tf.Tensor:
    """Returns the cross-entropy of exclusive classes, `[B]`.

    Args:
        target: `[B, K]`, each row sums to one.
        logits: `[B, K]`.
        class_weight: `[K]`, how many times an example of each class counts; none: once.
    """
    target, logits = _as_float32(target, logits)
    return -tf.reduce_sum(_weighted(target, class_weight) * tf.nn.log_softmax(logits), axis=-1)


def sigmoid_crossentropy(target: tf.Tensor, logits: tf.Tensor, *, class_weight: np.ndarray | None = None) -> tf.Tensor:
    """Returns the binary cross-entropy of independent classes, their mean, `[B]`.

    Args:
        target: `[B, K]`, each entry the probability that the class is present.
        logits: `[B, K]`.
        class_weight: `[K]`, how many times a *present* class counts; none: once.
    """
    target, logits = _as_float32(target, logits)
    present, absent = _weighted(target, class_weight), 1.0 - target
    return tf.reduce_mean(present * tf.nn.softplus(-logits) + absent * tf.nn.softplus(logits), axis=-1)


def softmax_focal(target: tf.Tensor, logits: tf.Tensor, *, gamma: float = 2.0) -> tf.Tensor:
    """Returns the focal loss of exclusive classes, `[B]`: easy examples count less.

    Args:
        target: `[B, K]`, each row sums to one.
        logits: `[B, K]`.
        gamma: Power of `1 - p` that multiplies the cross-entropy; 0 is the cross-entropy.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """
    target, logits = _as_float32(target, logits)
    miss = 1.0 - tf.nn.softmax(logits)
    return -tf.reduce_sum(target * miss**gamma * tf.nn.log_softmax(logits), axis=-1)


def sigmoid_focal(target: tf.Tensor, logits: tf.Tensor, *, gamma: float = 2.0) -> tf.Tensor:
    """Returns the focal loss of independent classes, their mean, `[B]`.

    Args:
        target: `[B, K]`, each entry the probability that the class is present.
        logits: `[B, K]`.
        gamma: Power of the probability of a mistake; 0 is the binary cross-entropy.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """
    target, logits = _as_float32(target, logits)
    present = target * tf.nn.sigmoid(-logits) ** gamma * tf.nn.softplus(-logits)
    absent = (1.0 - target) * tf.nn.sigmoid(logits) ** gamma * tf.nn.softplus(logits)
    return tf.reduce_mean(present + absent, axis=-1)


def class_weights(target_counts: np.ndarray) -> np.ndarray:
    """Returns weights by inverse class frequency whose mean over the training set is one.

    A class without an example weighs zero, and the others are weighed as if it were not there.

    Args:
        target_counts: `[K]`, training examples of each class.

    Returns:
        `[K]` float32, `N / (K' n_k)` with `K'` the classes that have examples.

    Raises:
        errors.DataError: A count is negative, or there is no example at all.

    >>> class_weights(np.array([30, 10, 20])).tolist()
    [0.6666666865348816, 2.0, 1.0]
    """
    count = np.asarray(target_counts, np.float64)
    if count.ndim != 1 or (count < 0).any() or not count.sum() > 0:
        raise errors.DataError(
            f"Class weights need the examples of each class, at least one in all. Received: {count.tolist()}"
        )
    present = count > 0
    share = count.sum() / present.sum()
    return np.where(present, share / np.where(present, count, 1.0), 0.0).astype(np.float32)


def _as_float32(target: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(target, tf.float32), tf.cast(logits, tf.float32)


def _weighted(target: tf.Tensor, class_weight: np.ndarray | None) -> tf.Tensor:
    return target if class_weight is None else target * tf.cast(class_weight, tf.float32)
