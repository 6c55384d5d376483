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
    drawn = intervals.draw_patients(strata, range(10_000), 0)
    for stratum, size in enumerate((3, 2, 1)):
        assert (drawn[:, strata == stratum].sum(axis=1) == size).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(drawn[:, :3].var(axis=0), 1 - 1 / 3, atol=0.03)


def test_a_resample_is_a_function_of_its_number_and_the_seed():
    strata = np.array([0, 0, 1, 1, 1])
    all_drawn = intervals.draw_patients(strata, range(50), 4)
    for first, last in ((6, 9), (16, 40), (20, 33)):
        np.testing.assert_array_equal(intervals.draw_patients(strata, range(first, last), 4), all_drawn[first:last])
    assert (intervals.draw_patients(strata, range(50), 5) != all_drawn).any()


def test_bootstrap_equals_its_definition_written_as_a_loop():
    values, patients = np.random.default_rng(0).normal(size=12), np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4])
    strata = np.zeros(5, int)
    found = intervals.bootstrap(means_of(values), patients, strata=strata, resamples=50, seed=3)["mean"]
    for r, counts in enumerate(intervals.draw_patients(strata, range(50), 3)):
        picks = np.repeat(np.arange(5), counts)
        cases = np.concatenate([np.flatnonzero(patients == p) for p in picks])
        assert found[r] == pytest.approx(values[cases].mean())


def test_bootstrap_in_parts_gives_the_same(monkeypatch):
    settings = {"strata": np.zeros(10, int), "resamples": 43, "seed": 0}
    whole = intervals.bootstrap(means_of(np.arange(10.0)), np.arange(10), **settings)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 70)
    parts = intervals.bootstrap(means_of(np.arange(10.0)), np.arange(10), **settings)
    np.testing.assert_array_equal(whole["mean"], parts["mean"])
    assert len(np.unique(whole["mean"])) > 10


def test_percentile_is_numpys_and_leaves_out_nan():
    drawn = np.random.default_rng(0).normal(size=(2, 101))
    drawn[1, :40] = np.nan
    low, high = intervals.percentile(drawn)
    assert (low[0], high[0]) == pytest.approx(tuple(np.percentile(drawn[0], [2.5, 97.5])))
    assert (low[1], high[1]) == pytest.approx(tuple(np.percentile(drawn[1, 40:], [2.5, 97.5])))


def test_percentile_of_mostly_undefined_replicates_is_nan():
    assert np.isnan(intervals.percentile(np.array([1.0, np.nan, np.nan]))).all()


def test_percentile_without_end_is_infinite_and_breaks_nothing():
    low, high = intervals.percentile(np.array([np.inf, 3.0, 1.0, np.inf, 2.0]))
    assert low == pytest.approx(1.1)
    assert high == np.inf


def mean_of_patients(values):
    return lambda drawn: {"mean": drawn @ values / drawn.sum(axis=1)}


@pytest.mark.parametrize("seed", range(4))
def test_bca_equals_scipy(seed):
    values = np.random.default_rng(seed).exponential(size=30)
    drawn = intervals.draw_patients(np.zeros(30, int), range(999), seed)
    rows = np.array([np.repeat(np.arange(30), counts) for counts in drawn])

    class Fixed(np.random.Generator):
        """Draws what we drew."""

        def integers(self, *_, **__):
            return rows

    expected = stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=999, rng=Fixed(np.random.PCG64(0)), vectorized=True
    )
    statistic = mean_of_patients(values)
    left_out, strata = intervals.jackknife(statistic, np.zeros(30, int))
    low, high = intervals.bca(statistic(drawn)["mean"], values.mean(), left_out["mean"], strata)
    limits = expected.confidence_interval
    assert (low, high) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_bca_of_strata_has_the_acceleration_of_the_book():
    rng = np.random.default_rng(3)
    samples = rng.exponential(size=12), rng.normal(size=20)
    values, strata = np.concatenate(samples), np.repeat([0, 1], [12, 20])

    def difference(drawn):
        means = [drawn[:, strata == k] @ values[strata == k] / drawn[:, strata == k].sum(axis=1) for k in (0, 1)]
        return {"difference": means[0] - means[1]}

    left_out, of_group = intervals.jackknife(difference, strata)
    influence = [samples[0] - samples[0].mean(), samples[1].mean() - samples[1]]
    cubes, squares = (sum(np.sum(x**power) / len(x) ** power for x in influence) for power in (3, 2))
    found = intervals._acceleration(left_out["difference"], of_group)
    assert found == pytest.approx(cubes / 6 / squares**1.5, rel=1e-9)


def test_groups_of_patients_give_nearly_the_acceleration_of_each_alone(monkeypatch):
    values = np.random.default_rng(0).exponential(size=3000)
    found = []
    for most in (3000, 300):
        monkeypatch.setattr(intervals, "_MOST_LEFT_OUT", most)
        left_out, strata = intervals.jackknife(mean_of_patients(values), np.zeros(3000, int))
        assert left_out["mean"].shape == (most,)
        found.append(float(intervals._acceleration(left_out["mean"], strata)))
    assert found[1] == pytest.approx(found[0], abs=0.4 / np.sqrt(300) * 0.5)
    assert found[0] == pytest.approx(stats.skew(values) / 6 / np.sqrt(3000), rel=1e-3)


@pytest.mark.parametrize("replicates", [np.full(50, 0.7), np.linspace(0.8, 0.9, 50), np.full(50, np.nan)])
def test_bca_without_two_sides_is_the_percentile(replicates):
    found = intervals.bca(replicates, np.array(0.7), np.full(5, 0.7), np.zeros(5, int))
    np.testing.assert_array_equal(found, intervals.percentile(replicates))


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
