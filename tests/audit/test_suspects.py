"""Suspects: what is planted is found, what is not planted is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medkeras import config
from medkeras.audit import survey, suspects
from medkeras.data import arrays, cases, schemes
from tests.audit import scenes

WORDS = ("DOE JOHN", "ID 123456", "12/03/1961", "PORTABLE AP", "se:3 im:12")


def examined(images: dict[str, np.ndarray]) -> dict[str, list[str]]:
    members = tuple(cases.Case(name, name, name) for name in images)
    case_set = cases.CaseSet("made", members, (), arrays.ArrayImages(images))
    measuring = suspects.Measuring(case_set.images)
    seen = survey.survey(dataclasses.replace(case_set, images=measuring))
    return {
        kind: [each.case_id for each in found] for kind, found in suspects.find(seen.records, measuring.found).items()
    }


def made(count: int = 20) -> dict[str, np.ndarray]:
    return {f"{index:02d}": scenes.scene(index) for index in range(count)}


def test_nothing_is_suspected_of_ordinary_pictures() -> None:
    assert examined(made()) == {kind: [] for kind in suspects.KINDS}


def test_each_fault_is_found_and_nothing_else() -> None:
    images = made()
    images["03"] = np.full((96, 96), 77, np.uint8)
    images["05"] = images["05"] // 32
    images["07"] = 255 - images["07"]
    images["11"] = scenes.written(images["11"], "DOE JOHN 1961")
    images["13"] = np.pad(images["13"], ((12, 0), (0, 0)), constant_values=200)
    found = examined(images)
    assert found == {
        "constant": ["03"],
        "nearly_black": ["05"],
        "inverted": ["07"],
        "burned_in_header": [],
        "burned_in_text": ["11"],
        "borders": ["13"],
    }


@pytest.mark.parametrize("share", [0.05, 0.2, 0.45])
def test_the_minority_is_inverted_whatever_its_share(share) -> None:
    images = made(40)
    negative = [name for name in images if int(name) < share * 40]
    images |= {name: 255 - images[name] for name in negative}
    assert sorted(examined(images)["inverted"]) == negative


def test_no_polarity_is_told_where_pictures_have_nothing_in_common() -> None:
    rng = np.random.default_rng(0)
    images = {f"{index:02d}": rng.integers(0, 255, (32, 32)).astype(np.uint8) for index in range(30)}
    assert examined(images)["inverted"] == []


def test_16_bit_and_signed_values_are_judged_by_their_own_kind() -> None:
    images = {name: image.astype(np.float32) * 8 - 1024 for name, image in made().items()}
    images["04"] = (images["04"] + 1024) / 64 - 1024
    found = examined(images)
    assert found["nearly_black"] == ["04"]
    assert found["constant"] == []


@pytest.mark.parametrize("size", [8, 10, 12, 14])
def test_writing_is_found_at_usual_sizes(size) -> None:
    hits = [
        suspects.measure(
            scenes.written(scenes.scene(index, side=224), words, size=size, bottom=index % 2 == 0)[..., np.newaxis]
        )
        for index in range(6)
        for words in WORDS
    ]
    assert np.mean([each.strokes > 0 for each in hits]) >= 0.85


def test_dark_writing_on_white_is_found_too() -> None:
    negative = 255 - scenes.written(scenes.scene(1, side=224), "PORTABLE AP", size=12)
    assert suspects.measure(negative[..., np.newaxis]).strokes > 0


def test_phantoms_are_not_suspected() -> None:
    case_set = schemes.read(config.DataConfig(), seed=0)
    found = [suspects.measure(case_set.images.read(case, 1)) for case in case_set.cases[:200]]
    assert [each for each in found if each.strokes or each.bars >= 0.01] == []


@pytest.mark.parametrize(
    ("padding", "expected"),
    [(((10, 0), (0, 0)), 10 / 106), (((0, 0), (6, 6)), 12 / 108), (((4, 4), (4, 4)), 1 - (96 / 104) ** 2)],
)
def test_bars_are_measured_as_a_share_of_the_picture(padding, expected) -> None:
    full = np.random.default_rng(0).uniform(0.4, 0.9, (96, 96))
    assert suspects.bars(np.pad(full, padding)) == pytest.approx(expected)


def test_volumes_are_measured_by_their_middle_slice() -> None:
    volume = np.zeros((5, 96, 96, 1), np.uint8)
    volume[2, ..., 0] = scenes.scene(1)
    assert suspects.measure(volume) == suspects.measure(volume[2])
