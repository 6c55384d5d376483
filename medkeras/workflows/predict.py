"""`--mode=predict`: an answer for every image file."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from medkeras import config, errors
from medkeras.evaluation import cells, report
from medkeras.workflows import fitting, opening, predicting, questions, terminal

_MORE = ("prediction_set", "abstain", "familiarity")


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer for one file.

    Attributes:
        path: The file, `#` and the frame after it where it holds several; or the folder of a series.
        outputs: What the model answered, an array an output; empty if the file could not be read.
        error: Why it could not be read, or empty.
        heatmap: Name of its picture, or empty.
    """

    path: str
    outputs: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    error: str = ""
    heatmap: str = ""

    @property
    def probabilities(self) -> np.ndarray | None:
        """float32 `[K]`, or None if the file could not be read."""
        return self.outputs.get("probabilities")


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The answers in the order of the inputs, and the classes and outputs of their columns."""

    classes: tuple[str, ...]
    multilabel: bool
    answers: tuple[Answer, ...]
    outputs: tuple[str, ...] = ("probabilities",)
    heatmaps: bool = False

    @property
    def unreadable(self) -> tuple[Answer, ...]:
        """The answers without probabilities."""
        return tuple(answer for answer in self.answers if answer.probabilities is None)

    def to_csv(self) -> str:
        """Returns a row a file, unreadable ones too.

        The columns are `path, prediction, probability:CLASS…, error`, and before the last, of a model that gives
        them, `prediction_set` (names joined by `|`, with a backslash before that of a name), `abstain` (0 or 1) and
        `familiarity` (0…1); where heatmaps were asked for, `heatmap` names the picture.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        more = [name for name in _MORE if name in self.outputs]
        probabilities = (f"probability:{name}" for name in self.classes)
        pictures = ("heatmap",) if self.heatmaps else ()
        writer.writerow(("path", "prediction", *probabilities, *more, *pictures, "error"))
        for answer in self.answers:
            row = self._cells(answer, more) if answer.outputs else ("",) * (1 + len(self.classes) + len(more))
            picture = (cells.guarded(answer.heatmap),) if self.heatmaps else ()
            writer.writerow((cells.guarded(errors.printable(answer.path)), *row, *picture, answer.error))
        return text.getvalue()

    def _cells(self, answer: Answer, more: Sequence[str]) -> tuple[str, ...]:
        probabilities = answer.outputs["probabilities"]
        one = cells.guarded(self.classes[probabilities.argmax()])
        called = self._names(probabilities >= 0.5) if self.multilabel else one
        numbers = tuple(f"{value:.6f}" for value in probabilities)
        return (called, *numbers, *(self._cell(name, answer.outputs[name]) for name in more))

    def _cell(self, name: str, value: np.ndarray) -> str:
        if name == "prediction_set":
            return self._names(value)
        return f"{int(value)}" if name == "abstain" else f"{value:.6f}"

    def _names(self, chosen: np.ndarray) -> str:
        names = [self.classes[number] for number in np.flatnonzero(chosen)]
        return cells.guarded(cells.join_labels(names)) if names else ""


def predict(
    model: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    settings: config.Config | None = None,
    *,
    heatmaps: str | os.PathLike[str] | None = None,
) -> Predicted:
    """Answers for files, and for every image below folders; a file that cannot be read spoils no other.

    A DICOM file of several frames is answered for frame by frame, by a model of volumes series by series.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        inputs: Files and folders.
        settings: `data.units` says what the values of NIfTI files mean, where the model's training did not.
        heatmaps: Folder for a PNG a file with the evidence laid over the image; none by default.

    Raises:
        UserError: The model cannot be used, or no input is there.
    """
    opened = opening.open_model(model)
    asked = questions.expand(inputs, opened.viewing((settings or config.Config()).data))
    names = questions.stems(asked) if heatmaps else {}
    if heatmaps:
        _refuse_overwriting(asked, heatmaps, names)
        pathlib.Path(heatmaps).mkdir(parents=True, exist_ok=True)
    answers = []
    for one in terminal.track(asked, len(asked), "Predicting"):
        try:
            image = fitting.read(opened, one)
        except errors.BadInputError as error:
            answers.append(Answer(one.name, error=error.reason))
            continue
        if heatmaps:
            outputs = opened.served.explain(image[np.newaxis])
            _save_overlay(pathlib.Path(heatmaps, names[one.name]), one, image, outputs["heatmap"][0, ..., 0])
        else:
            outputs = opened.served.predict(image[np.newaxis])
        kept = {name: outputs[name][0] for name in opened.task.outputs}
        answers.append(Answer(one.name, kept, heatmap=names.get(one.name, "")))
    task = opened.task
    return Predicted(task.classes, task.multilabel, tuple(answers), task.outputs, heatmaps=bool(heatmaps))


def _refuse_overwriting(
    asked: Sequence[questions.Question], heatmaps: str | os.PathLike[str], names: Mapping[str, str]
) -> None:
    inputs = {os.path.realpath(one.case.path) for one in asked}
    for name in names.values():
        if os.path.realpath(os.path.join(heatmaps, name)) in inputs:
            raise errors.DataError(
                f"Heatmaps never overwrite an input; give them a folder of their own. "
                f"Received: {errors.printable(os.path.join(heatmaps, name))}"
            )


def _save_overlay(path: pathlib.Path, one: questions.Question, image: np.ndarray, heatmap: np.ndarray) -> None:
    Image.fromarray(report.overlay(predicting.displayable(image, one.case), heatmap)).save(path)
