"""From medical images that were found to cases: labels from a table, or from the folders that they lie in."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from medkeras import config, errors
from medkeras.data import cases, instances, labels, split, table, volume


@dataclasses.dataclass(frozen=True)
class Item:
    """A case without its label.

    Attributes:
        case: The case; its `case_id` is a path from the root, with slashes.
        facts: What a table of labels may find it by, one mapping for each of its files.
    """

    case: cases.Case
    facts: tuple[Mapping[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """A data set before its labels are known.

    Attributes:
        name: Short name of the data set.
        root: The folder that paths are written from.
        items: The cases, in a stable order.
        images: Reads their pixels.
        patients_known: Whether the images name patients.
        notes: Sentences for the user.
        problems: What no case could be made of.
        stated: Names of metadata that the images can give.
        held: Case id to what the case holds, where it may be a copy: equal for copies.
    """

    name: str
    root: pathlib.Path
    items: tuple[Item, ...]
    images: cases.ImageSource
    patients_known: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[cases.Problem, ...] = ()
    stated: tuple[str, ...] = ()
    held: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def case_set(self) -> cases.CaseSet:
        """Returns the cases as they are, without classes."""
        return cases.CaseSet(
            name=self.name,
            cases=tuple(item.case for item in self.items),
            classes=(),
            images=self.images,
            patients_known=self.patients_known,
            notes=self.notes,
            problems=self.problems,
        )


def spacing_for(settings: config.DataConfig) -> volume.Spacing | None:
    """Returns the voxel size in mm along D, H and W that cases are resampled to; None where they stay as stored.

    Raises:
        ConfigError: `data.spacing` cannot be read, or is asked for where cases are slices.
    """
    spacing = volume.parse_spacing(settings.spacing)
    if spacing and settings.view != "volumes":
        raise errors.ConfigError(
            f"data.spacing resamples volumes: it goes with data.view=volumes. Received: data.view={settings.view}"
        )
    return spacing


def labelled(data: Unlabelled, place: str, settings: config.DataConfig) -> cases.CaseSet:
    """Returns the data set with the labels of `data.labels`, of `labels.csv` in the folder, or of class folders.

    A case without a label, where others have one, is left out and is a problem; so is a label without a case. Without
    any labels the set has no classes. Of cases that hold the same and are labelled alike, one is kept.

    Args:
        data: The cases.
        place: The folder or file that was asked for; `labels.csv` and class folders are looked for in a folder.
        settings: `labels` names a table, `metadata` what of a case is kept beside its label.

    Raises:
        DataError: The table cannot be used.
        ConfigError: `metadata` names what neither the table nor the images give.
    """
    beside = pathlib.Path(place, labels.NAME)  # Below a file there is none.
    names = table.metadata_names(settings)
    if settings.labels or beside.is_file():
        rows = labels.read(settings.labels or beside, names)
        _require_known(names, (*rows.metadata, *data.stated))
        return _once(_from_table(data, rows), data.held)
    _require_known(names, data.stated)
    return _once(_from_folders(data) if pathlib.Path(place).is_dir() else data.case_set(), data.held)


def _require_known(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise errors.ConfigError(
                f"data.metadata: {errors.unknown('name', name, known or ['none, without a table of labels'])}"
            )


def _once(case_set: cases.CaseSet, held: Mapping[str, str]) -> cases.CaseSet:
    """Leaves out copies, and says where they lie."""
    kept, copies = instances.without_copies(case_set.cases, held)
    if not copies:
        return case_set
    return dataclasses.replace(
        case_set,
        cases=tuple(kept),
        notes=(*case_set.notes, *_count(len(copies), "cases are copies of others")),
        problems=(*case_set.problems, *instances.copies([case.path for case in copies])),
    )


def _from_table(data: Unlabelled, rows: labels.LabelTable) -> cases.CaseSet:
    kept, found, problems = _matched(data, rows)
    unused = rows.problems(found)
    if not kept:
        raise errors.BadInputError(
            rows.path, f"labels find images by their {rows.key}. Received: {len(unused)} rows that find none"
        )
    return dataclasses.replace(
        data.case_set(),
        cases=tuple(kept),
        classes=rows.classes_of(found),
        multilabel=rows.multilabel,
        patients_known=data.patients_known or any(row.patient_id for row in found),
        notes=(
            *data.notes,
            *_count(len(problems), "cases have no label"),
            *_count(len(unused), "labels have no image"),
            *_parted(data, kept, rows.path.name),
        ),
        problems=(*data.problems, *problems, *unused),
    )


def _matched(
    data: Unlabelled, rows: labels.LabelTable
) -> tuple[list[cases.Case], list[labels.Row], list[cases.Problem]]:
    """Returns the cases that have a label, the rows that found an image, and the cases without a label."""
    name = errors.printable(rows.path.name)
    kept: list[cases.Case] = []
    found: list[labels.Row] = []
    problems: list[cases.Problem] = []
    several = _several_patients(data) if rows.key == "patient_id" else frozenset()
    for item in data.items:
        mine = {row.line: row for facts in item.facts if (row := rows.lookup(facts))}
        found.extend(mine.values())
        lines = ", ".join(map(str, sorted(mine)))
        if not mine:
            problems.append(_problem(item, f"has no label in {name}"))
        elif any(row.key in several for row in mine.values()):
            problems.append(_problem(item, f"{_ISSUERS}. Received: {name}, lines {lines}"))
        elif len({row.answer for row in mine.values()}) > 1:
            problems.append(_problem(item, f"one case has one label. Received: {name}, lines {lines}"))
        else:
            kept.append(_with_rows(item.case, list(mine.values())))
    if not kept and several and found:
        raise errors.BadInputError(rows.path, f"{_ISSUERS}. Received: {len(problems)} such images, and no other")
    return kept, found, problems


_ISSUERS = (
    "a PatientID that two issuers gave is that of two patients: labels find their images by path, or by a UID, not by "
    "patient_id"
)


def _several_patients(data: Unlabelled) -> frozenset[str]:
    """Returns the identifiers that stand for several patients, told apart by who gave them."""
    patients: dict[str, set[str]] = collections.defaultdict(set)
    for item in data.items:
        for facts in item.facts:
            patients[facts.get("patient_id", "")].add(item.case.patient_id)
    return frozenset(identifier for identifier, members in patients.items() if len(members) > 1)


def _parted(data: Unlabelled, kept: Sequence[cases.Case], name: str) -> tuple[str, ...]:
    """Returns a note where a table makes several patients of one whom the images name."""
    named = {item.case.case_id: item.case.patient_id for item in data.items}
    patients: dict[str, set[str]] = collections.defaultdict(set)
    for case in kept:
        patients[named[case.case_id]].add(case.patient_id)
    number = sum(len(members) > 1 for members in patients.values())
    if not number or not data.patients_known:
        return ()
    return (
        f"{number} patients of the images are several in {errors.printable(name)}, which is believed: where it is "
        "wrong, a patient may stand in two splits.",
    )


def _with_rows(case: cases.Case, rows: Sequence[labels.Row]) -> cases.Case:
    """Returns the case with what its rows say alike; metadata in which they differ are nobody's."""
    row = rows[0]
    said = {name: value if all((name, value) in each.metadata for each in rows) else "" for name, value in row.metadata}
    return dataclasses.replace(
        case,
        label=row.label,
        labels=row.labels,
        split=row.split,
        patient_id=row.patient_id or case.patient_id,
        metadata=tuple((dict(case.metadata) | said).items()),
    )


def _from_folders(data: Unlabelled) -> cases.CaseSet:
    """Takes `CLASS/…` or `SPLIT/CLASS/…` for classes, unless those folders hold one patient each."""
    splits = any(split.split_name(item.case.case_id.partition("/")[0]) == "train" for item in data.items)
    placed = [_placed(item.case, splits) for item in data.items]
    patients: dict[str, set[str]] = collections.defaultdict(set)
    for case in placed:
        patients[case.label].add(case.patient_id)
    patients.pop("", None)
    if _one_patient_each(patients):
        bare = [dataclasses.replace(case, label="") for case in placed]
        note = "No labels were found: there is no labels.csv, and no folders of classes with several patients in each."
        return dataclasses.replace(data.case_set(), cases=tuple(bare), notes=(*data.notes, note))
    problems = [_problem(Item(case, ()), "lies in no class folder") for case in placed if not case.label]
    return dataclasses.replace(
        data.case_set(),
        cases=tuple(case for case in placed if case.label),
        classes=tuple(sorted(patients)),
        notes=(*data.notes, *_count(len(problems), "cases have no label")),
        problems=(*data.problems, *problems),
    )


def _one_patient_each(patients: Mapping[str, set[str]]) -> bool:
    """Whether folders are those of patients: one in each, and each in one."""
    everybody = set().union(*patients.values())
    return all(len(members) == 1 for members in patients.values()) and len(everybody) == len(patients)


def _placed(case: cases.Case, splits: bool) -> cases.Case:
    """Returns the case with the split and the class of its folders, as far as there are any."""
    first, *folders = pathlib.PurePosixPath(case.case_id).parts[:-1] or ("",)
    if not splits:
        return dataclasses.replace(case, label=errors.printable(first))
    name = split.split_name(first)
    label = next(iter(folders), "") if name else ""
    return dataclasses.replace(case, split=name or "", label=errors.printable(label))


def _problem(item: Item, reason: str) -> cases.Problem:
    return cases.Problem(item.case.path, "unpaired", reason)


def _count(number: int, what: str) -> tuple[str, ...]:
    return (f"{number} {what} and were left out; --mode=audit lists them.",) if number else ()
