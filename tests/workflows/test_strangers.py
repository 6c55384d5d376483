"""What the input gate is asked about, without a training."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medkeras import errors
from medkeras.workflows import strangers


@pytest.fixture(name="folder")
def folder_fixture(tmp_path):
    """Makes a folder with one image and returns it."""

    def make(name: str):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name / "a.png")
        return tmp_path / name

    return make


@pytest.mark.parametrize("fault", ["nowhere", "a file", "empty"])
def test_foreign_images_that_are_not_there_are_refused_before_a_training(folder, tmp_path, fit, fault) -> None:
    good = folder("good")
    (tmp_path / "empty").mkdir()
    place = {"nowhere": tmp_path / "nowhere", "a file": good / "a.png", "empty": tmp_path / "empty"}[fault]
    with pytest.raises(errors.DataError, match="Received: .*" + place.name):
        fit(tmp_path / "work", evaluation__foreign=f"{good}, {place}")
    assert not (tmp_path / "work").exists()


def test_folders_of_one_name_are_two_families_and_none_is_a_made_one(folder) -> None:
    places = [folder(name) for name in ("a/cells", "b/cells", "photos", "noise")]
    found = strangers._named(", ".join(map(str, places)))
    assert list(found.values()) == places
    assert list(found) == [str(places[0]), str(places[1]), "photos", str(places[3])]


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1000, 3000), (0, 1), (-1, 1), (0, 12)])
def test_the_wrong_scale_is_not_the_right_one(low, high) -> None:
    images = np.random.default_rng(0).uniform(low, high, (3, 8, 8, 1))
    changed = strangers.FAMILIES["wrong_scale"](images)
    ratio = np.ptp(images) / np.ptp(changed)
    assert max(ratio, 1 / ratio) > 15
    assert changed.min() == 0


def test_a_blank_image_has_no_scale_to_be_wrong() -> None:
    assert np.isfinite(strangers.FAMILIES["wrong_scale"](np.full((2, 8, 8, 1), 7.0))).all()
