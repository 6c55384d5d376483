import dataclasses
import json
import time
import warnings

import numpy as np
import pytest
from sklearn import metrics

from medkeras import errors
from medkeras.evaluation import calibration, classification, intervals, operating, resampled, scores, subgroups
from medkeras.evaluation import predictions as tables

KINDS = [(2, False), (3, False), (7, False), (1, True), (4, True)]


def column_scores(truth, decided, score, stated, weights):
    """Returns scikit-learn's values for one class against all others."""
    kept = {"sample_weight": weights, "zero_division": np.nan}
    each = {"sample_weight": weights}
    positive, negative = metrics.class_likelihood_ratios(truth, decided, **each)
    return {
        "precision": metrics.precision_score(truth, decided, **kept),
        "recall": metrics.recall_score(truth, decided, **kept),
        "specificity": metrics.recall_score(truth, decided, pos_label=0, **kept),
        "f1": metrics.f1_score(truth, decided, **kept),
        "auroc": metrics.roc_auc_score(truth, score, sample_weight=weights),
        "average_precision": metrics.average_precision_score(truth, score, sample_weight=weights),
        "accuracy": metrics.accuracy_score(truth, decided, **each),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, decided, **each),
        "positive_predictive_value": metrics.precision_score(truth, decided, **kept),
        "negative_predictive_value": metrics.precision_score(truth, decided, pos_label=0, **kept),
        "positive_likelihood_ratio": positive,
        "negative_likelihood_ratio": negative,
        "cohen_kappa": metrics.cohen_kappa_score(truth, decided, **each),
        "matthews_corrcoef": metrics.matthews_corrcoef(truth, decided, **each),
        "log_loss": metrics.log_loss(truth, stated, **each),
        "brier_score_loss": metrics.brier_score_loss(truth, stated, **each),
    }


def columns_of(table, i):
    p = table.probabilities.astype(np.float64)
    stated = p if table.multilabel else p / p.sum(axis=1, keepdims=True)
    return table.target[:, i], table.decisions[:, i], table.probabilities[:, i], stated[:, i]


def micro_scores(table, weights):
    truth, decided, score = (x.ravel() for x in (table.target, table.decisions, table.probabilities))
    each = {"sample_weight": np.repeat(weights, len(table.classes))}
    return {
        "precision_micro": metrics.precision_score(truth, decided, **each),
        "recall_micro": metrics.recall_score(truth, decided, **each),
        "specificity_micro": metrics.recall_score(truth, decided, pos_label=0, **each),
        "f1_micro": metrics.f1_score(truth, decided, **each),
        "auroc_micro": metrics.roc_auc_score(truth, score, **each),
        "average_precision_micro": metrics.average_precision_score(truth, score, **each),
    }


def calibration_error(stated, observed, weights):
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (stated >= low) & ((stated < low + 1 / 15) | ((low > 0.93) & (stated <= 1)))
        error += abs(np.sum(weights[inside] * (observed[inside] - stated[inside])))
    return error / weights.sum()


def multiclass_scores(table, weights):
    truth, named = table.target.argmax(1), table.probabilities.argmax(1)
    p = table.probabilities.astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    labels = range(len(table.classes))
    roc = (p[:, 1],) if len(table.classes) == 2 else (p,)
    stated = table.probabilities.max(axis=1).astype(np.float64)
    macro = {"average": "macro", "sample_weight": weights}
    return {
        "accuracy": metrics.accuracy_score(truth, named, sample_weight=weights),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, named, sample_weight=weights),
        "precision_macro": metrics.precision_score(truth, named, **macro),
        "recall_macro": metrics.recall_score(truth, named, **macro),
        "f1_macro": metrics.f1_score(truth, named, **macro),
        "auroc_macro": metrics.roc_auc_score(truth, *roc, multi_class="ovr", sample_weight=weights)
        if len(table.classes) == 2
        else metrics.roc_auc_score(table.target, table.probabilities, **macro),
        "average_precision_macro": metrics.average_precision_score(table.target, table.probabilities, **macro),
        "log_loss": metrics.log_loss(truth, p, labels=labels, sample_weight=weights),
        "brier_score_loss": metrics.brier_score_loss(truth, p, labels=labels, sample_weight=weights),
        "expected_calibration_error": calibration_error(stated, truth == named, weights),
        **{
            f"cohen_kappa{suffix}": metrics.cohen_kappa_score(truth, named, weights=kind, sample_weight=weights)
            for suffix, kind in (("", None), ("_linear", "linear"), ("_quadratic", "quadratic"))
        },
        "matthews_corrcoef": metrics.matthews_corrcoef(truth, named, sample_weight=weights),
    }


def multilabel_scores(table, weights):
    p = table.probabilities.astype(np.float64)
    columns = list(zip(table.target.T, table.decisions.T, p.T, strict=True))
    each = {"sample_weight": weights}

    def macro(score):
        return np.mean([score(*column) for column in columns])

    return {
        "accuracy": np.average((table.target == table.decisions).all(axis=1), weights=weights),
        "balanced_accuracy": macro(lambda t, d, _: metrics.balanced_accuracy_score(t, d, **each)),
        "precision_macro": macro(lambda t, d, _: metrics.precision_score(t, d, **each)),
        "recall_macro": macro(lambda t, d, _: metrics.recall_score(t, d, **each)),
        "f1_macro": macro(lambda t, d, _: metrics.f1_score(t, d, **each)),
        "auroc_macro": macro(lambda t, _, s: metrics.roc_auc_score(t, s, **each)),
        "average_precision_macro": macro(lambda t, _, s: metrics.average_precision_score(t, s, **each)),
        "log_loss": macro(lambda t, _, s: metrics.log_loss(t, s, **each)),
        "brier_score_loss": macro(lambda t, _, s: metrics.brier_score_loss(t, s, **each)),
        "expected_calibration_error": calibration_error(
            p.ravel(), table.target.ravel(), np.repeat(weights, p.shape[1])
        ),
        **dict.fromkeys(
            ("cohen_kappa", "cohen_kappa_linear", "cohen_kappa_quadratic"),
            macro(lambda t, d, _: metrics.cohen_kappa_score(t, d, **each)),
        ),
        "matthews_corrcoef": macro(lambda t, d, _: metrics.matthews_corrcoef(t, d, **each)),
    }


def overall_scores(table, weights):
    found = multilabel_scores(table, weights) if table.multilabel else multiclass_scores(table, weights)
    specificity = [
        metrics.recall_score(t, d, pos_label=0, sample_weight=weights)
        for t, d in zip(table.target.T, table.decisions.T, strict=True)
    ]
    return found | micro_scores(table, weights) | {"specificity_macro": np.mean(specificity)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("k", "multilabel"), KINDS)
def test_values_equal_scikit_learn(make_table, k, multilabel, seed):
    table = make_table(240, k, multilabel=multilabel, seed=seed)
    found = classification.evaluate(table, resamples=5)
    expected = overall_scores(table, np.ones(240))
    assert {name: e["value"] for name, e in found["metrics"].items()} == pytest.approx(expected, abs=1e-12)
    for i, name in enumerate(table.classes):
        values = {key: found["per_class"][name][key]["value"] for key in scores.PER_CLASS}
        assert values == pytest.approx(column_scores(*columns_of(table, i), np.ones(240)), abs=1e-12)
        assert found["per_class"][name]["support"] == table.target[:, i].sum()


@pytest.mark.parametrize(("k", "multilabel"), KINDS)
def test_every_resample_equals_scikit_learn_with_sample_weight(make_table, k, multilabel):
    table = make_table(150, k, multilabel=multilabel)
    weights = np.random.default_rng(0).poisson(1.0, size=(150, 4)).astype(float)
    weights[:, 0] = 1
    found = resampled.Resampled(table, np.arange(150))(weights.T)
    for r, drawn in enumerate(weights.T):
        overall = {name: found[name][r] for name in scores.OVERALL}
        assert overall == pytest.approx(overall_scores(table, drawn), abs=1e-10)
        for i in range(k):
            by_class = {name: found[scores.of_class(name)][i, r] for name in scores.PER_CLASS}
            assert by_class == pytest.approx(column_scores(*columns_of(table, i), drawn), abs=1e-9)


def test_confusion_matrix_rows_are_true(make_table):
    table = make_table(3, 2, target=np.array([[1, 0], [1, 0], [0, 1]]), probabilities=[[0.2, 0.8]] * 3)
    assert classification.evaluate(table, resamples=2)["confusion_matrix"] == [[0, 2], [0, 1]]


def test_multilabel_confusion_matrix_equals_scikit_learn(make_table):
    table = make_table(100, 3, multilabel=True)
    expected = metrics.multilabel_confusion_matrix(table.target, table.decisions)
    assert classification.evaluate(table, resamples=2)["confusion_matrix"] == expected.tolist()


@pytest.mark.parametrize(("k", "multilabel"), KINDS)
def test_order_of_the_cases_changes_nothing(make_table, reordered, k, multilabel):
    table = make_table(120, k, multilabel=multilabel)
    order = np.random.default_rng(1).permutation(120)
    shuffled = dataclasses.replace(reordered(table, order), case_id=tuple(table.case_id[i] for i in order))
    first, second = (classification.evaluate(t, resamples=50) for t in (table, shuffled))
    for name, entry in first["metrics"].items():
        assert second["metrics"][name] == pytest.approx(entry, abs=1e-12), name
    for name, values in first["per_class"].items():
        for key in scores.PER_CLASS:
            assert second["per_class"][name][key] == pytest.approx(values[key], abs=1e-12)


def test_order_of_the_classes_changes_nothing(make_table):
    table = make_table(150, 4)
    order = [2, 0, 3, 1]
    turned = tables.Predictions(
        table.case_id,
        table.patient_id,
        table.path,
        table.split,
        classes=tuple(table.classes[i] for i in order),
        target=table.target[:, order],
        probabilities=table.probabilities[:, order],
    )
    first, second = (classification.evaluate(t, resamples=2) for t in (table, turned))
    of_the_order = {"cohen_kappa_linear", "cohen_kappa_quadratic"}
    for name in set(first["metrics"]) - of_the_order:
        assert second["metrics"][name]["value"] == pytest.approx(first["metrics"][name]["value"], abs=1e-12), name
    assert second["per_class"]["a"]["auroc"]["value"] == first["per_class"]["a"]["auroc"]["value"]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32, np.float64])
def test_dtype_of_the_target_changes_nothing(make_table, multilabel, dtype):
    table = make_table(60, 3, multilabel=multilabel)
    other = make_table(60, 3, multilabel=multilabel, target=table.target.astype(dtype))
    assert classification.evaluate(other, resamples=9) == classification.evaluate(table, resamples=9)


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_dtype_of_the_probabilities_changes_nothing(make_table, dtype):
    table = make_table(60, 3)
    other = make_table(60, 3, probabilities=table.probabilities.astype(dtype))
    assert classification.evaluate(other, resamples=9) == classification.evaluate(table, resamples=9)


@pytest.mark.parametrize(("k", "multilabel"), KINDS)
def test_every_case_twice_gives_the_same_values(make_table, reordered, k, multilabel):
    table = make_table(90, k, multilabel=multilabel)
    doubled = reordered(table, np.repeat(np.arange(90), 2))
    first, second = (classification.evaluate(t, resamples=2)["metrics"] for t in (table, doubled))
    assert {n: e["value"] for n, e in first.items()} == pytest.approx(
        {n: e["value"] for n, e in second.items()}, abs=1e-12
    )


@pytest.mark.parametrize("interval", intervals.KINDS)
@pytest.mark.parametrize(("k", "multilabel"), KINDS)
def test_limits_hold_the_value(make_table, k, multilabel, interval):
    found = classification.evaluate(make_table(200, k, multilabel=multilabel), resamples=200, interval=interval)
    assert found["interval"]["kind"] == interval
    entries = list(found["metrics"].items())
    entries += [item for values in found["per_class"].values() for item in values.items() if item[0] != "support"]
    for name, entry in entries:
        assert entry["low"] <= entry["value"] <= entry["high"], name
        assert entry["high"] - entry["low"] < (100 if name == "positive_likelihood_ratio" else 0.6), name


def test_images_of_one_patient_widen_every_interval(make_table, reordered):
    table = make_table(150, 3, per_patient=1)
    copied = reordered(table, np.repeat(np.arange(150), 4))
    alone = tables.Predictions(
        copied.case_id, copied.case_id, copied.path, copied.split, copied.classes, copied.target, copied.probabilities
    )
    grouped, naive = (classification.evaluate(t, resamples=300)["metrics"] for t in (copied, alone))
    for name in scores.OVERALL:
        ratio = (grouped[name]["high"] - grouped[name]["low"]) / (naive[name]["high"] - naive[name]["low"])
        assert ratio == pytest.approx(2, rel=0.25), name


def test_accuracy_of_one_image_a_patient_has_wilsons_interval(make_table):
    table = make_table(80, 3, per_patient=1)
    entry = classification.evaluate(table, resamples=2)["metrics"]["accuracy"]
    assert (entry["low"], entry["high"]) == pytest.approx(intervals.wilson(round(entry["value"] * 80), 80))


def test_seed_decides_the_intervals(make_table):
    table = make_table(80, 3)
    one, again, other = (classification.evaluate(table, resamples=50, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one["metrics"]["auroc_macro"]["low"] != other["metrics"]["auroc_macro"]["low"]
    assert one["metrics"]["auroc_macro"]["value"] == other["metrics"]["auroc_macro"]["value"]


def test_layout_is_the_documented_one_and_is_json(make_table):
    found = classification.evaluate(make_table(60, 3), resamples=10, seed=5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["task"], found["n"], found["classes"]) == ("multiclass", 60, ["a", "b", "c"])
    assert found["n_patients"] == len(set(make_table(60, 3).patient_id))
    assert list(found["metrics"]) == list(scores.OVERALL)
    assert found["undefined"] == []
    assert found["interval"] | {"method": ""} == {
        "method": "",
        "kind": "percentile",
        "level": 0.95,
        "resamples": 10,
        "seed": 5,
        "unit": "patient",
    }


def test_a_class_without_a_case_is_undefined_and_breaks_nothing(make_table):
    two = make_table(100, 2)
    target = np.concatenate([two.target, np.zeros((100, 1))], axis=1)
    probabilities = np.concatenate([0.9 * two.probabilities, np.full((100, 1), 0.1)], axis=1)
    table = make_table(100, 3, target=target, probabilities=probabilities)
    found = classification.evaluate(table, resamples=50)
    missing = found["per_class"]["c"]
    assert missing["support"] == 0
    for name in ("precision", "recall", "f1", "auroc", "average_precision"):
        assert missing[name] == {"value": None, "low": None, "high": None}
    assert "auroc of c: no case has this class" in found["undefined"]
    assert missing["specificity"]["value"] == 1
    without = classification.evaluate(two, resamples=50)["metrics"]
    for name in ("accuracy", "balanced_accuracy", "recall_macro", "f1_macro", "cohen_kappa", "matthews_corrcoef"):
        assert found["metrics"][name]["value"] == pytest.approx(without[name]["value"], abs=1e-12), name


def test_a_class_never_called_has_no_precision_but_recall_and_f1_of_zero(make_table):
    table = make_table(40, 2, target=np.eye(2)[[0, 1] * 20], probabilities=[[0.9, 0.1]] * 40)
    found = classification.evaluate(table, resamples=20)
    values = {name: entry["value"] for name, entry in found["per_class"]["b"].items() if name != "support"}
    assert (values["precision"], values["recall"], values["f1"], values["auroc"]) == (None, 0, 0, 0.5)
    assert found["metrics"]["matthews_corrcoef"]["value"] is None
    assert "matthews_corrcoef: every case was called the same class" in found["undefined"]
    assert found["metrics"]["cohen_kappa"]["value"] == 0


def test_one_case_alone_is_evaluated(make_table):
    found = classification.evaluate(make_table(1, 2, target=[[0, 1]], probabilities=[[0.1, 0.9]]), resamples=5)
    assert found["metrics"]["accuracy"]["value"] == 1
    assert found["metrics"]["accuracy"]["low"] == pytest.approx(intervals.wilson(1, 1)[0])
    assert found["metrics"]["auroc_macro"] == {"value": None, "low": None, "high": None}


def test_a_class_of_one_patient_has_no_bootstrap_interval(make_table):
    table = make_table(30, 2, per_patient=1, target=np.eye(2)[[1] + [0] * 29])
    per_class = classification.evaluate(table, resamples=20)["per_class"]
    assert per_class["b"]["auroc"]["value"] is not None
    assert per_class["b"]["auroc"]["low"] is None
    assert per_class["b"]["recall"]["low"] is not None


def test_a_certain_mistake_costs_what_scikit_learn_says(make_table):
    table = make_table(2, 2, target=np.eye(2), probabilities=[[0.0, 1.0], [0.5, 0.5]])
    expected = (-np.log(np.finfo(np.float64).eps) - np.log(0.5)) / 2
    assert classification.evaluate(table, resamples=2)["metrics"]["log_loss"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n": 0, "k": 2}, "at least one case"),
        ({"n": 4, "k": 2, "target": None}, "labelled cases"),
        ({"n": 4, "k": 1, "probabilities": np.ones((4, 1))}, "two classes"),
    ],
)
def test_what_cannot_be_evaluated_is_said(make_table, changes, sentence):
    with pytest.raises(errors.DataError, match=sentence):
        classification.evaluate(make_table(**changes))


def test_resamples_are_at_least_one(make_table):
    with pytest.raises(errors.ConfigError, match="resamples=0"):
        classification.evaluate(make_table(10, 2), resamples=0)


def test_predictive_values_are_stated_for_a_prevalence(make_table):
    table = make_table(200, 2)
    found = classification.evaluate(table, resamples=50, prevalence=0.05)
    own = classification.evaluate(table, resamples=50)
    assert (found["prevalence"], own["prevalence"]) == (0.05, None)
    for name, share in (("b", 0.05), ("a", 0.95)):
        values = {key: entry["value"] for key, entry in found["per_class"][name].items() if key != "support"}
        right, wrong = values["recall"] * share, (1 - values["specificity"]) * (1 - share)
        assert values["positive_predictive_value"] == pytest.approx(right / (right + wrong), abs=1e-12)
        assert values["precision"] == own["per_class"][name]["precision"]["value"]
        entry = found["per_class"][name]["positive_predictive_value"]
        assert entry["low"] < entry["value"] < entry["high"]


def test_operating_points_sets_and_metadata_are_reported(make_table):
    points = operating.choose(make_table(90, 3, seed=1), "youden")
    table = make_table(90, 3, metadata={"sex": ("F", "M") * 45}, sets=np.ones((90, 3)))
    found = classification.evaluate(table, resamples=10, operating_points=points)
    assert found["operating_points"] == operating.report(points, table, resamples=10)
    assert found["subgroups"] == subgroups.evaluate(table, resamples=10)
    assert found["conformal"]["mean_set_size"] == 3
    assert "conformal" not in classification.evaluate(make_table(90, 3), resamples=10)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"prevalence": -0.1}, "prevalence=-0.1"), ({"interval": "wald"}, "Unknown interval"), ({"seed": -1}, "seed=-1")],
)
def test_settings_out_of_their_range_are_said(make_table, settings, sentence):
    with pytest.raises(errors.ConfigError, match=sentence):
        classification.evaluate(make_table(10, 2), **settings)


def test_calibration_error_by_hand():
    stated, observed = np.array([0.9, 0.9, 0.7, 0.7]), np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration.expected_calibration_error(stated, observed) == pytest.approx((0.4 + 0.3) / 2)


def test_certainty_falls_into_the_last_bin():
    table = calibration.reliability(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert (table.count[0], table.count[-1], table.count.sum()) == (1, 1, 2)


def test_ten_thousand_predictions_take_seconds(make_table):
    table = make_table(10_000, 10)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classification.evaluate(table, resamples=1000)
    assert time.process_time() - start < 20
