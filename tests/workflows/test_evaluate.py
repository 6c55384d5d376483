"""Evaluating a published model: on its own data, on others', and on what does not fit."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.evaluation import predictions
from medkeras.workflows import evaluate


def run(model: object, source: str, output: pathlib.Path, **changes: object) -> evaluate.Evaluated:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    settings = config.Config().override({"data.source": source, **named})
    return evaluate.evaluate(model, settings, output=output)


def test_its_own_data_give_its_own_numbers_to_the_last_byte(trained, source, tmp_path) -> None:
    folder = trained.published.folder
    found = run(folder, source, tmp_path / "out")
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert found.metrics == trained.published.metrics
    assert found.folder == tmp_path / "out"
    assert "down" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_model_folder_means_its_newest_version(trained, source, tmp_path) -> None:
    assert run(trained.published.folder.parent, source, tmp_path).metrics == trained.published.metrics


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


def test_the_data_of_the_training_are_split_again_wherever_they_lie(fit, tmp_path, monkeypatch) -> None:
    place = unsplit(tmp_path / "scans", count=20)
    made = fit(tmp_path, data__source=place, train__epochs=1)
    assert made.published.metrics["n"] == 8
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tmp_path / "scans", tmp_path / "elsewhere" / "copy")
    for index, source in enumerate((place, "folder:./scans/../scans/", "folder:elsewhere/copy")):
        found = run(made.published.folder, source, tmp_path / str(index))
        assert found.metrics == made.published.metrics


def test_cases_added_since_put_no_trained_case_into_the_test(fit, tmp_path) -> None:
    place = unsplit(tmp_path / "scans", count=20)
    made = fit(tmp_path, data__source=place, train__epochs=1)
    for label in ("down", "up"):
        for index in range(7):
            Image.fromarray(np.full((9, 14), index, np.uint8)).save(tmp_path / "scans" / label / f"a{index}.png")
    found = run(made.published.folder, place, tmp_path / "more")
    assert found.metrics == made.published.metrics
    tested = predictions.read_csv(tmp_path / "more" / "predictions.csv").case_id
    (tmp_path / "scans" / tested[0]).unlink()
    assert run(made.published.folder, place, tmp_path / "fewer").metrics["n"] == 53
    report = (tmp_path / "fewer" / "report.html").read_text(encoding="utf-8")
    assert "7 of the 8 cases that tested the model are here by their names" in report


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
