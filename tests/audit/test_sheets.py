"""Contact sheets: what is shown, which cases, under which names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medkeras.audit import sheets
from medkeras.data import arrays, cases


def test_8_bits_stay_and_the_rest_is_windowed() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert sheets.shown(image) is image
    wide = sheets.shown(image.astype(np.uint16) * 257)
    assert (wide.min(), wide.max()) == (0, 255)
    assert np.abs(wide.astype(int) - image).max() <= 3
    flat = sheets.shown(np.full((4, 4, 1), -7.5, np.float32))
    assert flat.max() == 0


def test_hounsfield_units_are_shown_as_soft_tissue() -> None:
    image = np.array([[[-1000.0], [-160.0]], [[40.0], [3000.0]]], np.float32)
    assert sheets.shown(image, "HU")[..., 0].tolist() == [[0, 0], [128, 255]]


def test_a_volume_is_shown_by_its_middle_slice() -> None:
    volume = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 3, 1), np.uint8)
    assert (sheets.shown(volume) == 2).all()


def test_a_sheet_a_split_and_class_under_names_that_any_system_takes(tmp_path) -> None:
    labels = ["a/b", "a:b", "ä", ""]
    members = tuple(
        cases.Case(f"{number}", f"{number}", "", split=split, label=label)
        for number, (split, label) in enumerate((split, label) for split in ("train", "") for label in labels)
    )
    images = arrays.ArrayImages({case.path: np.zeros((8, 8), np.uint8) for case in members})
    pages = sheets.write(cases.CaseSet("x", members, (), images), members, tmp_path, seed=0)
    assert sorted(pages) == sorted(path.name for path in tmp_path.iterdir())
    assert len(pages) == 8
    assert {"contact_train_a-b.png", "contact_train_a-b_2.png", "contact_none_none.png"} <= set(pages)


def test_the_sample_is_a_function_of_the_seed() -> None:
    members = [cases.Case(str(number), str(number), "") for number in range(200)]
    one, again, other = (sheets.sample(members, 48, seed, "x") for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 48
    assert [int(case.case_id) for case in one] == sorted(int(case.case_id) for case in one)


def test_tiles_hold_the_pictures_and_a_hole_is_left_for_what_cannot_be_read() -> None:
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0] = 255
    page = np.asarray(sheets.sheet([("red", red), ("gone", None)], "title"))
    pixels = (page == (255, 0, 0)).all(axis=-1).sum()
    assert pixels == 128 * 64


@pytest.mark.parametrize(("size", "expected"), [((10, 20), (128, 64)), ((400, 100), (32, 128)), ((1, 5000), (128, 1))])
def test_thumbnails_keep_their_aspect(size, expected) -> None:
    picture = sheets.thumbnail(np.zeros((*size, 1), np.uint8), 128)
    assert isinstance(picture, Image.Image)
    assert picture.size == expected
