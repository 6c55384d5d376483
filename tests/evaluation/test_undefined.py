"""What a report says of a number that does not exist is true, and is said of each."""

import itertools

import numpy as np
import pytest

from medkeras.evaluation import classification, scores
from medkeras.evaluation import predictions as tables


def labelled(hits, misses, alarms, clears):
    """Returns a multi-label table of one class with these counts."""
    parts = [(1, 0.9)] * hits + [(1, 0.2)] * misses + [(0, 0.7)] * alarms + [(0, 0.1)] * clears
    truth, stated = (np.array(column)[:, None] for column in zip(*parts, strict=True))
    names = tuple(map(str, range(len(parts))))
    return tables.Predictions(names, names, names, names, ("mass",), truth, stated, multilabel=True)


def holds(cause, counts, prevalence):
    """Returns whether a cause is true of the four counts."""
    hits, misses, alarms, clears = counts
    return {
        "no case has this class": hits + misses == 0,
        "every case has this class": alarms + clears == 0,
        "no case was called this class": hits + alarms == 0,
        "every case was called this class": misses + clears == 0,
        "no case was called this class wrongly": alarms == 0,
        "no case was rightly not called this class": clears == 0,
        "no case has this class and none was called it": hits + misses + alarms == 0,
        "every case has this class and was called it": misses + alarms + clears == 0,
        "the stated prevalence leaves nothing to divide by": prevalence == 1 and 0 in (hits, misses),
        "undefined for every class": True,
        "no label is present": hits + misses == 0,
        "every label is present": alarms + clears == 0,
        "no label was called": hits + alarms == 0,
        "no label is present and none was called": hits + misses + alarms == 0,
    }[cause]


@pytest.mark.parametrize("prevalence", [0.0, 0.3, 1.0])
def test_every_table_of_four_counts_is_explained_by_what_is_true(prevalence):
    for counts in itertools.product((0, 2), (0, 1), (0, 1), (0, 3)):
        if not sum(counts):
            continue
        found = classification.evaluate(labelled(*counts), resamples=1, prevalence=prevalence)
        said = dict(sentence.split(": ") for sentence in found["undefined"])
        assert all(holds(cause, counts, prevalence) for cause in said.values()), (counts, said)
        lacking = {name for name, entry in found["metrics"].items() if entry["value"] is None}
        lacking |= {f"{name} of mass" for name in scores.PER_CLASS if found["per_class"]["mass"][name]["value"] is None}
        assert set(said) == lacking, counts


@pytest.mark.parametrize(
    ("counts", "name", "cause"),
    [
        ((0, 2, 0, 3), "positive_predictive_value", "no case was called this class"),
        ((0, 0, 1, 3), "positive_predictive_value", "no case has this class"),
        ((2, 1, 0, 0), "negative_predictive_value", "every case has this class"),
        ((2, 0, 1, 0), "negative_predictive_value", "every case was called this class"),
        ((2, 1, 0, 3), "positive_likelihood_ratio", "no case was called this class wrongly"),
        ((0, 2, 0, 3), "positive_likelihood_ratio", "no case was called this class"),
        ((2, 1, 1, 0), "negative_likelihood_ratio", "no case was rightly not called this class"),
        ((2, 0, 0, 0), "cohen_kappa", "every case has this class and was called it"),
        ((0, 2, 1, 0), "matthews_corrcoef", None),
    ],
)
def test_the_cause_is_the_one_that_is_true(counts, name, cause):
    found = classification.evaluate(labelled(*counts), resamples=1, prevalence=0.3)
    said = dict(sentence.split(": ") for sentence in found["undefined"])
    assert said.get(f"{name} of mass") == cause


def test_classes_with_different_causes_have_a_sentence_each():
    names = tuple(map(str, range(4)))
    probabilities = np.eye(3)[[0, 0, 1, 1]] * 0.7 + 0.1
    table = tables.Predictions(names, names, names, names, ("a", "b", "c"), np.eye(3)[[0, 0, 0, 1]], probabilities)
    said = classification.evaluate(table, resamples=1)["undefined"]
    assert [s for s in said if s.startswith("positive_likelihood")] == [
        "positive_likelihood_ratio of c: no case has this class",
        "positive_likelihood_ratio of a: no case was called this class wrongly",
    ]


@pytest.mark.parametrize(
    ("truth", "called", "expected"),
    [
        ([0, 0], [0, 0], {"cohen_kappa": "every case has the same class and was called it"}),
        ([0, 0], [0, 1], {"matthews_corrcoef": "every case has the same class"}),
        ([0, 1], [1, 1], {"matthews_corrcoef": "every case was called the same class"}),
    ],
)
def test_metrics_of_all_classes_name_the_cause_too(truth, called, expected):
    names = ("0", "1")
    table = tables.Predictions(names, names, names, names, ("a", "b"), np.eye(2)[truth], np.eye(2)[called] * 0.8 + 0.1)
    said = dict(sentence.split(": ") for sentence in classification.evaluate(table, resamples=1)["undefined"])
    assert {name: said.get(name) for name in expected} == expected
