"""Evaluating a published model: on its own data, on others', and on what does not fit."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.evaluation import markup, predictions
from medkeras.export import card
from medkeras.workflows import evaluate, seen


def run(model: object, source: str, output: pathlib.Path, **changes: object) -> evaluate.Evaluated:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    settings = config.Config().override({"data.source": source, **named})
    return evaluate.evaluate(model, settings, output=output)


def numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metrics without what the data are called."""
    return {name: value for name, value in metrics.items() if name != "source"}


def test_its_own_data_give_its_own_numbers_to_the_last_byte(trained, source, tmp_path) -> None:
    folder = trained.published.folder
    found = run(folder, source, tmp_path / "out")
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    written, own = (json.loads((place / "metrics.json").read_text()) for place in (tmp_path / "out", folder))
    assert written == own
    assert written["explanations"]["randomised"]["stages"]
    assert found.metrics == written
    assert found.folder == tmp_path / "out"
    assert "down" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_model_folder_means_its_newest_version(trained, source, tmp_path) -> None:
    found = run(trained.published.folder.parent, source, tmp_path)
    assert numbers(found.metrics) == numbers(trained.published.metrics)


def unsplit(folder: pathlib.Path, *, labels: tuple[str, ...] = ("down", "up"), count: int = 3) -> str:
    for label in labels:
        (folder / label).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(np.full((9, 14), 12 * index, np.uint8)).save(folder / label / f"{index}.png")
    return f"folder:{folder}"


def test_data_without_splits_are_evaluated_whole(trained, tmp_path) -> None:
    found = run(trained.published.folder, unsplit(tmp_path / "new"), tmp_path / "out")
    assert found.metrics["n"] == 6
    table = predictions.read_csv(tmp_path / "out" / "predictions.csv")
    assert set(table.split) == {"test"}
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The data hold no test split: all 6 cases are evaluated." in report


@pytest.fixture(name="whole", scope="module")
def fixture_whole(fit, draw, tmp_path_factory):
    """A training on 40 different pictures without a split, and their folder."""
    root = tmp_path_factory.mktemp("whole")
    for number, label in enumerate(("down", "up") * 20):
        (root / "scans" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(number, label)).save(root / "scans" / label / f"{number:02d}.png")
    return fit(root, data__source=f"folder:{root / 'scans'}", train__epochs=1), root / "scans"


OWN = {"training": 27, "validation": 5, "of": 40, "left_out": 32}
LEFT_OUT = (
    "The data hold no test split: 8 of 40 cases are evaluated. The others are left out, for the model has seen them: "
    "27 show pictures of its training, 5 of its validation."
)


def test_the_data_of_the_training_are_split_again_wherever_they_lie(whole, tmp_path, monkeypatch, capfd) -> None:
    made, scans = whole
    assert made.published.metrics["n"] == 8
    assert made.published.metrics["overlap"] == {"training": 0, "validation": 0, "of": 8, "left_out": 0}
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scans, tmp_path / "elsewhere" / "copy")
    for index, source in enumerate((f"folder:{scans}/../scans/", "folder:elsewhere/copy")):
        found = run(made.published.folder, source, tmp_path / str(index))
        assert numbers(found.metrics) == numbers(made.published.metrics) | {"overlap": OWN}
        assert found.metrics["source"]["data"] == source
        assert f"Note: {LEFT_OUT}" in capfd.readouterr().err
        assert LEFT_OUT in (tmp_path / str(index) / "report.html").read_text(encoding="utf-8")
    table, own = (
        predictions.read_csv(folder / "predictions.csv") for folder in (tmp_path / "1", made.published.folder)
    )
    assert table.case_id == own.case_id
    np.testing.assert_array_equal(table.probabilities, own.probabilities)


def pixels(folder: pathlib.Path, names: Iterable[str]) -> set[bytes]:
    return {np.asarray(Image.open(folder / name)).tobytes() for name in names}


def renamed(scans: pathlib.Path, folder: pathlib.Path, suffix: str = ".png") -> str:
    """Copies all pictures under other names, in another order, each class in folders of its own, and re-encoded."""
    paths = sorted(scans.rglob("*.png"))
    for place, number in enumerate(np.random.default_rng(5).permutation(len(paths)).tolist()):
        target = folder / paths[number].parent.name / f"site{place % 3}" / f"{place:03d}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(paths[number]).save(target)
    return f"folder:{folder}"


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_trained_pictures_are_left_out_under_any_name_and_in_any_lossless_format(whole, tmp_path, suffix) -> None:
    made, scans = whole
    found = run(made.published.folder, renamed(scans, tmp_path / "new", suffix), tmp_path / "out")
    assert found.metrics["overlap"] == OWN
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["overlap"] == OWN
    table, own = (
        predictions.read_csv(folder / "predictions.csv") for folder in (tmp_path / "out", made.published.folder)
    )
    assert not set(table.case_id) & set(own.case_id)
    assert pixels(tmp_path / "new", table.case_id) == pixels(scans, own.case_id)
    for name, entry in made.published.metrics["metrics"].items():
        assert found.metrics["metrics"][name]["value"] == pytest.approx(entry["value"], abs=1e-6), name


def test_cases_added_since_are_evaluated_and_those_gone_are_not(whole, draw, tmp_path) -> None:
    made, scans = whole
    shutil.copytree(scans, tmp_path / "scans")
    for number in range(100, 114):
        label = ("down", "up")[number % 2]
        Image.fromarray(draw(number, label)).save(tmp_path / "scans" / label / f"{number}.png")
    tested = predictions.read_csv(made.published.folder / "predictions.csv").case_id
    (tmp_path / "scans" / tested[0]).unlink()
    found = run(made.published.folder, f"folder:{tmp_path / 'scans'}", tmp_path / "out")
    assert found.metrics["overlap"] == OWN | {"of": 53}
    names = predictions.read_csv(tmp_path / "out" / "predictions.csv").case_id
    added = {f"{('down', 'up')[number % 2]}/{number}.png" for number in range(100, 114)}
    assert set(names) == added | set(tested[1:])


def test_a_new_picture_of_a_trained_patient_is_no_test(whole, draw, tmp_path) -> None:
    made, scans = whole
    tested = set(predictions.read_csv(made.published.folder / "predictions.csv").case_id)
    old = [path.relative_to(scans).as_posix() for path in sorted(scans.rglob("*.png"))]
    lines = [f"{scans / name},{name.partition('/')[0]},p{number}" for number, name in enumerate(old)]
    for number, name in enumerate(old):
        label = name.partition("/")[0]
        Image.fromarray(draw(200 + number, label)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{label},p{number}")
    (tmp_path / "cases.csv").write_text("\n".join(["path,label,patient_id", *lines]) + "\n")
    found = run(made.published.folder, f"csv:{tmp_path / 'cases.csv'}", tmp_path / "out")
    assert found.metrics["overlap"] == OWN | {"of": 80, "left_out": 64}
    names = predictions.read_csv(tmp_path / "out" / "predictions.csv").case_id
    assert set(names) == {str(scans / name) for name in tested} | {f"{old.index(name)}.png" for name in tested}
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "27 show pictures of its training, 5 of its validation, 32 are of the patients of such pictures." in report


def test_nothing_but_trained_pictures_is_no_evaluation(whole, tmp_path) -> None:
    made, scans = whole
    shutil.copytree(scans, tmp_path / "scans")
    for name in predictions.read_csv(made.published.folder / "predictions.csv").case_id:
        (tmp_path / "scans" / name).unlink()
    with pytest.raises(errors.DataError) as caught:
        run(made.published.folder, f"folder:{tmp_path / 'scans'}", tmp_path / "out")
    assert str(caught.value) == (
        "An evaluation needs a case that the model has not seen. Received: 32 cases, of which 27 show pictures of its "
        "training, 5 of its validation"
    )
    assert caught.value.exit_code == 2


def test_unreadable_files_do_not_count_twice_when_trained_pictures_leave(whole, tmp_path) -> None:
    made, scans = whole
    shutil.copytree(scans, tmp_path / "scans")
    (tmp_path / "scans" / "up" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    changes = {"data__on_error": "skip", "data__max_errors": 0.03}
    found = run(made.published.folder, f"folder:{tmp_path / 'scans'}", tmp_path / "out", **changes)
    assert found.metrics["n"] == 8
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert report.count("1 unreadable files were skipped") == 1


def leaking(source: str, folder: pathlib.Path) -> str:
    """Copies the data, with a trained and a validated picture of each class among the test pictures."""
    shutil.copytree(source.partition(":")[2], folder)
    for label in ("down", "up"):
        for split in ("train", "validation"):
            Image.open(folder / split / label / "1.png").save(folder / "test" / label / f"new-{split}.bmp")
    return f"folder:{folder}"


def test_a_test_split_with_trained_pictures_is_evaluated_and_warned_of(trained, source, tmp_path, capfd) -> None:
    found = run(trained.published.folder, leaking(source, tmp_path / "scans"), tmp_path / "out")
    assert found.metrics["n"] == 12
    assert found.metrics["overlap"] == {"training": 2, "validation": 2, "of": 12, "left_out": 0}
    warning = (
        "4 of 12 test pictures are identical to pictures that the model has seen: 2 in training, 2 in validation. What "
        "is measured on them is memory; data.leakage=drop leaves them out."
    )
    assert f"WARNING, data leakage: {warning}" in capfd.readouterr().err
    _, _, check = (tmp_path / "out" / "report.html").read_text(encoding="utf-8").partition("<h2>Data check</h2>")
    assert check.startswith(f'<div class="note" role="note"><b>Copies and patients</b><ul><li>{warning}</li>')


def test_a_test_split_is_cleaned_when_that_is_asked(trained, source, tmp_path, capfd) -> None:
    leaky = leaking(source, tmp_path / "scans")
    found = run(trained.published.folder, leaky, tmp_path / "out", data__leakage="drop")
    assert numbers(found.metrics) == numbers(trained.published.metrics) | {
        "overlap": {"training": 2, "validation": 2, "of": 12, "left_out": 4}
    }
    said = capfd.readouterr().err
    assert "WARNING" not in said
    assert (
        "Note: The test split is cleaned (data.leakage=drop): 8 of 12 cases are evaluated. The others are left out, "
        "for the model has seen them: 2 show pictures of its training, 2 of its validation."
    ) in said


def test_a_model_that_keeps_no_digests_is_evaluated_with_a_note(whole, tmp_path) -> None:
    made, scans = whole
    shutil.copytree(made.published.folder, tmp_path / "model")
    (tmp_path / "model" / seen.NAME).unlink()
    card.write(card.read(tmp_path / "model"), tmp_path / "model")
    for name in ("old", "planted"):
        found = run(tmp_path / "model", f"folder:{scans}", tmp_path / name)
        assert found.metrics["n"] == 40
        assert "overlap" not in found.metrics
        report = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert "The data hold no test split: all 40 cases are evaluated." in report
        assert markup.text(evaluate.UNKNOWN) in report
        # A file that the card does not list says nothing of the model.
        shutil.copy(made.published.folder / seen.NAME, tmp_path / "model")


def test_some_classes_are_enough_and_strangers_are_refused(trained, tmp_path) -> None:
    found = run(trained.published.folder, unsplit(tmp_path / "one", labels=("up",)), tmp_path / "out")
    assert found.metrics["classes"] == ["down", "up"]
    assert found.metrics["per_class"]["down"]["support"] == 0
    source = unsplit(tmp_path / "two", labels=("up", "left", "wide"))
    with pytest.raises(errors.ModelError) as caught:
        run(trained.published.folder, source, tmp_path / "out")
    assert str(caught.value) == "This model tells down, up apart. Received: data with the class 'left', 'wide'"


def test_many_labels_a_case_do_not_fit_a_model_of_one(trained, tmp_path) -> None:
    (tmp_path / "many.csv").write_text("path,labels\na.png,up|down\n")
    with pytest.raises(errors.ModelError) as caught:
        run(trained.published.folder, f"csv:{tmp_path / 'many.csv'}", tmp_path / "out")
    expected = "This model gives one label a case. Received: data with any number of labels a case"
    assert str(caught.value) == expected


def test_wider_values_than_the_model_knows_are_refused(trained, tmp_path) -> None:
    place = pathlib.Path(unsplit(tmp_path / "wide").partition(":")[2])
    Image.fromarray(np.full((9, 14), 40000, np.uint16)).save(place / "up" / "1.png")
    with pytest.raises(errors.BadInputError, match=r"up/1.png: the model takes uint8 values. Received: uint16"):
        run(trained.published.folder, f"folder:{place}", tmp_path / "out")


def test_colour_is_turned_into_what_the_model_takes(trained, tmp_path) -> None:
    place = pathlib.Path(unsplit(tmp_path / "colour").partition(":")[2])
    for path in place.rglob("*.png"):
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.repeat(grey[..., np.newaxis], 3, 2)).save(path)
    run(trained.published.folder, f"folder:{place}", tmp_path / "colour-out")
    run(trained.published.folder, unsplit(tmp_path / "grey"), tmp_path / "grey-out")
    one, other = (predictions.read_csv(tmp_path / f"{name}-out" / "predictions.csv") for name in ("colour", "grey"))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_an_unreadable_file_stops_or_is_left_out(trained, tmp_path, cache) -> None:
    place = pathlib.Path(unsplit(tmp_path / "scans").partition(":")[2])
    (place / "up" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(errors.BadInputError, match="up/1.png"):
        run(trained.published.folder, f"folder:{place}", tmp_path / "out", data__cache=cache)
    found = run(
        trained.published.folder, f"folder:{place}", tmp_path / "out",
        data__cache=cache, data__on_error="skip", data__max_errors=0.5,
    )  # fmt: skip
    assert found.metrics["n"] == 5


def test_what_is_no_model_of_ours_is_refused(trained, source, tmp_path) -> None:
    with pytest.raises(errors.ModelError, match="A model is a folder that exists. Received: '/no/such'"):
        run("/no/such", source, tmp_path)
    with pytest.raises(errors.ModelError, match=r"holds card.json. Received: .*, without one"):
        run(tmp_path, source, tmp_path / "out")


def test_a_changed_file_of_the_model_is_refused_by_name(trained, source, tmp_path) -> None:
    copy = tmp_path / "copy"
    for path in trained.published.folder.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(trained.published.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").unlink()
    (copy / "metrics.json").write_text(json.dumps(metrics | {"n": 9000}))
    with pytest.raises(errors.ModelError, match=r"metrics.json: does not have the SHA-256 that the card gives"):
        run(copy, source, tmp_path / "out")


def test_an_evaluation_never_overwrites_a_model(trained, source) -> None:
    folder = trained.published.folder
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(errors.ModelError, match="a folder of its own and not over a model"):
        run(folder, source, folder)
    assert (folder / "metrics.json").read_bytes() == before
