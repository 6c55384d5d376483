"""From a folder to a model that answers."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from medkeras import errors
from medkeras.serving import batching, engine, loading, metrics, options, status, verified, warmup
from tests.serving import test_mode_serve

saved = test_mode_serve.saved


def loader(**flags) -> tuple[loading.Loader, metrics.Metrics]:
    measured = metrics.Metrics()
    return loading.Loader(options.from_flags(flags), verified.Verifier(unverified=True), measured), measured


def test_a_model_answers_and_its_load_is_counted(saved) -> None:
    load, measured = loader()
    model = load("half", 1, saved)
    assert isinstance(model, engine.Loaded)
    np.testing.assert_array_equal(model.run("serving_default", {"x": np.float32([1, 2])}, ["y"])["y"], [2.5, 3])
    label = f'{{model_path="{saved.parent.name}/1",status="success"}} 1'
    assert f":tensorflow:cc:saved_model:load_attempt_count{label}" in measured.text().decode()


def test_a_load_that_fails_is_counted_and_told_without_a_path(tmp_path, monkeypatch) -> None:
    load, measured = loader()
    with pytest.raises(status.StatusError) as refused:
        load("half", 1, tmp_path)
    assert refused.value.code is status.Code.NOT_FOUND
    monkeypatch.setattr(engine, "Loaded", lambda *_, **__: 1 / 0)
    with pytest.raises(status.StatusError, match="ZeroDivisionError") as refused:
        load("half", 1, tmp_path)
    assert refused.value.code is status.Code.INTERNAL
    assert 'status="fail"} 2' in measured.text().decode()


def test_batching_is_for_all_models_or_one(saved, tmp_path) -> None:
    parameters = tmp_path / "batching"
    parameters.write_text("max_batch_size { value: 3 } num_batch_threads { value: 1 }")
    load, _ = loader(enable_batching=True, batching_parameters_file=str(parameters))
    model = load("half", 1, saved)
    assert isinstance(model, batching.Batched)
    with pytest.raises(status.StatusError, match="Task size 4 is larger than maximum input batch size 3"):
        model.run("serving_default", {"x": np.zeros(4, np.float32)}, ["y"])
    answers: dict[int, float] = {}

    def ask(number: int) -> None:
        answers[number] = model.run("serving_default", {"x": np.float32([number])}, ["y"])["y"][0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: n / 2 + 2 for n in range(8)}


def test_batching_parameters_that_contradict_each_other_are_told(tmp_path) -> None:
    parameters = tmp_path / "batching"
    parameters.write_text("max_batch_size { value: 4 } allowed_batch_sizes: 3")
    with pytest.raises(errors.ConfigError, match="last entry was 3; expected 4"):
        loader(enable_batching=True, batching_parameters_file=str(parameters))


def test_a_version_answers_its_warm_up_requests_or_is_not_loaded(saved, tmp_path) -> None:
    folder = tmp_path / "7"
    shutil.copytree(saved, folder)
    path = folder / warmup.FILE
    path.parent.mkdir()
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([1])))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
    load, measured = loader()
    load("half", 7, folder).close()
    assert f'model_warmup_records_read{{model_path="{tmp_path.name}/7"}} 1' in measured.text().decode()
    with tf.io.TFRecordWriter(str(path)) as writer:
        log.predict_log.request.model_spec.signature_name = "nope"
        writer.write(log.SerializeToString())
    with pytest.raises(status.StatusError, match='Serving signature key "nope" not found.'):
        load("half", 7, folder)
    loader(enable_model_warmup=False)[0]("half", 7, folder).close()
