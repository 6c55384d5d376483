"""What the classification task tells the loop, the export and the evaluation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from medkeras import config
from medkeras.data import arrays, cases, store
from medkeras.tasks import classification
from medkeras.training import losses
from medkeras.workflows import passing

SINGLE = classification.Classification(("a", "b", "c"))
MULTI = classification.Classification(("a", "b", "c"), multilabel=True)


def case(name: str, *labels: str, split: str = "test", multilabel: bool = False) -> cases.Case:
    if multilabel:
        return cases.Case(name, f"/{name}", f"p{name}", split, labels=labels)
    return cases.Case(name, f"/{name}", f"p{name}", split, label=labels[0] if labels else "")


def outputs(task: classification.Classification, seed: int = 0, count: int = 5) -> dict[str, np.ndarray]:
    logits = np.random.default_rng(seed).normal(0, 2, (count, len(task.classes))).astype(np.float32)
    activation = tf.sigmoid if task.multilabel else tf.nn.softmax
    return {"logits": logits, "probabilities": activation(logits).numpy()}


def test_targets_are_one_hot_in_the_order_of_the_classes() -> None:
    found = SINGLE.targets([case("0", "c"), case("1", "a"), case("2")])
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_targets_are_multi_hot_where_labels_are_many() -> None:
    members = [case("0", "c", "a", multilabel=True), case("1", multilabel=True), case("2", "b", multilabel=True)]
    assert MULTI.targets(members).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("task", "probabilities"), [(SINGLE, tf.nn.softmax), (MULTI, tf.sigmoid)], ids=["single", "multi"]
)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_head_gives_float32_logits_and_probabilities(task, probabilities, policy) -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        embedding = keras.Input((4,), dtype=keras.mixed_precision.dtype_policy().compute_dtype)
        model = keras.Model(embedding, task.head(embedding))
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert [layer.name for layer in model.layers[1:]] == ["logits", "probabilities"]
    found = model(np.random.default_rng(0).normal(size=(6, 4)))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in found.items()} == {
        "logits": (tf.float32, (6, 3)),
        "probabilities": (tf.float32, (6, 3)),
    }
    np.testing.assert_allclose(found["probabilities"], probabilities(found["logits"]), rtol=1e-6)


TARGET = {
    False: np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0]],
    True: np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]], np.float32),
}


def test_cross_entropy_is_scikit_learns() -> None:
    given = outputs(SINGLE)
    found = SINGLE.loss(TARGET[False], given).numpy()
    assert found.shape == (5,)
    expected = sklearn.metrics.log_loss(TARGET[False], given["probabilities"])
    assert found.mean() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "multilabel", "expected"),
    [
        ("crossentropy", False, losses.softmax_crossentropy),
        ("crossentropy", True, losses.sigmoid_crossentropy),
        ("focal", False, losses.softmax_focal),
        ("focal", True, losses.sigmoid_focal),
    ],
)
def test_the_settings_choose_the_loss(loss, multilabel, expected) -> None:
    task = classification.Classification(("a", "b", "c"), multilabel, loss)
    given = outputs(task)
    np.testing.assert_array_equal(task.loss(TARGET[multilabel], given), expected(TARGET[multilabel], given["logits"]))


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_weighted_loss_counts_each_class_by_its_weight(multilabel) -> None:
    weights = (0.5, 2.0, 4.0)
    task = classification.Classification(("a", "b", "c"), multilabel, "weighted", weights)
    plain = classification.Classification(("a", "b", "c"), multilabel)
    given = outputs(task)
    found, base = (each.loss(TARGET[multilabel], given).numpy() for each in (task, plain))
    if multilabel:
        present = TARGET[True] * np.logaddexp(0, -given["logits"])
        np.testing.assert_allclose(found - base, (present * (np.array(weights) - 1)).mean(1), rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_allclose(found, base * np.array(weights)[TARGET[False].argmax(1)], rtol=1e-6)


def make_set(*labels: str) -> cases.CaseSet:
    members = [case(str(index), label, split="train") for index, label in enumerate(labels)]
    members += [case("t", "a"), case("v", "b", split="validation")]
    return cases.CaseSet("made", tuple(members), ("a", "b", "c"), arrays.ArrayImages({}))


def test_class_weights_come_from_the_training_split_alone() -> None:
    settings = config.TrainConfig(loss="weighted")
    task = classification.for_training(make_set(*"aaaaaabbc"), settings)
    assert task.class_weights == pytest.approx((0.5, 1.5, 3.0))
    counts = np.array([6, 2, 1])
    assert (counts * task.class_weights).sum() == pytest.approx(9)
    for loss in ("crossentropy", "focal"):
        assert classification.for_training(make_set(*"aab"), config.TrainConfig(loss=loss)).class_weights == ()


def test_training_metrics_measure_probabilities() -> None:
    accuracy = SINGLE.metrics()["accuracy"]
    accuracy.update_state(TARGET[False], np.eye(3)[[0, 2, 1, 0, 0]], sample_weight=np.array([1, 1, 1, 1, 0]))
    assert float(accuracy.result()) == pytest.approx(3 / 4)
    auroc = MULTI.metrics()["auroc"]
    given = outputs(MULTI, count=200)
    target = (np.random.default_rng(1).random((200, 3)) < given["probabilities"]).astype(np.float32)
    auroc.update_state(target, given["probabilities"])
    expected = sklearn.metrics.roc_auc_score(target, given["probabilities"])
    assert float(auroc.result()) == pytest.approx(expected, abs=0.01)
    assert SINGLE.metrics()["accuracy"] is not accuracy


def test_what_is_explained_is_the_logit_of_the_class_that_is_called() -> None:
    given = outputs(SINGLE)
    assert SINGLE.explained(given).numpy().tolist() == given["logits"].max(1).tolist()
    turned = given | {"probabilities": given["probabilities"][:, ::-1]}
    called = turned["probabilities"].argmax(1)
    expected = np.take_along_axis(given["logits"], called[:, None], axis=1)[:, 0]
    assert SINGLE.explained(turned).numpy().tolist() == expected.tolist()


def test_a_table_of_predictions_names_its_cases() -> None:
    members = [case(str(index), label) for index, label in enumerate("abcab")]
    given = outputs(SINGLE)
    table = SINGLE.predictions(members, given)
    assert table.case_id == tuple("01234")
    assert (table.path[2], table.patient_id[2], table.split[2]) == ("/2", "p2", "test")
    assert table.classes == SINGLE.classes
    assert table.target.argmax(1).tolist() == [0, 1, 2, 0, 1]
    assert np.array_equal(table.probabilities, given["probabilities"])
    metrics = SINGLE.evaluate(table, seed=3, settings=config.EvaluationConfig(resamples=10), fitted={})
    right = given["probabilities"].argmax(1) == [0, 1, 2, 0, 1]
    assert metrics["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert metrics["interval"]["seed"] == 3


@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=["single", "multi"])
def test_batch_boundaries_change_no_metric(task) -> None:
    random = np.random.default_rng(0)
    drawn = [random.permutation([*"abc"])[: random.integers(1, 4)] for _ in range(23)]
    members = [case(f"{i:02}", *labels, multilabel=task.multilabel) for i, labels in enumerate(drawn)]
    logits = random.normal(0, 2, (23, 3)).astype(np.float32)
    embedding = keras.Input((3,))
    head = keras.Model(embedding, task.head(embedding))
    found = []
    for size in (23, 1, 7, 32):
        given = passing.run(
            head.predict_on_batch, store.from_array(members, logits), batch_size=size, description="test"
        )
        table = task.predictions(members, given)
        found.append(task.evaluate(table, seed=3, settings=config.EvaluationConfig(resamples=10), fitted={}))
    assert found[0]["n"] == 23
    for one in found[1:]:
        assert numbers(one) == pytest.approx(numbers(found[0]), abs=1e-6)


def numbers(found: Any, path: str = "") -> dict[str, float]:
    """Returns every number of a nested answer by its path."""
    if isinstance(found, dict | list):
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        return {p: v for key, value in pairs for p, v in numbers(value, f"{path}/{key}").items()}
    return {path: found} if isinstance(found, int | float) else {}


@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=["single", "multi"])
def test_a_description_reads_back(task) -> None:
    assert classification.from_description(task.description()) == task
    assert task.description()["name"] == "classification"
