import json
import math

import numpy as np
import pytest
from scipy import stats

from medkeras import errors
from medkeras.evaluation import conformal


def cases(patients, seed, *, k=3, most=1, multilabel=False):
    """Returns probabilities, target and patients with 1 to `most` alike cases; the rarest class is the hardest."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, most + 1, size=patients))
    noise = rng.normal(size=(patients, k))[owner] + 0.7 * rng.normal(size=(len(owner), k))
    if multilabel:
        target = (rng.random((patients, k)) < 0.4)[owner].astype(np.int8)
        return 1 / (1 + np.exp(-noise - 2 * target + 1)), target, owner
    target = np.eye(k, dtype=np.int8)[rng.choice(k, p=[0.6, 0.3, 0.1], size=patients)[owner]]
    weights = np.exp(noise + np.linspace(2, 0.5, k) * target)
    return weights / weights.sum(axis=1, keepdims=True), target, owner


def fitted(sample, *, alpha=0.1, kind="marginal", multilabel=False):
    probabilities, target, patients = sample
    return conformal.fit(probabilities, target, alpha=alpha, kind=kind, patients=patients, multilabel=multilabel)


def table_of(make_table, sample, multilabel=False):
    probabilities, target, owner = sample
    n = len(owner)
    return make_table(
        n,
        target.shape[1],
        multilabel=multilabel,
        per_patient=1,
        patient_id=tuple(f"patient{i}" for i in owner),
        target=target,
        probabilities=probabilities,
    )


@pytest.mark.parametrize("n", [9, 10, 19, 100, 101])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_threshold_is_the_order_statistic_of_split_conformal(n, alpha):
    probabilities, target, patients = cases(n, n)
    found = fitted((probabilities, target, patients), alpha=alpha).thresholds
    scores = np.sort(np.float32(1) - probabilities[target > 0].astype(np.float32))
    rank = math.ceil(round((n + 1) * (1 - alpha), 9))
    expected = scores[rank - 1] if rank <= n else np.inf
    np.testing.assert_array_equal(found, np.full(3, expected, np.float64))


@pytest.mark.parametrize("kind", conformal.KINDS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_threshold_of_patients_is_the_weighted_quantile_written_as_a_loop(kind, multilabel):
    probabilities, target, patients = cases(40, 3, most=6, multilabel=multilabel)
    found = fitted((probabilities, target, patients), kind=kind, multilabel=multilabel).thresholds
    for k in range(3):
        truths = [(i, c) for i, c in np.argwhere(target) if kind == "marginal" or c == k]
        owners = [patients[i] for i, _ in truths]
        scored = sorted(
            (np.float32(1) - np.float32(probabilities[i, c]), 1 / owners.count(patients[i])) for i, c in truths
        )
        reached, expected = 0.0, math.inf
        for score, weight in scored:
            reached += weight / (len(set(owners)) + 1)
            if reached >= 0.9 - 1e-9:
                expected = float(score)
                break
        assert found[k] == expected


@pytest.mark.parametrize("most", [1, 7])
@pytest.mark.parametrize("multilabel", [False, True])
def test_marginal_sets_hold_the_truth_as_often_as_promised(most, multilabel):
    held = []
    for seed in range(400):
        conform = fitted(cases(150, seed, most=most, multilabel=multilabel), multilabel=multilabel)
        probabilities, target, owner = cases(150, 10_000 + seed, most=most, multilabel=multilabel)
        rows, columns = np.nonzero(target)
        shares = [np.mean(part) for part in grouped(conform.sets(probabilities)[rows, columns], owner[rows])]
        held.append(np.mean(shares))
    assert 0.9 - 0.005 <= np.mean(held) <= 0.91


@pytest.mark.parametrize("most", [1, 5])
def test_class_sets_hold_every_class_where_marginal_ones_fail_the_rare(most):
    held = {"marginal": [], "class": []}
    for seed in range(300):
        sample, fresh = cases(400, seed, most=most), cases(400, 10_000 + seed, most=most)
        for kind, shares in held.items():
            inside = fitted(sample, kind=kind).sets(fresh[0])
            shares.append(
                [
                    np.mean([np.mean(g) for g in grouped(inside[t > 0, k], fresh[2][t > 0])])
                    for k, t in enumerate(fresh[1].T)
                ]
            )
    by_class = np.mean(held["class"], axis=0)
    assert ((by_class >= 0.895) & (by_class <= 0.93)).all()
    assert by_class[0] <= 0.91
    assert np.mean(held["marginal"], axis=0)[2] < 0.8


def grouped(values, owner):
    order = np.argsort(owner, kind="stable")
    return np.split(values[order], np.flatnonzero(np.diff(owner[order])) + 1)


def test_a_class_of_too_few_patients_is_in_every_set():
    probabilities, target, patients = cases(200, 0)
    keep = (target[:, 2] == 0) | (np.cumsum(target[:, 2]) <= 8)
    conform = fitted((probabilities[keep], target[keep], patients[keep]), kind="class")
    assert math.isinf(conform.thresholds[2])
    assert np.isfinite(conform.thresholds[:2]).all()
    assert conform.sets(np.array([[1.0, 0, 0]]))[0, 2]
    assert conform.notes("abc") == (
        "class 'c' is in every set: 8 validation patient(s), and alpha=0.1 needs at least 9",
    )


@pytest.mark.parametrize("multilabel", [False, True])
def test_copies_of_one_patients_images_are_not_more_patients(multilabel):
    probabilities, target, _ = cases(8, 0, multilabel=multilabel)
    copies = np.repeat(np.arange(8), 50)
    target[:, 0] = target[:, 0] if not multilabel else 1
    conform = fitted((probabilities[copies], target[copies], copies), multilabel=multilabel)
    assert np.isinf(conform.thresholds).all()
    assert conform.notes("abc") == (
        "every class is in every set: 8 validation patient(s), and alpha=0.1 needs at least 9",
    )


def test_an_absent_class_is_in_every_set_and_its_coverage_is_none(make_table):
    probabilities, target, patients = cases(60, 0)
    target = np.eye(3, dtype=np.int8)[target[:, :2].argmax(axis=1)]
    conform = fitted((probabilities, target, patients), kind="class")
    assert conform.patients[2] == 0
    assert conform.sets(probabilities)[:, 2].all()
    table = table_of(make_table, (probabilities, target, patients))
    found = conformal.coverage(table, conform.sets(probabilities))["per_class"]["c"]
    assert found == {"coverage": {"value": None, "low": None, "high": None}, "mean_set_size": None, "support": 0}


def test_a_case_that_nothing_fits_has_an_empty_set():
    target = np.eye(2, dtype=np.int8)[np.arange(100) % 2]
    conform = fitted((np.where(target, 0.99, 0.01), target, np.arange(100)))
    assert conform.sets(np.array([[0.6, 0.4], [0.995, 0.005]])).tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("kind", conformal.KINDS)
def test_reads_back_to_the_last_bit_infinite_too(kind):
    conform = fitted(cases(60, 1), kind=kind, alpha=0.05)
    again = conformal.from_json(json.loads(json.dumps(conform.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.thresholds, conform.thresholds)
    np.testing.assert_array_equal(again.patients, conform.patients)
    assert (again.alpha, again.kind) == (conform.alpha, conform.kind)


@pytest.mark.parametrize("kind", conformal.KINDS)
def test_order_and_float32_change_nothing(kind):
    probabilities, target, patients = cases(80, 2, most=4)
    expected = fitted((probabilities, target, patients), kind=kind).thresholds
    order = np.random.default_rng(0).permutation(len(patients))
    found = fitted((probabilities[order].astype(np.float32), target[order].astype(float), -patients[order]), kind=kind)
    np.testing.assert_array_equal(found.thresholds, expected)
    np.testing.assert_array_equal(expected.astype(np.float32), expected)


def test_coverage_counts_by_hand(make_table):
    table = make_table(
        6,
        2,
        per_patient=1,
        target=np.eye(2, dtype=np.int8)[[0, 0, 0, 1, 1, 1]],
        patient_id=("p", "p", "p", "q", "r", "r"),
    )
    sets = np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 0], [1, 1]], bool)
    found = conformal.coverage(table, sets)
    assert found["coverage"]["value"] == pytest.approx(4 / 6)
    assert found["coverage_of_patients"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert found["mean_set_size"] == pytest.approx(7 / 6)
    assert (found["empty"], found["single"]) == pytest.approx((1 / 6, 3 / 6))
    assert found["per_class"]["a"]["coverage"]["value"] == pytest.approx(2 / 3)
    assert found["per_class"]["b"]["mean_set_size"] == pytest.approx(4 / 3)
    assert found["per_class"]["b"]["support"] == 3
    assert found["coverage"]["low"] < 4 / 6 < found["coverage"]["high"]


def test_coverage_of_labels_counts_those_that_are_present(make_table):
    target = np.array([[1, 1, 0], [0, 0, 0]], np.int8)
    table = make_table(2, 3, multilabel=True, per_patient=1, target=target)
    found = conformal.coverage(table, np.array([[1, 0, 1], [0, 0, 0]], bool))
    assert found["coverage"]["value"] == 0.5
    assert found["per_class"]["c"]["coverage"]["value"] is None


def test_chance_is_the_exact_one_of_an_order_statistic():
    """The threshold's rank is the 46th of 50, so coverage is Beta(46, 5) and the count beta-binomial."""
    shares = np.repeat([1.0, 0.0], [70, 30])
    assert conformal._chance(shares, 50, 0.1, cases=100) == pytest.approx(
        stats.betabinom.cdf(70, 100, 46, 5), rel=1e-12
    )
    drawn = np.random.default_rng(0).random((100_000, 50))
    coverage = np.sort(drawn, axis=1)[:, 45]
    assert stats.binom.cdf(80, 100, coverage).mean() == pytest.approx(
        conformal._chance(np.repeat([1.0, 0.0], [80, 20]), 50, 0.1, cases=100), rel=0.03
    )


def test_shares_that_vary_less_than_coins_are_worth_more_patients():
    """Shares of 0.7 and 0.9 vary a sixteenth as much as coins of 0.8: 50 patients are worth 784, or all their cases."""
    shares = np.tile([0.7, 0.9], 25)
    for cases, worth in ((10_000, 784), (500, 500)):
        expected = stats.betabinom.cdf(math.floor(worth * 0.8), worth, 46, 5)
        assert conformal._chance(shares, 50, 0.1, cases=cases) == pytest.approx(expected, rel=1e-9)
    alike = conformal._chance(np.full(50, 0.8), 50, 0.1, cases=500)
    assert alike == pytest.approx(stats.betabinom.cdf(400, 500, 46, 5), rel=1e-9)


@pytest.mark.parametrize("kind", conformal.KINDS)
@pytest.mark.parametrize("most", [1, 6])
def test_exchangeable_patients_raise_no_alarm(make_table, kind, most):
    alarms = 0
    for seed in range(120):
        conform = fitted(cases(120, seed, most=most), kind=kind)
        fresh = cases(120, 10_000 + seed, most=most)
        alarms += bool(conformal.unexchangeable(conform, table_of(make_table, fresh), conform.sets(fresh[0])))
    assert alarms <= 4


@pytest.mark.parametrize("most", [1, 6])
def test_patients_of_another_kind_raise_the_alarm(make_table, most):
    conform = fitted(cases(200, 0, most=most))
    probabilities, target, owner = cases(200, 1, most=most)
    table = table_of(make_table, (probabilities[:, [1, 0, 2]], target, owner))
    (sentence,) = conformal.unexchangeable(conform, table, conform.sets(table.probabilities))
    assert sentence.startswith(
        "The test split is not exchangeable with validation: of all cases, sets hold the truth in "
    )
    assert "where 90.0% was promised (200 patients, p = " in sentence


def test_the_alarm_names_the_class_that_changed(make_table):
    conform = fitted(cases(400, 0), kind="class")
    probabilities, target, owner = cases(400, 1)
    target = target.copy()
    target[(probabilities.argmax(axis=1) == 0) & (np.arange(400) % 2 == 0)] = [0, 1, 0]
    table = table_of(make_table, (probabilities, target, owner))
    (sentence,) = conformal.unexchangeable(conform, table, conform.sets(probabilities))
    assert "of class 'b'," in sentence


def test_infinite_thresholds_cannot_raise_an_alarm(make_table):
    conform = fitted(cases(5, 0))
    fresh = cases(50, 1)
    assert conformal.unexchangeable(conform, table_of(make_table, fresh), conform.sets(fresh[0])) == ()


@pytest.mark.parametrize("kind", conformal.KINDS)
def test_a_probability_that_is_no_number_is_refused(kind):
    probabilities = np.full((30, 2), 0.5)
    probabilities[7] = np.nan
    with pytest.raises(errors.DataError, match="Received: 1 of 30 cases with NaN"):
        conformal.fit(
            probabilities, np.eye(2)[np.arange(30) % 2], alpha=0.1, kind=kind, patients=np.arange(30), multilabel=False
        )


def test_wrong_settings_are_named(make_table):
    with pytest.raises(errors.ConfigError, match="did you mean 'class'"):
        fitted(cases(20, 0), kind="clas")
    with pytest.raises(errors.ConfigError, match="Received: alpha=0"):
        fitted(cases(20, 0), alpha=0.0)
    table = make_table(4, 2, target=None)
    with pytest.raises(errors.DataError, match="Received: 4 cases without labels"):
        conformal.coverage(table, np.ones((4, 2), bool))
