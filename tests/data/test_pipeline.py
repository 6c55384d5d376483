"""The order of the data, and the batches that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from medkeras.data import arrays, cases, order, pipeline, store

CANVAS = store.Canvas((3, 2), 1, "uint16", "stretch")
COUNT, SIZE = 7, 3


def members() -> tuple[cases.Case, ...]:
    return tuple(cases.Case(case_id=str(i), path=str(i), patient_id=str(i)) for i in range(COUNT))


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (COUNT, 3, 2, 1), np.uint16)


def fill(policy: str, tmp_path) -> store.Store:
    images = arrays.ArrayImages({str(i): image for i, image in enumerate(pixels())})
    made, look = store.fill(
        members(),
        images,
        headers=[images.header(case) for case in members()],
        canvas=CANVAS,
        policy=policy,
        folder=tmp_path,
        track=lambda items, *_: items,
    )
    assert look.count == COUNT
    return made


TARGETS = np.eye(COUNT, dtype=np.float32)


def training(images: store.Store, **options: int) -> list[dict[str, np.ndarray]]:
    options = {"batch_size": SIZE, "seed": 5, "epochs": 2, **options}
    return list(pipeline.training_dataset(images, TARGETS, **options).as_numpy_iterator())


@pytest.mark.parametrize("count", [1, 2, 97])
def test_the_order_of_an_epoch_is_a_permutation_that_seed_and_epoch_decide(count) -> None:
    first = order.permutation(count, seed=3, epoch=4)
    assert sorted(first) == list(range(count))
    np.random.default_rng().random(5)
    assert np.array_equal(first, order.permutation(count, seed=3, epoch=4))
    if count == 97:
        others = [order.permutation(count, seed=seed, epoch=epoch) for seed, epoch in ((3, 5), (4, 4), (4, 3))]
        assert all(np.mean(first == other) < 0.2 for other in others)


def test_the_order_is_the_same_in_every_release() -> None:
    assert order.permutation(10, seed=0, epoch=0).tolist() == [8, 0, 3, 7, 6, 4, 1, 5, 2, 9]


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (2, 5), (1, 1), (3, 8)])
def test_slots_hold_every_case_once_with_weight_one(count, batch_size) -> None:
    found = list(order.slots(np.arange(count)[::-1], batch_size))
    assert len(found) == order.steps_per_epoch(count, batch_size)
    assert all(slot.index.shape == slot.weight.shape == (batch_size,) for slot in found)
    index = np.concatenate([slot.index for slot in found])
    weight = np.concatenate([slot.weight for slot in found])
    assert index[weight == 1].tolist() == list(range(count))[::-1]
    assert weight.sum() == count
    assert set(index.tolist()) == set(range(count))


def test_every_epoch_holds_each_case_once_and_padding_weighs_nothing(tmp_path) -> None:
    batches = training(fill("memory", tmp_path), epochs=4)
    steps = order.steps_per_epoch(COUNT, SIZE)
    assert len(batches) == 4 * steps
    orders = []
    for epoch in range(4):
        part = batches[epoch * steps : (epoch + 1) * steps]
        index, weight = (np.concatenate([batch[name] for batch in part]) for name in ("index", "weight"))
        assert sorted(index[weight == 1]) == list(range(COUNT))
        assert weight.tolist() == [1] * COUNT + [0] * (steps * SIZE - COUNT)
        assert index[:COUNT].tolist() == order.permutation(COUNT, seed=5, epoch=epoch).tolist()
        orders.append(tuple(index[:COUNT]))
    assert len(set(orders)) == 4


def test_image_target_and_index_belong_together(tmp_path) -> None:
    everything = pixels()
    for batch in training(fill("memory", tmp_path)):
        assert batch["image"].dtype == np.uint16
        assert (batch["index"].dtype, batch["weight"].dtype) == (np.int64, np.float32)
        assert np.array_equal(batch["image"], everything[batch["index"]])
        assert np.array_equal(batch["target"], TARGETS[batch["index"]])


def test_first_epoch_skips_exactly_the_epochs_before_it(tmp_path) -> None:
    images = fill("memory", tmp_path)
    whole, rest = training(images, epochs=5), training(images, epochs=5, first_epoch=3)
    assert len(rest) == 2 * order.steps_per_epoch(COUNT, SIZE)
    for one, other in zip(whole[-len(rest) :], rest, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert training(images, epochs=3, first_epoch=3) == []


def test_evaluation_keeps_the_order_of_the_split_and_may_be_gone_through_again(tmp_path) -> None:
    dataset = pipeline.evaluation_dataset(fill("disk", tmp_path), TARGETS, batch_size=SIZE)
    for _ in range(2):
        batches = list(dataset.as_numpy_iterator())
        index, weight = (np.concatenate([batch[name] for batch in batches]) for name in ("index", "weight"))
        assert index[weight > 0].tolist() == list(range(COUNT))
        assert weight.tolist() == [1] * 7 + [0] * 2


def test_memory_disk_and_streaming_give_identical_batches(tmp_path) -> None:
    memory, disk, none = (training(fill(policy, tmp_path)) for policy in ("memory", "disk", "none"))
    assert len(memory) == len(disk) == len(none) == 6
    for one, *others in zip(memory, disk, none, strict=True):
        assert all(np.array_equal(one[name], other[name]) for other in others for name in one)


@pytest.mark.parametrize("policy", ["memory", "disk", "none"])
def test_shapes_are_known_before_a_batch_is_made(policy, tmp_path) -> None:
    dataset = pipeline.training_dataset(fill(policy, tmp_path), TARGETS, batch_size=SIZE, seed=0, epochs=1)
    assert dataset.element_spec["image"] == tf.TensorSpec((SIZE, 3, 2, 1), tf.uint16)
    assert dataset.element_spec["target"] == tf.TensorSpec((SIZE, COUNT), tf.float32)


def test_a_disk_store_leaves_no_file_behind(tmp_path) -> None:
    folder = tmp_path / "made" / "here"
    images = fill("disk", folder)
    assert list(folder.iterdir()) == []
    assert training(images)[0]["image"].any()


def test_an_array_is_a_store(tmp_path) -> None:
    features = np.arange(COUNT * 4, dtype=np.float32).reshape(COUNT, 4)
    for batch in training(store.from_array(members(), features)):
        assert np.array_equal(batch["image"], features[batch["index"]])
