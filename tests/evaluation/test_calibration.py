import numpy as np
import pytest
from sklearn import isotonic, metrics

from medkeras.evaluation import calibration, classification


def drawn(n, seed, distort=lambda p: p):
    """Returns stated probabilities, and outcomes that come as often as `distort` of them."""
    rng = np.random.default_rng(seed)
    stated = np.round(rng.beta(2, 1, size=n), 3)
    return stated, (rng.random(n) < distort(stated)).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_brier_parts_sum_to_scikit_learns_score(seed):
    stated, observed = drawn(300, seed)
    parts = calibration.brier(stated, observed)
    assert parts.score == pytest.approx(metrics.brier_score_loss(observed, stated), abs=1e-12)
    honest = isotonic.IsotonicRegression(out_of_bounds="clip").fit(stated, observed).predict(stated)
    recalibrated = metrics.brier_score_loss(observed, np.clip(honest, 0, 1))
    assert parts.uncertainty - parts.resolution == pytest.approx(recalibrated, abs=1e-9)
    assert parts.uncertainty == pytest.approx(observed.mean() * (1 - observed.mean()))


def test_brier_parts_by_hand():
    perfect = calibration.brier(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert (perfect.reliability, perfect.resolution, perfect.uncertainty) == (0, 0.25, 0.25)
    constant = calibration.brier(np.full(4, 0.7), np.array([0.0, 0.0, 1.0, 1.0]))
    assert (constant.reliability, constant.resolution) == (pytest.approx(0.04), 0)
    wrong = calibration.brier(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert (wrong.reliability, wrong.resolution, wrong.uncertainty) == (0.75, 0, 0.25)


def test_an_honest_transformation_of_the_scores_changes_reliability_alone():
    stated, observed = drawn(400, 0)
    before, after = calibration.brier(stated, observed), calibration.brier(stated**3, observed)
    assert after.resolution == pytest.approx(before.resolution, abs=1e-12)
    assert after.reliability > before.reliability + 0.02


def errors_over(repeats, n, distort=lambda p: p):
    found = []
    for seed in range(repeats):
        stated, observed = drawn(n, seed, distort)
        found.append(
            (
                calibration.expected_calibration_error(stated, observed),
                calibration.debiased_calibration_error(stated[:, None], observed[:, None], np.arange(n)),
            )
        )
    return np.mean(found, axis=0)


def test_most_of_the_bias_of_a_calibration_error_is_taken_off():
    plain, debiased = errors_over(60, 300)
    assert plain > 0.035
    assert debiased < 0.4 * plain


def test_a_real_calibration_error_stays():
    plain, debiased = errors_over(30, 2000, distort=lambda p: 0.8 * p)
    truth = 0.2 * 2 / 3
    assert debiased == pytest.approx(truth, abs=0.004)
    assert plain == pytest.approx(truth, abs=0.008)


def test_copies_of_a_patients_case_take_nothing_more_off():
    stated, observed = drawn(200, 0)
    once = calibration.debiased_calibration_error(stated[:, None], observed[:, None], np.arange(200))
    copied = [np.repeat(x, 4) for x in (stated, observed, np.arange(200))]
    assert calibration.debiased_calibration_error(copied[0][:, None], copied[1][:, None], copied[2]) == pytest.approx(
        once, abs=1e-12
    )


@pytest.mark.parametrize("stated", [np.zeros(5), np.ones(5), np.full(5, 0.3), np.linspace(0, 1, 5)])
@pytest.mark.parametrize("observed", [np.zeros(5), np.ones(5), np.array([0.0, 1, 0, 1, 1])])
def test_extremes_are_numbers(stated, observed):
    parts = calibration.brier(stated, observed)
    assert parts.score == pytest.approx(np.mean((stated - observed) ** 2), abs=1e-12)
    for patients in (np.arange(5), np.zeros(5, int)):
        error = calibration.debiased_calibration_error(stated[:, None], observed[:, None], patients)
        assert 0 <= error <= 1


@pytest.mark.parametrize(("k", "multilabel"), [(2, False), (3, False), (1, True), (4, True)])
def test_the_parts_of_a_table_sum_to_its_brier_score(make_table, k, multilabel):
    found = classification.evaluate(make_table(150, k, multilabel=multilabel), resamples=2)
    whole = found["calibration"]
    assert whole["brier"] == pytest.approx(found["metrics"]["brier_score_loss"]["value"], abs=1e-12)
    assert whole["ece"] == found["metrics"]["expected_calibration_error"]["value"]
    assert whole["ece_debiased"] <= whole["ece"] + 0.05
    for name, part in whole["per_class"].items():
        assert part["brier"] == pytest.approx(found["per_class"][name]["brier_score_loss"]["value"], abs=1e-12)
        assert part["brier"] == pytest.approx(part["reliability"] - part["resolution"] + part["uncertainty"], abs=1e-12)
