import dataclasses
import itertools
import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk_metrics

from medkeras import errors
from medkeras.evaluation import comparison, delong


def scored(n=80, m=2, *, most=1, seed=0, ties=True):
    """Returns positive bool `[n]`, scores `[n, m]` with ties, and patients of 1 to `most` cases, not all alike."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), rng.integers(1, most + 1, size=n))[:n]
    positive = (rng.random(n) < 0.5)[patients] ^ (rng.random(n) < 0.2)
    common = rng.normal(size=n)[patients] + rng.normal(size=n)
    values = common[:, None] + rng.normal(size=(n, m)) + positive[:, None] * np.linspace(1, 1.6, m)
    return positive, np.round(values, 1) if ties else values, patients


def placed_by_loops(positive, scores):
    """Returns DeLong's V10 of each positive and V01 of each negative, by their definition."""
    above = [[np.mean([(x > y) + (x == y) / 2 for y in s[~positive]]) for x in s[positive]] for s in scores.T]
    below = [[np.mean([(x > y) + (x == y) / 2 for x in s[positive]]) for y in s[~positive]] for s in scores.T]
    return np.array(above), np.array(below)


@pytest.mark.parametrize("ties", [True, False])
def test_areas_and_covariance_are_delongs_by_their_definition(ties):
    positive, scores, patients = scored(m=3, ties=ties)
    found = delong.placements(positive, scores, patients)
    above, below = placed_by_loops(positive, scores)
    expected = np.cov(above) / positive.sum() + np.cov(below) / (~positive).sum()
    np.testing.assert_allclose(found.covariance(), expected, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(found.areas, [sk_metrics.roc_auc_score(positive, s) for s in scores.T], atol=1e-12)


def test_with_several_cases_a_patient_it_is_obuchowskis_by_its_definition():
    positive, scores, patients = scored(m=2, most=5)
    found = delong.placements(positive, scores, patients)
    above, below = placed_by_loops(positive, scores)
    areas, m, n, everyone = above.mean(axis=1), positive.sum(), (~positive).sum(), np.unique(patients)
    x = np.array(
        [[(v[patients[positive] == p] - a).sum() for p in everyone] for v, a in zip(above, areas, strict=True)]
    )
    y = np.array(
        [[(v[patients[~positive] == p] - a).sum() for p in everyone] for v, a in zip(below, areas, strict=True)]
    )
    with_positive, with_negative = len(set(patients[positive])), len(set(patients[~positive]))
    s10 = with_positive / (with_positive - 1) / m * x @ x.T
    s01 = with_negative / (with_negative - 1) / n * y @ y.T
    s11 = len(everyone) / (len(everyone) - 1) * x @ y.T
    expected = s10 / m + s01 / n + (s11 + s11.T) / (m * n)
    np.testing.assert_allclose(found.covariance(), expected, rtol=1e-10)


@pytest.mark.parametrize("most", [1, 4])
def test_difference_of_two_areas_is_the_contrast_of_their_covariance(most):
    positive, scores, patients = scored(most=most)
    found = delong.placements(positive, scores, patients)
    gap, error = delong.difference(positive[:, None], scores[:, :1], scores[:, 1:], patients)
    assert gap == pytest.approx(found.areas[0] - found.areas[1], abs=1e-12)
    expected = found.covariance()
    assert error**2 == pytest.approx(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1], abs=1e-12)


def test_error_of_a_macro_area_is_the_spread_over_repeated_studies():
    gaps, guesses = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(60), rng.integers(1, 5, size=60))
        truth = np.eye(3)[rng.integers(3, size=60)[patients]]
        shared = rng.normal(size=(60, 3))[patients] + truth
        a, b = (shared + rng.normal(size=truth.shape) + 0.5 * rng.normal(size=(60, 3))[patients] for _ in range(2))
        gap, error = delong.difference(truth > 0, a, b, patients)
        gaps.append(gap)
        guesses.append(error)
    assert np.mean(guesses) == pytest.approx(np.std(gaps), rel=0.12)


def rejections(tester, repeats=300):
    """Returns how often models of equal worth are found to differ at 5%, patients having alike cases."""
    found = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(50), rng.integers(2, 8, size=50))
        positive = (rng.random(50) < 0.5)[patients]
        of_patient = positive + rng.normal(size=(50, 2))[patients].T
        found += tester(positive, (of_patient + 0.2 * rng.normal(size=of_patient.shape)).T, patients) < 0.05
    return found / repeats


def test_tests_of_images_find_what_is_not_there_and_tests_of_patients_do_not():
    def area(positive, scores, patients):
        gap, error = delong.difference(positive[:, None], scores[:, :1], scores[:, 1:], patients)
        return 2 * stats.norm.sf(abs(gap / error))

    def answers(positive, scores, patients):
        right = (scores > 0.5) == positive[:, None]
        return comparison.flipped(np.bincount(patients, right[:, 0] - 1 * right[:, 1]).astype(int))

    naive_area = rejections(lambda positive, scores, _: area(positive, scores, np.arange(len(positive))))
    naive_answers = rejections(lambda positive, scores, _: answers(positive, scores, np.arange(len(positive))))
    assert min(naive_area, naive_answers) > 0.2
    assert 0.02 <= rejections(area) <= 0.09
    assert 0.02 <= rejections(answers) <= 0.08


def mcnemar(only_a, only_b):
    """McNemar's exact test: a binomial one of the cases that one model alone has right."""
    return stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0


def test_airway_hyper_responsiveness():
    """Fagerland, Lydersen and Laake (2013), table 1: 1 and 7 discordant pairs; the exact p is 0.070."""
    found = comparison.flipped(np.repeat([1, -1], [1, 7]))
    assert found == pytest.approx(18 / 256, abs=1e-12)
    assert round(found, 3) == 0.070


@pytest.mark.parametrize(("b", "c"), [(0, 0), *itertools.product(range(12), repeat=2), (30, 12), (300, 220)])
def test_flipping_patients_of_one_case_is_mcnemars_test(b, c):
    found = comparison.flipped(np.repeat([1, -1, 0], [b, c, 9]))
    assert found == pytest.approx(mcnemar(b, c), abs=1e-9)
    assert found == comparison.flipped(np.repeat([1, -1, 0], [c, b, 9])) <= 1


def test_flipping_is_exact_over_every_sign():
    surplus = np.array([3, -1, 2, 2, 0, 5, -2, 1])
    sums = [abs(np.dot(signs, surplus)) for signs in itertools.product([-1, 1], repeat=len(surplus))]
    assert comparison.flipped(surplus) == pytest.approx(np.mean(np.array(sums) >= abs(surplus.sum())), abs=1e-12)


def test_holm_by_hand():
    """Holm (1979): multiplied by 4, 3, 2, 1 in rising order, and never falling."""
    assert comparison.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm([0.9, None, 0.8]) == [1.0, None, 1.0]
    assert comparison.holm([]) == []


@pytest.fixture(scope="module")
def models(make_table):
    """Three models on the same 150 cases: one good, one worse, one that knows nothing."""

    def build(k=3, *, multilabel=False, per_patient=2):
        good = make_table(150, k, multilabel=multilabel, per_patient=per_patient, seed=1)
        rng = np.random.default_rng(0)
        noise = rng.random(good.probabilities.shape)
        tables = {"good": good.probabilities, "worse": 0.6 * good.probabilities + 0.4 * noise, "blind": noise}
        if not multilabel:
            tables = {name: p / p.sum(axis=1, keepdims=True) for name, p in tables.items()}
        return {name: dataclasses.replace(good, probabilities=p) for name, p in tables.items()}

    return build


@pytest.mark.parametrize("per_patient", [1, 3])
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("k", [2, 3])
def test_every_pair_and_metric_has_a_row_ready_for_json(models, k, multilabel, per_patient):
    names = ("accuracy", "auroc_macro", "log_loss", "expected_calibration_error")
    rows = comparison.compare(
        models(k, multilabel=multilabel, per_patient=per_patient), metrics=names, resamples=100, seed=1
    )
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [(row["metric"], row["a"], row["b"]) for row in rows] == [
        (name, *pair) for name in names for pair in (("good", "worse"), ("good", "blind"), ("worse", "blind"))
    ]
    for row in rows:
        assert row["low"] <= row["difference"] <= row["high"]
        assert 0 <= row["p"] <= row["p_holm"] <= 1
        assert row["note"] == ""
        assert ("patient" in row["method"]) == (per_patient > 1 or row["metric"] not in ("accuracy", "auroc_macro"))
    assert rows[4]["p"] < 0.01
    assert rows[4]["difference"] > 0 > rows[7]["difference"]


def test_differences_are_those_of_scikit_learn(models):
    three = models(per_patient=1)
    truth = three["good"].target.argmax(axis=1)
    rows = {row["metric"]: row for row in comparison.compare(three, metrics=("accuracy", "auroc_macro"), resamples=20)}

    def area(table):
        return sk_metrics.roc_auc_score(table.target, table.probabilities, average="macro")

    def accuracy(table):
        return sk_metrics.accuracy_score(truth, table.probabilities.argmax(axis=1))

    assert rows["auroc_macro"]["difference"] == pytest.approx(area(three["worse"]) - area(three["blind"]), abs=1e-9)
    assert rows["accuracy"]["difference"] == pytest.approx(
        accuracy(three["worse"]) - accuracy(three["blind"]), abs=1e-9
    )
    right = [table.probabilities.argmax(axis=1) == truth for table in (three["worse"], three["blind"])]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert rows["accuracy"]["p"] == pytest.approx(mcnemar(*only), abs=1e-9)
    assert rows["accuracy"]["statistic"] == only[0] - only[1]


def test_the_bootstraps_smallest_p_counts_what_was_seen(models):
    rows = comparison.compare(models(), metrics=["log_loss"], resamples=99)
    assert rows[1]["p"] == pytest.approx(2 / 100)
    assert rows[1]["p_holm"] == pytest.approx(6 / 100)


def test_resamples_of_a_calibration_error_are_centred(make_table):
    rng = np.random.default_rng(0)
    honest = rng.random(150)
    truth = (rng.random(150) < honest).astype(int)
    bold = np.clip(1.5 * (honest - 0.5) + 0.5, 0.01, 0.99)
    bold[:75] = 1 - bold[:75]
    (row,) = comparison.compare(
        small(make_table, truth, honest, bold), metrics=["expected_calibration_error"], resamples=1000
    )
    assert (row["low"] + row["high"]) / 2 == pytest.approx(row["difference"], abs=0.01)


def test_order_of_cases_changes_nothing(models, reordered):
    three = models()
    names = ("accuracy", "auroc_macro", "brier_score_loss")
    expected = comparison.compare(three, metrics=names, resamples=50)
    order = np.random.default_rng(5).permutation(150)
    moved = {name: table.take(order) if name == "worse" else table for name, table in three.items()}
    assert comparison.compare(moved, metrics=names, resamples=50) == expected


@pytest.mark.parametrize("per_patient", [1, 3])
def test_identical_predictions_do_not_differ(models, per_patient):
    table = models(per_patient=per_patient)["good"]
    names = ("accuracy", "auroc_macro", "log_loss", "matthews_corrcoef")
    for row in comparison.compare({"a": table, "b": table}, metrics=names, resamples=50):
        assert (row["difference"], row["p"], row["p_holm"], row["note"]) == (0, 1, 1, "")


def small(make_table, truth, *scores, patients=None):
    patients = patients or tuple(map(str, range(len(truth))))
    return {
        name: make_table(
            len(truth),
            2,
            per_patient=1,
            target=np.eye(2, dtype=np.int8)[list(truth)],
            patient_id=patients,
            probabilities=np.stack([1 - np.array(s), s], axis=1),
        )
        for name, s in zip("ab", scores, strict=True)
    }


@pytest.mark.parametrize(
    ("truth", "patients", "note"),
    [
        ([1, 1, 1], None, "no class has cases with and without it"),
        ([1, 0, 0], None, "only one patient has cases of class 'b'"),
        ([1, 1, 0, 0], ("p", "p", "q", "r"), "only one patient has cases of class 'b'"),
        ([1, 1, 0, 0], ("q", "r", "p", "p"), "only one patient has cases without class 'b'"),
        ([1, 1, 0, 0], None, "the difference does not vary"),
    ],
)
def test_what_cannot_be_tested_is_said(make_table, truth, patients, note):
    a = np.where(np.array(truth) > 0, 0.9, 0.1)
    pair = small(make_table, truth, a, 1 - a, patients=patients)
    accuracy, area = comparison.compare(pair, resamples=20)
    assert (area["p"], area["p_holm"], area["low"], area["note"]) == (None, None, None, note)
    assert 0 < accuracy["p"] <= 1
    assert accuracy["difference"] == 1


def test_constant_scores_are_half_and_tested(make_table):
    truth = np.arange(40) % 2
    good = np.where(np.random.default_rng(0).random(40) < 0.8, truth, 1 - truth) * 0.8 + 0.1
    area = comparison.compare(small(make_table, truth, good, np.full(40, 0.5)), metrics=["auroc_macro"])[0]
    assert area["difference"] == pytest.approx(sk_metrics.roc_auc_score(truth, good) - 0.5)
    assert area["p"] < 0.01


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda t: t.take(np.arange(149)), "1 cases that are not in both of 'b' and 'a'"),
        (lambda t: dataclasses.replace(t, classes=("x", "y", "z")), "different classes of 'b' and 'a'"),
        (lambda t: dataclasses.replace(t, target=np.roll(t.target, 1, axis=1)), "different labels for a case of 'b'"),
        (lambda t: dataclasses.replace(t, target=None), "no labelled cases of 'b' and 'a'"),
        (lambda t: dataclasses.replace(t, patient_id=t.case_id), "different patients for a case of 'b' and 'a'"),
    ],
)
def test_tables_of_different_cases_are_refused(models, change, received):
    table = models()["good"]
    with pytest.raises(errors.DataError, match=f"same labelled cases of the same patients. Received: {received}"):
        comparison.compare({"a": table, "b": change(table)})


def test_wrong_settings_are_named(models):
    three = models()
    with pytest.raises(errors.ConfigError, match="did you mean 'accuracy'"):
        comparison.compare(three, metrics=("acuracy",))
    with pytest.raises(errors.ConfigError, match="resamples=0"):
        comparison.compare(three, resamples=0)
    with pytest.raises(errors.DataError, match="two models or more. Received: good"):
        comparison.compare({"good": three["good"]})


def test_the_paired_bootstrap_of_patients_finds_little_where_nothing_is(make_table):
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(40), rng.integers(2, 8, size=40))
        n, truth = len(patients), (rng.random(40) < 0.5).astype(int)[patients]
        of_patient = (2 * truth - 1)[:, None] * 0.7 + rng.normal(size=(40, 2))[patients]
        scores = 1 / (1 + np.exp(-of_patient - 0.4 * rng.normal(size=(n, 2))))
        pair = small(make_table, truth, *scores.T, patients=tuple(map(str, patients)))
        found += comparison.compare(pair, metrics=["log_loss"], resamples=200, seed=seed)[0]["p"] < 0.05
    assert 1 <= found <= 11
