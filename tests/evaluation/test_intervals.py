import numpy as np
import pytest
from scipy import stats

from medkeras.evaluation import intervals


def means_of(values):
    return lambda weights: {"mean": values @ weights / weights.sum(axis=0)}


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (3, 10), (10, 10), (480, 500)])
def test_wilson_equals_scipy(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert intervals.wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_nan():
    assert np.isnan(intervals.wilson(0, 0)).all()


def test_every_stratum_keeps_its_size_and_every_patient_is_drawn_alike():
    strata = np.array([0, 0, 0, 1, 1, 2])
    drawn = intervals.draw_patients(strata, 20_000, np.random.default_rng(0))
    for stratum, size in enumerate((3, 2, 1)):
        assert (drawn[strata == stratum].sum(axis=0) == size).all()
    np.testing.assert_allclose(drawn.mean(axis=1), 1, atol=0.02)
    np.testing.assert_allclose(drawn[:3].var(axis=1), 1 - 1 / 3, atol=0.03)


def test_bootstrap_equals_its_definition_written_as_a_loop():
    values, patients = np.random.default_rng(0).normal(size=12), np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4])
    strata = np.zeros(5, int)
    found = intervals.bootstrap(means_of(values), patients, strata=strata, resamples=50, seed=3)["mean"]
    picks = np.random.default_rng(3).integers(5, size=(5, 50))
    for r in range(50):
        cases = np.concatenate([np.flatnonzero(patients == p) for p in picks[:, r]])
        assert found[r] == pytest.approx(values[cases].mean())


def test_bootstrap_in_parts_draws_as_many(monkeypatch):
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 70)
    values = np.arange(10.0)
    found = intervals.bootstrap(means_of(values), np.arange(10), strata=np.zeros(10, int), resamples=23, seed=0)
    assert found["mean"].shape == (23,)
    assert len(np.unique(found["mean"])) > 15


def test_percentile_is_numpys_and_leaves_out_nan():
    drawn = np.random.default_rng(0).normal(size=(2, 101))
    drawn[1, :40] = np.nan
    low, high = intervals.percentile(drawn)
    assert (low[0], high[0]) == pytest.approx(tuple(np.percentile(drawn[0], [2.5, 97.5])))
    assert (low[1], high[1]) == pytest.approx(tuple(np.percentile(drawn[1, 40:], [2.5, 97.5])))


def test_percentile_of_mostly_undefined_replicates_is_nan():
    assert np.isnan(intervals.percentile(np.array([1.0, np.nan, np.nan]))).all()


def test_effective_size_of_independent_cases_is_their_number():
    hits = np.random.default_rng(0).integers(2, size=40)
    assert intervals.effective_size(hits, np.ones(40), np.arange(40)) == 40


@pytest.mark.parametrize("hits", [np.repeat([0, 1] * 10, 5), np.ones(100)])
def test_copies_of_a_patients_case_add_nothing(hits):
    patients = np.repeat(np.arange(20), 5)
    assert intervals.effective_size(hits, np.ones(100), patients) == pytest.approx(20, rel=0.06)


def test_all_right_is_not_certain():
    low, high = intervals.proportion(np.ones(60), np.ones(60), np.repeat(np.arange(20), 3))
    assert (low, high) == pytest.approx(intervals.wilson(20, 20))
    assert low < 0.9
    assert high == 1


def coverage(interval, truth=0.8, repeats=300):
    """Returns the share of simulated tests (40 patients, 1 to 9 alike images) whose interval holds the truth."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(repeats):
        sizes = rng.integers(1, 10, size=40)
        patients = np.repeat(np.arange(40), sizes)
        hits = (rng.random(len(patients)) < rng.beta(2, 0.5, size=40)[patients]).astype(float)
        low, high = interval(hits, patients)
        held += low <= truth <= high
    return held / repeats


def bootstrapped(hits, patients):
    drawn = intervals.bootstrap(
        means_of(hits), patients, strata=np.zeros(patients.max() + 1, int), resamples=200, seed=0
    )
    return intervals.percentile(drawn["mean"])


def test_clustered_intervals_cover_where_naive_ones_do_not():
    naive = coverage(lambda hits, patients: intervals.wilson(hits.sum(), len(hits)))
    naive_bootstrap = coverage(lambda hits, patients: bootstrapped(hits, np.arange(len(hits))))
    clustered = coverage(lambda hits, patients: intervals.proportion(hits, np.ones(len(hits)), patients))
    clustered_bootstrap = coverage(bootstrapped)
    assert max(naive, naive_bootstrap) < 0.80
    assert 0.91 <= clustered <= 0.98
    assert 0.88 <= clustered_bootstrap <= 0.98
