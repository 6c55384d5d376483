import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from medkeras import errors
from medkeras.evaluation import intervals, operating


def binary(make_table, truth, scores, **changes):
    scores = np.asarray(scores, np.float64)
    probabilities = np.stack([1 - scores, scores], axis=1)
    return make_table(len(scores), 2, per_patient=1, target=np.eye(2)[truth], probabilities=probabilities, **changes)


SCORES = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
TRUTH = [0, 0, 1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("rule", "threshold", "sensitivity", "specificity"),
    [
        ("youden", 0.65, 0.75, 1.0),
        ("sensitivity:1", 0.25, 1.0, 0.5),
        ("sensitivity:0.75", 0.65, 0.75, 1.0),
        ("sensitivity:0.5", 0.65, 0.75, 1.0),
        ("specificity:0.5", 0.25, 1.0, 0.5),
        ("specificity:.9", 0.65, 0.75, 1.0),
        ("cost:1/1", 0.65, 0.75, 1.0),
        ("cost:10/1", 0.25, 1.0, 0.5),
        ("cost:1/10", 0.65, 0.75, 1.0),
    ],
)
def test_rules_by_hand(make_table, rule, threshold, sensitivity, specificity):
    (point,) = operating.choose(binary(make_table, TRUTH, SCORES), rule)
    assert (point.class_name, point.rule, point.note) == ("b", rule, "")
    assert point.threshold == pytest.approx(threshold, abs=1e-7)
    assert (point.sensitivity, point.specificity) == (sensitivity, specificity)


@pytest.mark.parametrize("seed", range(8))
def test_youden_equals_scikit_learns_roc_curve(make_table, seed):
    table = make_table(150, 2, seed=seed)
    truth, score = table.target[:, 1], table.probabilities[:, 1]
    (point,) = operating.choose(table, "youden")
    false_alarms, found, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
    assert point.sensitivity + point.specificity - 1 == pytest.approx((found - false_alarms).max(), abs=1e-12)
    called = score >= point.threshold
    assert point.sensitivity == metrics.recall_score(truth, called)
    assert point.specificity == metrics.recall_score(truth, called, pos_label=0)
    assert not np.isin(point.threshold, score)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_share_is_reached_and_no_better_point_is_missed(make_table, share, seed):
    table = make_table(150, 2, seed=seed)
    truth, score = table.target[:, 1], table.probabilities[:, 1]
    false_alarms, found, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
    (sensitive,) = operating.choose(table, f"sensitivity:{share}")
    (specific,) = operating.choose(table, f"specificity:{share}")
    assert sensitive.sensitivity >= share
    assert sensitive.specificity == pytest.approx(1 - false_alarms[found >= share].min())
    assert specific.specificity >= share
    assert specific.sensitivity == pytest.approx(found[1 - false_alarms >= share - 1e-12].max())


def test_more_classes_have_a_point_each(make_table):
    assert [p.class_name for p in operating.choose(make_table(90, 3), "youden")] == ["a", "b", "c"]
    assert [p.class_name for p in operating.choose(make_table(90, 2, multilabel=True), "youden")] == ["a", "b"]
    assert operating.choose(make_table(90, 3), "none") == ()


@pytest.mark.parametrize("scores", [[0.5] * 4, [0.0] * 4, [1.0] * 4])
@pytest.mark.parametrize("rule", ["youden", "sensitivity:0.9", "specificity:0.9", "cost:5/1"])
def test_equal_scores_leave_all_or_none_and_say_so(make_table, scores, rule):
    (point,) = operating.choose(binary(make_table, [0, 1, 0, 1], scores), rule)
    assert sorted((point.sensitivity, point.specificity)) == [0, 1]
    assert point.note.startswith("the rule is met only by calling")
    assert (np.float32(scores[0]) >= np.float32(point.threshold)) == (point.sensitivity == 1)


@pytest.mark.parametrize(("truth", "lacking"), [([0, 0, 0], "no case of the class"), ([1, 1, 1], "no case without")])
def test_without_two_classes_half_is_used_and_said(make_table, truth, lacking):
    (point,) = operating.choose(binary(make_table, truth, [0.2, 0.6, 0.7]), "youden")
    assert point.threshold == 0.5
    assert lacking in point.note
    assert None in (point.sensitivity, point.specificity)


@pytest.mark.parametrize(
    "rule",
    ["", "Youden", "sensitivity", "sensitivity:0", "sensitivity:1.1", "sensitivity:-1", "specificity:x"]
    + ["cost:5", "cost:0/1", "cost:1/0", "cost:1/-2", "cost:nan/1", "youden:0.5"],
)
def test_an_unknown_rule_is_one_sentence(make_table, rule):
    with pytest.raises(errors.ConfigError, match="An operating point is none, youden") as caught:
        operating.choose(make_table(10, 2), rule)
    assert repr(rule) in str(caught.value)
    with pytest.raises(errors.ConfigError):
        operating.check_rule(rule)


@pytest.mark.parametrize("changes", [{"target": None}, {"n": 0}])
def test_a_choice_needs_labelled_cases(make_table, changes):
    with pytest.raises(errors.DataError, match="labelled cases"):
        operating.choose(make_table(**{"n": 4, "k": 2} | changes), "youden")


def test_a_point_survives_json(make_table):
    for point in operating.choose(make_table(90, 3), "sensitivity:0.9"):
        assert operating.OperatingPoint.from_json(json.loads(json.dumps(point.to_json()))) == point


def test_a_report_on_the_test_split(make_table):
    points = operating.choose(make_table(200, 2, seed=1), "youden")
    test = make_table(300, 2, seed=2)
    (found,) = operating.report(points, test, resamples=200)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    truth, called = test.target[:, 1], test.probabilities[:, 1] >= points[0].threshold
    positive, negative = metrics.class_likelihood_ratios(truth, called)
    expected = {
        "sensitivity": metrics.recall_score(truth, called),
        "specificity": metrics.recall_score(truth, called, pos_label=0),
        "ppv": metrics.precision_score(truth, called),
        "npv": metrics.precision_score(truth, called, pos_label=0),
        "lr_positive": positive,
        "lr_negative": negative,
    }
    assert {name: e["value"] for name, e in found["test"].items()} == pytest.approx(expected, abs=1e-12)
    for name, entry in found["test"].items():
        assert entry["low"] < entry["value"] < entry["high"], name
    (tn, fp), (fn, tp) = metrics.confusion_matrix(truth, called).tolist()
    assert found["counts"] == {"tp": tp, "fn": fn, "fp": fp, "tn": tn}
    assert found["prevalence"] == truth.mean()
    assert found["threshold"] == points[0].threshold


def test_proportions_of_one_image_a_patient_have_wilsons_interval(make_table):
    table = make_table(80, 2, per_patient=1)
    (found,) = operating.report(operating.choose(table, "youden"), table, resamples=5)
    hits, misses = found["counts"]["tp"], found["counts"]["fn"]
    entry = found["test"]["sensitivity"]
    assert (entry["low"], entry["high"]) == pytest.approx(intervals.wilson(hits, hits + misses))


def test_predictive_values_at_a_stated_prevalence(make_table):
    points = operating.choose(make_table(200, 2, seed=1), "youden")
    test = make_table(300, 2, seed=2)
    (own,) = operating.report(points, test, resamples=5)
    (same,) = operating.report(points, test, resamples=5, prevalence=own["prevalence"])
    (rare,) = operating.report(points, test, resamples=5, prevalence=0.01)
    for name in ("ppv", "npv"):
        assert same["test"][name]["value"] == pytest.approx(own["test"][name]["value"], abs=1e-12)
    s, c = (rare["test"][name]["value"] for name in ("sensitivity", "specificity"))
    assert rare["test"]["ppv"]["value"] == pytest.approx(0.01 * s / (0.01 * s + 0.99 * (1 - c)))
    assert rare["test"]["ppv"]["low"] < rare["test"]["ppv"]["value"] < 0.2
    assert rare["prevalence"] == 0.01


def test_copies_of_a_patients_image_do_not_narrow_an_interval(make_table, reordered):
    table = make_table(150, 2, per_patient=1)
    copied = reordered(table, np.repeat(np.arange(150), 4))
    points = operating.choose(table, "youden")
    grouped, alone = (operating.report(points, t, resamples=1000)[0]["test"] for t in (copied, table))
    for name in operating.NAMES:
        widths = [x[name]["high"] - x[name]["low"] for x in (grouped, alone)]
        assert widths[0] == pytest.approx(widths[1], rel=0.25), name


def test_bootstrap_of_a_likelihood_ratio_is_near_its_delta_interval(make_table):
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 1000)
    table = binary(make_table, truth, np.where(rng.random(2000) < np.where(truth, 0.8, 0.3), 0.9, 0.1))
    (found,) = operating.report(operating.choose(table, "youden"), table, resamples=2000)
    c = found["counts"]
    error = np.sqrt(1 / c["tp"] - 1 / 1000 + 1 / c["fp"] - 1 / 1000)
    spread = np.exp(stats.norm.ppf(0.975) * error)
    entry = found["test"]["lr_positive"]
    assert entry["low"] == pytest.approx(entry["value"] / spread, rel=0.02)
    assert entry["high"] == pytest.approx(entry["value"] * spread, rel=0.02)


def test_a_likelihood_ratio_without_end_is_none(make_table):
    table = binary(make_table, TRUTH, SCORES)
    (found,) = operating.report(operating.choose(table, "youden"), table, resamples=50)
    assert found["test"]["specificity"]["value"] == 1
    assert found["test"]["lr_positive"] == {"value": None, "low": None, "high": None}
    assert found["test"]["lr_negative"]["value"] == 0.25


@pytest.mark.parametrize("interval", ["percentile", "bca"])
@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
def test_small_tests_are_reported_and_never_crash(make_table, truth, interval):
    points = operating.choose(make_table(60, 2), "youden")
    (found,) = operating.report(points, binary(make_table, truth, [0.2, 0.6, 0.7]), resamples=20, interval=interval)
    assert (found["test"]["sensitivity"]["value"] is None) == (sum(truth) == 0)
    assert (found["test"]["specificity"]["value"] is None) == (sum(truth) == 3)


@pytest.mark.parametrize(
    ("k", "interval", "positive", "negative"),
    [
        (2, "percentile", (3.7226274328081557, 8.632163461538457), (0.01993518141299659, 0.14395047968931132)),
        (2, "bca", (3.30641812877451, 7.913360315618228), (0.03187103854292677, 0.15157791191297468)),
        (3, "percentile", (2.6976603830951658, 5.777173456673075), (0.04715030946065427, 0.2569760398438552)),
        (3, "bca", (2.708089233317845, 5.845809140011467), (0.06579521916632178, 0.27084159696016524)),
        (10, "percentile", (3.4297979797979803, 7.644412961348443), (0.14040148659529006, 0.47154201680672264)),
        (10, "bca", (3.3835591598466395, 7.47990492981782), (0.13857139882052708, 0.4700555862461587)),
    ],
)
def test_limits_are_those_of_a_bootstrap_for_each_point(make_table, k, interval, positive, negative):
    # Written down when every point had a bootstrap to itself.
    points = operating.choose(make_table(200, k, seed=1), "youden")
    test = make_table(200, k, seed=2)
    found = operating.report(points, test, resamples=100, seed=5, interval=interval)
    for name, limits in (("lr_positive", positive), ("lr_negative", negative)):
        assert (found[-1]["test"][name]["low"], found[-1]["test"][name]["high"]) == pytest.approx(limits, rel=1e-12)
    alone = [operating.report([p], test, resamples=100, seed=5, interval=interval)[0] for p in points]
    for entry, own in zip(found, alone, strict=True):
        assert entry["counts"] == own["counts"]
        for name in operating.NAMES:
            assert entry["test"][name] == pytest.approx(own["test"][name], rel=1e-12), name


def test_a_point_that_has_no_interval_leaves_the_others_theirs(make_table):
    test = make_table(60, 3, per_patient=1, seed=2)
    target = test.target.copy()
    target[target[:, 2] > 0] = (1, 0, 0)
    target[0] = (0, 0, 1)
    points = operating.choose(make_table(60, 3, seed=1), "youden")
    found = operating.report(points, make_table(60, 3, per_patient=1, seed=2, target=target), resamples=50)
    assert [entry["test"]["lr_negative"]["low"] is None for entry in found] == [False, False, True]


def test_patients_are_drawn_once_for_all_points(make_table, monkeypatch):
    drawn = []
    original = intervals.draw_patients
    monkeypatch.setattr(intervals, "draw_patients", lambda s, n, seed: drawn.append(len(n)) or original(s, n, seed))
    points = operating.choose(make_table(200, 10, seed=1), "youden")
    operating.report(points, make_table(200, 10, seed=2), resamples=100)
    assert (len(points), sum(drawn)) == (10, 100)
    assert operating.report([], make_table(200, 10, seed=2), resamples=100) == []


def test_wrong_arguments_are_said(make_table):
    points = operating.choose(make_table(60, 3), "youden")
    with pytest.raises(errors.ConfigError, match="prevalence=1.5"):
        operating.report(points, make_table(10, 3), prevalence=1.5)
    with pytest.raises(errors.DataError, match="Unknown class"):
        operating.report(points, make_table(10, 2), resamples=2)
    with pytest.raises(errors.DataError, match="without labels"):
        operating.report(points, make_table(10, 3, target=None))
    with pytest.raises(errors.ConfigError, match="Unknown interval"):
        operating.report(points, make_table(10, 3), interval="exact")
