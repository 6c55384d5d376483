import csv
import json
import pathlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from medkeras import errors
from medkeras.training import callbacks, logs, loop

# Keras's own learning rate callbacks hand a variable to NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")


@pytest.fixture
def fit(model, task, batches, make_batches):
    """Returns a function that trains the model for some epochs under the given callbacks."""

    def run(*items, epochs=3, rate=0.1, initial_epoch=0, validation=True):
        held_out = make_batches(1, seed=3) if validation else None
        plan = loop.Plan(batches, 3, epochs, validation=held_out, initial_epoch=initial_epoch)
        return loop.fit(model, plan, task=task, optimizer=keras.optimizers.SGD(rate), callbacks=items)

    return run


def scripted(name, values):
    """Returns a callback that puts the given numbers into the logs of the epochs."""
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({name: values[epoch]}))


def remember(model, kept):
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))


@pytest.mark.parametrize("mode", ["min", "max"])
def test_best_weights_stop_and_come_back(fit, model, mode):
    values = np.array([3.0, 1.0, 2.0, 1.5, 0.0])
    kept = []
    best = callbacks.BestWeights(patience=2, monitor="score", mode=mode)
    history = fit(scripted("score", values if mode == "min" else -values), best, remember(model, kept), epochs=5)
    assert history.epoch == [0, 1, 2, 3]
    assert best.best_epoch == 1
    for actual, expected in zip(model.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert np.abs(kept[1][0] - kept[3][0]).max() > 0


def test_best_weights_come_back_after_the_last_epoch_too(fit, model):
    kept = []
    fit(scripted("val_loss", [1.0, 2.0, 2.0]), callbacks.BestWeights(patience=9), remember(model, kept))
    np.testing.assert_array_equal(model.get_weights()[0], kept[0][0])


@pytest.mark.parametrize(("mode", "values"), [("min", [np.nan, 2.0, np.nan]), ("max", [np.nan, -2.0, -np.inf])])
def test_an_epoch_that_ends_with_nan_is_never_the_best(fit, model, mode, values):
    kept = []
    best = callbacks.BestWeights(patience=9, monitor="score", mode=mode)
    fit(scripted("score", values), best, remember(model, kept))
    assert best.best_epoch == 1
    np.testing.assert_array_equal(model.get_weights()[0], kept[1][0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_without_a_finite_validation_loss_training_has_diverged(fit, value):
    with pytest.raises(errors.DivergedError, match="finite val_loss.*after every epoch"):
        fit(scripted("val_loss", [value] * 3), callbacks.BestWeights(patience=9))


def test_an_unknown_monitor_is_an_error(fit):
    with pytest.raises(errors.ConfigError, match="did you mean 'val_accuracy'"):
        fit(callbacks.BestWeights(patience=2, monitor="val_acuracy", mode="max"))


def test_keras_early_stopping(fit):
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    assert fit(scripted("val_loss", [1.0, 2.0, 0.5]), stop).epoch == [0, 1]


def test_keras_model_checkpoint_keeps_model_and_optimizer(fit, model, batches, tmp_path):
    fit(keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", monitor="val_loss", mode="min"), epochs=2)
    again = keras.models.load_model(tmp_path / "2.keras")
    image = batches[0]["image"]
    np.testing.assert_array_equal(again(image)["logits"], model(image)["logits"])
    assert again.optimizer.iterations.numpy() == 6
    assert (tmp_path / "1.keras").exists()


def test_keras_reduce_lr_on_plateau(fit):
    reduce = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1)
    history = fit(scripted("val_loss", [1.0, 1.0, 1.0, 1.0]), reduce, epochs=4)
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.1, 0.05, 0.025])


def test_keras_learning_rate_scheduler_changes_the_steps(fit, model):
    before = model.get_weights()[0]
    history = fit(keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.0 if epoch < 2 else rate + 0.3))
    np.testing.assert_allclose(history.history["learning_rate"], [0.0, 0.0, 0.3])
    assert history.history["val_loss"][0] == history.history["val_loss"][1] != history.history["val_loss"][2]
    assert np.abs(model.get_weights()[0] - before).max() > 0


def test_keras_csv_logger(fit, tmp_path):
    history = fit(keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    rows = read_csv(tmp_path / "log.csv")
    np.testing.assert_allclose([float(row["val_loss"]) for row in rows], history.history["val_loss"])


def test_keras_terminate_on_nan(fit, batches, capsys):
    batches[1]["image"][0] = np.nan
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda number, logs: seen.append(logs["loss"]))
    history = fit(watch, keras.callbacks.TerminateOnNaN(), validation=False)
    assert history.epoch == [0]
    assert np.isfinite(seen).tolist() == [True, False]


def test_keras_backup_and_restore_goes_on_with_the_next_epoch(fit, model, tmp_path):
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    kept = []
    with pytest.raises(KeyboardInterrupt):
        fit(backup, keras.callbacks.LambdaCallback(on_epoch_begin=interrupt), remember(model, kept), epochs=4)
    model.set_weights([weight * 0 for weight in model.get_weights()])
    begun = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(model.get_weights()))
    history = fit(backup, watch, epochs=4)
    assert history.epoch == [2, 3]
    np.testing.assert_array_equal(begun[0][0], kept[1][0])


def test_every_hook_is_called_in_keras_order(fit, model, task, batches):
    calls = []

    class Recorder(keras.callbacks.Callback):
        pass

    hooks = [
        "train_begin",
        "epoch_begin",
        "train_batch_begin",
        "train_batch_end",
        "test_begin",
        "test_batch_begin",
        "test_batch_end",
        "test_end",
        "epoch_end",
        "train_end",
    ]
    for hook in hooks:
        setattr(Recorder, f"on_{hook}", lambda self, *args, hook=hook, **kwargs: calls.append(hook))
    recorder = Recorder()
    fit(recorder, epochs=1)
    step = ["train_batch_begin", "train_batch_end"]
    assert calls == [*hooks[:2], *step * 3, *hooks[4:]]
    assert recorder.params["steps"] == 3
    assert recorder.model.optimizer.iterations.numpy() == 3


def test_a_callback_can_stop_within_the_epoch(fit, model):
    def stop(number, logs):
        model.stop_training = number == 1

    history = fit(keras.callbacks.LambdaCallback(on_train_batch_end=stop))
    assert history.epoch == [0]
    assert model.optimizer.iterations.numpy() == 2


def test_batch_logs_are_the_mean_so_far_and_agree_with_the_epoch(fit):
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda number, logs: seen.append(dict(logs)))
    history = fit(watch, epochs=1).history
    assert seen[-1] == {name: history[name][0] for name in ("loss", "accuracy")}
    assert seen[0]["loss"] != seen[-1]["loss"]


@pytest.mark.parametrize(
    "look",
    [
        lambda d: d["loss"],
        lambda d: d.get("loss"),
        lambda d: dict(d)["loss"],
        lambda d: {**d}["loss"],
        lambda d: (d | {})["loss"],
        lambda d: d.copy()["loss"],
        lambda d: dict(d.items())["loss"],
        lambda d: next(iter(d.values())),
        lambda d: json.loads(json.dumps(d))["loss"],
        lambda d: 0.5 if len(d) == 1 and d and "loss" in d and list(d) == ["loss"] == list(d.keys()) else None,
        lambda d: 0.5 if d == {"loss": 0.5} else None,
        lambda d: 0.5 if repr(d) == "{'loss': 0.5}" else None,
        lambda d: d.setdefault("loss", 7.0),
        lambda d: d.pop("loss"),
        lambda d: d.update(more=1.0) or d["loss"],
    ],
)
def test_lazy_logs_look_like_a_dict_and_are_read_once(look):
    reads = []
    lazy = logs.LazyLogs(["loss"], lambda: reads.append(1) or {"loss": 0.5})
    assert reads == []
    assert look(lazy) == 0.5
    len(lazy)
    assert reads == [1]


def test_no_number_is_read_during_an_epoch_that_nobody_watches(fit, monkeypatch):
    reads = []
    fill = logs.LazyLogs.fill
    monkeypatch.setattr(logs.LazyLogs, "fill", lambda self: (reads.append(1), fill(self)))
    fit(keras.callbacks.LambdaCallback(), callbacks.BestWeights(patience=3))
    assert reads == []


def read_csv(path):
    with pathlib.Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_history_csv_holds_every_epoch(fit, tmp_path):
    history = fit(callbacks.HistoryCSV(tmp_path / "new" / "history.csv"))
    rows = read_csv(tmp_path / "new" / "history.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert list(rows[0]) == ["epoch", *sorted(history.history)]
    for name, values in history.history.items():
        assert [float(row[name]) for row in rows] == values


def test_history_csv_goes_on_where_the_training_resumes(fit, tmp_path):
    path = tmp_path / "history.csv"
    fit(callbacks.HistoryCSV(path))
    first = read_csv(path)
    history = fit(callbacks.HistoryCSV(path), initial_epoch=2, epochs=4)
    rows = read_csv(path)
    assert rows[:2] == first[:2]
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [float(row["loss"]) for row in rows[2:]] == history.history["loss"]
    assert list(tmp_path.iterdir()) == [path]


def read_scalars(directory):
    """Returns {tag: [(step, value)]} of the event files in a directory."""
    found = {}
    for path in sorted(pathlib.Path(directory).iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor).item()))
    return found


def test_tensorboard_scalars_are_in_the_event_files(fit, tmp_path):
    history = fit(callbacks.TensorBoardScalars(tmp_path)).history
    train, validation = read_scalars(tmp_path / "train"), read_scalars(tmp_path / "validation")
    assert sorted(train) == ["epoch_accuracy", "epoch_learning_rate", "epoch_loss"]
    assert sorted(validation) == ["epoch_accuracy", "epoch_loss"]
    for part, prefix in ((train, ""), (validation, "val_")):
        steps, values = zip(*part["epoch_loss"], strict=True)
        assert steps == (0, 1, 2)
        np.testing.assert_allclose(values, history[prefix + "loss"], rtol=1e-6)


def test_an_interrupted_training_closes_its_files(fit, tmp_path):
    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    board = callbacks.TensorBoardScalars(tmp_path / "board")
    ended = keras.callbacks.LambdaCallback(on_train_end=lambda logs: pytest.fail("the training did not end"))
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        fit(
            board,
            callbacks.HistoryCSV(tmp_path / "history.csv"),
            ended,
            keras.callbacks.LambdaCallback(on_epoch_end=interrupt),
        )
    assert [step for step, _ in read_scalars(tmp_path / "board" / "train")["epoch_loss"]] == [0]
    assert [row["epoch"] for row in read_csv(tmp_path / "history.csv")] == ["0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "history.csv"]
