"""Batches for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from medkeras.data import order, store


def training_dataset(
    images: store.Store, targets: np.ndarray, *, batch_size: int, seed: int, epochs: int, first_epoch: int = 0
) -> tf.data.Dataset:
    """Returns the batches of all epochs, one after the other.

    Each epoch is a permutation of the split that depends on (seed, epoch) alone. Its last batch is filled up with
    cases of weight 0, so that every case counts once an epoch.

    Args:
        images: The images of the split.
        targets: float32 `[N, K]`.
        batch_size: Examples a batch.
        seed: Root of the order.
        epochs: Epoch after the last one.
        first_epoch: First epoch.

    Returns:
        Batches `{"image": [B, H, W, C], "target": [B, K], "weight": [B], "index": [B]}`, the images of volumes
        `[B, D, H, W, C]`, in one run of `(epochs - first_epoch) * order.steps_per_epoch(N, batch_size)`.
    """

    def slots() -> Iterator[order.Slots]:
        for epoch in range(first_epoch, epochs):
            yield from order.slots(order.permutation(len(targets), seed=seed, epoch=epoch), batch_size)

    return _batches(images, targets, slots, batch_size)


def evaluation_dataset(images: store.Store, targets: np.ndarray, *, batch_size: int) -> tf.data.Dataset:
    """Returns one pass in the order of the split; the last batch is filled up with cases of weight 0."""
    return _batches(images, targets, lambda: order.slots(np.arange(len(targets)), batch_size), batch_size)


def some(images: store.Store, positions: np.ndarray, *, batch_size: int) -> tf.data.Dataset:
    """Returns one pass over the cases at these positions, without targets, the last batch filled up with weight 0."""
    return _ready(_images(images, lambda: order.slots(positions, batch_size), batch_size))


def _batches(
    images: store.Store, targets: np.ndarray, slots: Callable[[], Iterator[order.Slots]], batch_size: int
) -> tf.data.Dataset:
    table = tf.constant(targets, tf.float32)
    dataset = _images(images, slots, batch_size)
    return _ready(dataset.map(lambda batch: {**batch, "target": tf.gather(table, batch["index"])}))


def _images(images: store.Store, slots: Callable[[], Iterator[order.Slots]], batch_size: int) -> tf.data.Dataset:
    """The order comes first and the pixels after it, so that what is shuffled is positions and never images."""
    signature = {"index": tf.TensorSpec([batch_size], tf.int64), "weight": tf.TensorSpec([batch_size], tf.float32)}
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"index": slot.index, "weight": slot.weight} for slot in slots()), output_signature=signature
    )
    return images.attach(dataset)


def _ready(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # Last: a batch is made while the accelerator works on the one before.
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
