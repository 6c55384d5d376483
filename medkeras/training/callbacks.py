"""Callbacks of our own, where Keras has none that does the job."""

from __future__ import annotations

import csv
import math
import pathlib
from typing import Any

import keras
import tensorflow as tf

from medkeras import errors


class BestWeights(keras.callbacks.EarlyStopping):
    """Stops without an improvement for `patience` epochs, and ends with the best epoch's weights.

    Keras's EarlyStopping, but a monitor that does not exist is an error and not a warning, and an epoch that ends with
    NaN is worse than any other: Keras takes one that comes first for the best there can be.
    `best` is the best value, `best_epoch` its epoch, counted from 0.

    Args:
        monitor: A name in the epoch's logs.
        mode: `min` or `max`, what is better.
        patience: Epochs without an improvement before the training stops, at least 1.
    """

    def __init__(self, *, patience: int, monitor: str = "val_loss", mode: str = "min") -> None:
        super().__init__(monitor, mode=mode, patience=patience, restore_best_weights=True)

    def get_monitor_value(self, logs: dict[str, float]) -> float:
        """Returns the monitored number of the epoch, the worst there is for NaN.

        Raises:
            ConfigError: There is none.
        """
        if self.monitor not in logs:
            raise errors.ConfigError(errors.unknown("monitor", self.monitor, logs))
        value = logs[self.monitor]
        if math.isnan(value):
            return math.inf if self.mode == "min" else -math.inf
        return value

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Gives back the best weights; raises `DivergedError` where no epoch ended with a finite number."""
        if self.best is not None and not math.isfinite(self.best):
            raise errors.DivergedError(
                f"One epoch at least must end with a finite {self.monitor}; try a tenth of train.learning_rate, and "
                "keep train.clip_norm above 0. Received: NaN or infinity after every epoch"
            )
        super().on_train_end(logs)


class HistoryCSV(keras.callbacks.Callback):
    """Writes one row an epoch: `epoch` counted from 0, then the logs by name.

    Rows of the epochs before the first one of this training are kept, later ones replaced: a
    resumed training and a second stage continue the file. Nothing is held open between epochs.

    Args:
        path: The file.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        super().__init__()
        self._path = pathlib.Path(path)
        self._columns: list[str] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Makes ready to begin or to continue the file."""
        self._columns = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the row."""
        row = {"epoch": epoch, **(logs or {})}
        if not self._columns:
            self._begin(row)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _begin(self, row: dict[str, Any]) -> None:
        """Writes the header and the rows of the earlier epochs, all at once."""
        kept = [old for old in _rows(self._path) if int(old["epoch"]) < row["epoch"]]
        self._columns = list(dict.fromkeys([*(kept[0] if kept else ()), *row]))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(self._path.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(self._path)


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the epoch's logs for TensorBoard, tagged as Keras's own callback tags them.

    Keras's TensorBoard callback needs the package `tensorboard`, which TensorFlow no longer
    brings; this one writes the same scalars (`epoch_loss` under `train` and `validation`) without.

    Args:
        directory: The log directory.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        super().__init__()
        self._directory = pathlib.Path(directory)
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the numbers of the epoch."""
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            with self._writer(part).as_default():
                _write_scalar(f"epoch_{name.removeprefix('val_')}", value, step=epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Closes the files."""
        self.close()

    def close(self) -> None:
        """Closes the files; may be called twice."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _writer(self, part: str) -> tf.summary.SummaryWriter:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self._directory / part))
        return self._writers[part]


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_scalar(tag: str, value: float, *, step: int) -> None:
    # tf.summary.scalar lives in the package tensorboard; this is what it writes.
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
    )
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=metadata)
