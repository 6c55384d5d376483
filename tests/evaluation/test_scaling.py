import json

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import isotonic
from sklearn.calibration import _SigmoidCalibration  # in public, Platt's fit is only part of a whole classifier

from medkeras import errors
from medkeras.evaluation import calibration, scaling
from medkeras.evaluation import predictions as tables

FITTED = ("temperature", "platt", "isotonic")


def overconfident(n=1500, k=3, *, factor=3.0, multilabel=False, seed=0):
    """Returns logits three times too large, and the labels that the right ones drew."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, k))
    if multilabel:
        return factor * logits, (rng.random((n, k)) < special.expit(logits)).astype(np.int8)
    drawn = (rng.random((n, 1)) > special.softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return factor * logits, np.eye(k, dtype=np.int8)[np.minimum(drawn, k - 1)]


def fitted(logits, target, method, *, multilabel=False, patients=None):
    patients = np.arange(len(logits)) if patients is None else patients
    return scaling.fit(logits, target, method=method, multilabel=multilabel, patients=patients)


def error_of(probabilities, target, multilabel):
    names = tuple(map(str, range(len(target))))
    classes = tuple("abcdefghijklmn"[: target.shape[1]])
    table = tables.Predictions(names, names, names, names, classes, target, probabilities, multilabel)
    return calibration.expected_calibration_error(*calibration.statements(table, target))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("method", FITTED)
def test_calibration_error_falls_on_cases_it_was_not_fitted_to(method, k, multilabel):
    scale = fitted(*overconfident(k=k, multilabel=multilabel), method, multilabel=multilabel)
    logits, target = overconfident(6000, k, multilabel=multilabel, seed=1)
    before = error_of(fitted(logits, target, "none", multilabel=multilabel).apply(logits), target, multilabel)
    after = error_of(scale.apply(logits), target, multilabel)
    assert before > 0.08
    assert after < 0.03
    assert scale.method == method
    assert scale.notes == ()


def test_no_calibration_is_softmax_and_sigmoid():
    logits, target = overconfident(20)
    np.testing.assert_array_equal(fitted(logits, target, "none").apply(logits), special.softmax(logits, axis=1))
    multilabel = fitted(logits, target, "none", multilabel=True)
    np.testing.assert_array_equal(multilabel.apply(logits), special.expit(logits))
    assert multilabel.temperature == 1


@pytest.mark.parametrize("multilabel", [False, True])
def test_temperature_is_the_minimum_that_a_search_finds(multilabel):
    logits, target = overconfident(300, multilabel=multilabel)

    def loss(temperature):
        if multilabel:
            signed = np.where(target > 0, logits, -logits) / temperature
            total = np.logaddexp(0, -signed).sum()
        else:
            total = -special.log_softmax(logits / temperature, axis=1)[target > 0].sum()
        return total + 1 / temperature - 1 + np.log(temperature)

    expected = optimize.minimize_scalar(loss, bounds=(0.1, 50), method="bounded", options={"xatol": 1e-12}).x
    assert fitted(logits, target, "temperature", multilabel=multilabel).temperature == pytest.approx(expected, rel=1e-6)


def test_temperature_zeroes_the_derivative_to_nine_digits():
    logits, target = overconfident(300)
    b = 1 / fitted(logits, target, "temperature").temperature
    stated = special.softmax(b * logits, axis=1)
    assert ((stated - target) * logits).sum() + 1 - 1 / b == pytest.approx(0, abs=1e-9)


def test_with_many_cases_the_temperature_is_that_of_the_likelihood_alone():
    logits, target = overconfident(20_000)
    plain = optimize.minimize_scalar(
        lambda t: -special.log_softmax(logits / t, axis=1)[target > 0].mean(), bounds=(0.5, 20), method="bounded"
    ).x
    found = fitted(logits, target, "temperature").temperature
    assert found == pytest.approx(plain, rel=1e-3)
    assert found == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("k", [2, 5])
def test_temperature_changes_no_decision(k):
    logits, target = overconfident(500, k)
    scale = fitted(logits, target, "temperature")
    np.testing.assert_array_equal(scale.apply(logits).argmax(axis=1), logits.argmax(axis=1))
    labels = fitted(logits, target, "temperature", multilabel=True)
    np.testing.assert_array_equal(labels.apply(logits) >= 0.5, logits >= 0)


def test_all_right_sharpens_by_little_and_all_wrong_ends_in_doubt():
    target = np.eye(3)[np.arange(60) % 3]
    right = fitted(4 * target, target, "temperature").temperature
    wrong = fitted(4 * np.roll(target, 1, axis=1), target, "temperature").temperature
    assert 0.3 < right < 1
    assert 50 < wrong < 1000


def test_copies_of_a_patients_images_do_not_lift_the_doubt():
    logits, target = overconfident(40)
    once = fitted(logits, target, "temperature").temperature
    copies = np.repeat(np.arange(40), 7)
    grouped = fitted(logits[copies], target[copies], "temperature", patients=copies).temperature
    assert grouped == pytest.approx(once, rel=1e-9)
    assert abs(fitted(logits[copies], target[copies], "temperature").temperature - once) > 1e-3


def test_platt_of_two_classes_equals_scikit_learns():
    logits, target = overconfident(400, 2)
    scale = fitted(logits, target, "platt")
    difference = logits[:, 1] - logits[:, 0]
    peer = _SigmoidCalibration().fit(difference, target[:, 1])
    np.testing.assert_allclose(scale.slope, -peer.a_, rtol=1e-6)
    np.testing.assert_allclose(scale.offset, [0, -peer.b_], rtol=1e-5)
    np.testing.assert_allclose(scale.apply(logits)[:, 1], peer.predict(difference), atol=1e-6)


def test_platt_of_labels_equals_scikit_learns_label_by_label():
    logits, target = overconfident(300, 4, multilabel=True)
    found = fitted(logits, target, "platt", multilabel=True).apply(logits)
    for k in range(4):
        peer = _SigmoidCalibration().fit(logits[:, k], target[:, k]).predict(logits[:, k])
        np.testing.assert_allclose(found[:, k], peer, atol=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_platt_is_where_the_gradient_vanishes(k):
    logits, target = overconfident(200, k)
    scale = fitted(logits, target, "platt")
    counts = target.sum(axis=0)
    aim = np.stack([(target[i] * counts[c] + 1) / (counts[c] + k) for i, c in enumerate(target.argmax(axis=1))])
    excess = scale.apply(logits) - aim
    np.testing.assert_allclose(excess.mean(axis=0), 0, atol=1e-8)
    if k == 2:
        assert np.mean(excess[:, 1] * (logits[:, 1] - logits[:, 0])) == pytest.approx(0, abs=1e-8)
    else:
        np.testing.assert_allclose((excess * logits).mean(axis=0), 0, atol=1e-7)


def test_isotonic_passes_through_the_centres_of_scikit_learns_blocks():
    logits, target = overconfident(500, 2)
    x = np.round(fitted(logits, target, "temperature").apply(logits)[:, 1], 6)
    aim = np.where(target[:, 1], (target[:, 1].sum() + 1) / (target[:, 1].sum() + 2), 1 / (target[:, 0].sum() + 2))
    blocks = np.round(isotonic.IsotonicRegression().fit(x, aim).predict(x), 12)
    knots = fitted(logits, target, "isotonic").knots[1]
    for value in np.unique(blocks):
        centre = np.round(x[blocks == value].mean(), 6)
        assert np.interp(centre, *knots) == pytest.approx(value, abs=1e-9)
    assert len(knots[0]) <= len(np.unique(blocks)) + 2


def test_isotonic_is_as_good_as_one_regression_a_class():
    logits, target = overconfident(2000)
    fresh, truth = overconfident(4000, seed=5)
    x, y = special.softmax(logits, axis=1), special.softmax(fresh, axis=1)
    plain = [isotonic.IsotonicRegression(out_of_bounds="clip").fit(x[:, k], target[:, k]) for k in range(3)]
    theirs = np.stack([regression.predict(y[:, k]) for k, regression in enumerate(plain)], axis=1)
    theirs = theirs / theirs.sum(axis=1, keepdims=True)
    ours = fitted(logits, target, "isotonic").apply(fresh)
    assert np.mean((ours - truth) ** 2) < np.mean((theirs - truth) ** 2)


def planted(stated, present):
    """Returns logits and labels, `[N, 2]`, whose second class has these probabilities."""
    logit = special.logit(np.asarray(stated))
    return np.stack([0 * logit, logit], axis=1), np.eye(2)[np.asarray(present, int)]


@pytest.mark.parametrize("centre", [0.05, 0.5, 0.95])
def test_isotonic_knots_that_are_too_close_or_steep_become_one(centre):
    # 400 cases within 4e-4, the upper half of the class: blocks 2e-4 apart, with nearly all of 0…1 to rise.
    scale = fitted(*planted(centre + 1e-6 * np.arange(-200, 200), np.arange(400) >= 200), "isotonic")
    for x, y in scale.knots:
        assert len(x) == 3
        assert y[1] == pytest.approx(0.5)
        assert np.diff(y) @ [1, 1] == pytest.approx(y[-1] - y[0])
        assert (y[0], y[-1]) == pytest.approx((1 / 202, 201 / 202))


@pytest.mark.parametrize("seed", range(5))
def test_isotonic_knots_lie_apart_and_rise_no_more_than_float32_allows(seed):
    rng = np.random.default_rng(seed)
    for stated in (1 - 1e-6 * np.arange(1, 401), 1e-6 * np.arange(1, 401), special.expit(9 * rng.normal(size=400))):
        logits, target = planted(np.clip(stated, 1e-6, 1 - 1e-6), rng.random(400) < np.linspace(0, 1, 400))
        for x, y in fitted(logits, target, "isotonic", multilabel=True).knots:
            assert (x[0], x[-1]) == (0, 1)
            assert np.diff(x).min() >= 1e-4 - 1e-12
            assert (np.diff(y) >= 0).all()
            assert (np.diff(y) / np.diff(x) * x[1:]).max() <= 30 + 1e-9


@pytest.mark.parametrize("k", [2, 4])
def test_isotonic_tables_suit_a_graph_of_float32(k):
    logits, target = overconfident(800, k, factor=30)
    for x, y in fitted(logits, target, "isotonic").knots:
        assert x[0] == 0
        assert x[-1] == 1
        assert (np.diff(x.astype(np.float32)) > 0).all()
        assert (np.diff(y) >= 0).all()
        assert y[0] > 0
        assert y[-1] < 1
        assert len(x) < 100


@pytest.mark.parametrize("method", scaling.METHODS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_reads_back_to_the_last_bit(method, multilabel):
    logits, target = overconfident(100, multilabel=multilabel)
    scale = fitted(logits, target, method, multilabel=multilabel)
    again = scaling.from_json(json.loads(json.dumps(scale.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.apply(logits), scale.apply(logits))
    assert (again.method, again.temperature, again.notes) == (scale.method, scale.temperature, scale.notes)


@pytest.mark.parametrize("method", FITTED)
@pytest.mark.parametrize("change", ["order", "float32", "patients"])
def test_order_type_and_names_change_nothing(method, change):
    logits, target = overconfident(200)
    expected = fitted(logits, target, method).apply(logits)
    order = np.random.default_rng(0).permutation(200) if change == "order" else np.arange(200)
    target = target.astype(np.float32) if change == "float32" else target
    patients = np.arange(200) * 3 - 7 if change == "patients" else None
    found = fitted(logits[order], target[order], method, patients=patients).apply(logits)
    np.testing.assert_allclose(found, expected, atol=1e-6)


HARD = {
    "three cases": (np.array([[2.0, 1, 0], [0, 1, 0], [0, 1, 3]]), np.eye(3)),
    "one case": (np.array([[2.0, 1]]), np.array([[0, 1]])),
    "one class only": (np.random.default_rng(0).normal(size=(20, 3)), np.eye(3)[[1] * 20]),
    "enormous and right": (2e4 * np.eye(3)[np.arange(9) % 3] - 1e4, np.eye(3)[np.arange(9) % 3]),
    "enormous and wrong": (2e4 * np.eye(3)[np.arange(9) % 3] - 1e4, np.eye(3)[(np.arange(9) + 1) % 3]),
    "constant": (np.full((12, 3), 5.0), np.eye(3)[np.arange(12) % 3]),
    "one value a case": (np.arange(12.0)[:, None] * np.ones(3), np.eye(3)[np.arange(12) % 3]),
}


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("method", scaling.METHODS)
@pytest.mark.parametrize("name", HARD)
def test_hard_cases_give_probabilities(name, method, multilabel):
    logits, target = HARD[name]
    scale = fitted(logits, target, method, multilabel=multilabel)
    found = scale.apply(np.concatenate([logits, logits * 100, -logits]))
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert (scale.slope > 0).all()
    if not multilabel:
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "lacking"),
    [
        ([0, 1, 2], "no case of 1 of the classes"),
        ([1], "no case of 3 of the classes and no case without 1 of the classes"),
    ],
)
@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_class_without_cases_gets_the_temperature_and_a_note(method, labels, lacking):
    logits, _ = overconfident(200, 4)
    target = np.eye(4)[np.resize(labels, 200)]
    scale = fitted(logits, target, method)
    assert scale.temperature == fitted(logits, target, "temperature").temperature
    assert scale.notes == (f"{method} calibration was not fitted, one temperature was: validation has {lacking}",)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_label_of_every_case_gets_the_temperature_and_a_note(method):
    logits, target = overconfident(200, 3, multilabel=True)
    target[:, 1] = 1
    (note,) = fitted(logits, target, method, multilabel=True).notes
    assert note.endswith("validation has no case without 1 of the classes")


def test_platt_never_turns_a_class_round():
    logits, target = overconfident(200, 2)
    scale = fitted(-logits, target, "platt")
    assert scale.method == "temperature"
    assert "higher logit would have meant a lower probability" in scale.notes[0]


def test_unknown_method_names_the_nearest():
    with pytest.raises(errors.ConfigError, match="did you mean 'temperature'"):
        fitted(*overconfident(5), "temprature")


@pytest.mark.parametrize("logits", [np.array([[np.nan, 0.0]]), np.array([[np.inf, 0.0]]), np.zeros((0, 2))])
def test_logits_that_are_no_numbers_are_refused(logits):
    with pytest.raises(errors.DataError, match="finite logits of at least one case. Received: (1|0)"):
        fitted(logits, np.ones_like(logits), "temperature")
