"""Near copies: planted ones are found, whatever was done to them; neighbours in one head are not taken for copies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from medkeras.audit import alignment, copies, near
from tests.audit import planted

PATIENTS = 24


def found_in(images: list[np.ndarray], **options: object) -> copies.Copies:
    members = [planted.case(str(position)) for position in range(len(images))]
    return near.find(members, planted.prints(images), **options)


def names(found: copies.Copies) -> list[list[str]]:
    return [[case.case_id for case in group.members] for group in found.groups]


@pytest.mark.parametrize("alteration", [*planted.ALTERED, *planted.SHIFTED])
def test_every_altered_copy_is_found_and_no_other_head(alteration) -> None:
    change = {**planted.ALTERED, **planted.SHIFTED}[alteration]
    heads = [image for _, image in planted.heads(PATIENTS)]
    found = found_in([*heads, *(change(image) for image in heads)], turns=False)
    right = [[str(position), str(position + PATIENTS)] for position in range(PATIENTS)]
    hits = [group for group in names(found) if group in right]
    assert len(hits) >= 0.95 * PATIENTS
    assert hits == names(found)
    assert {pair.kind for pair in found.pairs} <= {"altered", "shifted"}


def test_a_copy_of_32_pixels_is_found_beside_the_large_one() -> None:
    heads = [image for _, image in planted.heads(PATIENTS)]
    small = [np.asarray(Image.fromarray(head).resize((32, 32), Image.Resampling.BILINEAR)) for head in heads]
    right = [[str(position), str(position + PATIENTS)] for position in range(PATIENTS)]
    hits = [group for group in names(found_in([*heads, *small])) if group in right]
    assert len(hits) >= 0.9 * PATIENTS


def test_a_chain_of_pictures_is_no_group() -> None:
    """Discs of growing radius: each is like the next, and the first like none of the last."""
    rows, columns = np.mgrid[:96, :96] - 47.5
    radii = np.linspace(10, 44, 40)
    discs = [(255 * np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)).astype(np.uint8) for radius in radii]
    groups = names(found_in(discs))
    assert sum(map(len, groups)) > 20
    assert max(np.ptp([radii[int(name)] for name in group]) for group in groups) < 8


def test_copies_of_one_picture_are_one_group_however_they_are_turned() -> None:
    head, other = (image for _, image in planted.heads(2))
    changes = [*planted.TURNED.values(), planted.ALTERED["gamma"], planted.SHIFTED["cropped by 3%"]]
    copied = [planted.ALTERED["jpeg 95"](np.ascontiguousarray(change(head))) for change in changes]
    assert names(found_in([head, other, *copied])) == [[str(row) for row in range(10) if row != 1]]


def test_a_crop_is_told_from_another_alteration() -> None:
    heads = [image for _, image in planted.heads(8)]
    crop, gamma = planted.SHIFTED["cropped by 3%"], planted.ALTERED["gamma"]
    assert {pair.kind for pair in found_in([*heads, *map(crop, heads)]).pairs} == {"shifted"}
    assert {pair.kind for pair in found_in([*heads, *map(gamma, heads)]).pairs} == {"altered"}


@pytest.mark.parametrize("turn", planted.TURNED)
def test_a_turned_copy_is_found_and_named_by_its_turn(turn) -> None:
    heads = [image for _, image in planted.heads(8)]
    turned = [planted.ALTERED["jpeg 95"](np.ascontiguousarray(planted.TURNED[turn](image))) for image in heads]
    found = found_in([*heads, *turned])
    assert names(found) == [[str(position), str(position + 8)] for position in range(8)]
    assert {pair.kind for pair in found.pairs} == {turn}
    assert not found_in([*heads, *turned], turns=False).groups


def test_neighbouring_slices_are_no_copies() -> None:
    slices = planted.heads(60, 3, 96)
    neighbours = sum(one[0] == two[0] for one, two in itertools.combinations(slices, 2))
    found = found_in([image for _, image in slices])
    strangers = [
        pair for pair in found.pairs if slices[int(pair.first.case_id)][0] != slices[int(pair.second.case_id)][0]
    ]
    assert neighbours == 180
    assert len(found.pairs) <= 0.01 * neighbours
    assert not strangers


def test_slices_of_one_known_patient_are_no_copies_of_one_another() -> None:
    (_, head), (_, other) = planted.heads(2)
    images = [head, planted.ALTERED["gamma"](head), other, planted.ALTERED["gamma"](other)]
    members = [planted.case(str(row), patient=patient) for row, patient in enumerate(("a", "a", "b", "c"))]
    prints = planted.prints(images)
    assert names(near.find(members, prints, patients_known=True)) == [["2", "3"]]
    assert names(near.find(members, prints, patients_known=False)) == [["0", "1"], ["2", "3"]]


def test_exact_copies_stand_for_one_another() -> None:
    """The copy of a picture spans splits where only an exact copy of the picture does."""
    head = planted.heads(1)[0][1]
    splits = ("train", "train", "test")
    members = [planted.case(str(row), split) for row, split in enumerate(splits)]
    found = near.find(members, planted.prints([head, planted.ALTERED["darker"](head), head]))
    assert names(found) == [["0", "1", "2"]]
    assert len(found.across_splits) == 1
    assert len(found.pairs) == 1


def test_exact_copies_alone_are_not_near_copies() -> None:
    head = planted.heads(1)[0][1]
    assert found_in([head, head, head]) == copies.Copies()


def test_the_order_of_the_cases_does_not_matter() -> None:
    heads = [image for _, image in planted.heads(12)]
    images = [*heads, *(planted.ALTERED["gamma"](image) for image in heads)]
    members = [planted.case(str(row)) for row in range(len(images))]
    prints = planted.prints(images)
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    one = near.find(members, prints)
    two = near.find([members[row] for row in order], [prints[row] for row in order])
    assert {frozenset(group) for group in names(one)} == {frozenset(group) for group in names(two)}
    assert [pair.score for pair in one.pairs] == [pair.score for pair in two.pairs]
    assert near.find(members, prints) == one


@pytest.mark.parametrize("image", [np.zeros((40, 40), np.uint8), np.full((64, 64), 7, np.uint16)])
def test_pictures_without_detail_have_no_near_copies(image) -> None:
    assert not found_in([image, image + 1, np.tile(np.arange(64, dtype=np.uint8), (64, 1))]).groups


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_for_a_pair(count) -> None:
    assert found_in([image for _, image in planted.heads(1)][:count]) == copies.Copies()


def test_scores_and_order_of_pairs() -> None:
    head, other = (image for _, image in planted.heads(2))
    images = [head, planted.ALTERED["jpeg 50"](head), other, planted.ALTERED["jpeg 95"](other)]
    pairs = found_in(images).pairs
    assert [(pair.first.case_id, pair.second.case_id) for pair in pairs] == [("2", "3"), ("0", "1")]
    assert near.THRESHOLD <= pairs[1].score < pairs[0].score <= 1.0 + 1e-5


def test_correlation_is_pearsons_without_the_margin() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    expected = [np.corrcoef(a[2:-2, 2:-2].ravel(), b[2:-2, 2:-2].ravel())[0, 1] for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(alignment.correlation(one, two), expected, atol=1e-5)


def test_alignment_undoes_a_shift_and_a_scale() -> None:
    places = np.linspace(0, 1, 64, dtype=np.float32)
    moved = places * 0.97 + 0.01
    waves = [np.sin(23 * at)[:, np.newaxis] * np.cos(19 * at + 1)[np.newaxis] for at in (places, moved)]
    one, two = (wave[np.newaxis].astype(np.float32) for wave in waves)
    warp = alignment.align(one, two)
    assert alignment.correlation(one, two)[0] < 0.97
    assert alignment.correlation(one, alignment.warped(two, warp))[0] > 0.998
    np.testing.assert_allclose(warp[0, [0, 2]], 1 / 0.97 - 1, atol=3e-3)


def test_a_warp_of_nothing_changes_nothing() -> None:
    images = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(alignment.warped(images, np.zeros((2, 4), np.float32)), images, atol=1e-2)


def test_alignment_of_no_pairs() -> None:
    nothing = np.zeros((0, 64, 64), np.float32)
    assert alignment.align(nothing, nothing).shape == (0, 4)
