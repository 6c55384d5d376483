"""`--mode=predict`: an answer for every image file."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from medkeras import errors
from medkeras.data import cases, files, folder
from medkeras.evaluation import report
from medkeras.workflows import opening, predicting, terminal


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer for one file.

    Attributes:
        path: The file.
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

    Args:
        model: Folder of a version, or of a model: then its newest version.
        inputs: Files and folders.
        heatmaps: Folder for a PNG a file with the evidence laid over the image; none by default.

    Raises:
        UserError: The model cannot be used, or no input is there.
    """
    opened = opening.open_model(model)
    paths = _paths(inputs)
    names = _heatmap_names(paths) if heatmaps else {}
    if heatmaps:
        _refuse_overwriting(paths, heatmaps, names)
        pathlib.Path(heatmaps).mkdir(parents=True, exist_ok=True)
    source = files.FileImages()
    answers = []
    for path in terminal.track(paths, len(paths), "Predicting"):
        try:
            image = source.read(cases.Case(case_id=str(path), path=str(path), patient_id=""), opened.canvas.channels)
            opened.canvas.require(path, image.dtype.name)
        except errors.BadInputError as error:
            answers.append(Answer(str(path), None, error.reason))
            continue
        if heatmaps:
            outputs = opened.served.explain(image[np.newaxis])
            _save_overlay(pathlib.Path(heatmaps, names[path]), image, outputs["heatmap"][0, ..., 0])
        else:
            outputs = opened.served.predict(image[np.newaxis])
        answers.append(Answer(str(path), outputs["probabilities"][0]))
    return Predicted(opened.task.classes, opened.task.multilabel, tuple(answers))


def _paths(inputs: Sequence[str | os.PathLike[str]]) -> list[pathlib.Path]:
    found = list(_expand(inputs))
    if not found:
        raise errors.DataError("predict needs --input, image files or folders that hold some. Received: none")
    return found


def _expand(inputs: Sequence[str | os.PathLike[str]]) -> Iterator[pathlib.Path]:
    for given in filter(None, (os.fspath(each) for each in inputs)):
        if os.path.isdir(given):
            yield from folder.image_paths(given)
        else:
            yield pathlib.Path(given)


def _heatmap_names(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    """Returns a file name for each path: its own, numbered where two files share one."""
    names: dict[pathlib.Path, str] = {}
    taken: set[str] = set()
    for path in dict.fromkeys(paths):
        stem = errors.printable(path.stem)
        candidates = itertools.chain((stem,), (f"{stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        names[path] = f"{name}.png"
    return names


def _refuse_overwriting(
    paths: Sequence[pathlib.Path], heatmaps: str | os.PathLike[str], names: Mapping[pathlib.Path, str]
) -> None:
    inputs = {os.path.realpath(path): path for path in paths}
    for name in names.values():
        if os.path.realpath(os.path.join(heatmaps, name)) in inputs:
            raise errors.DataError(
                f"Heatmaps never overwrite an input; give them a folder of their own. "
                f"Received: {errors.printable(os.path.join(heatmaps, name))}"
            )


def _save_overlay(path: pathlib.Path, image: np.ndarray, heatmap: np.ndarray) -> None:
    Image.fromarray(report.overlay(predicting.displayable(image), heatmap)).save(path)
