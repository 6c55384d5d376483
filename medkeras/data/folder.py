"""`folder:DIR`: class folders, with or without split folders above them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import NoReturn

from medkeras import errors
from medkeras.data import cases, files, split

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
DICOM = (".dcm", ".dicom")


def load(place: str) -> cases.CaseSet:
    """Reads a tree of class folders.

    `DIR/CLASS/…` or `DIR/SPLIT/CLASS/…`, where SPLIT is train or Training, val, valid or validation, test or
    Testing, in any case. Files are found at any depth below the class; what is not an image by its name is left
    aside and counted in `notes`. The folder's structure names no patients; where DICOM files do, a note says so.

    Raises:
        DataError: The folder is missing, holds no class folders, or a class folder holds no image.
    """
    root = pathlib.Path(place)
    if not root.is_dir():
        raise errors.DataError(f"folder: needs a folder that exists. Received: {errors.printable(place)!r}")
    found: list[cases.Case] = []
    aside: list[str] = []
    split_folders = _split_folders(root)
    stray = [name for each in sorted({root, *(each for each, _ in split_folders)}) for name in _loose_images(each)]
    for split_folder, split_of in split_folders:
        for class_folder in _subfolders(split_folder):
            found.extend(_class_cases(root, class_folder, split_of, aside))
    if not found:
        raise errors.DataError(
            f"folder: needs class folders with images in them, DIR/CLASS/IMAGE or DIR/SPLIT/CLASS/IMAGE. "
            f"Received: {errors.printable(place)!r}"
        )
    return cases.CaseSet(
        name=errors.printable(root.resolve().name).lower().replace(" ", "_"),
        cases=tuple(found),
        classes=tuple(sorted({case.label for case in found})),
        images=files.FileImages(),
        notes=_aside_notes(aside, "are not images by their names")
        + _aside_notes(stray, "lie in no class folder")
        + _patient_notes(found),
    )


def image_paths(
    folder: str | os.PathLike[str], aside: list[str] | None = None, *, extensions: tuple[str, ...] = EXTENSIONS
) -> Iterator[pathlib.Path]:
    """Yields the images below a folder, sorted; names of other visible files are appended to `aside`.

    Links to folders are not followed, for they may lead back; they are appended too.

    Raises:
        OSError: A folder cannot be read.
    """
    for directory, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if aside is not None:
            aside.extend(f"{name}/" for name in folders if os.path.islink(os.path.join(directory, name)))
        for name in sorted(names):
            if _is_image(name, extensions):
                yield pathlib.Path(directory, name)
            elif aside is not None and not name.startswith("."):
                aside.append(name)


def _fail(error: OSError) -> NoReturn:
    raise error


def _is_image(name: str, extensions: tuple[str, ...] = (*EXTENSIONS, *DICOM)) -> bool:
    return name.lower().endswith(extensions) and not name.startswith(".")


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _loose_images(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if _is_image(entry.name) and not entry.is_dir())


def _split_folders(root: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    folders = _subfolders(root)
    named = [(folder, split.split_name(folder.name)) for folder in folders]
    if not any(name == "train" for _, name in named):
        return [(root, "")]
    others = [folder.name for folder, name in named if name is None]
    if others:
        raise errors.DataError(
            f"Beside a training folder stand only split folders (validation, test). "
            f"Received: {errors.printable(others[0])!r} in {errors.printable(root)}"
        )
    return [(folder, name) for folder, name in named if name is not None]


def _class_cases(root: pathlib.Path, folder: pathlib.Path, split_of: str, aside: list[str]) -> list[cases.Case]:
    label = errors.printable(folder.name)
    found = []
    for path in image_paths(folder, aside, extensions=(*EXTENSIONS, *DICOM)):
        case_id = path.relative_to(root).as_posix()
        found.append(cases.Case(case_id=case_id, path=str(path), patient_id=case_id, split=split_of, label=label))
    if not found:
        raise errors.DataError(f"Every class folder holds an image. Received: {errors.printable(folder)}, without one")
    return found


def _patient_notes(found: list[cases.Case]) -> tuple[str, ...]:
    count = sum(case.path.lower().endswith(DICOM) for case in found)
    return (f"{count} DICOM files are read without their patients; dicom:DIR keeps patients together.",) * bool(count)


def _aside_notes(aside: list[str], reason: str) -> tuple[str, ...]:
    if not aside:
        return ()
    shown = ", ".join(errors.printable(name) for name in aside[:3])
    return (f"{len(aside)} files {reason} and were left aside: {shown}{', …' * (len(aside) > 3)}",)
