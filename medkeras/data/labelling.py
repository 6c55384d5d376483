"""From medical images that were found to cases: labels from a table, or from the folders that they lie in."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from medkeras import config, errors
from medkeras.data import cases, labels, split, volume


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
    """

    name: str
    root: pathlib.Path
    items: tuple[Item, ...]
    images: cases.ImageSource
    patients_known: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[cases.Problem, ...] = ()

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
    any labels the set has no classes.

    Args:
        data: The cases.
        place: The folder or file that was asked for; `labels.csv` and class folders are looked for in a folder.
        settings: `labels` names a table.

    Raises:
        DataError: The table cannot be used.
    """
    table = pathlib.Path(place, labels.NAME)  # Below a file there is none.
    if settings.labels or table.is_file():
        return _from_table(data, labels.read(settings.labels or table))
    return _from_folders(data) if pathlib.Path(place).is_dir() else data.case_set()


def _from_table(data: Unlabelled, table: labels.LabelTable) -> cases.CaseSet:
    kept: list[cases.Case] = []
    found: list[labels.Row] = []
    problems: list[cases.Problem] = []
    for item in data.items:
        rows = {row.line: row for facts in item.facts if (row := table.lookup(facts))}
        found.extend(rows.values())
        if len({row.answer for row in rows.values()}) > 1:
            lines = ", ".join(map(str, sorted(rows)))
            problems.append(_problem(item, f"one case has one label. Received: {table.path.name}, lines {lines}"))
        elif not rows:
            problems.append(_problem(item, f"has no label in {errors.printable(table.path.name)}"))
        else:
            kept.append(_with_row(item.case, next(iter(rows.values()))))
    unused = table.problems(found)
    if not kept:
        raise errors.BadInputError(
            table.path, f"labels find images by their {table.key}. Received: {len(unused)} rows that find none"
        )
    return dataclasses.replace(
        data.case_set(),
        cases=tuple(kept),
        classes=table.classes_of(found),
        multilabel=table.multilabel,
        patients_known=data.patients_known or any(row.patient_id for row in found),
        notes=(
            *data.notes,
            *_count(len(problems), "cases have no label"),
            *_count(len(unused), "labels have no image"),
            *_parted(data, kept, table.path.name),
        ),
        problems=(*data.problems, *problems, *unused),
    )


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


def _with_row(case: cases.Case, row: labels.Row) -> cases.Case:
    return dataclasses.replace(
        case, label=row.label, labels=row.labels, split=row.split, patient_id=row.patient_id or case.patient_id
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
