import numpy as np
import pytest

from medkeras.evaluation import figures, selective, trust_figures


def entry(value, low, high):
    return {"value": value, "low": low, "high": high}


GROUPS = [
    {"name": "F", "gaps": {"accuracy": entry(-0.2, -0.3, -0.1), "auroc_macro": entry(0.01, None, None)}},
    {"name": "M", "gaps": {"accuracy": entry(0.2, 0.1, 0.3)}},
    {"name": "not $known$", "gaps": {}},
]


def test_risk_and_coverage_are_drawn_as_they_are():
    confidence, correct = np.linspace(0, 1, 60), np.arange(60) % 3 > 0
    curve = selective.risk_coverage(confidence, correct, np.arange(60))
    ax = trust_figures.risk_coverage(curve, 0.4).axes[0]
    x, y = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, curve.coverage)
    np.testing.assert_array_equal(y, curve.risk)
    assert ax.lines[1].get_xdata() == [0.4, 0.4]
    assert len(trust_figures.risk_coverage(curve).axes[0].lines) == 1


@pytest.mark.parametrize(("level", "labels"), [(0.1, 3), (None, 2)])
def test_familiarity_counts_each_group_as_a_whole(level, labels):
    values, correct = np.random.default_rng(0).random(90), np.arange(90) < 30
    ax = trust_figures.familiarity(values, correct, level).axes[0]
    assert [patch.get_data().values.sum() for patch in ax.patches] == pytest.approx([100] * 4)
    named = ax.get_legend_handles_labels()[1]
    assert named[:2] == ["Right (n = 30)", "Wrong (n = 60)"]
    assert len(named) == labels


def test_gaps_that_leave_out_zero_have_another_colour():
    figure = trust_figures.gaps(GROUPS, {"accuracy": "Accuracy", "auroc_macro": "AUROC"})
    accuracy, auroc = figure.axes
    points = [line for line in accuracy.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in points] == [-0.2, 0.2]
    assert {line.get_color() for line in points} == {figures.SERIES[1]}
    assert accuracy.get_xlim() == auroc.get_xlim() == pytest.approx((-0.315, 0.315))
    (point,) = (line for line in auroc.lines if line.get_marker() == "o")
    assert point.get_color() == figures.SERIES[0]
    assert b"not $known$" in figures.render(figure)


def test_evidence_is_drawn_as_it_is():
    curves = {"fractions": [0, 1], "insertion": [0.1, 0.9], "deletion": [0.8, 0.2]}
    appear, vanish = trust_figures.evidence(curves).axes[0].lines
    assert list(appear.get_ydata()) == [0.1, 0.9]
    assert list(vanish.get_ydata()) == [0.8, 0.2]
