"""Answers for files, pictures of the evidence, and a second export."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from medkeras import errors
from medkeras.evaluation import cells
from medkeras.export import card, saved_model
from medkeras.workflows import export, predict

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def scans(source, tmp_path) -> pathlib.Path:
    """Returns a folder of three images, two of one name, and one that is broken."""
    folder = tmp_path / "inbox"
    (folder / "deep").mkdir(parents=True)
    place = pathlib.Path(source.partition(":")[2]) / "test"
    shutil.copy(place / "up" / "0.png", folder / "a.png")
    shutil.copy(place / "down" / "0.png", folder / "deep" / "a.png")
    Image.fromarray(np.full((30, 17, 3), 90, np.uint8)).save(folder / "deep" / "a-2.jpg")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:70])
    (folder / "readme.txt").write_text("aside")
    return folder


NAMES = ["a.png", "broken.png", "deep/a-2.jpg", "deep/a.png"]


def test_one_broken_file_spoils_no_other(trained, scans) -> None:
    found = predict.predict(trained.published.folder, [scans])
    assert [answer.path for answer in found.answers] == [str(scans / name) for name in NAMES]
    (broken,) = found.unreadable
    assert broken.path == str(scans / "broken.png")
    assert "truncated" in broken.error
    served = saved_model.Served(trained.published.folder)
    for answer in found.answers:
        if answer is not broken:
            image = np.asarray(Image.open(answer.path).convert("L"))[np.newaxis, ..., np.newaxis]
            np.testing.assert_allclose(answer.probabilities, served.predict(image)["probabilities"][0], atol=1e-3)


def test_the_table_has_a_row_a_file(trained, scans) -> None:
    found = predict.predict(trained.published.folder, [scans])
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    honest = ["prediction_set", "abstain", "familiarity"]
    assert list(rows[0]) == ["path", "prediction", "probability:down", "probability:up", *honest, "error"]
    assert [row["path"] for row in rows] == [answer.path for answer in found.answers]
    assert rows[1]["error"] == found.unreadable[0].error
    assert rows[1]["prediction"] == rows[1]["probability:up"] == ""
    for row in (rows[0], rows[2], rows[3]):
        numbers = {name: float(row[f"probability:{name}"]) for name in ("down", "up")}
        assert sum(numbers.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(numbers, key=numbers.get)
        assert row["error"] == ""
        assert set(row["prediction_set"].split("|")) <= {"down", "up", ""}
        assert row["abstain"] in ("0", "1")
        assert 0 <= float(row["familiarity"]) <= 1
    assert {rows[1][name] for name in honest} == {""}


@pytest.mark.parametrize(("multilabel", "called"), [(False, "a|b"), (True, r"a\|b|c")])
def test_names_of_classes_are_told_apart_whatever_they_hold(multilabel, called) -> None:
    outputs = {"probabilities": np.array([0.9, 0.6, 0.1]), "prediction_set": np.array([True, True, False])}
    answers = (
        predict.Answer("x.png", outputs),
        predict.Answer("y.png", {**outputs, "prediction_set": np.zeros(3, bool)}),
    )
    found = predict.Predicted(("a|b", "c", "=d"), multilabel, answers, ("probabilities", "prediction_set"))
    first, second = csv.DictReader(io.StringIO(found.to_csv()))
    assert first["prediction"] == called
    assert (first["prediction_set"], second["prediction_set"]) == (r"a\|b|c", "")
    assert cells.split_labels(first["prediction_set"]) == ("a|b", "c")


def test_a_file_may_be_named_itself_whatever_its_name(trained, scans) -> None:
    shutil.copy(scans / "a.png", scans / "no-extension")
    one, two = predict.predict(trained.published.folder, [scans / "no-extension", scans / "a.png"]).answers
    assert np.array_equal(one.probabilities, two.probabilities)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([], "predict needs --input.* Received: none"), (["EMPTY"], "A folder of images holds some. Received: .*EMPTY")],
)
def test_no_input_is_a_mistake(trained, tmp_path, inputs, message) -> None:
    (tmp_path / "EMPTY").mkdir()
    with pytest.raises(errors.DataError, match=message):
        predict.predict(trained.published.folder, [tmp_path / name for name in inputs])


def test_files_that_are_not_there_or_too_wide_are_answered_with_the_reason(trained, tmp_path) -> None:
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(tmp_path / "wide.png")
    found = predict.predict(trained.published.folder, [tmp_path / "none.png", tmp_path / "wide.png"])
    assert [answer.error for answer in found.answers] == [
        "there is no such file",
        "the model takes uint8 values. Received: uint16",
    ]


def test_heat_maps_have_the_size_of_the_images_and_a_name_each(trained, scans, tmp_path) -> None:
    found = predict.predict(trained.published.folder, [scans], heatmaps=tmp_path / "heat")
    sizes = {path.name: np.asarray(Image.open(path)).shape for path in (tmp_path / "heat").iterdir()}
    assert sizes == {"a.png": (12, 10, 3), "a-2.png": (30, 17, 3), "a-3.png": (12, 10, 3)}
    plain = predict.predict(trained.published.folder, [scans])
    for one, other in zip(found.answers, plain.answers, strict=True):
        assert one.error == other.error
        if not one.error:
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_a_second_export_is_a_new_version_that_answers_the_same(trained, tmp_path) -> None:
    first = trained.published.folder
    second = export.export_model(first, output=tmp_path)
    third = export.export_model(first.parent, output=tmp_path)
    assert (second, third) == (tmp_path / first.parent.name / "1", tmp_path / first.parent.name / "2")
    found = card.read(second)
    card.verify(found, second)
    assert found.version == 1
    assert found.metrics == card.read(first).metrics
    for name in ("metrics.json", "predictions.csv", "report.html", "model.keras", "seen.npz"):
        assert (second / name).read_bytes() == (first / name).read_bytes()
    images = np.random.default_rng(2).integers(0, 256, (3, 20, 31, 1))
    one, two = (saved_model.Served(folder).explain(images) for folder in (first, second))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5)


def test_an_export_that_answers_otherwise_is_not_published(trained, tmp_path, monkeypatch) -> None:
    real = saved_model.write

    def write(model, folder, **options):
        model.get_layer("logits").set_weights([weight + 1 for weight in model.get_layer("logits").get_weights()][:2])
        model.get_layer("logits").bias.assign([3.0, -3.0])
        real(model, folder, **options)

    monkeypatch.setattr(saved_model, "write", write)
    with pytest.raises(errors.ModelError, match="answers as the first one within 1e-05. Received: a difference"):
        export.export_model(trained.published.folder, output=tmp_path)
    assert not list(tmp_path.glob("*/*"))


def test_a_keras_file_that_wants_to_run_code_is_refused(tmp_path) -> None:
    import keras

    image = keras.Input((2,))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image))
    model.save(tmp_path / "model.keras")
    with pytest.raises(errors.ModelError, match=r"model.keras: cannot be loaded \(ValueError\)"):
        export.load_keras(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(errors.ModelError, match=r"model.keras: cannot be loaded"):
        export.load_keras(tmp_path / "model.keras")


def test_heat_maps_never_overwrite_the_images(trained, scans) -> None:
    before = (scans / "a.png").read_bytes()
    with pytest.raises(errors.DataError, match="never overwrite an input.* Received: .*a.png"):
        predict.predict(trained.published.folder, [scans], heatmaps=scans)
    assert (scans / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"input": {}}, {"input": []}, {"task": {"classes": 3, "multilabel": False}}, {"files": ["a"]}]
)
def test_a_card_that_lost_a_field_is_told_in_one_sentence(trained, tmp_path, change) -> None:
    values = json.loads((trained.published.folder / card.NAME).read_text())
    (tmp_path / card.NAME).write_text(json.dumps(values | {"files": {}} | change))
    with pytest.raises(errors.ModelError, match="card.json: is not a card that medkeras wrote"):
        predict.predict(tmp_path, ["a.png"])
