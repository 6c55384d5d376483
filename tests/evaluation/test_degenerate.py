"""Tables that leave a metric without a value: a number or a sentence that names it, never a crash."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest

from medkeras import errors
from medkeras.evaluation import classification, comparison, conformal, operating, scaling, scores, selective
from medkeras.evaluation import predictions as tables


def table(target, probabilities, *, multilabel=False, patients=None):
    target, n = np.asarray(target), len(target)
    names = tuple(f"case{i}" for i in range(n))
    return tables.Predictions(
        case_id=names,
        patient_id=names if patients is None else tuple(f"p{i}" for i in patients),
        path=("",) * n,
        split=("test",) * n,
        classes=tuple("abc"[: target.shape[1]]),
        target=target,
        probabilities=np.asarray(probabilities, np.float64),
        multilabel=multilabel,
        metadata={"sex": tuple("FM"[i % 2] for i in range(n))},
    )


def scored(n, k=2, seed=0):
    weights = np.random.default_rng(seed).random((n, k)) + 0.1
    return weights / weights.sum(axis=1, keepdims=True)


TWO, THREE = np.eye(2), np.eye(3)
TABLES = {
    "one case": table(TWO[[1]], [[0.3, 0.7]]),
    "one case, wrong": table(TWO[[0]], [[0.3, 0.7]]),
    "two cases": table(TWO[[0, 1]], [[0.3, 0.7], [0.6, 0.4]]),
    "one class": table(TWO[[1] * 20], scored(20)),
    "one class of three": table(THREE[[2] * 20], scored(20, 3)),
    "class absent": table(THREE[[0, 1] * 15], scored(30, 3)),
    "all in one class, called another": table(TWO[[1] * 8], [[1.0, 0.0]] * 8),
    "constant scores": table(TWO[[0, 1] * 10], [[0.5, 0.5]] * 20),
    "ties": table(TWO[[0, 1, 1] * 10], [[0.25, 0.75], [0.75, 0.25], [0.25, 0.75]] * 10),
    "perfect and certain": table(TWO[[0, 1] * 10], TWO[[0, 1] * 10]),
    "wrong and certain": table(TWO[[0, 1] * 10], TWO[[1, 0] * 10]),
    "three patients": table(TWO[[0, 1] * 15], scored(30), patients=np.arange(30) % 3),
    "one patient": table(TWO[[0, 1] * 15], scored(30), patients=np.zeros(30, int)),
    "a class of one patient": table(
        TWO[[0, 0, 1] * 10], scored(30), patients=np.where(np.arange(30) % 3 == 2, 99, np.arange(30))
    ),
    "no label present": table(np.zeros((20, 2)), scored(20), multilabel=True),
    "every label present": table(np.ones((20, 2)), scored(20), multilabel=True),
    "one label": table(np.ones((1, 1)), [[0.2]], multilabel=True),
}


def unnamed(found):
    """Returns the metrics without a value that no sentence names."""
    lacking = [name for name, entry in found["metrics"].items() if entry["value"] is None]
    lacking += [
        f"{name} of {class_name}"
        for class_name, entries in found["per_class"].items()
        for name, entry in entries.items()
        if name != "support" and entry["value"] is None
    ]

    def is_named(lack):
        metric, _, class_name = lack.partition(" of ")
        return any(
            sentence.startswith(f"{metric}{' of ' if class_name else ':'}") and (class_name in sentence.split(":")[0])
            for sentence in found["undefined"]
        )

    return [lack for lack in lacking if not is_named(lack)]


@pytest.mark.parametrize("interval", ["percentile", "bca"])
@pytest.mark.parametrize("name", TABLES)
def test_a_number_or_a_named_warning(name, interval):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = operating.choose(TABLES[name], "youden")
        found = classification.evaluate(
            TABLES[name], resamples=30, interval=interval, prevalence=0.2, operating_points=points
        )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert unnamed(found) == []
    entries = [*found["metrics"].items()]
    entries += [(key, e) for values in found["per_class"].values() for key, e in values.items() if key != "support"]
    for key, entry in entries:
        if None not in entry.values():
            assert entry["low"] <= entry["high"], key
            assert entry["low"] >= -1 - 1e-12, key
    for value in found["calibration"]["per_class"].values():
        assert all(math.isfinite(x) for x in value.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one class", {"auroc_macro": None, "matthews_corrcoef": None, "recall_macro": "accuracy"}),
        ("constant scores", {"auroc_macro": 0.5, "cohen_kappa": 0, "matthews_corrcoef": None, "accuracy": 0.5}),
        ("perfect and certain", {"auroc_macro": 1, "cohen_kappa": 1, "brier_score_loss": 0, "f1_macro": 1}),
        ("wrong and certain", {"auroc_macro": 0, "cohen_kappa": -1, "brier_score_loss": 1, "accuracy": 0}),
        ("all in one class, called another", {"accuracy": 0, "auroc_macro": None, "balanced_accuracy": 0}),
        ("no label present", {"auroc_macro": None, "average_precision_macro": None, "recall_macro": None}),
        ("every label present", {"auroc_macro": None, "average_precision_macro": 1, "specificity_macro": None}),
        ("ties", {"auroc_macro": 0.25, "auroc_micro": 1 / 3}),
    ],
)
def test_the_number_is_the_right_one(name, expected):
    found = {
        key: entry["value"] for key, entry in classification.evaluate(TABLES[name], resamples=2)["metrics"].items()
    }
    for key, value in expected.items():
        assert found[key] == (found[value] if isinstance(value, str) else pytest.approx(value, abs=1e-12)), key


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1])
def test_what_is_no_probability_is_refused_in_one_sentence(value):
    with pytest.raises(errors.DataError, match="probability lies between 0 and 1. Received: .* for case 'case1'"):
        table(TWO[[0, 1]], [[0.5, 0.5], [value, 0.5]])


@pytest.mark.parametrize("name", TABLES)
def test_sets_refusal_and_calibration_of_a_hard_table_are_numbers_or_said(name):
    given = TABLES[name]
    options = {"patients": given.patients, "multilabel": given.multilabel}
    for kind in conformal.KINDS:
        fitted = conformal.fit(given.probabilities, given.target, alpha=0.1, kind=kind, **options)
        sets = fitted.sets(given.probabilities)
        assert not np.isnan(fitted.thresholds).any()
        assert len(fitted.notes(given.classes)) >= np.isinf(fitted.thresholds).any()
        found = conformal.coverage(given, sets)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert (found["coverage"]["value"] is None) == (not given.target.any())
        assert conformal.unexchangeable(fitted, given, sets) == ()
    right = (given.decisions == given.target).all(axis=1)
    curve = selective.risk_coverage(given.confidence, right, given.patients)
    assert curve.risk[-1] == pytest.approx(np.mean(~right))
    assert 0 <= curve.area <= 1
    least = selective.abstain_threshold(given.confidence, right, given.patients, risk=0.2)
    assert least == math.inf or (given.confidence >= least).any()
    logits = np.log(np.clip(given.probabilities, 1e-6, 1 - 1e-6))
    for method in scaling.METHODS:
        fitted = scaling.fit(logits, given.target, method=method, **options)
        assert np.isfinite(fitted.apply(logits)).all()
        assert bool(fitted.notes) == (fitted.method != method)


@pytest.mark.parametrize("name", TABLES)
def test_a_comparison_of_hard_tables_has_a_p_or_says_why_not(name):
    given = TABLES[name]
    other = dataclasses.replace(given, probabilities=np.roll(given.probabilities, 1, axis=1))
    rows = comparison.compare({"a": given, "b": other}, metrics=scores.OVERALL, resamples=30)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert (row["p"] is None) == bool(row["note"]), row
        assert row["p"] is None or 0 <= row["p"] <= 1, row


def test_every_case_of_a_patient_twice_changes_no_number_at_all():
    whole = table(TWO[[0, 1, 1] * 20], scored(60), patients=np.arange(60) // 2)
    rows = np.repeat(np.arange(60), 2)
    names = {"case_id": tuple(f"case{i // 2}{'ab'[i % 2]}" for i in range(120))}
    columns = {name: tuple(getattr(whole, name)[i] for i in rows) for name in ("patient_id", "path", "split")}
    doubled = dataclasses.replace(
        whole,
        **names | columns,
        target=whole.target[rows],
        probabilities=whole.probabilities[rows],
        metadata={"sex": tuple(whole.metadata["sex"][i] for i in rows)},
    )
    first, second = (
        classification.evaluate(t, resamples=5, operating_points=operating.choose(t, "youden"))
        for t in (whole, doubled)
    )
    for part in ("metrics", "per_class", "calibration", "operating_points", "subgroups"):
        assert values_of(second[part]) == pytest.approx(values_of(first[part]), abs=1e-12), part


def values_of(found, path=""):
    """Returns every number of a nested answer that is no count, by its path."""
    if isinstance(found, dict):
        kept = {key: value for key, value in found.items() if key not in ("n", "support", "counts", "low", "high")}
        return {p: v for key, value in kept.items() for p, v in values_of(value, f"{path}/{key}").items()}
    if isinstance(found, list | tuple):
        return {p: v for i, value in enumerate(found) for p, v in values_of(value, f"{path}/{i}").items()}
    return {path: found} if isinstance(found, float) else {}
