"""The gate of converted models: what it refuses, what it lets pass, and what it says of both."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import optimize, stats

from medkeras import errors
from medkeras.evaluation import calibration, comparison, delong, equivalence, moved, operating, paired
from medkeras.evaluation import predictions as tables


def scored(n=300, k=3, *, seed=0, strength=3.0, patients=None):
    """Returns the true class int `[n]` and logits `[n, k]` that follow it."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % k
    return truth, rng.normal(size=(n, k)) + strength * np.eye(k)[truth]


def answered(truth, logits, *, per_patient=1, **changes):
    """Returns the table of softmax of the logits."""
    n, k = logits.shape
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    names = tuple(f"case{i}" for i in range(n))
    columns = {
        "case_id": names,
        "patient_id": tuple(f"patient{i // per_patient}" for i in range(n)),
        "path": names,
        "split": ("validation",) * n,
        "classes": tuple("abcdefgh"[:k]),
        "target": np.eye(k, dtype=np.int8)[truth],
        "probabilities": weights / weights.sum(axis=1, keepdims=True),
    }
    return tables.Predictions(**columns | changes)


def pointed(table, rule="youden"):
    return {"operating_points": [point.to_json() for point in operating.choose(table, rule)]}


def judged(before, after, **changes):
    return equivalence.judge(before, after, **{"fitted": pointed(before), "seed": 0, "resamples": 100} | changes)


def shares(lost, gained, n, *, patients=None):
    """Returns the difference of two shares of n cases, of which some are lost and some gained."""
    before, after = np.zeros(n, bool), np.zeros(n, bool)
    before[:lost], after[lost : lost + gained] = True, True
    whose = np.arange(n) if patients is None else patients
    return paired.of_shares(before, after, np.ones(n, bool), whose)


def tango(lost, gained, n, z, correction):
    """Returns the limits of the loss by their definition: the likelihood is maximised by a search."""

    def score(loss):
        def negative(gains):
            p = np.array([gains + loss, gains, 1 - 2 * gains - loss])
            counts = np.array([lost, gained, n - lost - gained])
            return -np.sum(counts[counts > 0] * np.log(np.maximum(p[counts > 0], 1e-300)))

        low, high = max(0.0, -loss), (1 - loss) / 2
        gains = optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        apart = lost - gained - n * loss
        return (apart - correction * np.sign(apart)) / math.sqrt(n * (2 * gains + loss - loss**2))

    middle = (lost - gained) / n
    return (
        optimize.brentq(lambda loss: score(loss) - z, -0.999, middle - 1.001 / n),
        optimize.brentq(lambda loss: score(loss) + z, middle + 1.001 / n, 0.999),
    )


@pytest.mark.parametrize(("lost", "gained", "n"), [(9, 2, 60), (4, 4, 40), (12, 0, 50), (1, 3, 200)])
def test_limits_of_a_share_are_tangos_by_their_definition(lost, gained, n):
    found = shares(lost, gained, n)
    low, high = tango(lost, gained, n, stats.norm.ppf(0.975), 1)
    assert found.value == pytest.approx((gained - lost) / n)
    assert (-found.high, -found.low) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
    low, high = tango(lost, gained, n, stats.norm.ppf(0.95), 1)
    assert (found.least_loss, found.most_loss) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


@pytest.mark.parametrize("n", [30, 400])
def test_a_loss_shows_where_mcnemars_exact_test_says_so(n):
    differing = 0
    for lost in range(20):
        for gained in range(10):
            exact = stats.binom.sf(lost - 1, lost + gained, 0.5) <= 0.05
            differing += (shares(lost, gained, n).least_loss > 0) != exact
    assert differing <= 4


def test_limits_of_a_share_hold_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    held = missed = 0
    for _ in range(600):
        lost, gained, _ = rng.multinomial(150, [0.06, 0.02, 0.92])
        found = shares(lost, gained, 150)
        held += found.low <= -0.04 <= found.high
        missed += found.least_loss > 0.04
    assert held / 600 > 0.94
    assert missed / 600 < 0.06


def test_the_smallest_loss_that_shows_is_the_smallest_that_shows():
    found = shares(0, 0, 80)
    assert found.smallest_seen == 6 / 80
    assert shares(6, 0, 80).high < 0 < shares(5, 0, 80).high
    assert shares(0, 0, 5).smallest_seen == math.inf


def test_many_cases_of_one_patient_prove_no_more_than_the_patient():
    alone = shares(12, 0, 120)
    together = shares(12, 0, 120, patients=np.arange(120) // 12)
    assert alone.least_loss > 0 > together.least_loss
    assert alone.value == together.value == -0.1
    assert shares(0, 0, 120, patients=np.arange(120) // 12).most_loss == pytest.approx(shares(0, 0, 10).most_loss)


def test_limits_of_areas_are_delongs_with_students_t():
    truth, logits = scored(60, 2, strength=1.0)
    worse = logits + np.random.default_rng(1).normal(size=logits.shape)
    positive, whose = truth[:, None] == 1, np.arange(60)
    found = paired.of_areas(positive, logits[:, 1:], worse[:, 1:], whose)
    gap, error = delong.difference(positive, worse[:, 1:], logits[:, 1:], whose)
    assert found.value == gap
    assert found.low == pytest.approx(gap - stats.t.ppf(0.975, 29) * error)
    assert found.least_loss == pytest.approx(-gap - stats.t.ppf(0.95, 29) * error)


@pytest.mark.parametrize("per_patient", [1, 4])
def test_a_model_is_equal_to_itself(per_patient):
    before = answered(*scored(), per_patient=per_patient)
    verdict = judged(before, before)
    assert verdict.accepted
    assert verdict.reasons == ()
    assert (verdict.agreement["value"], verdict.agreement["largest_difference"]) == (1.0, 0.0)
    assert verdict.mcnemar == {"lost": 0, "gained": 0, "p": 1.0}
    assert all(entry["difference"]["value"] == 0 for entry in verdict.metrics.values())
    assert all(entry["before"] == entry["after"] for entry in verdict.metrics.values())


def test_figures_are_those_of_the_other_modules():
    truth, logits = scored(strength=1.5)
    before, after = answered(truth, logits), answered(truth, logits * [0.5, 1, 1])
    found = judged(before, after).metrics
    report = operating.report(operating.choose(before, "youden"), after, resamples=10)
    assert found["sensitivity:a"]["after"] == report[0]["test"]["sensitivity"]
    assert found["specificity:c"]["after"] == report[2]["test"]["specificity"]
    rows = {row["metric"]: row for row in comparison.compare({"x": after, "y": before}, resamples=10)}
    assert found["auroc"]["difference"]["value"] == pytest.approx(rows["auroc_macro"]["difference"])
    assert found["accuracy"]["difference"]["value"] == pytest.approx(rows["accuracy"]["difference"])
    assert judged(before, after).mcnemar["p"] == rows["accuracy"]["p"]
    error = calibration.expected_calibration_error(*calibration.statements(after, after.target))
    assert found["ece"]["after"]["value"] == pytest.approx(error)


def test_the_order_of_the_cases_does_not_matter():
    truth, logits = scored()
    before, after = answered(truth, logits), answered(truth, logits * [0.3, 1, 1])
    mixed = after.take(np.random.default_rng(0).permutation(len(after)))
    assert judged(before, mixed).to_json() == judged(before, after).to_json()


def test_a_proven_loss_is_refused_by_its_class_and_figure():
    truth, logits = scored(900)
    verdict = judged(answered(truth, logits), answered(truth, logits - [0, 0, 2]))
    reason = next(reason for reason in verdict.reasons if reason.startswith("Sensitivity"))
    found = verdict.metrics["sensitivity:c"]
    assert not verdict.accepted
    assert f"class 'c' fell from {found['before']['value']:.3f} to {found['after']['value']:.3f}" in reason
    assert found["difference"]["high"] < -0.01
    assert not any("class 'a'" in reason or "class 'b'" in reason for reason in verdict.reasons)


def test_a_loss_is_refused_when_proven_above_the_margin_or_plain():
    truth, logits = scored(900)
    before, after = answered(truth, logits), answered(truth, logits - [0, 0, 1])
    pair = moved.pair(before, after, pointed(before))
    gap = paired.of_shares(pair.called[0][:, 2], pair.called[1][:, 2], pair.target[:, 2], np.arange(900))

    def refused(margin):
        return any("Sensitivity of class 'c'" in reason for reason in judged(before, after, margin=margin).reasons)

    limit = max(gap.least_loss, gap.loss / 2)
    assert gap.high < 0 < limit
    assert refused(limit - 1e-6)
    assert not refused(limit + 1e-6)


def test_of_two_classes_what_the_second_is_called_for_wrongly_is_the_firsts_loss():
    truth, logits = scored(600, 2)
    before = answered(truth, logits)
    verdict = judged(before, answered(truth, logits + [0, 4]))
    found = verdict.metrics
    assert found["sensitivity:a"] == found["specificity:b"]
    assert "specificity:a" not in found
    assert any("Sensitivity of class 'a' fell" in reason for reason in verdict.reasons)
    assert found["sensitivity:b"]["difference"]["value"] >= 0
    assert found["auroc"]["difference"]["value"] == 0


@pytest.mark.parametrize("fitted", [{}, {"operating_points": []}, None])
def test_a_class_that_is_never_called_any_more_has_collapsed(fitted):
    truth, logits = scored(60)
    before = answered(truth, logits)
    fitted = pointed(before) if fitted is None else fitted
    verdict = judged(before, answered(truth, logits - [0, 9, 0]), fitted=fitted)
    called = int(before.decisions[truth == 1, 1].sum())
    assert f"Class 'b' collapsed: it is called for 0 of its 20 cases, was for {called}." in verdict.reasons
    assert not any("Class 'a' coll" in reason or "Class 'c' coll" in reason for reason in verdict.reasons)


def test_a_class_that_is_called_for_nearly_all_is_named():
    truth, logits = scored(60, 4)
    verdict = judged(answered(truth, logits), answered(truth, logits + [9, 0, 0, 0]))
    assert any("'a' is called nearly everywhere: it is called for 45 of the 45" in reason for reason in verdict.reasons)


def test_a_class_may_collapse_at_its_operating_point_alone():
    truth, logits = scored(60)
    before, after = answered(truth, 3 * logits), answered(truth, logits / 3)
    reached = {"sensitivity": 1, "specificity": 1}
    high = {"class": "a", "rule": "specificity:1", "threshold": 0.99, "validation": reached}
    reasons = judged(before, after, fitted={"operating_points": [high]}).reasons
    assert any("Class 'a' collapsed: it is called at its operating point for 0 of its 20" in text for text in reasons)
    assert judged(before, after, fitted={}).accepted


def test_a_loss_within_one_patient_is_no_proof():
    truth, logits = scored(300)
    worse = np.where(np.arange(300)[:, None] < 12, np.roll(logits, 1, axis=1), logits)
    alone = judged(answered(truth, logits), answered(truth, worse), fitted={})
    grouped = (answered(truth, values, per_patient=12) for values in (logits, worse))
    assert any(reason.startswith("Accuracy fell") for reason in alone.reasons)
    assert not any(reason.startswith("Accuracy") for reason in judged(*grouped, fitted={}).reasons)


def multilabel(n=200, seed=0):
    rng = np.random.default_rng(seed)
    target = (rng.random((n, 2)) < 0.3).astype(np.int8)
    scores = 1 / (1 + np.exp(-3 * (target - 0.5) - 0.7 * rng.normal(size=(n, 2))))
    return answered(np.zeros(n, int), np.zeros((n, 2)), target=target, probabilities=scores, multilabel=True)


def test_labels_collapse_on_either_side():
    before = multilabel()
    always = dataclasses.replace(before, probabilities=before.probabilities * [1, 0] + [0, 0.99])
    never = dataclasses.replace(before, probabilities=before.probabilities * [0.01, 1])
    assert judged(before, before).accepted
    assert any("'b' is called nearly everywhere" in reason for reason in judged(before, always).reasons)
    assert any("'a' collapsed" in reason for reason in judged(before, never).reasons)


def test_two_lost_cases_are_no_collapse():
    truth = np.array([0, 1] * 20 + [2, 2])
    logits = 5.0 * np.eye(3)[truth]
    verdict = judged(answered(truth, logits), answered(truth, logits - [0, 0, 9]), fitted={})
    assert verdict.accepted
    chance = next(text for text in verdict.warnings if "may be chance" in text)
    assert "Sensitivity of class 'c' fell from 1.000 to 0.000" in chance


def test_what_so_few_cases_cannot_exclude_is_said():
    before = answered(*scored(120))
    verdict = judged(before, before)
    assert set(verdict.unproven) >= {"accuracy", "sensitivity:a", "sensitivity:b", "sensitivity:c"}
    assert verdict.unproven["sensitivity:a"]["smallest_seen"] == 6 / 40
    assert 6 / 40 > verdict.unproven["sensitivity:a"]["most"] > 0.01
    assert any("too few to exclude a loss above 0.01" in text for text in verdict.warnings)
    assert judged(before, before, margin=0.2).unproven == {}


def test_calibration_that_is_lost_is_said_and_not_refused():
    truth, logits = scored(600)
    verdict = judged(answered(truth, logits), answered(truth, logits / 6), fitted={})
    assert verdict.accepted
    assert any(text.startswith("The calibration error rose from") for text in verdict.warnings)
    assert verdict.metrics["ece"]["difference"]["low"] > 0.01


def test_sets_and_abstentions_are_compared():
    truth, logits = scored(100)
    before = answered(truth, logits, sets=np.ones((100, 3), bool), abstain=np.zeros(100, bool))
    after = dataclasses.replace(before, sets=np.arange(300).reshape(100, 3) >= 30, abstain=np.arange(100) < 25)
    verdict = judged(before, after)
    assert (verdict.agreement["sets"]["value"], verdict.agreement["abstain"]["value"]) == (0.9, 0.75)
    assert "It abstains on 25 of 100 cases, did on 0." in verdict.warnings


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused(bad):
    before = answered(*scored(30))
    broken = before.probabilities.copy()
    broken[4:6, 1] = bad
    verdict = equivalence.judge_probabilities(before, broken, fitted={}, seed=0)
    assert verdict.reasons == ("The converted model answers 2 of 30 cases with NaN or infinity, in class 'b'.",)
    assert not verdict.accepted
    json.dumps(verdict.to_json(), allow_nan=False)
    assert verdict.reasons[0] in equivalence.table(verdict)


def test_raw_answers_are_judged_as_tables_are():
    truth, logits = scored(90)
    before, after = answered(truth, logits), answered(truth, logits * 1.1)
    raw = equivalence.judge_probabilities(before, after.probabilities, fitted={}, seed=0, resamples=50)
    assert raw.to_json() == judged(before, after, fitted={}, resamples=50).to_json()
    halved = equivalence.judge_probabilities(before, after.probabilities / 2, fitted={}, seed=0)
    assert "no probabilities" in halved.reasons[0]
    with pytest.raises(errors.DataError, match="Received: \\(89, 3\\)"):
        equivalence.judge_probabilities(before, after.probabilities[1:], fitted={}, seed=0)


def certain(truth, k=2, *, whose=None):
    """Returns the table of a model that is right of every case, or has all cases of one patient."""
    table = answered(np.asarray(truth), 9.0 * np.eye(k)[truth])
    return table if whose is None else dataclasses.replace(table, patient_id=tuple(map(str, whose)))


DEGENERATE = {
    "one case": certain([1]),
    "two cases": certain([0, 1]),
    "three cases": certain([0, 1, 2], 3),
    "one class": certain([1] * 20),
    "one class of three": certain([2] * 20, 3),
    "class absent": certain([0, 1] * 15, 3),
    "one patient": certain([0, 1] * 15, whose=[0] * 30),
    "a class of one patient": certain([0, 0, 1] * 10, whose=[99 if i % 3 == 2 else i for i in range(30)]),
    "constant scores": answered(np.array([0, 1] * 10), np.zeros((20, 2))),
    "no label present": dataclasses.replace(multilabel(20), target=np.zeros((20, 2))),
    "every label present": dataclasses.replace(multilabel(20), target=np.ones((20, 2))),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_splits_that_define_little_give_numbers_or_sentences(name):
    before = DEGENERATE[name]
    turned = 1 - before.probabilities if before.multilabel else before.probabilities[:, ::-1]
    verdict = judged(before, dataclasses.replace(before, probabilities=turned), resamples=20)
    found = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert equivalence.table(verdict).splitlines()[-1] == ("Accepted." if found["accepted"] else "Not accepted.")
    undefined = [key for key, entry in found["metrics"].items() if entry["difference"]["value"] is None]
    said = " ".join(text for text in found["warnings"] if text.startswith("Not judged")) + ","
    for key in undefined:
        metric, _, class_name = key.partition(":")
        words = {"auroc": "AUROC", "sensitivity": "Sensitivity"}.get(metric)
        assert words is None or f"{words}{f' of class {class_name!r}' if class_name else ''}" in said


def test_other_cases_or_classes_are_no_comparison():
    before = answered(*scored(30))
    with pytest.raises(errors.DataError, match="same labelled cases"):
        judged(before, before.take(np.arange(29)))
    with pytest.raises(errors.DataError, match="no labelled cases"):
        judged(before, dataclasses.replace(before, target=None), fitted={})
    point = pointed(before)["operating_points"][0] | {"class": "elsewhere"}
    with pytest.raises(errors.DataError, match="Unknown class"):
        judged(before, before, fitted={"operating_points": [point]})
    with pytest.raises(errors.ConfigError, match="margin=1"):
        judged(before, before, margin=1)


def test_the_table_shows_each_metric_before_and_after():
    truth, logits = scored(60)
    text = equivalence.table(judged(answered(truth, logits), answered(truth, logits - [0, 9, 0])))
    lines = text.splitlines()
    assert lines[0].split() == ["before", "after", "difference"]
    row = next(line for line in lines if line.startswith("sensitivity:b"))
    assert "  0.000 [0.000, 0.161]  -1.000 [-1.000, -0." in row
    assert "Refused: Class 'b' collapsed" in text
    assert lines[-1] == "Not accepted."


def lossy(seed, *, n=900, lost=0.0):
    """Returns a model's answers and those of one with noise of int8 size, which also errs on a share of the cases."""
    truth, logits = scored(n, seed=seed)
    rng = np.random.default_rng((seed, 1))
    noisy = logits + 0.1 * rng.normal(size=logits.shape)
    struck = rng.random(n) < lost
    noisy[struck] = np.roll(noisy[struck], 1, axis=1)
    return answered(truth, logits), answered(truth, noisy)


@pytest.mark.parametrize(("n", "lost", "least", "most"), [(900, 0, 0, 1), (900, 0.03, 29, 30), (200, 0, 0, 1)])
def test_noise_passes_and_a_loss_is_caught(n, lost, least, most):
    refused = [not judged(*lossy(seed, n=n, lost=lost), resamples=1).accepted for seed in range(30)]
    assert least <= sum(refused) <= most


def test_a_loss_that_is_allowed_is_refused_by_little_chance():
    """The first rule alone: a true loss of just what is allowed is found above it in 5 of 100 splits."""
    rng = np.random.default_rng(0)
    found = [shares(*rng.multinomial(2000, [0.02, 0.01, 0.97])[:2], 2000).least_loss > 0.01 for _ in range(400)]
    assert np.mean(found) < 0.07
