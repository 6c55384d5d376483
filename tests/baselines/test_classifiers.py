"""Classifiers: tuned within training and by patient, whatever the order of the cases."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
from sklearn import linear_model, metrics, model_selection, pipeline, preprocessing

from medkeras import errors
from medkeras.baselines import classifiers

CASES, WIDTH = 90, 6


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 10)


def made(classes: int = 3, cases: int = CASES, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]]]:
    """Features about a centre of each class, one-hot targets, names, and patients of two cases each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(cases // 2) % classes, 2)
    features = 1.5 * rng.normal(size=(classes, WIDTH))[labels] + rng.normal(size=(cases, WIDTH))
    names = [f"case{i:03d}" for i in range(cases)]
    patients = [f"patient{i // 2:03d}" for i in range(cases)]
    return features.astype(np.float32), np.eye(classes)[labels], {"names": names, "patients": patients}


class Spy:
    """A classifier that tells what it was shown."""

    fits: list[np.ndarray]
    asked: list[np.ndarray]

    def __init__(self, setting: dict[str, float]) -> None:
        self.setting = setting

    def fit(self, x: np.ndarray, labels: np.ndarray) -> Spy:
        Spy.fits.append(x)
        self.classes = len(np.unique(labels))
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        Spy.asked.append(x)
        sure = np.zeros((len(x), self.classes))
        sure[:, 0] = self.setting["sureness"]
        return sure + (1 - self.setting["sureness"]) / self.classes


@pytest.fixture
def spy(monkeypatch) -> type[Spy]:
    Spy.fits, Spy.asked = [], []
    grid = tuple({"sureness": value} for value in (0.9, 0.0, 0.5))
    method = classifiers.Method("Spy", grid, lambda setting, **_: Spy(setting))
    monkeypatch.setattr(classifiers, "METHODS", types.MappingProxyType({"spy": method}))
    return Spy


@pytest.mark.parametrize("method", classifiers.METHODS)
def test_every_method_learns_and_its_probabilities_sum_to_one(method) -> None:
    features, target, who = made()
    tuned = classifiers.Tuner(method, seed=0).fit(features, target, **who)
    found = tuned.probabilities(made(seed=0)[0])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found.argmax(1) == target.argmax(1)).mean() > 0.85
    assert tuned.chosen[0] in [dict(setting) for setting in classifiers.METHODS[method].grid]
    assert tuned.nbytes > 100


@pytest.mark.parametrize("method", ["logistic_regression", "svm", "random_forest"])
def test_neither_order_nor_names_of_patients_matter(method) -> None:
    features, target, who = made()
    tuner = classifiers.Tuner(method, seed=3)
    first = tuner.fit(features, target, **who).probabilities(features)
    rows = np.random.default_rng(1).permutation(CASES)
    renamed = {name: f"x{hash(name) % 9973}-{i}" for i, name in enumerate(dict.fromkeys(who["patients"]))}
    again = tuner.fit(
        features[rows],
        target[rows],
        names=[who["names"][row] for row in rows],
        patients=[renamed[who["patients"][row]] for row in rows],
    )
    np.testing.assert_array_equal(again.probabilities(features), first)


def test_a_setting_is_judged_by_patients_that_its_fit_did_not_see(spy) -> None:
    features, target, who = made()
    features[:, 0] = np.arange(CASES) // 2
    tuned = classifiers.Tuner("spy", seed=0).fit(features, target, **who)
    *parts, last = spy.fits
    assert len(parts) == len(spy.asked) == 3 * classifiers.FOLDS
    for fit, held in zip(parts, spy.asked, strict=True):
        assert not set(fit[:, 0]) & set(held[:, 0])
        assert len(fit) + len(held) == CASES
    assert len(last) == CASES
    assert tuned.chosen == [{"sureness": 0.0}]


def test_the_lowest_log_loss_out_of_fold_is_chosen() -> None:
    features, target, who = made(cases=60, seed=4)
    tuned = classifiers.Tuner("logistic_regression", seed=5).fit(features, target, **who)
    labels, groups = target.argmax(1), np.arange(60) // 2
    folds = list(model_selection.StratifiedGroupKFold(3, shuffle=True, random_state=5).split(labels, labels, groups))
    losses = {}
    for setting in classifiers.METHODS["logistic_regression"].grid:
        model = pipeline.make_pipeline(
            preprocessing.StandardScaler(), linear_model.LogisticRegression(C=setting["C"], max_iter=500)
        )
        held = model_selection.cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
        losses[setting["C"]] = metrics.log_loss(labels, held.astype(float) / held.sum(1, keepdims=True, dtype=float))
    assert tuned.chosen == [{"C": min(losses, key=losses.__getitem__)}]


def test_an_svm_states_probabilities_that_beat_the_shares_of_the_classes() -> None:
    features, target, who = made(classes=2, cases=200)
    some = {name: values[:100] for name, values in who.items()}
    tuned = classifiers.Tuner("svm", seed=0).fit(features[:100], target[:100], **some)
    stated = tuned.probabilities(features[100:])[:, 1].astype(float)
    assert metrics.log_loss(target[100:].argmax(1), stated) < 0.5 < np.log(2)


def test_balanced_classes_find_more_of_the_rare_one() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(120) % 8 == 0).astype(int)
    features = labels[:, None] + rng.normal(size=(120, 3))
    names = [f"{i:03d}" for i in range(120)]
    found = [
        classifiers.Tuner("logistic_regression", seed=0, balanced=balanced)
        .fit(features, np.eye(2)[labels], names=names, patients=names)
        .probabilities(features)[labels == 1, 1]
        .mean()
        for balanced in (False, True)
    ]
    assert found[1] > found[0] + 0.2


def test_a_class_that_training_lacks_has_no_probability() -> None:
    features, target, who = made(classes=2)
    wider = np.insert(target, 1, 0, axis=1)
    found = classifiers.Tuner("logistic_regression", seed=0).fit(features, wider, **who).probabilities(features)
    assert found.shape == (CASES, 3)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_each_of_several_labels_has_a_classifier_of_its_own() -> None:
    features, target, who = made(classes=2)
    labels = np.stack([target[:, 1], 1 - target[:, 1]], axis=1)
    tuned = classifiers.Tuner("logistic_regression", seed=0, multilabel=True).fit(features, labels, **who)
    found = tuned.probabilities(features)
    np.testing.assert_allclose(found[:, 0], 1 - found[:, 1], atol=1e-3)
    assert len(tuned.chosen) == 2


@pytest.mark.parametrize("patients", [["a"] * CASES, [f"{i % 3}" for i in range(CASES)]], ids=["one", "one a class"])
def test_a_class_of_one_patient_cannot_be_tuned(patients) -> None:
    features, _, who = made()
    target = np.eye(3)[np.arange(CASES) % 3]
    with pytest.raises(errors.DataError, match="two patients of each"):
        classifiers.Tuner("svm", seed=0).fit(features, target, names=who["names"], patients=patients)


def test_an_unknown_classifier_is_refused_with_the_nearest() -> None:
    with pytest.raises(errors.ConfigError, match="random_forest"):
        classifiers.check(["svm", "random_forrest"])


def test_progress_is_told(spy) -> None:
    features, target, who = made()
    seen = []

    def track(items, total, description):
        seen.append((total, description))
        return items

    dataclasses.replace(classifiers.Tuner("spy", seed=0), track=track).fit(features, target, **who)
    assert seen == [(3, "Tuning Spy")]
