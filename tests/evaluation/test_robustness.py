"""Models on corrupted pictures: levels as scikit-learn has them, differences paired, means no surer than patients."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics

from medkeras import errors
from medkeras.evaluation import equivalence, figures, intervals, robustness, robustness_figures

CLEAN, NOISE, STRONG, BLUR = robustness.CLEAN, ("noise", 1), ("noise", 3), ("motion_blur", 2)


@pytest.fixture
def worse():
    """Returns a table with the probabilities of a share of its patients turned around."""

    def build(table, share, seed=0):
        rows = (np.random.default_rng(seed).random(len(table)) < share)[table.patients]
        probabilities = np.where(rows[:, None], np.roll(table.probabilities, 1, axis=1), table.probabilities)
        return dataclasses.replace(table, probabilities=probabilities)

    return build


@pytest.fixture
def models(make_table, worse):
    """Two models under four conditions; the second is worse under strong noise alone."""
    table = make_table(400, 2, per_patient=1)
    first = {STRONG: worse(table, 0.3), BLUR: worse(table, 0.1, seed=1), CLEAN: table, NOISE: worse(table, 0.1)}
    return {"float": first, "int8": first | {STRONG: worse(table, 0.6)}}


def row_of(found, condition):
    return next(row for row in found.rows if (row.corruption, row.severity) == condition)


def accuracy(table):
    return metrics.accuracy_score(table.target.argmax(axis=1), table.probabilities.argmax(axis=1))


def test_levels_are_scikit_learns(models):
    found = robustness.measure(models, seed=0, resamples=200)
    assert [(row.corruption, row.severity) for row in found.rows] == [CLEAN, NOISE, STRONG, BLUR]
    assert (found.models, found.cases, found.patients) == (("float", "int8"), 400, 400)
    for condition in (CLEAN, NOISE, STRONG, BLUR):
        for name in models:
            table, levels = models[name][condition], row_of(found, condition).models[name]
            area = metrics.roc_auc_score(table.target[:, 1], table.probabilities[:, 1])
            assert levels["accuracy"]["value"] == pytest.approx(accuracy(table))
            assert levels["auroc"]["value"] == pytest.approx(area)
            assert levels["auroc"]["low"] < area < levels["auroc"]["high"]


def test_an_accuracy_has_wilsons_interval(models):
    found = robustness.measure(models, seed=0, resamples=10)
    table = models["float"][STRONG]
    hits = (table.decisions == table.target).all(axis=1)
    low, high = intervals.proportion(hits, np.ones(400), table.patients)
    entry = row_of(found, STRONG).models["float"]["accuracy"]
    assert (entry["low"], entry["high"]) == (low, high)


def test_differences_are_those_of_the_gate(models):
    found = robustness.measure(models, seed=0, resamples=10)
    verdict = equivalence.judge(models["float"][STRONG], models["int8"][STRONG], fitted={}, seed=0, resamples=10)
    gaps = row_of(found, STRONG).differences["int8"]
    for metric in robustness.METRICS:
        assert gaps[metric] == verdict.metrics[metric]["difference"]
    assert gaps["accuracy"]["high"] < 0


def test_what_is_equal_does_not_differ(models):
    found = robustness.measure(models, seed=0, resamples=100)
    for metric in robustness.METRICS:
        assert row_of(found, NOISE).differences["int8"][metric]["value"] == 0
    assert row_of(found, CLEAN).changes == {}
    again = robustness.measure(models | {"int8": models["float"]}, seed=0, resamples=100)
    assert again.mean.differences["int8"]["auroc"] == {"value": 0, "low": 0, "high": 0}


def test_a_change_is_from_the_clean_pictures(models):
    found = robustness.measure(models, seed=0, resamples=10)
    change = row_of(found, STRONG).changes["float"]["accuracy"]
    assert change["value"] == pytest.approx(accuracy(models["float"][STRONG]) - accuracy(models["float"][CLEAN]))
    assert change["low"] < change["value"] < change["high"] < 0


def test_the_mean_is_over_corruptions_and_not_the_clean_pictures(models):
    found = robustness.measure(models, seed=0, resamples=300)
    for metric in robustness.METRICS:
        levels = [row_of(found, each).models["int8"][metric]["value"] for each in (NOISE, STRONG, BLUR)]
        gap = row_of(found, STRONG).differences["int8"][metric]["value"] / 3
        mean, difference = found.mean.models["int8"][metric], found.mean.differences["int8"][metric]
        assert mean["value"] == pytest.approx(np.mean(levels))
        assert difference["value"] == pytest.approx(gap)
        assert difference["low"] < gap < difference["high"] < 0
        fallen = found.mean.changes["int8"][metric]["value"]
        assert fallen == pytest.approx(np.mean(levels) - row_of(found, CLEAN).models["int8"][metric]["value"])


def test_more_conditions_of_the_same_patients_make_no_mean_surer(models):
    few = {name: {CLEAN: of[CLEAN], NOISE: of[NOISE]} for name, of in models.items()}
    many = {name: few[name] | {("noise", k): of[NOISE] for k in range(2, 6)} for name, of in models.items()}
    first, second = (robustness.measure(given, seed=0, resamples=200).mean for given in (few, many))
    for metric in robustness.METRICS:
        narrow, wide = first.models["float"][metric], second.models["float"][metric]
        assert narrow == pytest.approx(wide)


def test_cases_of_one_patient_count_for_less(make_table, worse):
    def width(per_patient):
        table = make_table(600, 2, per_patient=per_patient)
        given = {"one": {CLEAN: table, NOISE: worse(table, 0.2)}}
        entry = robustness.measure(given, seed=0, resamples=300).mean.models["one"]["accuracy"]
        return entry["high"] - entry["low"]

    assert width(10) > 1.4 * width(1)


def test_neither_the_order_of_cases_nor_of_conditions_counts(models):
    order = np.random.default_rng(5).permutation(400)
    shuffled = {name: {each: table.take(order) for each, table in of.items()} for name, of in models.items()}
    shuffled["int8"] = dict(reversed(shuffled["int8"].items()))
    expected = robustness.measure(models, seed=0, resamples=50).to_json()
    assert robustness.measure(shuffled, seed=0, resamples=50).to_json() == expected


def test_one_model_and_any_number_of_labels(make_table):
    table = make_table(120, 4, multilabel=True)
    found = robustness.measure({"one": {CLEAN: table, NOISE: table}}, seed=0, resamples=50)
    areas = [metrics.roc_auc_score(table.target[:, k], table.probabilities[:, k]) for k in range(4)]
    assert row_of(found, NOISE).models["one"]["auroc"]["value"] == pytest.approx(np.mean(areas))
    assert row_of(found, NOISE).changes["one"]["accuracy"]["value"] == 0
    assert row_of(found, NOISE).differences == {}


def test_what_is_undefined_is_none_and_json(make_table):
    table = make_table(30, 2)
    healthy = dataclasses.replace(table, target=np.eye(2, dtype=np.int8)[np.zeros(30, int)])
    found = robustness.measure({"one": {CLEAN: healthy, NOISE: healthy}}, seed=0, resamples=20)
    assert row_of(found, NOISE).models["one"]["auroc"] == {"value": None, "low": None, "high": None}
    assert found.mean.models["one"]["auroc"]["value"] is None
    json.dumps(found.to_json(), allow_nan=False)
    assert "undefined" in robustness.table(found)
    assert figures.render(robustness_figures.draw(found, "auroc")).startswith(b"<?xml")


def test_json_holds_every_row(models):
    found = robustness.measure(models, seed=0, resamples=20)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["models"] == ["float", "int8"]
    assert written["rows"][2]["corruption"] == "noise"
    assert (
        written["rows"][2]["differences"]["int8"]["accuracy"] == row_of(found, STRONG).differences["int8"]["accuracy"]
    )
    assert written["mean"]["corruption"] == "mean"


def test_the_table_is_markdown_and_aligned(models):
    named = {"a|b\n": models["float"], "int8": models["int8"]}
    found = robustness.measure(named, seed=0, resamples=50)
    lines = robustness.table(found).split("\n")
    assert len(lines) == 2 + 4 + 1
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {8}
    assert cells[0][:5] == ["corruption", "severity", "a/b : accuracy", "int8: accuracy", "int8: difference"]
    assert [row[:2] for row in cells[2:]] == [
        *(["clean", ""], ["noise", "1"], ["noise", "3"], ["motion blur", "2"], ["mean", ""]),
    ]
    assert cells[4][2].startswith(f"{accuracy(models['float'][STRONG]):.3f} [")
    assert cells[4][4].startswith("-0.")
    assert cells[3][4].startswith("+0.000 [-0.")


def test_the_figure_shows_each_corruption_from_clean_on(models):
    found = robustness.measure(models, seed=0, resamples=50)
    panels = robustness_figures.draw(found).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["Noise", "Motion blur"]
    first, second = panels[0].lines
    np.testing.assert_allclose(np.rint(second.get_xdata()), [0, 1, 3])
    expected = [accuracy(models["int8"][each]) for each in (CLEAN, NOISE, STRONG)]
    np.testing.assert_allclose(second.get_ydata(), expected)
    assert first.get_color() != second.get_color()
    assert len({ax.get_ylim() for ax in panels}) == 1
    low, high = panels[0].get_ylim()
    for row in found.rows:
        for entry in row.models.values():
            assert low < entry["accuracy"]["low"] <= entry["accuracy"]["high"] < high


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_figure_has_room_for_its_panels(models, count):
    few = {CLEAN: models["float"][CLEAN]} | {(f"kind_{k}", 1): models["float"][NOISE] for k in range(count)}
    figure = robustness_figures.draw(robustness.measure({"a $model_": few}, seed=0, resamples=10))
    boxes = [ax.get_position() for ax in figure.axes]
    assert len(boxes) == count
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert figures.render(figure, "png").startswith(b"\x89PNG")


def test_what_is_refused(models, make_table):
    def refused(given, sentence, **more):
        with pytest.raises(errors.DataError, match=sentence):
            robustness.measure(given, seed=0, resamples=10, **more)

    refused({}, "no model")
    refused({"one": {CLEAN: models["float"][CLEAN]}}, "from clean to corrupted")
    refused({"one": {NOISE: models["float"][NOISE], BLUR: models["float"][BLUR]}}, "noise 1, motion_blur 2")
    lacking = {each: table for each, table in models["int8"].items() if each != BLUR}
    refused(models | {"int8": lacking}, "motion_blur 2 of only one of 'float' and 'int8'")
    refused(models | {"int8": models["int8"] | {BLUR: make_table(10, 2)}}, "'int8, motion_blur 2'")
