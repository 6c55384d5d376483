import math

import numpy as np
import pytest
from scipy import stats

from medkeras import errors
from medkeras.evaluation import selective


def cases(patients, seed, *, most=1):
    """Returns confidence, correct and patients; the chance to be right is the confidence, patients are alike."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, most + 1, size=patients))
    n = len(owner)
    confidence = 1 / (1 + np.exp(-2 - 0.9 * rng.normal(size=patients)[owner] - 0.6 * rng.normal(size=n)))
    luck = np.where((rng.random(patients) < 0.6)[owner], rng.random(patients)[owner], rng.random(n))
    return confidence, luck < confidence, owner


def test_curve_by_hand():
    confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    curve = selective.risk_coverage(confidence, correct, np.arange(4))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    np.testing.assert_allclose(curve.threshold, confidence.astype(np.float32))
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_area_of_equals_is_the_mean_over_their_orders():
    confidence, correct = np.array([0.9, 0.5, 0.5, 0.5]), np.array([False, True, False, False])
    rng, areas = np.random.default_rng(0), []
    for _ in range(4000):
        broken = confidence - 1e-3 * rng.random(4)
        areas.append(selective.risk_coverage(broken, correct, np.arange(4)).area)
    assert selective.risk_coverage(confidence, correct, np.arange(4)).area == pytest.approx(np.mean(areas), abs=2e-3)


def test_area_of_many_cases_is_the_mean_of_running_risks():
    confidence, correct, owner = cases(3000, 0)
    order = np.argsort(-confidence)
    expected = np.mean(np.cumsum(~correct[order]) / np.arange(1, 3001))
    curve = selective.risk_coverage(confidence, correct, owner)
    assert curve.area == pytest.approx(expected, abs=1e-12)
    assert len(curve.risk) == selective.POINTS
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(np.mean(~correct))
    assert ((curve.low <= curve.risk) & (curve.risk <= curve.high)).all()


def test_order_of_cases_changes_nothing_and_one_confidence_is_one_point():
    confidence, correct, owner = cases(100, 1, most=4)
    confidence = np.round(confidence, 1)
    order = np.random.default_rng(0).permutation(len(owner))
    first, second = (
        selective.risk_coverage(confidence[i], correct[i], owner[i]) for i in (np.arange(len(owner)), order)
    )
    np.testing.assert_array_equal(first.risk, second.risk)
    np.testing.assert_allclose(first.high, second.high)
    assert first.area == pytest.approx(second.area, abs=1e-12)
    flat = selective.risk_coverage(np.ones(5), np.array([1, 0, 1, 1, 0]), np.arange(5))
    assert (flat.risk.tolist(), flat.area) == ([0.4], pytest.approx(0.4))


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("risk", [0.08, 0.12])
def test_the_promise_is_kept_at_least_as_often_as_stated(most, risk):
    confidence, correct, owner = cases(100_000, 99, most=most)
    broken, answered = 0, []
    for seed in range(150):
        threshold = selective.abstain_threshold(*cases(600, seed, most=most), risk=risk, level=0.9)
        here = confidence.astype(np.float32) >= threshold
        answered.append(here.mean())
        if here.any():
            counts = np.bincount(owner[here])
            shares = np.bincount(owner[here], ~correct[here])[counts > 0] / counts[counts > 0]
            broken += shares.mean() > risk
    assert broken / 150 <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / 150)
    assert np.mean(answered) > 0.1


def test_threshold_promises_more_where_more_is_known_or_less_asked():
    small, large = cases(300, 0), cases(20_000, 0)
    strict, loose = (selective.abstain_threshold(*large, risk=risk) for risk in (0.08, 0.12))
    assert loose < strict
    assert selective.abstain_threshold(*large, risk=0.12) <= selective.abstain_threshold(*small, risk=0.12)


@pytest.mark.parametrize(("n", "answers"), [(58, False), (59, True)])
def test_fifty_nine_right_answers_promise_five_percent(n, answers):
    """(1 - 0.05)^59 < 0.05 < (1 - 0.05)^58: the exact rule when all confidences are equal."""
    threshold = selective.abstain_threshold(np.full(n, 0.9), np.ones(n, bool), np.arange(n), risk=0.05)
    assert threshold == (np.float32(0.9) if answers else math.inf)


def test_copies_of_a_patients_images_promise_nothing():
    owner = np.repeat(np.arange(40), 30)
    threshold = selective.abstain_threshold(np.full(1200, 0.9), np.ones(1200, bool), owner, risk=0.05)
    assert math.isinf(threshold)


@pytest.mark.parametrize("wrong", [0, 3, 11])
def test_bound_of_one_case_a_patient_is_clopper_and_pearsons(wrong):
    shares = np.repeat([1.0, 0.0], [wrong, 200 - wrong])
    for risk in (0.02, 0.05, 0.1):
        upper = stats.binomtest(wrong, 200).proportion_ci(confidence_level=0.9, method="exact").high
        assert (selective._chance(shares, risk) <= 0.05) == (upper <= risk)


def test_bound_of_shares_is_one():
    """No sum of shares of expectation 0.1 is so low more often than the bound says."""
    rng = np.random.default_rng(0)
    shares = rng.binomial(4, rng.beta(0.2, 1.8, size=(20_000, 60))) / 4
    for mean in (0.02, 0.04, 0.06):
        seen = np.mean(shares.mean(axis=1) <= mean)
        assert selective._chance(np.full(60, mean), 0.1) >= seen


@pytest.mark.parametrize("mean", [0.25, 0.5, 0.75])
def test_bound_of_shares_is_the_lesser_of_hoeffdings_and_bentkuss(mean):
    shares = np.tile([mean - 0.2, mean + 0.2], 20)
    distance = mean * np.log(mean / 0.8) + (1 - mean) * np.log((1 - mean) / 0.2)
    bentkus = np.e * stats.binom.cdf(math.ceil(40 * mean - 1e-9), 40, 0.8)
    assert selective._chance(shares, 0.8) == pytest.approx(min(np.exp(-40 * distance), bentkus), rel=1e-9)


@pytest.mark.parametrize("change", ["order", "float64"])
def test_threshold_is_a_float32_that_order_does_not_move(change):
    confidence, correct, owner = cases(2000, 5)
    expected = selective.abstain_threshold(confidence.astype(np.float32), correct, owner, risk=0.12)
    order = np.random.default_rng(0).permutation(2000) if change == "order" else np.arange(2000)
    found = selective.abstain_threshold(confidence[order], correct[order], owner[order] + 5, risk=0.12)
    assert found == expected == float(np.float32(expected))


@pytest.mark.parametrize("confidence", [[0.9, 0.4, 0.7], [-3.0, 2.0, 5.0]])
@pytest.mark.parametrize("correct", [[0, 0, 0], [0, 0, 1], [1, 1, 1]])
def test_a_risk_of_one_answers_all(confidence, correct):
    threshold = selective.abstain_threshold(np.array(confidence), np.array(correct), np.arange(3), risk=1)
    assert threshold == min(0, *confidence)
    half = selective.abstain_threshold(np.array(confidence), np.array(correct), np.arange(3), risk=0.5)
    assert half == math.inf


@pytest.mark.parametrize(
    ("confidence", "risk", "error"),
    [
        ([], 0.1, errors.DataError),
        ([0.1, np.nan], 0.1, errors.DataError),
        ([], 1.0, errors.DataError),
        ([0.1, np.nan], 1.0, errors.DataError),
        ([0.5], 0.0, errors.ConfigError),
        ([0.5], 1.1, errors.ConfigError),
    ],
)
def test_nothing_to_judge_is_said(confidence, risk, error):
    n = len(confidence)
    with pytest.raises(error, match="Received"):
        selective.abstain_threshold(np.array(confidence), np.ones(n, bool), np.arange(n), risk=risk)
