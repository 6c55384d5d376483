"""What must change no metric at all: order, dtype, the copy on disk, and each case counted twice."""

import dataclasses
import json

import numpy as np
import pytest

from medkeras.evaluation import classification, comparison, conformal, operating, resampled, selective
from medkeras.evaluation import predictions as tables

KINDS = [(2, False), (3, False), (3, True)]
N = 90


@pytest.fixture(params=KINDS, ids=["two", "three", "labels"])
def table(request, make_table):
    """A table with everything that an evaluation looks at."""
    k, multilabel = request.param
    made = make_table(N, k, multilabel=multilabel)
    rng = np.random.default_rng(3)
    return dataclasses.replace(
        made,
        metadata={"sex": tuple("FM"[i % 2] for i in range(N)), "age": tuple(str(20 + 7 * i % 61) for i in range(N))},
        sets=made.probabilities > 0.2,
        abstain=rng.random(N) < 0.1,
        familiarity=rng.random(N).astype(np.float32),
    )


def judged(table):
    """Returns every number that is told of a table, by its path."""
    points = operating.choose(table, "youden")
    found = classification.evaluate(table, resamples=40, prevalence=0.2, operating_points=points)
    right = (table.decisions == table.target).all(axis=1)
    curve = selective.risk_coverage(table.confidence, right, table.patients)
    found["refusal"] = {"area": curve.area, "risk": curve.risk.tolist(), "high": curve.high.tolist()}
    fitted = conformal.fit(
        table.probabilities,
        table.target,
        alpha=0.2,
        kind="class",
        patients=table.patients,
        multilabel=table.multilabel,
    )
    found["thresholds"] = fitted.thresholds.tolist()
    turned = dataclasses.replace(table, probabilities=np.roll(table.probabilities, 1, axis=1))
    metrics = ("accuracy", "auroc_macro", "log_loss", "expected_calibration_error")
    found["compared"] = comparison.compare({"a": table, "b": turned}, metrics=metrics, resamples=40)
    return flat(json.loads(json.dumps(found)))


def flat(found, path=""):
    if isinstance(found, dict | list):
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        return {p: v for key, value in pairs for p, v in flat(value, f"{path}/{key}").items()}
    return {path: found}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        close = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
        assert found[path] == close, path


def test_order_of_the_cases_changes_nothing(table):
    assert_same(judged(table.take(np.random.default_rng(1).permutation(N))), judged(table))


def test_dtype_of_the_labels_changes_nothing(table):
    expected = judged(table)
    for dtype in (bool, np.uint8, np.int64, np.float32, np.float64):
        assert judged(dataclasses.replace(table, target=table.target.astype(dtype))) == expected


def test_the_copy_on_disk_changes_nothing(table, tmp_path):
    table.write_csv(tmp_path / "predictions.csv")
    assert judged(tables.read_csv(tmp_path / "predictions.csv")) == judged(table)


@pytest.mark.parametrize("times", [2, 3])
def test_a_case_taken_again_is_a_case_of_that_weight_and_changes_no_metric(table, times):
    rows = np.repeat(np.arange(N), times)
    names = tuple(f"case{i // times}.{i % times}" for i in range(times * N))
    again = dataclasses.replace(
        table,
        case_id=names,
        **{name: tuple(getattr(table, name)[i] for i in rows) for name in ("patient_id", "path", "split")},
        **{name: getattr(table, name)[rows] for name in ("target", "probabilities", "sets", "abstain", "familiarity")},
        metadata={name: tuple(values[i] for i in rows) for name, values in table.metadata.items()},
    )
    once, heavy = (resampled.Resampled(table, np.arange(N))(np.full((1, N), weight)) for weight in (1, times))
    copied = resampled.Resampled(again, rows)(np.ones((1, N)))
    for name, value in once.items():
        np.testing.assert_allclose(heavy[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(copied[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
    first, second = judged(table), judged(again)
    counted = ("n", "support", "cases", "counts", "confusion_matrix", "low", "high", "p", "p_holm", "statistic")
    told = {p for p in first if not set(counted) & set(p.split("/")) and not p.startswith("/refusal")}
    assert_same({p: second[p] for p in told}, {p: first[p] for p in told})
    assert second["/refusal/area"] == pytest.approx(first["/refusal/area"], abs=0.02)
