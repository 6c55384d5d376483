import csv
import dataclasses

import numpy as np
import pytest

from medkeras import errors
from medkeras.evaluation import cells
from medkeras.evaluation import predictions as tables

LETTERS = [
    "=",
    "+",
    "-",
    "@",
    "a",
    "Z",
    "|",
    "\\",
    ",",
    '"',
    "'",
    "\n",
    "\r",
    " ",
    "é",
    "肿",
    "🧠",
    ";",
    "\t",
    "<",
    "$",
    "\udc80",
]


def same(first, second):
    for field in dataclasses.fields(tables.Predictions):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other
    return True


def nasty_names(rng, count):
    names = {"".join(rng.choice(LETTERS, rng.integers(1, 8))) for _ in range(4 * count)}
    return tuple(sorted(names)[:count])


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_csv_round_trip_is_exact_whatever_the_names(tmp_path, multilabel, labelled):
    rng = np.random.default_rng(7)
    for _ in range(40):
        n, k = int(rng.integers(1, 9)), int(rng.integers(2, 6))
        probabilities = rng.random((n, k)).astype(np.float32) ** 8
        if not multilabel:
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        target = rng.integers(2, size=(n, k)) if multilabel else np.eye(k)[rng.integers(k, size=n)]
        table = tables.Predictions(
            case_id=nasty_names(rng, n),
            patient_id=tuple(rng.choice(LETTERS, n).tolist()),
            path=tuple(rng.choice(LETTERS, n).tolist()),
            split=("",) * n,
            classes=nasty_names(rng, k),
            target=target if labelled else None,
            probabilities=probabilities,
            multilabel=multilabel,
        )
        table.write_csv(tmp_path / "p.csv")
        assert same(table, tables.read_csv(tmp_path / "p.csv"))


def test_every_float32_survives(tmp_path, make_table):
    bits = np.random.default_rng(0).integers(0, 0x3F800000, size=(4000, 2), dtype=np.uint32)
    values = bits.view(np.float32)
    table = make_table(4000, 2, multilabel=True, probabilities=values)
    table.write_csv(tmp_path / "p.csv")
    assert (tables.read_csv(tmp_path / "p.csv").probabilities.view(np.uint32) == bits).all()


def test_columns_are_the_documented_ones(tmp_path, make_table):
    table = make_table(3, 2, target=np.array([[1, 0], [0, 1], [1, 0]]), probabilities=[[0.25, 0.75]] * 3)
    table.write_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        "case_id",
        "patient_id",
        "split",
        "path",
        "label",
        "prediction",
        "probability:a",
        "probability:b",
    ]
    assert rows[1] == ["case0", table.patient_id[0], "test", "0.png", "a", "b", "0.25", "0.75"]


def test_multilabel_cells_tell_nothing_present_from_unknown(tmp_path, make_table):
    table = make_table(2, 2, multilabel=True, target=np.array([[0, 0], [1, 1]]), probabilities=[[0.5, 0.1], [0, 0]])
    table.write_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["labels"], row["predictions"]) for row in rows] == [("|", "a"), ("a|b", "|")]


@pytest.mark.parametrize("labels", [(), ("a",), ("a|b",), ("a\\", "|b"), ("\\|", "x"), ("a\nb", "c\\\\")], ids=repr)
def test_joined_labels_split_again(labels):
    assert cells.split_labels(cells.join_labels(labels)) == labels


def test_spreadsheet_byte_order_mark_is_skipped(tmp_path, make_table):
    table = make_table(3, 2)
    table.write_csv(tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_bytes()
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbf" + text)
    assert same(table, tables.read_csv(tmp_path / "p.csv"))


HEADER = "case_id,patient_id,split,path,label,prediction,probability:a,probability:b"
GOOD = "1,1,test,1.png,a,a,0.75,0.25"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([], "'case_id'"),
        ([HEADER.replace("path,", ""), GOOD], "'path'"),
        ([HEADER.replace("label,", ""), GOOD], "'label'"),
        (["case_id,patient_id,split,path,label,prediction", "1,1,test,1.png,a,a"], "probability:CLASS"),
        ([HEADER, GOOD + ",9"], "line 2"),
        ([HEADER, GOOD.replace("0.75", "much")], "'probability:a'"),
        ([HEADER, GOOD.replace("0.75", "nan")], "probability:a"),
        ([HEADER, GOOD.replace("0.75", "1.5")], "probability:a"),
        ([HEADER, GOOD.replace("0.75", "0.5")], "sum to 1"),
        ([HEADER, GOOD.replace(",a,a,", ",aa,a,")], "Column 'label': Unknown class; did you mean 'a'"),
        ([HEADER, GOOD, GOOD], "case_id appears once"),
        ([HEADER, GOOD, GOOD.replace("1,1,", "2,2,").replace(",a,a,", ",,a,")], "every line or in none"),
        ([HEADER.replace(":b", ":a"), GOOD], "A column appears once"),
        ([HEADER.replace(":b", ":"), GOOD], "class name is not empty"),
        ([HEADER, '1,1,"test'], "readable CSV"),
    ],
)
def test_a_bad_file_is_one_sentence_with_file_and_column(tmp_path, lines, named):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(errors.DataError) as caught:
        tables.read_csv(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert named in str(caught.value)
    assert "Received" in str(caught.value)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(errors.DataError, match=r"none\.csv: .*No such file"):
        tables.read_csv(tmp_path / "none.csv")


def full(make_table, n=7):
    rng = np.random.default_rng(4)
    return make_table(
        n,
        3,
        metadata={
            "sex": tuple(rng.choice(["F", "M", ""], n).tolist()),
            "=site": tuple(rng.choice(LETTERS, n).tolist()),
        },
        sets=rng.random((n, 3)) < 0.5,
        abstain=rng.random(n) < 0.5,
        familiarity=rng.random(n).astype(np.float32),
    )


def test_optional_columns_survive_and_are_the_documented_ones(tmp_path, make_table):
    table = full(make_table)
    table.write_csv(tmp_path / "p.csv")
    assert same(table, tables.read_csv(tmp_path / "p.csv"))
    with open(tmp_path / "p.csv", newline="") as file:
        header = next(csv.reader(file))
    assert header[6:] == [
        *("meta:sex", "meta:=site", "probability:a", "probability:b", "probability:c"),
        *("in_set:a", "in_set:b", "in_set:c", "abstain", "familiarity"),
    ]


def test_no_cell_looks_like_a_formula(tmp_path, make_table):
    names = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\tx", "\r=1", "'=1", "''-", "it's")
    n = len(names)
    table = make_table(
        n, 3, case_id=names, patient_id=names, path=names, metadata={"m": names}, classes=("=a", "-b", "@")
    )
    table.write_csv(tmp_path / "p.csv")
    assert same(table, tables.read_csv(tmp_path / "p.csv"))
    with open(tmp_path / "p.csv", newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in tuple("=+-@\t\r")]


@pytest.mark.parametrize("rows", [[3, 0], np.arange(7) % 2 == 0], ids=["places", "mask"])
def test_some_of_the_cases(make_table, rows):
    table = full(make_table)
    part, kept = table.take(np.asarray(rows)), np.arange(7)[rows]
    assert part.case_id == tuple(f"case{i}" for i in kept)
    assert part.metadata["sex"] == tuple(table.metadata["sex"][i] for i in kept)
    for name in ("target", "probabilities", "sets", "abstain", "familiarity"):
        np.testing.assert_array_equal(getattr(part, name), getattr(table, name)[kept])


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_familiarity_lies_between_0_and_1(make_table, value):
    with pytest.raises(errors.DataError, match="familiarity lies between 0 and 1"):
        make_table(2, 2, familiarity=np.array([0.5, value]))


@pytest.mark.parametrize("target", [[[1, 1]], [[0, 0]], [[0.5, 0.5]], [[2, -1]]])
def test_a_target_that_is_not_one_hot_is_refused(make_table, target):
    with pytest.raises(errors.DataError, match="single one among zeros"):
        make_table(1, 2, target=np.array(target))


def test_columns_of_different_lengths_are_our_fault(make_table):
    with pytest.raises(errors.InternalError, match="one row a case"):
        make_table(3, 2, path=("a.png",))


def test_decisions_take_the_first_of_equals_and_the_threshold_itself(make_table):
    assert make_table(1, 2, probabilities=[[0.5, 0.5]]).decisions.tolist() == [[1, 0]]
    assert make_table(1, 3, multilabel=True, probabilities=[[0.5, 0.49, 0.51]]).decisions.tolist() == [[1, 0, 1]]
