"""Every data scheme, and every mistake that a user makes with one."""

from __future__ import annotations

import csv
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.data import arrays, cases, schemes
from medkeras.data import folder as folder_module
from medkeras.data import table as table_module
from medkeras.privacy import pseudonyms


def write_image(path: pathlib.Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def tree(root: pathlib.Path, *folders: str, count: int = 12) -> str:
    for folder in folders:
        for i in range(count):
            write_image(root / folder / f"{i:02d}.png", i)
    return f"folder:{root}"


def load(source: str, **overrides: object) -> cases.CaseSet:
    settings = config.Config().override({"data.source": source, **overrides})
    return schemes.load(settings.data, seed=settings.seed)


def table(path: pathlib.Path, header: str, *rows: str) -> str:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return f"csv:{path}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"path,label,label\na.png,x,y\n", "each column stands once. Received: 'label' 2 times"),
        ("path,label\na.png,x\n".encode("utf-16"), "a table is UTF-8 text. Received: UTF-16, or no text"),
        ("path,label\na.png,x\n".encode("utf-16-le"), "a table is UTF-8 text. Received: UTF-16, or no text"),
    ],
)
def test_tables_in_which_something_would_count_in_silence_are_refused(text, sentence, tmp_path) -> None:
    (tmp_path / "cases.csv").write_bytes(text)
    with pytest.raises(errors.BadInputError, match=sentence):
        table_module.load(str(tmp_path / "cases.csv"), config.DataConfig())


def test_a_table_that_may_never_end_is_not_begun(tmp_path) -> None:
    os.mkfifo(tmp_path / "cases.csv")
    for place in (tmp_path / "cases.csv", pathlib.Path("/dev/zero"), tmp_path):
        with pytest.raises(errors.BadInputError, match="regular file"):
            table_module.load(str(place), config.DataConfig())


@pytest.mark.parametrize("header", ["PatientID;Label", "patient_id\tlabel", '"SOPInstanceUID";"label"'])
def test_a_header_tells_its_separator_however_it_is_spelled(header) -> None:
    assert table_module._separator(header + "\r\n") in ";\t"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_of_spreadsheets_are_read_whatever_parts_their_cells(separator, mark, tmp_path) -> None:
    rows = [
        ("path", "label", "patient_id", "note; two"),
        ("a.png", "x; or, y", "p1", "1,5"),
        ("b.png", "z", "p2", ""),
    ]
    with open(tmp_path / "cases.csv", "w", newline="", encoding="utf-8") as file:
        file.write(mark)
        csv.writer(file, delimiter=separator).writerows(rows)
    found = table_module.load(str(tmp_path / "cases.csv"), config.DataConfig(metadata="note; two"))
    assert [(case.label, case.patient_id) for case in found.cases] == [("x; or, y", "p1"), ("z", "p2")]


@pytest.mark.parametrize(("training", "testing"), [("Training", "Testing"), ("train", "test"), ("TRAIN", "Test")])
def test_folder_keeps_the_splits_it_finds(tmp_path, training, testing) -> None:
    found = load(tree(tmp_path, f"{training}/b", f"{training}/a", f"{testing}/b", f"{testing}/a"))
    assert found.classes == ("a", "b")
    counts = cases.counts(found.cases)
    assert counts["test"] == {"a": 12, "b": 12}
    assert {label: counts["train"][label] + counts["validation"][label] for label in "ab"} == {"a": 12, "b": 12}


def test_folder_without_splits_is_carved_and_counts_what_it_leaves_aside(tmp_path) -> None:
    source = tree(tmp_path, "cat", "dog/deeper", count=20)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / ".hidden.png").write_text("not seen")
    found = load(source)
    assert found.classes == ("cat", "dog")
    assert len(found.cases) == 40
    assert any("1 files are not images by their names" in note and "notes.txt" in note for note in found.notes)
    assert found.cases[20].case_id == "dog/deeper/00.png"


def test_images_outside_class_folders_and_linked_folders_are_counted(tmp_path) -> None:
    source = tree(tmp_path / "scans", "train/a", "train/b")
    write_image(tmp_path / "scans" / "train" / "stray.png")
    write_image(tmp_path / "scans" / "top.png")
    (tmp_path / "scans" / "train" / "a" / "loop").symlink_to(tmp_path / "scans")
    found = load(source)
    assert len(found.cases) == 24
    assert any(note.startswith("2 files lie in no class folder") and "stray.png" in note for note in found.notes)
    assert any(note.endswith("were left aside: loop/") for note in found.notes)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    tree(tmp_path, "a", count=1)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        list(folder_module.image_paths(tmp_path / "a"))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "needs class folders with images"),
        (["only"], "two classes or more. Received: only"),
        (["train/a", "train/b", "strange/a"], "only split folders .* Received: 'strange'"),
    ],
)
def test_folder_mistakes(tmp_path, folders, message) -> None:
    with pytest.raises(errors.DataError, match=message):
        load(tree(tmp_path, *folders))


def test_an_empty_class_folder_and_a_missing_folder_are_refused(tmp_path) -> None:
    source = tree(tmp_path, "a", "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(errors.DataError, match="Every class folder holds an image. Received: .*/c, without one"):
        load(source)
    with pytest.raises(errors.DataError, match="needs a folder that exists. Received: '/no/such/folder'"):
        load("folder:/no/such/folder")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("foldr:x", "Unknown data scheme; did you mean 'folder'"),
        ("folder:", "Data are written folder:PLACE"),
        ("csv", "Data are written csv:PLACE"),
        ("scans", "Data are phantom, or written SCHEME:PLACE with a scheme of csv, .* Received: 'scans'"),
    ],
)
def test_a_source_that_is_not_scheme_and_place(source, message) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        load(source)


def test_csv_reads_patients_splits_and_labels(tmp_path) -> None:
    rows = [f"i/{i}.png,{'xy'[i % 2]},P{i // 2},{('train', 'val', 'test')[i // 2 % 3]}" for i in range(12)]
    found = load(table(tmp_path / "t.csv", "path,label,patient_id,split", *rows))
    assert found.patients_known
    assert found.notes == ()
    patient = pseudonyms.pseudonym(pseudonyms.load_key(None), "P2")
    assert found.cases[5] == cases.Case("i/5.png", str(tmp_path / "i/5.png"), patient, "test", "y")


def test_csv_orders_numbers_by_value_and_joins_several_labels(tmp_path) -> None:
    rows = [f"{i}.png,{labels}" for i, labels in enumerate(["10", "9|10", "", "9"] * 10)]
    found = load(table(tmp_path / "t.csv", "path,labels", *rows))
    assert found.multilabel
    assert found.classes == ("9", "10")
    assert [case.labels for case in found.cases[:4]] == [("10",), ("9", "10"), (), ("9",)]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,lable", ["a.png,x"], "has the column 'label'; is 'lable' meant"),
        ("file,label", ["a.png,x"], "has the column 'path'"),
        ("a.png,DOE^JANE", ["b.png,DOE^JANE"], "has the column 'path'. Received: a first line of 2 cells, none of"),
        (
            "path,label",
            ["a.png,x", "a.png,y"],
            "each path stands in one row. Received: '.*a.png' twice, labelled 'x' and 'y'",
        ),
        ("path,label", ["a.png,x", "b.png,"], "'label' is filled in every row. Received: line 3"),
        ("path,label", ["a.png"], "as many cells as the header. Received: line 2"),
        (
            "path,label,split",
            ["a.png,x,hold-out"],
            "a split is train, validation or test. Received: 'hold-out' in line 2",
        ),
        ("path,label", [], "a header and at least one row"),
        ("case_id,path,label", ["1,a.png,x", "1,b.png,y"], "each case_id stands in one row"),
    ],
)
def test_csv_mistakes_name_the_file_and_the_line(tmp_path, header, rows, message) -> None:
    with pytest.raises(errors.DataError, match=message) as caught:
        load(table(tmp_path / "t.csv", header, *rows))
    assert str(tmp_path / "t.csv") in str(caught.value)


def test_csv_takes_true_and_false_as_labels_like_any_other(tmp_path) -> None:
    rows = [f"{i}.png,{i % 2 == 0}" for i in range(40)]
    assert load(table(tmp_path / "t.csv", "path,label", *rows)).classes == ("False", "True")


@pytest.mark.parametrize("column", ["label", "labels"])
def test_csv_in_another_encoding_than_utf8_is_refused_before_its_classes_are_used(tmp_path, column) -> None:
    (tmp_path / "t.csv").write_bytes(f"path,{column}\na.png,Tumör\n".encode("latin-1"))
    with pytest.raises(errors.BadInputError, match=r"class names are UTF-8 text. Received: 'Tum.*r' in line 2"):
        load(f"csv:{tmp_path / 't.csv'}")


def test_words_that_look_like_numbers_have_one_order() -> None:
    names = ["nan", "b", "inf", "10", "9", "-infinity"]
    for turn in range(len(names)):
        shown = sorted(names[turn:] + names[:turn], key=table_module.natural_key)
        assert shown == ["9", "10", "-infinity", "b", "inf", "nan"]


def test_several_labels_need_one_class_at_least(tmp_path) -> None:
    with pytest.raises(errors.DataError, match="a class that some case has. Received: cases without any label"):
        load(table(tmp_path / "t.csv", "path,labels", *(f"{i}.png," for i in range(40))))


def test_csv_repeats_are_found_by_the_file_that_is_meant(tmp_path) -> None:
    with pytest.raises(errors.DataError, match="each path stands in one row"):
        load(table(tmp_path / "t.csv", "path,label", "a.png,x", "./a.png,y"))


def archive(path: pathlib.Path, **arrays_: np.ndarray) -> str:
    np.savez(path, **arrays_)
    return f"npz:{path}"


def test_npz_in_the_medmnist_layout(tmp_path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 6, 5, 3), np.uint8)
    labels = np.arange(30)[:, None] % 3
    found = load(
        archive(
            tmp_path / "set.npz",
            train_images=images, train_labels=labels, val_images=images[:6], val_labels=labels[:6],
            test_images=images[:9], test_labels=labels[:9],
        )
    )  # fmt: skip
    assert found.classes == ("0", "1", "2")
    assert cases.counts(found.cases)["test"] == {"0": 3, "1": 3, "2": 3}
    last = found.cases[-1]
    assert last.label == "2"
    assert np.array_equal(found.images.read(last, 3), images[8])
    assert found.images.header(last) == cases.ImageHeader(6, 5, 3, "uint8")


def test_npz_multi_hot_labels_become_several_labels(tmp_path) -> None:
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]] * 20)
    images = np.zeros((60, 4, 4), np.uint16)
    found = load(archive(tmp_path / "m.npz", train_images=images, train_labels=labels))
    assert found.multilabel
    assert [case.labels for case in found.cases[:3]] == [("0", "2"), (), ("1",)]


@pytest.mark.parametrize(
    ("arrays_", "message"),
    [
        ({"images": np.zeros(3)}, "has train_images and train_labels. Received: images"),
        ({"train_images": np.zeros((2, 4, 4, 4, 4)), "train_labels": np.zeros((2, 1))}, r"\[N, H, W\] or"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.zeros((3, 1))}, "Received: 2 images, 3 labels"),
        ({"train_images": np.array(["a"]), "train_labels": np.zeros((1, 1))}, "numbers. Received"),
        (
            {"train_images": np.zeros((2, 4, 4)), "train_labels": np.array([0, np.nan])},
            r"whole numbers. Received: float",
        ),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.array([0, 0.5])}, "whole numbers. Received: float64"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.zeros((2, 1, 3))}, r"Received: float64 \[2, 1, 3\]"),
        ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.array([[0, 2], [1, 0]])}, "0 or 1. Received: 0 to 2"),
        (
            {
                "train_images": np.zeros((2, 4, 4)),
                "train_labels": np.eye(2),
                "test_images": np.zeros((2, 4, 4)),
                "test_labels": np.eye(3)[:2],
            },
            r"one width. Received: train_labels \[2, 2\], test_labels \[2, 3\]",
        ),
    ],
)
def test_npz_mistakes(tmp_path, arrays_, message) -> None:
    with pytest.raises(errors.BadInputError, match=message):
        load(archive(tmp_path / "bad.npz", **arrays_))


def test_npz_names_classes_alike_whatever_the_type_of_their_numbers(tmp_path) -> None:
    images, labels = np.zeros((40, 4, 4)), np.arange(40.0) % 2
    assert load(archive(tmp_path / "f.npz", train_images=images, train_labels=labels)).classes == ("0", "1")


def test_npz_refuses_pixels_that_are_no_numbers(tmp_path) -> None:
    images = np.zeros((40, 4, 4))
    images[3, 2, 1] = np.nan
    found = load(archive(tmp_path / "n.npz", train_images=images, train_labels=np.arange(40) % 2))
    with pytest.raises(errors.BadInputError, match="train/00003: pixels are finite numbers"):
        found.images.read(next(case for case in found.cases if case.path == "train/00003"), 1)


def test_npz_refuses_what_is_no_archive_and_never_unpickles(tmp_path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "pickle.npz", train_images=np.array([{}], object), train_labels=np.zeros((1, 1)))
    for name in ("text.npz", "pickle.npz"):
        with pytest.raises(errors.BadInputError, match="is not a readable .npz archive"):
            load(f"npz:{tmp_path / name}")


def test_spooled_images_come_back_at_random(tmp_path) -> None:
    spool = arrays.SpooledImages()
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (3 + i, 4, 3), np.uint8) for i in range(5)]
    for i, image in enumerate(images):
        spool.append(str(i), image)
    for i in (3, 0, 4):
        case = cases.Case(case_id=str(i), path=str(i), patient_id="")
        assert np.array_equal(spool.read(case, 3), images[i])
        assert spool.header(case).height == 3 + i


def test_colour_becomes_luminance_and_grey_is_repeated() -> None:
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert arrays.with_channels(colour, 1)[..., 0].tolist() == [[76, 150, 29, 9]]
    assert arrays.with_channels(colour[..., 0], 3).tolist() == [[[255] * 3, [0] * 3, [0] * 3, [9] * 3]]


def test_the_real_chest_xrays_keep_their_given_splits(real_data) -> None:
    found = load(f"npz:{real_data / 'pneumoniamnist_subset.npz'}")
    counts = cases.counts(found.cases)
    assert {split: sum(row.values()) for split, row in counts.items()} == {
        "train": 3882,
        "validation": 524,
        "test": 624,
    }


def test_a_written_table_of_a_phantom_reads_back(tmp_path) -> None:
    from_memory = load("phantom")
    rows = [(case.case_id, case.label, case.patient_id, case.split) for case in from_memory.cases]
    with open(tmp_path / "p.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "patient_id", "split"), *rows])
    again = load(f"csv:{tmp_path / 'p.csv'}")
    assert [(case.case_id, case.label, case.split) for case in again.cases] == [(r[0], r[1], r[3]) for r in rows]


@pytest.mark.parametrize("names", ["sex", "age, sex,,"])
def test_metadata_that_were_asked_for_go_with_the_case_and_no_other(tmp_path, names):
    source = table(tmp_path / "t.csv", "path,label,sex,age,name", "a.png,x, F ,61,Jane")
    (case,) = schemes.read(config.DataConfig(source=source, metadata=names), seed=0).cases
    assert dict(case.metadata)["sex"] == "F"
    assert "Jane" not in repr(case)


@pytest.mark.parametrize("name", ["patient_id", "sexx", "label"])
def test_metadata_that_are_none_are_refused(tmp_path, name):
    source = table(tmp_path / "t.csv", "path,label,sex", "a.png,x,F")
    with pytest.raises(errors.UserError, match=name):
        schemes.read(config.DataConfig(source=source, metadata=name), seed=0)


def test_the_phantom_knows_sex_and_age():
    found = schemes.read(config.DataConfig(metadata="sex"), seed=0).cases
    assert {dict(case.metadata)["sex"] for case in found} == {"F", "M"}
    with pytest.raises(errors.ConfigError, match="Known: age, sex. Received: 'seks'"):
        schemes.read(config.DataConfig(metadata="seks"), seed=0)
