"""What a prediction is asked for: files and folders become images, frames and volumes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

from medkeras import config, errors
from medkeras.data import cases, dicom, files, folder, labelling, nifti

# What a question is asked for though no case could be made of it, for it to be answered with the reason.
_UNANSWERED = {"slices": ("unreadable",), "volumes": ("unreadable", "series")}


@dataclasses.dataclass(frozen=True)
class Question:
    """One image, frame or volume.

    Attributes:
        name: The file as the user named it, `#` and the frame after it; or the folder of a series.
        case: Finds its pixels.
        images: Reads them; None where that is known to fail.
        fault: Why it fails, or empty.
    """

    name: str
    case: cases.Case
    images: cases.ImageSource | None
    fault: str = ""


def expand(inputs: Sequence[str | os.PathLike[str]], settings: config.DataConfig) -> list[Question]:
    """Returns what there is to answer for, in order.

    Args:
        inputs: Files, and folders whose images are taken, the DICOM files among them by their content.
        settings: `view` and `spacing` say whether the model answers for images or for series, and how they are seen.

    Raises:
        DataError: There is nothing.
    """
    given = [os.fspath(each) for each in inputs if os.fspath(each)]
    if not given:
        raise errors.DataError("predict needs --input, image files or folders that hold some. Received: none")
    found = [one for each in given for one in _expand(each, settings)]
    if not found:
        names = ", ".join(map(errors.printable, given))
        raise errors.DataError(f"A folder of images holds some. Received: {names}, without any")
    return found


def stems(asked: Sequence[Question]) -> dict[str, str]:
    """Returns a file name for each question's picture: its own, numbered where two share one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for one in {each.name: each for each in asked}.values():
        frame = "" if one.case.frame is None else f"_{one.case.frame}"
        stem = errors.printable(pathlib.Path(one.case.path).stem) + frame
        candidates = itertools.chain((stem,), (f"{stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        names[one.name] = f"{name}.png"
    return names


def _expand(given: str, settings: config.DataConfig) -> Iterator[Question]:
    if os.path.isdir(given):
        scans = set(dicom.paths_below(given))
        yield from (_file(str(path)) for path in folder.image_paths(given) if path not in scans)
        if scans:
            yield from _medical(dicom.read(given, settings), settings.view)
        if any(nifti.paths_below(pathlib.Path(given))):
            yield from _medical(nifti.read(given, settings), settings.view)
    elif os.path.isfile(given) and dicom.is_dicom(pathlib.Path(given)):
        yield from _medical(dicom.read(given, settings), settings.view)
    elif os.path.isfile(given) and given.lower().endswith(nifti.EXTENSIONS):
        yield from _medical(nifti.read(given, settings), settings.view)
    else:
        yield _file(given)


def _file(path: str) -> Question:
    return Question(path, cases.Case(case_id=path, path=path, patient_id=""), files.FileImages())


def _medical(data: labelling.Unlabelled, view: str) -> Iterator[Question]:
    """Asks for every case, and for each file and series that none could be made of."""
    for item in data.items:
        case = item.case
        yield Question(case.path if case.frame is None else f"{case.path}#{case.frame}", case, data.images)
    answered = {item.case.path for item in data.items}
    for problem in data.problems:
        if problem.path not in answered and problem.kind in _UNANSWERED[view]:
            case = cases.Case(case_id=problem.path, path=problem.path, patient_id="")
            yield Question(problem.path, case, None, problem.reason)
