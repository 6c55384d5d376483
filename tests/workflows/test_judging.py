"""A table of predictions that is judged by itself."""

import dataclasses
import json

import pytest

import medkeras
from medkeras import config, errors

HEADER = "case_id,y_true,prob_gesünd,prob_b,split,meta:site"


@pytest.fixture
def judge(tmp_path):
    def call(lines, encoding="utf-8"):
        (tmp_path / "p.csv").write_text("\n".join((HEADER, *lines)), encoding, "surrogateescape")
        settings = dataclasses.replace(config.Config(), evaluation=config.EvaluationConfig(resamples=20))
        return medkeras.evaluate_predictions(tmp_path / "p.csv", settings, output=tmp_path / "out").metrics

    return call


def rows(*splits):
    return [
        f"{i},{i % 2},{0.9 - 0.8 * (i % 2):.1f},{0.1 + 0.8 * (i % 2):.1f},{name},A" for i, name in enumerate(splits)
    ]


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("Training", "val", "Testing")])
def test_only_the_test_split_is_judged_by_any_of_its_names(judge, tmp_path, names) -> None:
    metrics = judge(rows(*(names[0],) * 3, *(names[1],) * 4, *(names[2],) * 5))
    assert metrics["n"] == 5
    assert [point["validation"] for point in metrics["operating_points"]] == [{"sensitivity": 1.0, "specificity": 1.0}]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["n"] == 5


def test_a_table_without_splits_is_judged_whole(judge) -> None:
    assert judge(rows("", "", "", ""))["n"] == 4


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "train"), "p.csv: a table with splits has rows of the test split. Received: none"),
        (("fold 1", "test"), "p.csv: a split is train, validation or test. Received: 'fold 1'"),
    ],
)
def test_splits_without_a_test_are_not_taken_for_one(judge, splits, message) -> None:
    with pytest.raises(errors.DataError, match=message):
        judge(rows(*splits))


@pytest.mark.parametrize(("encoding", "site"), [("latin-1", "A"), ("utf-8", "K\udcf6ln")], ids=["class", "group"])
def test_names_that_results_would_show_are_text(judge, encoding, site) -> None:
    with pytest.raises(errors.DataError, match="p.csv: names of classes and groups are UTF-8 text. Received: "):
        judge([row.removesuffix("A") + site for row in rows("", "")], encoding)
