"""The page of a comparison: its words follow its numbers, and its pictures show them."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

from medkeras.evaluation import classification, comparison, comparison_figures, comparison_page, figures

TITLES = {"strong": "SVM on <b>& features", "level": "cnn (network)", "weak": "Random forest on features"}
KINDS = {"strong": "traditional", "level": "network", "weak": "traditional"}
METRICS = ("accuracy", "auroc_macro", "balanced_accuracy")


@pytest.fixture(scope="module")
def result(make_table):
    """Three models of 300 cases: the second follows the first, the third guesses."""
    first = make_table(300, 3, per_patient=1)
    rng = np.random.default_rng(0)
    near = first.probabilities * np.exp(0.01 * rng.normal(size=(300, 3)))
    guess = rng.dirichlet(np.ones(3), size=300)
    rows = {"strong": first.probabilities, "level": near / near.sum(1, keepdims=True), "weak": guess}
    tables = {name: comparison_table(first, found) for name, found in rows.items()}
    judged = {name: classification.evaluate(table, resamples=100) for name, table in tables.items()}
    return {
        **{key: judged["strong"][key] for key in ("task", "n", "n_patients", "classes", "interval")},
        "patients_known": True,
        "models": {
            name: judged[name]["metrics"]
            | {"kind": KINDS[name], "title": TITLES[name], "train_seconds": 12.0, "predict_ms_per_case": 0.5}
            | {"parameters": None, "size_bytes": 3000, "predictions": f"predictions/{name}.csv"}
            for name in tables
        },
        "tests": [row for metric in METRICS for row in comparison.compare(tables, metrics=(metric,))],
        "batch_size": 32,
        "data": {"source": "folder:<scans>", "counts": {"test": {"a": 1, "b": 2, "c": 3}}, "patients": {"test": 300}},
        "notes": ["A note."],
        "settings": {"seed": 0},
    }


def comparison_table(like, probabilities):
    return type(like)(
        like.case_id,
        like.patient_id,
        like.path,
        like.split,
        like.classes,
        like.target,
        probabilities.astype(np.float32),
    )


def row_of(result, metric, a, b):
    (row,) = [row for row in result["tests"] if (row["metric"], {row["a"], row["b"]}) == (metric, {a, b})]
    return row


def test_the_words_name_the_best_and_whom_it_beats_beyond_chance(result) -> None:
    best, other = comparison_figures.ranked(result["models"], "accuracy")[:2]
    p = row_of(result, "accuracy", best, other)["p_holm"]
    assert row_of(result, "accuracy", best, "weak")["p_holm"] < 0.05 < p
    entry = result["models"][best]["accuracy"]
    assert comparison_page.sentences(result)[:3] == [
        f"On 300 test images of 300 patients the best of 3 by accuracy is {TITLES[best]}: {entry['value']:.3f} "
        f"(95% interval {entry['low']:.3f} – {entry['high']:.3f}).",
        f"It is significantly better than {TITLES['weak']}.",
        f"It is not significantly better than {TITLES[other]} (p = {p:.3f}).",
    ]


def test_who_could_not_be_tested_is_named_and_no_metric_is_no_best(result) -> None:
    lacking = copy.deepcopy(result)
    best, *_, last = comparison_figures.ranked(result["models"], "accuracy")
    row_of(lacking, "accuracy", best, last)["p_holm"] = None
    for model in lacking["models"].values():
        model["auroc_macro"] = {"value": None, "low": None, "high": None}
    said = comparison_page.sentences(lacking)
    assert f"It could not be tested against {TITLES[last]}." in said
    assert said[-1] == "On 300 test images of 300 patients no model has a defined AUROC."
    assert comparison_page.render(lacking).startswith("<!DOCTYPE html>")


def test_a_test_reads_the_same_whichever_model_is_the_best(result) -> None:
    """The worst made the best: each of its tests is turned round, and so is the interval."""
    upside_down = copy.deepcopy(result)
    upside_down["models"]["weak"]["accuracy"] = {"value": 2.0, "low": 2.0, "high": 2.0}
    row = row_of(result, "accuracy", "strong", "weak")
    assert row["a"] == "strong"
    text = comparison_page.render(upside_down)
    shown = f"−{row['high']:.3f} to −{row['low']:.3f}"
    assert shown in text
    assert shown not in comparison_page.render(result)


def test_the_page_is_whole_and_nothing_in_it_runs(result) -> None:
    page = comparison_page.render(result)
    assert "<b>& features" not in page
    assert "SVM on &lt;b&gt;&amp; features" in page
    assert not re.search(r"<script|src=\"http|url\(http|@import", page)
    assert page.count("<svg") >= 3
    assert all(page.count(f"<{tag}") == page.count(f"</{tag}>") for tag in ("table", "details", "div", "svg"))
    assert "All 9 tests" in page


def test_patients_that_nobody_named_are_warned_of_once(result) -> None:
    unnamed = result | {"patients_known": False, "notes": ["The data name no patients: every case counts …"]}
    page = comparison_page.render(unnamed)
    assert page.count("The data name no patients") == 1
    assert comparison_page.sentences(unnamed)[0].startswith("On 300 test images the best of 3")


def test_the_best_stand_on_top_and_the_undefined_at_the_end(result) -> None:
    models = copy.deepcopy(result["models"])
    models["strong"]["accuracy"] = {"value": None, "low": None, "high": None}
    assert comparison_figures.ranked(models, "accuracy") == ["level", "weak", "strong"]
    assert comparison_figures.ranked(models, "auroc_macro")[-1] == "weak"


def test_a_forest_plot_shows_values_and_intervals_in_order(result) -> None:
    models = result["models"]
    figure = comparison_figures.forest(models, "accuracy", "Accuracy")
    (ax,) = figure.axes
    order = comparison_figures.ranked(models, "accuracy")
    assert [label.get_text() for label in ax.get_yticklabels()] == [TITLES[name] for name in reversed(order)]
    lines, points = ax.lines[::2], ax.lines[1::2]
    for row, name in enumerate(reversed(order)):
        entry = models[name]["accuracy"]
        assert list(lines[row].get_xdata()) == [entry["low"], entry["high"]]
        assert (list(points[row].get_xdata()), list(points[row].get_ydata())) == ([entry["value"]], [row])
    assert figures.render(figure).startswith(b"<?xml")


def test_a_model_that_did_not_learn_here_has_no_time_to_learn(result) -> None:
    models = copy.deepcopy(result["models"])
    models["weak"]["train_seconds"] = None
    answering, learning = comparison_figures.cost(models, "accuracy", "Accuracy").axes
    assert [len(ax.texts) for ax in (answering, learning)] == [3, 2]
    assert answering.get_xscale() == learning.get_xscale() == "log"
