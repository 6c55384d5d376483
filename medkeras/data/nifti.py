"""`nifti:DIR` and `nifti:FILE`: axial slices, or whole volumes, of NIfTI files, and the masks beside them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.data import cases, files, guard, labelling, labels, masks, nnunet, volume

# A pair of headers and voxels (.hdr, .img) is found too, to be refused by name.
EXTENSIONS = (".nii", ".nii.gz", ".hdr")
MASK_ENDINGS = ("_labels", "_label", "_seg", "_mask")
MASK_FOLDERS = (("images", "labels"), (nnunet.IMAGES, nnunet.MASKS))

_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[_/])")
_THREADS = 4


@dataclasses.dataclass(frozen=True)
class Found:
    """NIfTI files, by their names: from the folder of the images, without extension.

    Attributes:
        images: Name to file.
        root: The folder that was asked for, or that holds the file.
        masks: Name of a mask, which is that of its images, to its file.
        owners: Name of an image to the name of its mask, whether there is one or not; channels of one case share it.
        channels: Name of an nnU-Net case to the numbers of its channels.
        problems: Images without a mask where others have one, masks without an image, files that are there twice, cases
            without a channel that others have.
    """

    images: Mapping[str, pathlib.Path]
    root: pathlib.Path
    masks: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    owners: Mapping[str, str] = dataclasses.field(default_factory=dict)
    channels: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    problems: tuple[cases.Problem, ...] = ()


class NiftiImages:
    """An `ImageSource` of volumes, or of their axial slices.

    Args:
        facts: Path to what the file says of itself.
        view: `slices`: a case's frame is an axial slice, counted from the lowest, volume by volume; `volumes`: it is a
            volume of a file that holds several.
        spacing: Voxel size in mm that volumes are resampled to; None: as stored.
        units: What the values mean, which no NIfTI file says: `HU`, or empty for stored values.
    """

    def __init__(
        self, facts: Mapping[str, Mapping[str, Any]], view: str, spacing: volume.Spacing | None, units: str = ""
    ) -> None:
        self._facts = facts
        self._view = view
        self._spacing = spacing
        self._units = units

    def header(self, case: cases.Case) -> cases.ImageHeader:
        """Returns what the file said of itself when it was found."""
        facts = self._facts[case.path]
        shape = facts["shape"]
        if self._spacing:
            shape = volume.resampled_shape(shape, facts["spacing"], self._spacing)
        depth = shape[0] if self._view == "volumes" else 0
        return cases.ImageHeader(shape[1], shape[2], facts["channels"], facts["dtype"], depth=depth, units=self._units)

    def read(self, case: cases.Case, channels: int) -> np.ndarray:
        """Returns `[H, W, channels]` or `[D, H, W, channels]`; raises `BadInputError`."""
        if self._view == "volumes":
            pixels = guard.read("nifti", case.path, time=case.frame or 0, spacing=self._spacing)
        else:
            pixels = guard.read("nifti", case.path, frame=case.frame)
        return files.with_channels(pixels, channels)


def load(place: str, settings: config.DataConfig) -> cases.CaseSet:
    """Reads NIfTI files at any depth below a folder.

    `data.view` says what a case is: an axial slice, or a volume. Labels come from the table `data.labels`, else from
    `labels.csv` in the folder, else from class folders as `folder:` knows them. Masks (in `labels` beside `images`, or
    `NAME_labels` beside `NAME`) make no class; they are checked against their images.

    Raises:
        DataError: There is no such place, it holds no NIfTI file, or the labels cannot be used.
        ConfigError: `data.spacing` cannot be read, or is asked for where cases are slices.
    """
    return labelling.labelled(read(place, settings), place, settings)


def read(place: str, settings: config.DataConfig) -> labelling.Unlabelled:
    """Reads NIfTI files without their labels; raises as `load` does."""
    spacing = labelling.spacing_for(settings)
    found = find(place)
    facts, broken = _inspected(found.images)
    # Whole masks are read only where nothing can be trained without them.
    bare = not settings.labels and not pathlib.Path(place, labels.NAME).is_file()
    checked = masks.check(found.masks, {found.owners.get(name, name): facts[name] for name in facts}, values=bare)
    by_path = {str(found.images[name]): each for name, each in facts.items()}
    return labelling.Unlabelled(
        name=errors.printable(_stem(pathlib.Path(place).resolve().name)).lower().replace(" ", "_"),
        root=found.root,
        items=tuple(_items(found, facts, settings.view)),
        images=NiftiImages(by_path, settings.view, spacing, settings.units),
        patients_known=True,
        notes=tuple(_notes(found, facts)),
        problems=(*broken, *found.problems, *checked),
    )


def find(place: str) -> Found:
    """Finds images and masks by their names.

    Raises:
        DataError: There is no such place, or no NIfTI file in it.
    """
    root = pathlib.Path(place)
    if not root.exists():
        raise errors.DataError(f"nifti: needs a folder or a file that exists. Received: {errors.printable(place)!r}")
    if not root.is_dir():
        return Found({_stem(root.name): root}, root.parent)
    twice: list[cases.Problem] = []
    found = _laid_out(root, twice)
    if not found.images:
        raise errors.DataError(f"nifti: needs a folder with .nii or .nii.gz. Received: {errors.printable(place)!r}")
    return dataclasses.replace(found, problems=(*found.problems, *twice))


def paths_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files that are NIfTI by their names, sorted; hidden ones and linked folders are left aside."""
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield pathlib.Path(directory, name)


def _named(folder: pathlib.Path, twice: list[cases.Problem]) -> dict[str, pathlib.Path]:
    """Returns the NIfTI files below a folder by their names from it, without extensions; of two the first."""
    found: dict[str, pathlib.Path] = {}
    for path in paths_below(folder):
        other = found.setdefault(_stem(path.relative_to(folder).as_posix()), path)
        if other != path:
            reason = f"a volume stands once, compressed or not. Received: {errors.printable(other.name)!r} beside it"
            twice.append(cases.Problem(str(path), "unreadable", reason))
    return found


def _stem(name: str) -> str:
    """Returns a name without .nii or .nii.gz.

    >>> _stem("a/one.nii.gz"), _stem("one.2.nii")
    ('a/one', 'one.2')
    """
    for ending in (".nii.gz", ".nii", ".hdr"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _laid_out(root: pathlib.Path, twice: list[cases.Problem]) -> Found:
    for folder, mask_folder in MASK_FOLDERS:
        # The folder of nnU-Net is known by its name, with masks or without.
        if (root / folder).is_dir() and ((root / mask_folder).is_dir() or folder == nnunet.IMAGES):
            return _paired(_named(root / folder, twice), _named(root / mask_folder, twice), root, root / folder)
    return _beside(_named(root, twice), root)


def _beside(found: Mapping[str, pathlib.Path], root: pathlib.Path) -> Found:
    """Takes `NAME_labels` for the mask of `NAME`; where there is one such pair, every file so named is a mask."""
    base = {name: name.removesuffix(end) for name in found for end in MASK_ENDINGS if name.endswith(end)}
    used = {name.removeprefix(of) for name, of in base.items() if of in found}
    drawn = {name: of for name, of in base.items() if name.removeprefix(of) in used}
    images = {name: path for name, path in found.items() if name not in drawn}
    return _paired(images, {of: found[name] for name, of in drawn.items()}, root, root)


def _paired(
    images: Mapping[str, pathlib.Path], drawn: Mapping[str, pathlib.Path], root: pathlib.Path, folder: pathlib.Path
) -> Found:
    """Finds the mask of each image, if there are any, and the channels of each case; images lie in `folder`."""
    channels = nnunet.channels([name for name in images if name not in drawn], folder)
    owners = {name: _owner(name, drawn, channels) for name in images}
    problems = [
        cases.Problem(str(images[name]), "unpaired", "an image without a mask")
        for name, owner in owners.items()
        if drawn and owner not in drawn
    ]
    problems += [
        cases.Problem(str(path), "unpaired", "a mask without an image")
        for name, path in drawn.items()
        if name not in set(owners.values())
    ]
    problems += [
        cases.Problem(str(images[nnunet.name_of(case, numbers[0])]), "unpaired", sentence)
        for case, numbers, sentence in nnunet.incomplete(channels)
    ]
    return Found(images, root, drawn, owners, channels, tuple(problems))


def _owner(name: str, drawn: Mapping[str, pathlib.Path], channels: Mapping[str, tuple[int, ...]]) -> str:
    case = nnunet.case_of(name)
    return case if name not in drawn and (case in drawn or case in channels) else name


def _inspected(
    images: Mapping[str, pathlib.Path],
) -> tuple[dict[str, dict[str, Any]], tuple[cases.Problem, ...]]:
    """Returns what the images say of themselves, and those that cannot be read; several are read at a time."""
    facts, broken = {}, []
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for name, found in zip(images, pool.map(_look, images.values()), strict=True):
            if isinstance(found, errors.BadInputError):
                broken.append(cases.Problem(found.path, "unreadable", found.reason))
            else:
                facts[name] = found
    return facts, tuple(broken)


def _look(path: pathlib.Path) -> dict[str, Any] | errors.BadInputError:
    """Returns what an image says of itself; floating-point voxels are read, for they may be no numbers."""
    found = masks.look(path)
    return masks.look(path, values=True) if isinstance(found, dict) and found["real"] else found


def _items(found: Found, facts: Mapping[str, Mapping[str, Any]], view: str) -> Iterator[labelling.Item]:
    for name, each in facts.items():
        path, patient = found.images[name], _patient(found.owners.get(name, name))
        file, place = f"{name}{path.name[len(_stem(path.name)) :]}", path.relative_to(found.root).as_posix()
        count = each["times"] if view == "volumes" else each["times"] * each["shape"][0]
        for frame in [None] if view == "volumes" and count == 1 else range(count):
            ending = "" if frame is None else f"#{frame}"
            case = cases.Case(file + ending, str(path), patient, frame=frame)
            known = dict.fromkeys((file + ending, place + ending))
            rows = tuple({"path": each, "case_id": each, "patient_id": patient} for each in known)
            yield labelling.Item(case, rows)


def _patient(name: str) -> str:
    """Returns whose volume it is: the subject that BIDS names it after, else nobody but itself."""
    subject = _SUBJECT.search(name)
    return subject[1] if subject else name


def _notes(found: Found, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "NIfTI files name no patients: where a table does not, a file, or a BIDS subject, counts as a patient."
    several = sum(len(numbers) > 1 for numbers in found.channels.values())
    if several:
        yield (
            f"{several} nnU-Net cases hold several channels: each channel is an image of its own, and those of a case "
            "are one patient's; no network sees them together."
        )
    for name in nnunet.OTHERS:
        if (found.root / nnunet.IMAGES).is_dir() and (found.root / name).is_dir():
            yield f"The folder {name} is left aside: nifti: reads it where it is named itself."
    if found.masks:
        yield f"{len(found.masks)} masks were found; they make no classes, which come from a table (data.labels)."
    said = [note for each in facts.values() for note in each["notes"]]
    for note in dict.fromkeys(said):
        yield f"{said.count(note)} of {len(facts)} files: {note}"
    bad = [name for name, each in facts.items() if each.get("bad")]
    if bad:
        shown = ", ".join(map(errors.printable, bad[:3])) + ", …" * (len(bad) > 3)
        yield f"{len(bad)} files hold NaN or infinite voxels, which take their volume's lowest value: {shown}."
    yield from _others(facts)


def _others(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Names the volumes whose voxel size is not the others'."""
    for name, size, usual in masks.odd_ones({name: masks.voxel_size(each) for name, each in facts.items()}):
        yield f"{errors.printable(name)} has voxels of {size} mm where most have {usual} mm."
