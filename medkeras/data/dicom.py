"""`dicom:DIR` and `dicom:FILE`: images, or whole series, of DICOM files.

Reference:
    DICOM PS3.3 C.7 (patient, study, series, image).
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.data import (
    cases,
    dicom_faults,
    dicom_metadata,
    files,
    guard,
    headers,
    instances,
    labelling,
    series,
    table,
    volume,
)
from medkeras.privacy import patients

EXTENSIONS = (".dcm", ".dicom")
"""A file so named that is no DICOM file is reported; any other is passed over."""

_MEDIA_DIRECTORY = b"1.2.840.10008.1.3.10"
_HEAD = 1024
_NO_PIXELS = "a DICOM image has pixel data"
_THREADS = 4


@dataclasses.dataclass(frozen=True)
class Found:
    """The DICOM images below a folder.

    Attributes:
        root: The folder.
        files: Name from the root, with slashes, to what the file says of itself; sorted.
        patients: Name to what names the patient; empty where nothing does.
        held: Name to what the file holds, where files share a SOPInstanceUID: equal for copies.
        problems: Files that cannot be read.
        others: Number of DICOM files that hold no image.
    """

    root: pathlib.Path
    files: Mapping[str, Mapping[str, Any]]
    patients: Mapping[str, str]
    held: Mapping[str, str]
    problems: tuple[cases.Problem, ...]
    others: int


@dataclasses.dataclass(frozen=True)
class _Members:
    """Cases as `labelling.Unlabelled` wants them."""

    items: Sequence[labelling.Item]
    images: cases.ImageSource
    problems: Sequence[cases.Problem]
    held: Mapping[str, str]
    notes: Sequence[str] = ()


class DicomImages:
    """An `ImageSource` of files and frames whose headers are known already.

    Args:
        headers_of: Path to header.
    """

    def __init__(self, headers_of: Mapping[str, cases.ImageHeader]) -> None:
        self._headers = headers_of
        self._files = files.FileImages()

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns the header that was read when the case was found."""
        return self._headers[case.path]

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns the stored values `[H, W, channels]`; raises `BadInputError`."""
        return self._files.read(case, channels)


def load(place: str, settings: config.DataConfig) -> cases.CaseSet:
    """Reads DICOM files, told by their content, at any depth below a folder.

    `data.view` says what a case is: an image (a file, or a frame of one), or a series as a volume. Labels come from
    the table `data.labels`, else from `labels.csv` in the folder, else from class folders as `folder:` knows them. Of
    files that are copies of one another, and are labelled alike, one is kept.

    Raises:
        DataError: There is no such place, it holds no DICOM image, or the labels cannot be used.
        ConfigError: `data.metadata` names what neither the table nor a header gives.
    """
    data = read(place, settings)
    if not data.items and all(problem.kind == "unreadable" for problem in data.problems):
        raise errors.DataError(
            f"dicom: needs a DICOM image, or a folder with some. Received: {errors.printable(place)!r} "
            f"({len(data.problems)} DICOM files that cannot be read)"
        )
    return labelling.labelled(data, place, settings)


def read(place: str, settings: config.DataConfig) -> labelling.Unlabelled:
    """Reads DICOM files without their labels.

    Raises:
        DataError: There is no such place.
        ConfigError: `data.spacing` cannot be read, or is asked for where cases are images.
    """
    spacing = labelling.spacing_for(settings)
    found = find(place)
    asked = table.metadata_names(settings)
    made = _volumes(found, spacing, asked) if settings.view == "volumes" else _slices(found, asked)
    return labelling.Unlabelled(
        name=errors.printable(found.root.resolve().name).lower().replace(" ", "_"),
        root=found.root,
        items=tuple(made.items),
        images=made.images,
        patients_known=any(found.patients.values()),
        notes=(*_notes(found), *made.notes),
        problems=(*found.problems, *_false_claims(found), *_contradictions(found), *made.problems),
        stated=dicom_metadata.NAMES,
        held=made.held,
    )


def find(place: str) -> Found:
    """Finds the DICOM images at a place and reads their headers, several files at a time.

    Raises:
        DataError: There is no such place.
    """
    given = pathlib.Path(place)
    if not given.exists():
        raise errors.DataError(f"dicom: needs a folder or a file that exists. Received: {errors.printable(place)!r}")
    root = given if given.is_dir() else given.parent
    paths = list(paths_below(given)) if given.is_dir() else [given]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        looks = list(pool.map(_look, map(str, paths)))
    found, problems, others = {}, [], 0
    for path, look in zip(paths, looks, strict=True):
        if not isinstance(look, errors.BadInputError):
            found[path.relative_to(root).as_posix()] = look
        elif look.reason.startswith(_NO_PIXELS) and given.is_dir():
            others += 1
        else:
            problems.append(cases.Problem(str(path), "unreadable", look.reason))
    return Found(root, found, patients_of(found), instances.contents(root, found), tuple(problems), others)


def paths_below(folder: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields the DICOM files below a folder, sorted, told by their content; and files that are one by name only.

    Directories of media (DICOMDIR) are none; hidden files and linked folders are not looked at.
    """
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = pathlib.Path(directory, name)
            if not name.startswith(".") and is_dicom(path):
                yield path


def is_dicom(path: pathlib.Path) -> bool:
    """Whether a file is a DICOM file by its content, or else by its name; a DICOMDIR is none."""
    try:
        if headers.identify(str(path)) == "DICOM":
            with open(path, "rb") as file:
                return _MEDIA_DIRECTORY not in file.read(_HEAD)
    except (errors.BadInputError, OSError):
        pass
    return path.suffix.lower() in EXTENSIONS


def patients_of(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns what names the patient of each file, such that one patient is never taken for two.

    The rule is that of de-identification, `medkeras.privacy.patients`.
    """
    return patients.of_files(
        {
            name: patients.Identity(
                facts["patient_id"], facts["issuer_of_patient_id"], facts["study_uid"], facts["series_uid"]
            )
            for name, facts in found.items()
        }
    )


def header_of(facts: Mapping[str, Any]) -> cases.ImageHeader:
    """Returns the header of a file's planes."""
    return cases.ImageHeader(
        facts["rows"], facts["columns"], facts["channels"], facts["dtype"], units=facts["units"] or ""
    )


def frames_of(facts: Mapping[str, Any]) -> Sequence[int | None]:
    """Returns the frames of a file; None alone for a file that is one plane."""
    return range(facts["frames"]) if facts["frames"] > 1 else (None,)


def _look(path: str) -> Mapping[str, Any] | errors.BadInputError:
    try:
        return guard.inspect("dicom", path)
    except errors.BadInputError as error:
        return error


def _notes(found: Found) -> Iterator[str]:
    if found.others:
        yield f"{found.others} DICOM files hold no image (reports, presentation states, …) and were left aside."
    grouped = sum(not facts["patient_id"] and bool(found.patients[name]) for name, facts in found.files.items())
    if grouped:
        yield f"{grouped} of {len(found.files)} DICOM files name no patient: those of one study count as one patient."
    nobody = sum(not patient for patient in found.patients.values())
    if nobody:
        yield f"{nobody} of {len(found.files)} DICOM files name neither patient nor study: each counts as a patient."
    named = sum(facts["names_patient"] for facts in found.files.values())
    if named:
        yield f"{named} of {len(found.files)} DICOM files hold a patient's name; --mode=deidentify takes it out."


def _false_claims(found: Found) -> Iterator[cases.Problem]:
    """Reports series that say that nobody is named in them (0012,0062), and name somebody."""
    for names in _series(found).values():
        claims = [found.files[name]["identity_removed"] and found.files[name]["names_patient"] for name in names]
        if any(claims):
            reason = f"{sum(claims)} of {len(names)} files say that the patient's identity was removed, and hold a name"
            yield cases.Problem(str((found.root / names[0]).parent), "identity", reason)


def _contradictions(found: Found) -> Iterator[cases.Problem]:
    """Reports headers that contradict each other, or lack what their class requires."""
    yield from instances.clashes(found.root, found.files, found.held)
    stated = {place: [found.files[name] for name in names] for place, names in _series(found).items()}
    for place, sentence in dicom_faults.of_set(stated):
        yield cases.Problem(str(found.root / place), instances.KIND, sentence)


def _facts_for_labels(name: str, case_id: str, facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "sop_instance_uid": facts["sop_uid"] or "",
        "series_instance_uid": facts["series_uid"] or "",
        "study_instance_uid": facts["study_uid"] or "",
        "patient_id": facts["patient_id"] or "",
        "path": name,
        "case_id": case_id,
    }


def _slices(found: Found, metadata: Sequence[str]) -> _Members:
    items, headers_of, held = [], {}, {}
    for name, facts in found.files.items():
        path = str(found.root / name)
        headers_of[path] = header_of(facts)
        stated = dicom_metadata.of_facts(facts, metadata)
        for frame in frames_of(facts):
            case_id = name if frame is None else f"{name}#{frame}"
            case = cases.Case(case_id, path, found.patients[name] or name, frame=frame, metadata=stated)
            items.append(labelling.Item(case, (_facts_for_labels(case_id, case_id, facts),)))
            if name in found.held:
                held[case_id] = f"{found.held[name]} {frame}"
    return _Members(items, DicomImages(headers_of), tuple(_faults(found)), held)


def _faults(found: Found) -> Iterator[cases.Problem]:
    """Reports what is wrong with series whose images all say where they lie, though no volume is asked for."""
    for place, names in _series(found).items():
        planes = [one for name in names for one in _planes(found, name)]
        if len(planes) > 1 and all(one.position and one.orientation for one in planes):
            _, sentences = series.arrange(planes)
            yield from (cases.Problem(str(found.root / place), "series", sentence) for sentence in sentences)


def _volumes(found: Found, spacing: volume.Spacing | None, metadata: Sequence[str]) -> _Members:
    items: list[labelling.Item] = []
    stacks: dict[str, series.Stack] = {}
    held: dict[str, str] = {}
    problems: list[cases.Problem] = []
    members = _series(found)
    for case_id, names in members.items():
        path = str(found.root / case_id)
        stack, sentences = series.arrange([one for name in names for one in _planes(found, name)])
        if stack is not None and spacing and not stack.measured:
            stack, sentences = None, (*sentences, "resampling (data.spacing) needs images that state their spacing")
        problems.extend(cases.Problem(path, "series", sentence) for sentence in sentences)
        if stack is None:
            continue
        stacks[path] = stack
        patient = found.patients[names[0]] or case_id
        stated = dicom_metadata.of_facts(found.files[names[0]], metadata)
        facts = tuple(_facts_for_labels(name, case_id, found.files[name]) for name in names)
        items.append(labelling.Item(cases.Case(case_id, path, patient, metadata=stated), facts))
        if all(name in found.held for name in names):
            held[case_id] = " ".join(sorted(found.held[name] for name in names))
    whole = {name for names in members.values() for name in names}
    problems.extend(instances.copies(str(found.root / name) for name in found.files if name not in whole))
    refused = len(members) - len(stacks)
    notes = (f"{refused} series make no volume and were left out.",) if refused else ()
    return _Members(items, series.SeriesImages(stacks, spacing), problems, held, notes)


def _planes(found: Found, name: str) -> Iterator[series.Slice]:
    facts = found.files[name]
    header = header_of(facts)
    for index, frame in enumerate(frames_of(facts)):
        yield series.Slice(
            path=str(found.root / name),
            frame=frame,
            header=header,
            position=_numbers(facts["positions"], index),
            orientation=_numbers(facts["orientation"], index),
            spacing=tuple(facts["spacing"]) if facts["spacing"] else None,
            step=facts["spacing_between"] or facts["slice_thickness"],
            number=facts["instance_number"],
            modality=facts["modality"] or "",
        )


def _numbers(of_frames: Sequence[Sequence[float] | None] | None, index: int) -> tuple[float, ...] | None:
    numbers = of_frames[index] if of_frames else None
    return tuple(numbers) if numbers else None


def _series(found: Found) -> dict[str, list[str]]:
    """Returns the names of each series' files, under its folder's name, or its first file's in a shared folder.

    A series that is there several times, copy by copy, is several.
    """
    members = collections.defaultdict(list)
    for name, facts in found.files.items():
        members[found.patients[name], facts["series_uid"] or name].append(name)
    groups = [names for whole in members.values() for names in instances.editions(whole, found.held)]
    folders = [{str(pathlib.PurePosixPath(name).parent) for name in names} for names in groups]
    shared = collections.Counter(folder for each in folders for folder in each)
    result = {}
    for names, own in zip(groups, folders, strict=True):
        folder = next(iter(own))
        alone = len(own) == 1 and shared[folder] == 1 and folder != "." and len(names) > 1
        result[folder if alone else names[0]] = names
    return result
