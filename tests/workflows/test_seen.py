"""What a model has seen is known again by its pixels, whatever file shows them."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.data import arrays, cases, prepare, schemes, store
from medkeras.export import card
from medkeras.workflows import seen

CANVAS = store.Canvas(size=(12, 16), channels=1, dtype="uint8", mode="pad")
SPLITS = ("train", "validation", "test")


def prepared(pictures: dict[str, tuple[str, str, np.ndarray]], canvas: store.Canvas = CANVAS) -> prepare.Prepared:
    """Prepares pictures, name to (split, patient, pixels), from memory."""
    members = tuple(cases.Case(name, name, who, split=part) for name, (part, who, _) in pictures.items())
    images = arrays.ArrayImages({name: pixels for name, (_, _, pixels) in pictures.items()})
    case_set = cases.CaseSet("made", members, ("a",), images, patients_known=True)
    return prepare.prepare(case_set, config.DataConfig(cache="memory"), canvas=canvas)


def picture(number: int, side: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*side, 1), np.uint8)


def digests(folder: pathlib.Path, canvas: store.Canvas = CANVAS) -> dict[str, bytes]:
    """Returns file name to digest of a folder of classes, all of one split."""
    settings = config.DataConfig(source=f"folder:{folder}", cache="memory")
    case_set = schemes.read(settings, seed=0)
    data = prepare.prepare(case_set.replace_cases(_tested(case_set)), settings, canvas=canvas)
    names = [pathlib.PurePath(case.path).name for case in data.stores["test"].cases]
    return dict(zip(names, data.digests["test"], strict=True))


def _tested(case_set: cases.CaseSet) -> list[cases.Case]:
    return [cases.Case(case.case_id, case.path, case.patient_id, split="test", label="a") for case in case_set.cases]


@pytest.mark.parametrize("side", [(12, 16), (31, 20)], ids=["as the canvas", "resized"])
def test_the_same_pixels_in_any_lossless_file_have_one_digest_and_others_another(tmp_path, side) -> None:
    (tmp_path / "a").mkdir()
    grey = Image.fromarray(picture(1, side)[..., 0])
    for name in ("a.png", "b.bmp", "c.tif", "d.pgm", "e.gif"):
        grey.save(tmp_path / "a" / name)
    grey.save(tmp_path / "a" / "f.webp", lossless=True)
    grey.convert("RGB").save(tmp_path / "a" / "g.png")
    other = picture(1, side)
    other[5, 7, 0] ^= 128
    Image.fromarray(other[..., 0]).save(tmp_path / "a" / "z.png")
    found = digests(tmp_path)
    changed = found.pop("z.png")
    assert set(found) == {"a.png", "b.bmp", "c.tif", "d.pgm", "e.gif", "f.webp", "g.png"}
    (one,) = set(found.values())
    assert len(one) == len(changed) == 8
    assert one != changed


def test_sixteen_bits_have_one_digest_too_read_in_the_graph_or_not(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    deep = np.random.default_rng(2).integers(0, 65536, (31, 20), np.uint16)
    for name in ("a.png", "b.tif", "c.pgm"):
        Image.fromarray(deep).save(tmp_path / "a" / name)
    found = digests(tmp_path, dataclasses.replace(CANVAS, dtype="uint16"))
    assert len(found) == 3
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_digest_is_taken_before_the_canvas_which_another_processor_fills_otherwise(dtype) -> None:
    pixels = np.random.default_rng(3).uniform(0, 255, (31, 20, 1)).astype(dtype)
    pictures = {split: (split, split, pixels + number) for number, split in enumerate(SPLITS)}
    sizes = ((12, 16), (64, 64), (31, 20))
    found = [prepared(pictures, store.Canvas(size, 1, dtype, "pad")) for size in sizes]
    assert found[0].digests == found[1].digests == found[2].digests
    assert len({digest for (digest,) in found[0].digests.values()}) == 3
    assert len({data.fingerprint for data in found}) == 3


def test_a_picture_of_one_value_shows_nothing_to_be_known_by() -> None:
    blank = np.full((12, 16, 1), 9, np.uint8)
    data = prepared({"a": ("train", "p", blank), "b": ("test", "q", blank), "c": ("test", "q", picture(0))})
    assert data.digests["train"] == data.digests["test"][:1] == (b"",)
    known = seen.of(data)
    assert known == seen.Seen(frozenset(), frozenset())
    assert known.overlap(data.digests["test"]) == seen.Overlap(0, 0, 2)
    assert len(known.unseen(data)) == 2


def test_pictures_of_training_and_validation_are_counted_once_and_their_patients_leave() -> None:
    trained = prepared(
        {
            "t0": ("train", "a", picture(0)),
            "t1": ("train", "b", picture(1)),
            "v0": ("validation", "c", picture(2)),
            "v1": ("validation", "d", picture(1)),
            "x0": ("test", "e", picture(3)),
        }
    )
    known = seen.of(trained)
    assert known.overlap(trained.digests["test"]) == seen.Overlap(0, 0, 1)
    later = prepared(
        {
            "new name": ("test", "1", picture(0)),
            "of its patient": ("test", "1", picture(10)),
            "in both": ("test", "2", picture(1)),
            "validated": ("test", "3", picture(2)),
            "tested": ("test", "4", picture(3)),
            "never seen": ("test", "5", picture(11)),
        }
    )
    assert known.overlap(later.digests["test"]) == seen.Overlap(training=2, validation=1, of=6)
    assert [case.case_id for case in known.unseen(later)] == ["tested", "never seen"]


def test_the_file_gives_back_what_was_seen_and_no_order(tmp_path) -> None:
    pictures = {f"c{i}": (SPLITS[i % 3], f"p{i}", picture(i)) for i in range(90)}
    known = seen.of(prepared(pictures))
    assert (len(known.training), len(known.validation)) == (30, 30)
    known.write(tmp_path)
    assert seen.read(tmp_path) == known
    first = (tmp_path / seen.NAME).read_bytes()
    assert len(first) < 60 * 8 + 700
    seen.of(prepared(dict(reversed(pictures.items())))).write(tmp_path)
    assert (tmp_path / seen.NAME).read_bytes() == first


def test_nothing_seen_is_written_and_read_too(tmp_path) -> None:
    nothing = seen.Seen(frozenset(), frozenset())
    nothing.write(tmp_path)
    assert seen.read(tmp_path) == nothing


def test_a_training_keeps_what_it_saw_under_the_checksum_of_the_card(trained) -> None:
    folder = trained.published.folder
    known = seen.read(folder)
    assert (len(known.training), len(known.validation), len(known.training | known.validation)) == (16, 6, 22)
    assert seen.NAME in card.read(folder).files


def _short(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _other_rows(path: pathlib.Path) -> None:
    np.savez(path, training=np.zeros((3, 7), np.uint8), validation=np.zeros((0, 8), np.uint8))


def _one_array(path: pathlib.Path) -> None:
    np.savez(path, training=np.zeros((3, 8), np.uint8))


def _objects(path: pathlib.Path) -> None:
    np.savez(path, training=np.array([{}], object), validation=np.zeros((0, 8), np.uint8))


@pytest.mark.parametrize("harm", [_short, _other_rows, _one_array, _objects, pathlib.Path.unlink])
def test_another_file_is_refused_in_one_sentence(tmp_path, harm) -> None:
    seen.Seen(frozenset([bytes(8)]), frozenset()).write(tmp_path)
    harm(tmp_path / seen.NAME)
    with pytest.raises(errors.ModelError, match=r"seen.npz: holds no digests that medkeras wrote \(\w+\)$"):
        seen.read(tmp_path)


def test_sentences_say_how_many_and_what_to_do() -> None:
    assert seen.Overlap(0, 0, 9).warning == ""
    assert seen.Overlap(1200, 1, 9000).warning == (
        "1,201 of 9,000 test pictures are identical to pictures that the model has seen: 1,200 in training, 1 in "
        "validation. What is measured on them is memory; data.leakage=drop leaves them out."
    )
    left_out = seen.Overlap(5, 2, 9, left_out=8)
    assert left_out.warning == ""
    assert left_out.reasons == (
        "5 show pictures of its training, 2 of its validation, 1 are of the patients of such pictures"
    )
