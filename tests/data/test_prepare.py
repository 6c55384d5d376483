"""One look at every image: the canvas, the stores, what cannot be read, and the fingerprint."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.data import arrays, cases, files, pipeline, prepare, store

SPLITS = ("train",) * 6 + ("validation",) * 3 + ("test",) * 3


def pixels(index: int, *, size: tuple[int, int] = (8, 8), high: int = 256) -> np.ndarray:
    dtype = np.uint8 if high <= 256 else np.uint16
    return np.random.default_rng(index).integers(0, high, size, dtype)


def write(folder: pathlib.Path, *, form: str = "png", **options: object) -> cases.CaseSet:
    """Writes twelve files and returns their cases."""
    paths = [folder / f"{index:02d}.{form}" for index in range(len(SPLITS))]
    for index, path in enumerate(paths):
        Image.fromarray(pixels(index, **options)).save(path)
    members = [
        cases.Case(case_id=path.name, path=str(path), patient_id=path.name, split=split, label="ab"[index % 2])
        for index, (path, split) in enumerate(zip(paths, SPLITS, strict=True))
    ]
    return cases.CaseSet("made", tuple(members), ("a", "b"), files.FileImages())


def ready(case_set: cases.CaseSet, *, canvas: store.Canvas | None = None, **overrides: object) -> prepare.Prepared:
    settings = config.Config().override({f"data.{name}": value for name, value in overrides.items()}).data
    return prepare.prepare(case_set, settings, canvas=canvas, folder=pathlib.Path(case_set.cases[0].path).parent)


def images(data: prepare.Prepared, split: str) -> np.ndarray:
    """Every image of a split, in its order, as batches bring them."""
    members = data.stores[split].cases
    batches = pipeline.evaluation_dataset(data.stores[split], np.zeros((len(members), 2)), batch_size=4)
    parts = [batch["image"][batch["weight"] > 0] for batch in batches.as_numpy_iterator()]
    return np.concatenate(parts)


def held(*arrays_: np.ndarray) -> cases.CaseSet:
    """Cases in memory, all of them in training."""
    table = {str(index): array for index, array in enumerate(arrays_)}
    members = [cases.Case(name, name, name, "train", "ab"[index % 2]) for index, name in enumerate(table)]
    return cases.CaseSet("held", tuple(members), ("a", "b"), arrays.ArrayImages(table))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(8, 6)] * 3, 8),
        ([(10, 30), (40, 20), (50, 50)], 40),
        ([(300, 20), (500, 500), (224, 9)], 224),
        ([(9, 9), (10, 10)], 9),
    ],
)
def test_the_canvas_is_the_median_of_the_longer_sides_up_to_224(shapes, expected) -> None:
    data = ready(held(*(np.zeros(shape, np.uint8) for shape in shapes)))
    assert data.canvas == store.Canvas((expected, expected), 1, "uint8", "pad")


def test_the_asked_size_and_mode_win() -> None:
    data = ready(held(np.zeros((9, 9), np.uint8)), image_size=300, resize="stretch")
    assert data.canvas == store.Canvas((300, 300), 1, "uint8", "stretch")
    assert (data.canvas.shape, data.canvas.nbytes) == ((300, 300, 1), 90000)


@pytest.mark.parametrize(
    ("others", "channels", "dtype"),
    [
        ([], 1, "uint8"),
        ([np.zeros((8, 8, 3), np.uint8)], 3, "uint8"),
        ([np.zeros((8, 8), np.uint16)], 1, "uint16"),
        ([np.zeros((8, 8), np.uint16), np.zeros((8, 8, 3), np.float32)], 3, "float32"),
    ],
)
def test_one_wide_or_coloured_image_decides_for_all(others, channels, dtype) -> None:
    data = ready(held(np.full((8, 8), 7, np.uint8), *others))
    assert (data.canvas.channels, data.canvas.dtype) == (channels, dtype)
    batch = images(data, "train")
    assert batch.shape == (1 + len(others), 8, 8, channels)
    assert batch.dtype == dtype
    assert np.all(batch[0] == 7)


@pytest.mark.parametrize("options", [{"high": 65536, "size": (5, 8)}, {"form": "jpg", "size": (9, 5)}])
def test_every_store_gives_the_same_images(tmp_path, options) -> None:
    case_set = write(tmp_path, **options)
    kept = {policy: ready(case_set, cache=policy) for policy in ("memory", "disk", "none")}
    assert len({data.fingerprint for data in kept.values()}) == 1
    for split, count in (("train", 6), ("validation", 3), ("test", 3)):
        memory, disk, none = (images(data, split) for data in kept.values())
        assert len(memory) == count
        assert np.array_equal(memory, disk)
        assert np.array_equal(memory, none)


def test_stored_values_reach_the_batch_as_they_are(tmp_path) -> None:
    for high, dtype in ((256, "uint8"), (65536, "uint16")):
        folder = tmp_path / dtype
        folder.mkdir()
        data = ready(write(folder, high=high), cache="none")
        expected = np.stack([pixels(index, high=high) for index in range(6)])[..., np.newaxis]
        assert data.canvas.dtype == dtype
        assert np.array_equal(images(data, "train"), expected)
    assert expected.max() > 60000


def test_files_of_both_decoders_stand_in_one_split_in_order(tmp_path) -> None:
    case_set = write(tmp_path)
    swapped = []
    for index, case in enumerate(case_set.cases):
        path = case.path
        if index % 3 == 1:
            path = path.replace(".png", ".pgm")
            Image.fromarray(pixels(index)).save(path)
        swapped.append(dataclasses.replace(case, path=path))
    data = ready(case_set.replace_cases(swapped), cache="none")
    assert np.array_equal(images(data, "train")[..., 0], [pixels(index) for index in range(6)])


def test_the_value_range_is_measured_on_training_unless_the_data_are_bytes() -> None:
    assert ready(held(np.full((4, 4), 9, np.uint8))).value_range == (0.0, 255.0)
    wide = held(*(np.full((4, 4), value, np.uint16) for value in (30, 500, 60000)))
    assert ready(wide).value_range == (30.0, 60000.0)
    members = [
        dataclasses.replace(case, split=split)
        for case, split in zip(wide.cases, ("train", "train", "test"), strict=True)
    ]
    assert ready(wide.replace_cases(members)).value_range == (30.0, 500.0)
    assert ready(held(np.full((4, 4), -1000.5, np.float32), np.ones((4, 4), np.uint8))).value_range == (-1000.5, 1.0)


def break_(case_set: cases.CaseSet, *positions: int) -> list[str]:
    """Damages files: an unknown header, or a header alone; returns their names."""
    for position in positions:
        path = pathlib.Path(case_set.cases[position].path)
        path.write_bytes(b"no picture" if position % 2 else path.read_bytes()[:60])
    return [case_set.cases[position].path for position in positions]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
@pytest.mark.parametrize("position", [2, 3])
def test_an_unreadable_file_is_named(tmp_path, cache, position) -> None:
    case_set = write(tmp_path)
    (name,) = break_(case_set, position)
    with pytest.raises(errors.BadInputError, match=re.escape(name)) as caught:
        ready(case_set, cache=cache)
    assert "data.on_error=skip leaves such files out" in str(caught.value)
    assert caught.value.path == name


def test_the_first_unreadable_file_is_named_with_the_number_of_others(tmp_path) -> None:
    case_set = write(tmp_path)
    names = break_(case_set, 1, 3, 5, 7, 9)
    with pytest.raises(errors.BadInputError) as caught:
        ready(case_set)
    assert str(caught.value).startswith(names[0] + ": ")
    assert f"(and 4 more files: {names[1]}, {names[2]}, {names[3]}, …)" in str(caught.value)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_skipped_files_leave_the_others_in_their_places(tmp_path, cache) -> None:
    case_set = write(tmp_path)
    names = break_(case_set, 2, 3, 11)
    data = ready(case_set, cache=cache, on_error="skip", max_errors=0.25)
    assert [error.path for error in data.unreadable] == [names[1], names[2], names[0]]
    assert [case.case_id for case in data.case_set.cases] == [f"{i:02d}.png" for i in (0, 1, 4, 5, 6, 7, 8, 9, 10)]
    assert [case.case_id for case in data.stores["train"].cases] == ["00.png", "01.png", "04.png", "05.png"]
    assert np.array_equal(images(data, "train")[..., 0], [pixels(index) for index in (0, 1, 4, 5)])
    assert np.array_equal(images(data, "test")[..., 0], [pixels(index) for index in (9, 10)])
    assert any(note.startswith("3 unreadable files were skipped: ") for note in data.case_set.notes)


def test_more_unreadable_files_than_allowed_are_too_many(tmp_path) -> None:
    case_set = write(tmp_path)
    break_(case_set, 2, 3, 11)
    with pytest.raises(errors.DataError, match=r"At most 20\.0% .*data\.max_errors.* Received: 3 of 12"):
        ready(case_set, on_error="skip", max_errors=0.2)


@pytest.mark.parametrize("positions", [(9, 10, 11), range(12)])
def test_a_split_without_a_readable_file_is_refused(tmp_path, positions) -> None:
    case_set = write(tmp_path)
    break_(case_set, *positions)
    with pytest.raises(errors.DataError, match=r"Every split keeps a case that can be read. Received: test"):
        ready(case_set, on_error="skip", max_errors=1.0)


def test_a_given_canvas_refuses_values_that_it_would_cut_off(tmp_path) -> None:
    case_set = write(tmp_path, high=65536)
    with pytest.raises(errors.BadInputError, match=r"00\.png: the model takes uint8 values\. Received: uint16"):
        ready(case_set, canvas=store.Canvas((8, 8), 1, "uint8", "pad"))
    narrow = ready(held(np.full((8, 8), 200, np.uint8)), canvas=store.Canvas((8, 8), 3, "float32", "pad"))
    assert np.array_equal(images(narrow, "train"), np.full((1, 8, 8, 3), 200, np.float32))


def test_the_fingerprint_tells_pixels_labels_and_splits_apart_but_not_orders(tmp_path) -> None:
    case_set = write(tmp_path)
    found = [ready(case_set).fingerprint]
    assert ready(case_set.replace_cases(case_set.cases[::-1])).fingerprint == found[0]
    for change in ({"label": "b"}, {"split": "test"}, {"case_id": "new"}, {"labels": ("a", "b")}):
        first = dataclasses.replace(case_set.cases[0], **change)
        found.append(ready(case_set.replace_cases((first, *case_set.cases[1:]))).fingerprint)
    changed = pixels(0)
    changed[3, 4] ^= 1
    Image.fromarray(changed).save(case_set.cases[0].path)
    found.append(ready(case_set).fingerprint)
    assert len(set(found)) == len(found)
    assert all(re.fullmatch("[0-9a-f]{64}", fingerprint) for fingerprint in found)


def test_a_file_that_went_away_or_changed_its_kind_is_found(tmp_path) -> None:
    case_set = write(tmp_path)
    data = ready(case_set, cache="none")
    assert prepare.changed(data) is None
    Image.fromarray(pixels(7, high=65536)).save(case_set.cases[7].path)
    assert str(prepare.changed(data)) == f"{case_set.cases[7].path}: the model takes uint8 values. Received: uint16"
    pathlib.Path(case_set.cases[4].path).unlink()
    assert str(prepare.changed(data)) == f"{case_set.cases[4].path}: there is no such file"


def test_progress_counts_every_case_twice(tmp_path) -> None:
    seen = []

    def track(items, total, description):
        seen.append((description, total))
        return items

    prepare.prepare(write(tmp_path), config.DataConfig(), folder=tmp_path, track=track)
    assert seen == [("Looking at headers", 12)] + [("Reading images", count) for count in (6, 3, 3)]
