"""Tables of predictions that medkeras did not write."""

import numpy as np
import pytest

from medkeras import errors
from medkeras.evaluation import predictions as tables


def read(tmp_path, *lines):
    (tmp_path / "p.csv").write_text("\n".join(lines), encoding="utf-8")
    return tables.read_csv(tmp_path / "p.csv")


def test_the_least_that_is_needed(tmp_path):
    table = read(tmp_path, "case_id,y_true,prob_cat,prob_dog", "1,dog,0.25,0.75", "2,cat,0.5,0.5")
    assert table.classes == ("cat", "dog")
    assert table.case_id == table.patient_id == ("1", "2")
    assert table.target.tolist() == [[0, 1], [1, 0]]
    assert table.probabilities.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert not table.multilabel


def test_what_else_is_known_is_read_and_the_rest_is_not(tmp_path):
    table = read(tmp_path, "y_true,meta:sex,age,prob_a,prob_b,patient_id,case_id", "a,F,60,1,0,p,1", "b,,61,0,1,p,2")
    assert table.patient_id == ("p", "p")
    assert table.metadata == {"sex": ("F", "")}


@pytest.mark.parametrize("cells", [("0", "2", "1"), ("0.0", "2.0", "1.0"), ("x", "z", "y")])
def test_the_truth_is_a_name_or_a_place(tmp_path, cells):
    lines = [f"{i},{cell},0.2,0.3,0.5" for i, cell in enumerate(cells)]
    assert read(tmp_path, "case_id,y_true,prob_x,prob_y,prob_z", *lines).target.argmax(axis=1).tolist() == [0, 2, 1]


def test_names_that_are_numbers_are_names(tmp_path):
    table = read(tmp_path, "case_id,y_true,prob_1,prob_2", "a,1,0.2,0.8", "b,2,0.2,0.8")
    assert table.target.argmax(axis=1).tolist() == [0, 1]


def test_a_lone_probability_is_that_of_the_class_1(tmp_path):
    table = read(tmp_path, "case_id,y_true,prob", "a,1,0.75", "b,0,0.5")
    assert table.classes == ("0", "1")
    assert table.probabilities.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert table.target.tolist() == [[0, 1], [1, 0]]


def test_many_labels_have_a_column_each(tmp_path):
    table = read(tmp_path, "case_id,y_true_m,y_true_n,prob_n,prob_m", "1,0,1,0.5,0.9", "2,1,1,0,1")
    assert table.multilabel
    assert table.classes == ("n", "m")
    assert table.target.tolist() == [[1, 0], [1, 1]]


def test_a_column_beside_the_truth_does_not_make_it_many_labels(tmp_path):
    table = read(tmp_path, "case_id,y_true,y_true_name,prob_a,prob_b", "1,0,a,0.5,0.5")
    assert not table.multilabel
    assert table.target.tolist() == [[1, 0]]


def test_unlabelled_cases_have_no_target(tmp_path):
    assert read(tmp_path, "case_id,prob_a,prob_b", "1,0.5,0.5").target is None


@pytest.mark.parametrize("mark", [";", "\t"])
def test_spreadsheets_of_some_countries_part_cells_by_other_marks(tmp_path, mark):
    lines = ["case_id,y_true,prob_a,prob_b", "1,b,0.25,0.75"]
    table = read(tmp_path, "\ufeff" + lines[0].replace(",", mark), lines[1].replace(",", mark))
    assert (table.classes, table.target.tolist()) == (("a", "b"), [[0, 1]])


def test_text_of_two_bytes_a_character_is_refused_in_words(tmp_path):
    (tmp_path / "p.csv").write_text("case_id,y_true,prob_a,prob_b\n1,b,0.5,0.5", encoding="utf-16")
    with pytest.raises(errors.DataError, match="p.csv: predictions are UTF-8 text. Received: UTF-16, or no text$"):
        tables.read_csv(tmp_path / "p.csv")


def test_names_of_files_may_be_any_bytes(tmp_path):
    (tmp_path / "p.csv").write_text("case_id,prob_a,prob_b\nü,0.5,0.5", encoding="latin-1")
    assert tables.read_csv(tmp_path / "p.csv").case_id == ("\udcfc",)


HEADER, GOOD = "case_id,patient_id,y_true,prob_a,prob_b", "1,p,a,0.75,0.25"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([HEADER.replace("case_id", "id"), GOOD], "'case_id'"),
        ([HEADER, GOOD.replace("1,p", ",p")], "'case_id' is filled in every line"),
        ([HEADER, GOOD, GOOD.replace("1,p", "2,")], "'patient_id' is filled in every line or in none"),
        ([HEADER, GOOD.replace("0.75", "nan")], "between 0 and 1. Received: nan for case '1'"),
        ([HEADER, GOOD.replace("0.75", "")], "'prob_a' holds numbers. Received: '' in line 2"),
        ([HEADER, GOOD.replace("0.75", "0,75")], "line 2"),
        ([HEADER, GOOD.replace("0.75", "0.5")], "sum to 1. Received: 0.75 for case '1'"),
        ([HEADER, GOOD.replace("0.75", "75")], "between 0 and 1"),
        ([HEADER, GOOD.replace(",a,", ",ab,")], "Column 'y_true': Unknown class; did you mean"),
        ([HEADER, GOOD.replace(",a,", ",2,")], "Column 'y_true': Unknown class"),
        ([HEADER, GOOD, GOOD.replace("1,", "2,").replace(",a,", ",,")], "'y_true' is filled in every line or in none"),
        ([HEADER, GOOD, GOOD], "case_id appears once"),
        ([HEADER.replace("prob_b", "prob_a"), GOOD], "column appears once. Received: 'prob_a'"),
        (["case_id,y_true,prob_a", "1,a,1"], "'prob_CLASS' for every class"),
        (["case_id,y_true,score", "1,a,1"], "'prob_CLASS' for every class"),
        (["case_id,y_true_a,prob_a,prob_b", "1,1,0.5,0.2"], "'y_true_CLASS' for every 'prob_CLASS'"),
        (["case_id,y_true_a", "1,1"], "'prob_CLASS' for every class"),
        (["case_id,y_true_a,prob_a", "1,yes,0.5"], "'y_true_a' holds 0 or 1. Received: 'yes'"),
        (["case_id,y_true,prob", "1,cat,0.5"], "Column 'y_true': Unknown class. Known: 0, 1"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_column(tmp_path, lines, named):
    with pytest.raises(errors.DataError) as caught:
        read(tmp_path, *lines)
    assert str(caught.value).startswith(f"{tmp_path / 'p.csv'}: ")
    assert named in str(caught.value)
    assert "Received" in str(caught.value)


def test_a_table_may_be_written_again_as_ours(tmp_path):
    table = read(tmp_path, "case_id,y_true,prob_cat,prob_dog", "1,dog,0.25,0.75")
    table.write_csv(tmp_path / "own.csv")
    np.testing.assert_array_equal(tables.read_csv(tmp_path / "own.csv").probabilities, table.probabilities)
