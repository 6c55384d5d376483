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
from medkeras.evaluation import report
from medkeras.workflows import fitting, opening, predicting, questions, terminal


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer for one file.

    Attributes:
        path: The file, `#` and the frame after it where it holds several; or the folder of a series.
        probabilities: float32 `[K]`, or None if the file could not be read.
        error: Why it could not be read, or empty.
    """

    path: str
    probabilities: np.ndarray | None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The answers in the order of the inputs, and the classes of their columns."""

    classes: tuple[str, ...]
    multilabel: bool
    answers: tuple[Answer, ...]

    @property
    def unreadable(self) -> tuple[Answer, ...]:
        """The answers without probabilities."""
        return tuple(answer for answer in self.answers if answer.probabilities is None)

    def to_csv(self) -> str:
        """Returns `path, prediction, probability:CLASS…, error`, a row a file, unreadable ones too."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("path", "prediction", *(f"probability:{name}" for name in self.classes), "error"))
        for answer in self.answers:
            writer.writerow((errors.printable(answer.path), *self._cells(answer), answer.error))
        return text.getvalue()

    def _cells(self, answer: Answer) -> tuple[str, ...]:
        if answer.probabilities is None:
            return ("",) * (1 + len(self.classes))
        numbers = tuple(f"{value:.6f}" for value in answer.probabilities)
        if self.multilabel:
            present = np.flatnonzero(answer.probabilities >= 0.5)
            return ("|".join(self.classes[index] for index in present), *numbers)
        return (self.classes[int(answer.probabilities.argmax())], *numbers)


def predict(
    model: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    *,
    heatmaps: str | os.PathLike[str] | None = None,
) -> Predicted:
    """Answers for files, and for every image below folders; a file that cannot be read spoils no other.

    A DICOM file of several frames is answered for frame by frame, by a model of volumes series by series.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        inputs: Files and folders.
        heatmaps: Folder for a PNG a file with the evidence laid over the image; none by default.

    Raises:
        UserError: The model cannot be used, or no input is there.
    """
    opened = opening.open_model(model)
    asked = questions.expand(inputs, opened.viewing(config.DataConfig()))
    names = questions.stems(asked) if heatmaps else {}
    if heatmaps:
        _refuse_overwriting(asked, heatmaps, names)
        pathlib.Path(heatmaps).mkdir(parents=True, exist_ok=True)
    answers = []
    for one in terminal.track(asked, len(asked), "Predicting"):
        try:
            image = _image(opened, one)
        except errors.BadInputError as error:
            answers.append(Answer(one.name, None, error.reason))
            continue
        if heatmaps:
            outputs = opened.served.explain(image[np.newaxis])
            _save_overlay(pathlib.Path(heatmaps, names[one.name]), one, image, outputs["heatmap"][0, ..., 0])
        else:
            outputs = opened.served.predict(image[np.newaxis])
        answers.append(Answer(one.name, outputs["probabilities"][0]))
    return Predicted(opened.task.classes, opened.task.multilabel, tuple(answers))


def _image(opened: opening.Opened, one: questions.Question) -> np.ndarray:
    """Returns the stored values that a question is about; raises `BadInputError` where the model cannot answer it."""
    if one.images is None:
        raise errors.BadInputError(one.case.path, one.fault)
    header = one.images.header(one.case)
    fitting.refuse_other_kind(opened, one.case.path, header)
    image = one.images.read(one.case, opened.canvas.channels)
    fitting.refuse_other_scale(opened, one.case.path, (float(image.min()), float(image.max())))
    return image


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
