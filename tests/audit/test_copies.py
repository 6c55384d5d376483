"""Exact copies by their pixels, what is counted of them, what leaves training, and fingerprints."""

from __future__ import annotations

import collections
import hashlib
import pathlib
import random

import numpy as np
import pytest
from PIL import Image

from medkeras.audit import copies, fingerprints, survey
from medkeras.data import arrays, cases, folder
from tests.audit import planted

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30, 1), np.uint8)
VOLUME = RNG.normal(size=(10, 12, 14, 1)).astype(np.float32)


def group(*members: cases.Case) -> copies.Copies:
    return copies.Copies((copies.Group(members),))


@pytest.mark.parametrize(
    "same",
    [
        np.repeat(GREY, 3, axis=2),
        GREY.astype(np.uint16),
        GREY.astype(np.float32),
        GREY.astype(">u2"),
        np.repeat(GREY, 3, axis=2).astype(np.float64),
        np.asfortranarray(GREY),
    ],
    ids=["three channels", "uint16", "float32", "big endian", "three of float64", "column order"],
)
def test_equal_pictures_have_equal_digests(same) -> None:
    assert fingerprints.digest(same) == fingerprints.digest(GREY)


@pytest.mark.parametrize(
    "other",
    [
        GREY.transpose(1, 0, 2),
        GREY[::-1],
        GREY.reshape(30, 20, 1),
        GREY.astype(np.uint16) + 256,
        GREY.astype(np.float32) + 0.5,
        GREY.astype(np.float32) - 1.0,
        np.concatenate([GREY, GREY, GREY ^ 1], axis=2),
        GREY[np.newaxis],
    ],
)
def test_other_pictures_have_other_digests(other) -> None:
    assert fingerprints.digest(other) != fingerprints.digest(GREY)


def test_one_pixel_changes_the_digest() -> None:
    for row, column in ((0, 0), (19, 29), (7, 11)):
        other = GREY.copy()
        other[row, column] ^= 1
        assert fingerprints.digest(other) != fingerprints.digest(GREY)


def test_minus_zero_is_zero() -> None:
    values = np.array([0.0, 0.5], np.float32).reshape(1, 2, 1)
    assert fingerprints.digest(values) == fingerprints.digest(values * np.array([-1, 1], np.float32).reshape(1, 2, 1))


@pytest.mark.parametrize("side", [64, 128, 640])
def test_a_thumbnail_is_the_mean_of_blocks(side) -> None:
    image = RNG.integers(0, 256, (side, side, 1), np.uint8)
    means = image.reshape(64, side // 64, 64, side // 64).mean(axis=(1, 3))
    expected = np.rint((means - means.min()) / np.ptp(means) * 255)
    assert np.abs(fingerprints.take(image).thumbnail - expected).max() <= 1


def test_a_thumbnail_of_any_size_is_pillows_box() -> None:
    image = RNG.integers(0, 256, (150, 210), np.uint8)
    means = np.asarray(Image.fromarray(image.astype(np.float32)).resize((64, 64), Image.Resampling.BOX))
    taken = fingerprints.take(image[..., np.newaxis])
    assert np.corrcoef(taken.thumbnail.ravel(), means.ravel())[0, 1] > 0.85
    assert taken.side == 150


def test_a_small_picture_is_interpolated() -> None:
    ramp = np.tile(np.arange(16, dtype=np.uint8), (16, 1))[..., np.newaxis]
    row = fingerprints.take(ramp).thumbnail[30].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert 0 < np.diff(row)[4:-4].min() <= np.diff(row).max() <= 5


def test_a_thumbnail_of_a_volume_shows_four_of_its_slices() -> None:
    volume = np.zeros((11, 8, 8, 1), np.float32)
    volume[2], volume[4], volume[6], volume[8] = 1, 2, 3, 4
    thumbnail = fingerprints.take(volume).thumbnail
    assert [int(thumbnail[y, x]) for y, x in ((9, 9), (9, 50), (50, 9), (50, 50))] == [0, 85, 170, 255]


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_of_one_value_is_flat(value) -> None:
    assert fingerprints.take(np.full((9, 9, 1), value, np.uint8)).flat
    assert not fingerprints.take(GREY).flat


def test_exact_copies_are_grouped_and_counted() -> None:
    a, b, c = (image for _, image in planted.heads(3))
    rows = [
        (planted.case("0", "train", "x"), a),
        (planted.case("1", "train", "x"), b),
        (planted.case("2", "test", "x"), a),
        (planted.case("3", "train", "y"), b),
        (planted.case("4", "validation", "x"), c),
        (planted.case("5", "test", "x"), a.astype(np.uint16)),
    ]
    found = copies.exact([case for case, _ in rows], planted.prints([image for _, image in rows]))
    assert [[case.case_id for case in each.members] for each in found.groups] == [["0", "2", "5"], ["1", "3"]]
    values = found.to_json()
    counted = {name: values[name] for name in ("groups", "cases", "across_splits", "conflicting_labels")}
    assert counted == {"groups": 2, "cases": 5, "across_splits": 1, "conflicting_labels": 1}
    assert values["members"][0] == {
        "case_ids": ["0", "2", "5"],
        "splits": ["train", "test", "test"],
        "labels": ["x"] * 3,
    }
    assert values["pairs"] == []


def test_cases_without_split_or_label_neither_leak_nor_conflict() -> None:
    each = copies.Group((planted.case("0"), planted.case("1", "train", "x"), planted.case("2", "", "x")))
    assert not each.across_splits
    assert not each.conflicting_labels


def test_labels_of_several_classes_conflict_as_sets() -> None:
    one, two = (cases.Case(str(n), str(n), str(n), labels=("x", "y")[: n + 1]) for n in range(2))
    assert copies.Group((one, two)).conflicting_labels
    assert not copies.Group((one, one)).conflicting_labels


def test_training_loses_first_then_validation_and_never_the_test() -> None:
    members = [
        planted.case("a", "train"), planted.case("b", "validation"), planted.case("c", "test"),
        planted.case("d", "train"), planted.case("e", "validation"),
        planted.case("f", "validation"), planted.case("g", "test"),
        planted.case("h", "train", "x"), planted.case("i", "train", "y"),
        planted.case("j", "train"),
    ]  # fmt: skip
    a, b, c, d, e, f, g, h, i, _ = members
    found = copies.Copies((copies.Group((a, b, c)), copies.Group((d, e)), copies.Group((f, g)), copies.Group((h, i))))
    kept, dropped = copies.drop_from_training(members, found)
    assert [case.case_id for case in dropped] == ["a", "b", "d", "f"]
    assert [case.case_id for case in kept] == ["c", "e", "g", "h", "i", "j"]


def test_groups_that_share_a_case_are_one() -> None:
    a, b, c = planted.case("a", "train"), planted.case("b", "train"), planted.case("c", "test")
    _, dropped = copies.drop_from_training([a, b, c], group(a, b), group(b, c))
    assert [case.case_id for case in dropped] == ["a", "b"]
    assert copies.drop_from_training([a, b, c]) == ((a, b, c), ())


@pytest.mark.parametrize("seed", range(20))
def test_after_dropping_no_copy_spans_two_splits(seed) -> None:
    draw = random.Random(seed)
    members = [planted.case(str(row), draw.choice(cases.SPLITS)) for row in range(40)]
    found = [group(*draw.sample(members, draw.randint(2, 4))) for _ in range(10)]
    kept, dropped = copies.drop_from_training(members, *found)
    ids = {case.case_id for case in kept}
    assert sorted([*kept, *dropped], key=lambda case: int(case.case_id)) == members
    assert all(case.split != "test" for case in dropped)
    for each in found:
        left = tuple(case for case in each.groups[0].members if case.case_id in ids)
        assert not copies.Group(left).across_splits


def test_a_survey_sees_every_case_once_and_in_order(tmp_path) -> None:
    picture = np.zeros((40, 60), np.uint8)
    picture[10:20, 15:45] = 200
    for name, image in (("b", picture), ("c", np.repeat(picture[..., np.newaxis], 3, axis=2))):
        (tmp_path / "x").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "x" / f"{name}.png")
    (tmp_path / "x" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    seen = survey.survey(folder.load(str(tmp_path)))
    one, two = seen.records
    assert [record.case.case_id for record in seen.records] == ["x/b.png", "x/c.png"]
    assert [error.path for error in seen.unreadable] == [str(tmp_path / "x" / "a.png")]
    assert one.fingerprint.digest == two.fingerprint.digest
    assert (one.low, one.high, one.header.channels, two.header.channels) == (0.0, 200.0, 1, 3)
    assert one.mean == pytest.approx(200 * 300 / 2400)
    assert one.std == pytest.approx(picture.std())
    assert one.border == pytest.approx(1 - 300 / 2400)
    assert (one.file_format, one.file_bytes) == ("PNG", (tmp_path / "x" / "b.png").stat().st_size)


def test_a_survey_of_arrays_and_of_volumes() -> None:
    members = (planted.case("plane"), planted.case("volume"))
    source = arrays.ArrayImages({"plane": GREY, "volume": VOLUME})
    seen = survey.survey(cases.CaseSet("set", members, ("x",), source))
    assert [record.fingerprint.digest for record in seen.records] == [
        fingerprints.digest(GREY),
        fingerprints.digest(VOLUME),
    ]
    assert {(record.file_bytes, record.file_format) for record in seen.records} == {(0, "")}
    assert seen.records[1].mean == pytest.approx(float(VOLUME.mean(dtype=np.float64)))


def _pillow(path: str) -> bytes:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).tobytes()


@pytest.mark.slow
def test_brain_mri_has_the_exact_copies_that_brute_force_finds(real_data) -> None:
    """Byte for byte, and value for value as Pillow decodes them: the same 300 groups of 726 cases."""
    case_set = folder.load(str(real_data / "brain_mri"))
    seen = survey.survey(case_set)
    members = [record.case for record in seen.records]
    found = copies.exact(members, [record.fingerprint for record in seen.records])
    ours = {frozenset(case.case_id for case in each.members) for each in found.groups}
    for brute in (
        lambda path: pathlib.Path(path).read_bytes(),
        _pillow,
    ):
        alike = collections.defaultdict(set)
        for case in case_set.cases:
            alike[hashlib.sha256(brute(case.path)).digest()].add(case.case_id)
        assert ours == {frozenset(ids) for ids in alike.values() if len(ids) > 1}
    assert (len(found.groups), len(found.across_splits), len(found.conflicting_labels)) == (300, 189, 0)
