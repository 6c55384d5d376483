import io

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from medkeras.evaluation import calibration, figures

HISTORY = [
    {"epoch": "1", "loss": "0.9", "val_loss": "1.1", "accuracy": "0.5", "val_accuracy": "", "learning_rate": "0.001"},
    {
        "epoch": "2",
        "loss": "0.4",
        "val_loss": "0.8",
        "accuracy": "0.7",
        "val_accuracy": "0.6",
        "learning_rate": "1e-05",
    },
]
DRAWN = [
    figures.roc_curves,
    figures.precision_recall_curves,
    figures.reliability_diagram,
    figures.score_histogram,
]


def test_training_curves_hold_the_numbers_of_the_history():
    figure = figures.training_curves(HISTORY)
    loss, accuracy, rate = figure.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[0.9, 0.4], [1.1, 0.8]]
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.5, 0.7], [0.6]]
    assert rate.lines[0].get_ydata().tolist() == [1e-3, 1e-5]


def test_training_curves_draw_only_what_is_there():
    assert len(figures.training_curves([{"loss": 1.0}]).axes) == 1


def test_confusion_matrix_writes_counts_and_shares():
    figure = figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ("a", "b"))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["3", "75%", "1", "25%", "0", "0%", "0", "0%"]


def test_roc_curve_encloses_its_auroc(make_table):
    table = make_table(300, 4)
    lines = figures.roc_curves(table, table.target).axes[0].lines[:-1]
    for k, line in enumerate(lines):
        expected = metrics.roc_auc_score(table.target[:, k], table.probabilities[:, k])
        assert metrics.auc(line.get_xdata(), line.get_ydata()) == pytest.approx(expected, abs=1e-9)
        assert line.get_label() == f"{table.classes[k]}  {expected:.3f}"


def test_precision_recall_steps_enclose_the_average_precision(make_table):
    table = make_table(200, 3)
    for k, line in enumerate(figures.precision_recall_curves(table, table.target).axes[0].lines):
        recall, precision = line.get_data()
        expected = metrics.average_precision_score(table.target[:, k], table.probabilities[:, k])
        assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(expected, abs=1e-9)
        assert line.get_drawstyle() == "steps-pre"


def test_precision_begins_where_something_is_found(make_table):
    """The surest case is wrong: no line falls to precision 0 at recall 0, nor along any other recall."""
    target = np.eye(2, dtype=np.int8)[[0, 1, 0, 1, 1, 0]]
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    table = make_table(6, 2, target=target, probabilities=np.stack([1 - score, score], axis=1))
    recall, precision = figures.precision_recall_curves(table, target).axes[0].lines[0].get_data()
    assert recall == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert precision == pytest.approx([1 / 2, 1 / 2, 1 / 2, 3 / 5])


def test_operating_points_are_rings_on_their_curve(make_table):
    table = make_table(300, 3)
    found, cleared = 0.7, 0.8
    ax = figures.roc_curves(table, table.target, {"b": (found, cleared)}).axes[0]
    (ring,) = (line for line in ax.lines if line.get_marker() == "o")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (pytest.approx(1 - cleared), found)
    assert ring.get_markeredgecolor() == ax.lines[1].get_color()


@pytest.mark.parametrize("first", [0, 1])
def test_epochs_are_counted_from_one(first):
    history = [{"epoch": first + i, "loss": 1.0} for i in range(3)]
    assert figures.training_curves(history).axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]


def test_two_classes_draw_one_curve_and_many_classes_ten(make_table):
    two, many = make_table(100, 2), make_table(400, 12)
    assert len(figures.precision_recall_curves(two, two.target).axes[0].lines) == 1
    assert len(figures.precision_recall_curves(many, many.target).axes[0].lines) == 10


def test_long_curves_are_thinned_but_keep_their_ends(make_table):
    table = make_table(5000, 2, probabilities=np.random.default_rng(0).dirichlet([1, 1], 5000))
    x, y = figures.roc_curves(table, table.target).axes[0].lines[0].get_data()
    assert len(x) <= 300
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_reliability_diagram_shows_the_bins(make_table):
    table = make_table(300, 3)
    above, below = figures.reliability_diagram(table, table.target).axes
    bins = calibration.reliability(*calibration.statements(table, table.target))
    np.testing.assert_array_equal(above.lines[-1].get_ydata(), bins.observed)
    assert [bar.get_height() for bar in below.patches] == bins.count.tolist()


def test_score_histogram_counts_each_group_as_a_whole(make_table):
    table = make_table(300, 3)
    ax = figures.score_histogram(table, table.target).axes[0]
    assert [patch.get_data().values.sum() for patch in ax.patches] == pytest.approx([100] * 4)
    right = (table.target == table.decisions).all(axis=1).sum()
    assert ax.get_legend_handles_labels()[1] == [f"Right (n = {right})", f"Wrong (n = {300 - right})"]


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize(("k", "multilabel"), [(2, False), (3, True)])
def test_pictures_are_the_same_every_time(make_table, draw, k, multilabel):
    table = make_table(80, k, multilabel=multilabel)
    svg = figures.render(draw(table, table.target))
    assert svg == figures.render(draw(table, table.target))
    assert svg.startswith(b"<?xml")


@pytest.mark.parametrize("draw", DRAWN)
def test_a_single_case_can_be_drawn(make_table, draw):
    table = make_table(1, 2)
    assert figures.render(draw(table, table.target)).startswith(b"<?xml")


def test_png_is_a_picture_with_ink(make_table):
    table = make_table(80, 2)
    png = figures.render(figures.roc_curves(table, table.target), "png")
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.shape[1] == 1040
    blue = np.abs(pixels.astype(int) - [0, 114, 178]).sum(axis=-1) < 30
    assert blue.sum() > 500


@pytest.mark.parametrize("name", ["_hidden", "$x$ 5$", "胶质瘤", "<script>&", "two\nlines", "x" * 200])
def test_every_class_name_is_written_as_it_is(make_table, name):
    table = make_table(60, 3, classes=(name, "b", "c"))
    svg = figures.render(figures.roc_curves(table, table.target)).decode()
    assert "<script>" not in svg
    shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    assert (shown if len(name) <= 40 else "x" * 39 + "…") in svg


def test_the_colours_stay_apart_for_the_colour_blind():
    """Machado, Oliveira and Fernandes (2009): full deuteranopia and protanopia, in linear light."""
    colors = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in figures.SERIES]) ** 2.2
    deuteranopia = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    protanopia = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    for seen in (deuteranopia, protanopia):
        shown = np.clip(colors @ np.array(seen).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(shown[:, None] - shown[None], axis=-1)[np.triu_indices(len(shown), 1)]
        assert apart.min() > 0.08
