"""Cross-validation: who sees whom, what is written, what is not trained twice, and what is published."""

from __future__ import annotations

import collections
import csv
import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from medkeras import config, errors
from medkeras.confidence import assurance
from medkeras.data import cases, schemes
from medkeras.evaluation import classification, predictions, scaling
from medkeras.export import card, saved_model
from medkeras.workflows import (
    crossval,
    ensembling,
    evaluate,
    explaining,
    export,
    folding,
    learning,
    learning_curves,
    predicting,
    train,
)

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {
    "model.name": "cnn",
    "model.weights": "none",
    "train.epochs": 2,
    "train.batch_size": 8,
    "train.strategy": "one",
    "data.cache": "memory",
    "explain.method": "gradcam",
    "evaluation.resamples": 30,
    "crossval.folds": 2,
    "seed": 5,
}
Done = collections.namedtuple("Done", "made settings trainings")


@pytest.fixture(name="small", scope="session")
def small_fixture(source):
    """Settings of a cross-validation of the tiny folder: 22 cases, and 8 that the folder keeps for the test."""
    return config.Config().override({"data.source": source, **SMALL})


def run(settings: config.Config, output: pathlib.Path) -> Done:
    """Cross-validates without the heatmaps of reports, and tells which networks were trained."""
    trainings, learn = [], train.learn

    def watched(asked, data, folder, leakage, **options):
        trainings.append((folder, data, options))
        return learn(asked, data, folder, leakage, **options)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        patch.setattr(explaining, "measure", lambda *_, **__: {})
        patch.setattr(predicting, "worst_mistakes", lambda *_, **__: [])
        patch.setattr(train, "learn", watched)
        made = crossval.crossval(settings, output=output, workdir=output / "work")
    return Done(made, settings, trainings)


@pytest.fixture(name="done", scope="session")
def done_fixture(small, tmp_path_factory):
    wanted = {"crossval.ensemble": True, "crossval.final": True, "crossval.sizes": "0.5"}
    return run(small.override(wanted), tmp_path_factory.mktemp("crossval"))


def read(done: Done) -> dict:
    return json.loads((done.made.folder / "crossval.json").read_text(encoding="utf-8"))


def out_of_fold(done: Done) -> predictions.Predictions:
    return predictions.read_csv(done.made.folder / read(done)["oof_predictions"])


def images_of(done: Done, split: str) -> tuple[np.ndarray, list[cases.Case]]:
    """Images of the ensemble's own data, as the final model's training prepared them."""
    _, data, _ = next(each for each in done.trainings if each[2].get("stops"))
    images = data.stores[split]
    (batch,) = images.attach(tf.data.Dataset.from_tensors({"index": np.arange(len(images.cases))}))
    return batch["image"].numpy(), list(images.cases)


def test_each_case_is_held_out_once_and_the_test_split_never(done) -> None:
    members = schemes.read(done.settings.data, seed=5).cases
    table = out_of_fold(done)
    assert sorted(table.case_id) == sorted(case.case_id for case in members if case.split != "test")
    assert read(done)["n"] == len(table) == 22
    assert done.made.result == read(done)
    assert any("8 cases) stayed out of every fold" in note for note in read(done)["notes"])


def test_no_case_trains_validates_and_tests_in_one_fold(done) -> None:
    for folder, data, options in done.trainings:
        if options.get("stops"):
            continue
        with open(folder / "split.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        owners = {name: {row["patient_id"] for row in rows if row["split"] == name} for name in cases.SPLITS}
        assert all(owners.values())
        assert sum(map(len, owners.values())) == len({row["patient_id"] for row in rows})
        assert {case.label for case in data.stores["validation"].cases} == {"down", "up"}


def test_pooled_is_the_evaluation_of_what_was_said_out_of_fold(done) -> None:
    table, result = out_of_fold(done), read(done)
    right = (table.decisions == table.target).all(axis=1)
    assert result["pooled"]["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    expected = classification.evaluate(table, resamples=30, seed=5)
    assert result["pooled"]["metrics"] == json.loads(json.dumps(expected["metrics"]))
    assert "conformal" in result["pooled"]


def test_folds_answer_with_their_exported_models_and_the_spread_is_theirs(done) -> None:
    result, table = read(done), out_of_fold(done)
    rows = dict(zip(table.case_id, table.probabilities, strict=True))
    for row in result["folds"]:
        own = predictions.read_csv(done.made.folder / row["model"] / "predictions.csv")
        assert row["n"] == len(own) == 11
        np.testing.assert_array_equal(own.probabilities, [rows[name] for name in own.case_id])
        assert row["metrics"]["accuracy"]["value"] == pytest.approx((own.decisions == own.target).all(axis=1).mean())
    for name in ("accuracy", "log_loss"):
        values = [row["metrics"][name]["value"] for row in result["folds"]]
        spread = result["spread"][name]
        assert spread["mean"] == pytest.approx(np.mean(values))
        assert spread["sd"] == pytest.approx(np.std(values, ddof=1))
        assert (spread["min"], spread["max"], spread["folds"]) == (min(values), max(values), 2)


def test_the_ensemble_answers_with_the_mean_of_its_members(done) -> None:
    images, _ = images_of(done, "test")
    one = saved_model.Served(done.made.ensemble)
    members = [saved_model.Served(done.made.folder / row["model"]).explain(images) for row in read(done)["folds"]]
    answer = one.explain(images)
    mean = np.mean([member["probabilities"] for member in members], axis=0)
    np.testing.assert_allclose(answer["probabilities"], mean, atol=1e-6)
    median = np.median([member["familiarity"] for member in members], axis=0)
    np.testing.assert_allclose(answer["familiarity"], median, atol=1e-6)
    fitted = card.read(done.made.ensemble).fitted
    thresholds = np.minimum(fitted["conformal"]["thresholds"], 1.0)
    clear = np.abs(1 - mean - thresholds) > 1e-4
    np.testing.assert_array_equal(answer["prediction_set"][clear], (1 - mean <= thresholds)[clear])
    np.testing.assert_array_equal(answer["abstain"], answer["familiarity"] < fitted["abstain"]["familiarity"])
    assert set(answer) == {*assurance.OUTPUTS, "heatmap"}


def test_the_ensemble_is_explained_by_all_its_members(done) -> None:
    images, _ = images_of(done, "test")
    answer = saved_model.Served(done.made.ensemble).explain(images)
    called = answer["probabilities"].argmax(axis=1)
    total, alike = np.zeros_like(answer["heatmap"]), np.ones(len(images), bool)
    for row in read(done)["folds"]:
        own = saved_model.Served(done.made.folder / row["model"]).explain(images)
        total += own["heatmap"]
        alike &= own["probabilities"].argmax(axis=1) == called
    assert alike.any()
    highest = total.max(axis=(1, 2, 3), keepdims=True)
    expected = np.divide(total, highest, out=np.zeros_like(total), where=highest > 0)
    np.testing.assert_allclose(answer["heatmap"][alike], expected[alike], atol=1e-4)


def test_the_ensemble_is_a_model_like_any_other(done, tmp_path) -> None:
    metrics = json.loads((done.made.ensemble / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n"] == 8
    again = evaluate.evaluate(done.made.ensemble, done.settings, output=tmp_path / "out")
    assert again.metrics["metrics"]["log_loss"]["value"] == pytest.approx(metrics["metrics"]["log_loss"]["value"])
    judged = again.metrics["explanations"]
    assert judged["n"] == 8
    assert [stage["layers"] % 2 for stage in judged["randomised"]["stages"]] == [0, 0, 0, 0]
    assert "Can its heatmaps be believed?" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert read(done)["test"]["ensemble"] == metrics["metrics"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        copy = export.export_model(done.made.ensemble, output=tmp_path / "models")
    assert card.read(copy).model["members"] == ["repeat1-fold1", "repeat1-fold2"]


def test_without_a_test_split_the_figures_are_those_out_of_fold_and_say_so(done, tmp_path) -> None:
    _, data, _ = next(each for each in done.trainings if each[2].get("stops"))
    bench = folding.Bench(done.settings, ["cnn"], data.canvas, tmp_path, tmp_path, None)
    answered = []
    for fold, name in enumerate(("repeat1-fold1", "repeat1-fold2"), 1):
        place = done.made.folder / "folds" / name
        said = predictions.read_csv(place / folding.MODEL / "1" / "predictions.csv")
        # These networks make no mistakes of their own.
        wrong = dataclasses.replace(said, target=1 - said.target)
        answered.append(folding.Answered(folding.Part(name, 1, fold, data.case_set), wrong, {}, place))
    whole = ensembling.Whole(bench, data, None, answered, out_of_fold(done))
    metrics, _ = ensembling._untested(whole, tmp_path, card.read(done.made.ensemble))
    assert metrics["metrics"] == done.made.result["pooled"]["metrics"]
    assert metrics["source"]["data"].endswith(", out of fold")
    assert card.read(tmp_path).metrics == json.loads(json.dumps(metrics["metrics"]))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "has no test of its own" in page
    shown = re.findall(r"Case (\S+) under its heatmap", page)
    assert len(set(shown)) == 8
    assert set(shown) <= set(out_of_fold(done).case_id)


def test_the_final_model_learns_from_all_cases_as_long_as_the_folds_did_at_their_best(done) -> None:
    facts = card.read(done.made.final)
    stops = ensembling.median_epochs([row["epochs"] for row in read(done)["folds"]])
    assert facts.model["epochs"] == list(stops)
    assert facts.training["counts"] == {"train": {"down": 11, "up": 11}, "test": {"down": 4, "up": 4}}
    with open(done.made.folder / "folds" / done.made.final.parent.name / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == stops[0]
    assert "val_loss" not in rows[0]


def test_the_final_model_is_calibrated_by_what_was_said_out_of_fold(done) -> None:
    logits = np.concatenate([np.load(done.made.folder / "folds" / f"repeat1-fold{n}" / "logits.npy") for n in (1, 2)])
    table = out_of_fold(done)
    expected = scaling.fit(logits, table.target, method="temperature", multilabel=False, patients=table.patients)
    assert card.read(done.made.final).fitted["calibration"]["temperature"] == pytest.approx(expected.temperature)


@pytest.mark.parametrize(("epochs", "median"), [([[3]], (3,)), ([[1], [4]], (3,)), ([[1, 5], [2, 9], [9, 5]], (2, 5))])
def test_the_median_of_epochs_is_of_each_stage(epochs, median) -> None:
    assert ensembling.median_epochs(epochs) == median


def test_the_curve_answers_for_the_same_folds_from_fewer_cases(done) -> None:
    half, full = read(done)["learning_curve"]["points"]
    assert (half["share"], full["share"]) == (0.5, 1.0)
    assert half["n"] < full["n"] == np.mean([row["trained_on"] for row in read(done)["folds"]])
    assert full["accuracy"] == read(done)["pooled"]["metrics"]["accuracy"]
    tables = [predictions.read_csv(done.made.folder / "predictions" / f"share0.5-fold{n}.csv") for n in (1, 2)]
    assert {name for each in tables for name in each.case_id} == set(out_of_fold(done).case_id)
    assert read(done)["learning_curve"]["fit"]["summary"].endswith("There are 2.")


def test_the_page_tells_it_in_words_and_shows_a_dot_a_fold(done) -> None:
    page = (done.made.folder / "crossval.html").read_text(encoding="utf-8")
    assert done.made.sentences[0] == "22 images, each held out once in 2 folds."
    assert done.made.sentences[0] in page
    assert "no standard error" in page
    assert "<script" not in page


def test_what_is_finished_is_not_trained_again(done) -> None:
    before = (done.made.folder / "crossval.json").read_bytes()
    again = run(done.settings, done.made.folder)
    assert again.trainings == []
    assert (done.made.folder / "crossval.json").read_bytes() == before


KILLED = """
import sys
from medkeras import config
from medkeras.workflows import crossval, explaining, predicting
explaining.measure, predicting.worst_mistakes = lambda *_, **__: {{}}, lambda *_, **__: []
crossval.crossval(config.Config().override({settings!r}), output={output!r}, workdir={work!r})
"""


def test_killed_in_the_second_fold_it_goes_on_and_ends_the_same(done, small, tmp_path) -> None:
    code = KILLED.format(settings={"data.source": small.data.source, **SMALL}, output=str(tmp_path), work=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    begun, limit = tmp_path / "folds" / "repeat1-fold2" / "run", time.monotonic() + 240
    while not begun.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "crossval.json").exists()
    went_on = run(small, tmp_path)
    assert [folder.parts[-3] for folder, _, _ in went_on.trainings] == ["repeat1-fold2"]
    whole, resumed = read(done), read(went_on)
    for name in ("folds", "pooled", "spread", "data", "seeds"):
        assert resumed[name] == whole[name]
    assert (tmp_path / "oof_predictions.csv").read_bytes() == (done.made.folder / "oof_predictions.csv").read_bytes()


@pytest.fixture(name="taught")
def taught_fixture(monkeypatch):
    """Parts that answer at once, without a network."""
    asked = []

    def teach(part, bench, folder):
        asked.append(part)
        (folder / "logits.npy").write_bytes(b"")
        held_out = part.case_set.of_split("test")
        hot = np.array([[case.label == name for name in part.case_set.classes] for case in held_out], np.float32)
        table = predictions.Predictions(
            *(tuple(getattr(case, key) for case in held_out) for key in ("case_id", "patient_id", "path", "split")),
            classes=part.case_set.classes,
            target=hot,
            probabilities=hot * 0.8 + 0.1,
        )
        metrics = classification.evaluate(table, resamples=10, seed=0)["metrics"]
        count = len(part.case_set.of_split("train"))
        facts = {"network": bench.networks[0], "epochs": [1], "trained_on": count, "leakage": [], "metrics": metrics}
        return table, facts | {"counts": cases.counts(part.case_set.cases), "patients": {"train": count}}

    monkeypatch.setattr(folding, "_trained", teach)
    return asked


def test_repeats_deal_anew_and_cost_no_more_than_themselves(taught, small, tmp_path) -> None:
    run(small, tmp_path)
    again = run(small.override({"crossval.repeats": 3}), tmp_path)
    assert [part.name for part in taught] == [f"repeat{r}-fold{f}" for r in (1, 2, 3) for f in (1, 2)]
    held_out = [frozenset(case.case_id for case in part.case_set.of_split("test")) for part in taught]
    assert len(set(held_out)) == 6
    table = out_of_fold(again)
    assert len(table) == 3 * 22
    assert len(set(table.patient_id)) == read(again)["n_patients"] == 22
    assert read(again)["seeds"]["folds"] == [5, 6, 7]


def test_other_settings_train_again_and_what_is_published_does_not(taught, small, tmp_path) -> None:
    run(small, tmp_path)
    run(small.override({"evaluation.alpha": 0.2}), tmp_path)
    assert len(taught) == 4
    run(small.override({"evaluation.alpha": 0.2, "crossval.sizes": "0.6,1"}), tmp_path)
    assert [part.name for part in taught[4:]] == ["share0.6-fold1", "share0.6-fold2"]


def test_shares_are_nested_and_leave_the_fold_as_it_is(small) -> None:
    development = cases.CaseSet(
        "many",
        tuple(cases.Case(f"c{i:03}", "x", f"p{i // 2}", label="ab"[i % 5 == 0]) for i in range(200)),
        ("a", "b"),
        None,  # type: ignore[arg-type]
    )
    for part in folding.parts(development, small):
        before: set[str] = set()
        for share in (0.1, 0.3, 0.8):
            fewer = folding.smaller(part, share, small)
            assert fewer.case_set.of_split("test") == part.case_set.of_split("test")
            learnt = {case.patient_id for case in fewer.case_set.cases if case.split != "test"}
            assert before < learnt
            assert len(learnt) == pytest.approx(share * 50, abs=2)
            assert fewer.case_set.of_split("validation")
            before = learnt


def test_each_fold_chooses_its_network_by_validation_and_not_by_the_fold_held_out(monkeypatch, small, tmp_path) -> None:
    losses = {"cnn": 0.5, "resnet_small": 0.3, "resnet": 0.3}
    monkeypatch.setattr(
        folding, "_learnt", lambda settings, *_: (settings.model.name, losses[settings.model.name], [4])
    )
    bench = folding.Bench(small, list(losses), None, tmp_path, tmp_path, None)
    assert folding._best(bench, None, tmp_path, None) == ("resnet_small", [4])


def test_the_best_epoch_of_each_stage_is_found() -> None:
    settings = dataclasses.replace(config.TrainConfig(), epochs=3, finetune_epochs=2)
    history = [{"epoch": float(n), "val_loss": loss} for n, loss in enumerate((0.9, 0.5, 0.7, 0.4, 0.6))]
    stages = learning.stages(settings, pretrained=True)
    assert [learning.best(history, stage) for stage in stages] == [(2, 0.5), (1, 0.4)]


def write_copies(folder: pathlib.Path, draw) -> str:
    """Writes pictures of which every one stands twice, under two names and as two patients."""
    lines = ["path,label"]
    for number in range(16):
        for copy in "ab":
            label = ("down", "up")[number % 2]
            path = folder / f"{number}{copy}.png"
            Image.fromarray(draw(number, label)).save(path)
            lines.append(f"{path},{label}")
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return f"csv:{folder / 'table.csv'}"


def test_copies_across_folds_are_told_or_leave_training(monkeypatch, small, tmp_path, draw) -> None:
    given, reports = small.override({"data.source": write_copies(tmp_path, draw)}), []

    def stop(bench, data, folder, leakage):
        reports.append((data, leakage))
        raise errors.DataError("enough")

    monkeypatch.setattr(folding, "_best", stop)
    for leakage in ("warn", "drop"):
        with pytest.raises(errors.DataError, match="enough"):
            run(given.override({"data.leakage": leakage}), tmp_path / leakage)
    (told, found), (left, dropped) = reports
    assert found.exact.across_splits
    assert not found.dropped
    assert any("identical pictures in two splits" in sentence for sentence in found.sentences)
    assert len(left.case_set.cases) < len(told.case_set.cases)
    assert sum(len(each) for each in dropped.dropped.values()) == 32 - len(left.case_set.cases)
    digests = [set(left.digests[name]) for name in cases.SPLITS]
    assert all(digests)
    assert not (digests[0] & digests[2]) | (digests[0] & digests[1]) | (digests[1] & digests[2])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"crossval.sizes": "0.5,2"}, "shares above 0, at most 1"),
        ({"crossval.sizes": "half"}, "shares above 0, at most 1"),
        ({"compare.networks": "cnn,resnet_smal"}, "resnet_small"),
        ({"crossval.folds": 30}, "22 patients, 30 folds"),
    ],
    ids=["beyond", "word", "network", "folds"],
)
def test_what_cannot_be_done_is_told_before_anything_is_trained(small, tmp_path, changes, sentence) -> None:
    with pytest.raises(errors.UserError, match=sentence):
        run(small.override(changes), tmp_path / "out")
    assert not (tmp_path / "out" / "folds").exists()


def test_shares_are_sorted_and_the_whole_is_not_trained_twice() -> None:
    assert learning_curves.shares("0.7, 0.1,1,0.1") == (0.1, 0.7)
    assert learning_curves.shares("") == ()


def test_every_class_needs_two_patients(small) -> None:
    lone = cases.CaseSet(
        "few",
        tuple(cases.Case(f"c{i}", "x", f"p{i}", label="b" if i == 7 else "a") for i in range(8)),
        ("a", "b"),
        None,  # type: ignore[arg-type]
    )
    with pytest.raises(errors.DataError, match="2 patients or more"):
        list(folding.parts(lone, small))
