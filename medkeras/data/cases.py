"""What a case is, and what a set of cases is."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of a data set.

    Attributes:
        case_id: Unique in its set.
        path: The file, or a name inside a container (`train/17`).
        patient_id: Groups the cases that must never part; `case_id` where the data name no patient.
        split: `train`, `validation`, `test`, or empty where the data do not say.
        label: Class name (multi-class).
        labels: Class names that are present (multi-label).
        frame: Position, from 0, of the slice or frame in a file that holds several; None: the file is the case.
        metadata: Names and values of what was asked for by `data.metadata` (of a phantom: sex and age); a value that
            the data do not give is empty.
    """

    case_id: str
    path: str
    patient_id: str
    split: str = ""
    label: str = ""
    labels: tuple[str, ...] = ()
    frame: int | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that the reader of a data set found and could not make a case of.

    Attributes:
        path: The file, or the folder of the series.
        kind: `unreadable`, `unpaired` (a label without an image or an image without a label), `series` (slices that
            are missing, doubled or turned against each other), `mask` (a mask that does not fit its image),
            `header` (DICOM headers that contradict each other, the standard or the pixels; copies of files and clashes
            of identifiers), `identity` (a series that hides a name behind the claim of having none) or `leakage` (a
            case left out for its patient is in a later split too).
        reason: The rule and what was found, without the patient.
    """

    path: str
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself before its pixels are decoded.

    Attributes:
        height: Rows, after the EXIF orientation is applied.
        width: Columns, after the EXIF orientation is applied.
        channels: 1 grey or 3 colour; alpha is dropped, a palette expanded, CMYK turned into RGB.
        dtype: `uint8`, `uint16` or `float32`: the narrowest that keeps the stored values.
        native: Whether `decode.decode_bytes`, the decoder inside the graph, reads this file.
        plain: Whether `decode.decode_plain` reads it too: one operation, several times as fast.
        depth: Slices of a volume; 0: a plane.
        units: What the values mean: `HU` (rescaled CT), or empty for stored values.
    """

    height: int
    width: int
    channels: int
    dtype: str
    native: bool = False
    plain: bool = False
    depth: int = 0
    units: str = ""


class ImageSource(Protocol):
    """Where the pixels of a case come from."""

    def header(self, case: Case) -> ImageHeader:
        """Returns the header; raises `BadInputError` for a file that cannot be one."""

    def read(self, case: Case, channels: int) -> np.ndarray:
        """Returns the stored values, `[H, W, channels]` or `[D, H, W, channels]`; raises `BadInputError`."""


@dataclasses.dataclass(frozen=True)
class CaseSet:
    """Cases, the classes that they may have, and where their pixels come from.

    Attributes:
        name: Short name of the data set.
        cases: The cases, in a stable order.
        classes: Class names, in a stable order; the position is the class index everywhere.
        images: Reads the pixels of a case.
        multilabel: Whether a case may have any number of the classes.
        patients_known: Whether `patient_id` came from the data.
        notes: Sentences that the user should read (a fallback taken, a split made).
        problems: What the reader could not make a case of.
    """

    name: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    images: ImageSource
    multilabel: bool = False
    patients_known: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def of_split(self, split: str) -> tuple[Case, ...]:
        """Returns the cases of one split, in order."""
        return tuple(case for case in self.cases if case.split == split)

    def replace_cases(self, cases: Iterable[Case], *notes: str) -> CaseSet:
        """Returns the set with other cases, and with notes added."""
        return dataclasses.replace(self, cases=tuple(cases), notes=(*self.notes, *notes))


def counts(cases: Sequence[Case]) -> Mapping[str, Mapping[str, int]]:
    """Returns the number of cases by split and then by class."""
    table: dict[str, collections.Counter[str]] = {split: collections.Counter() for split in SPLITS}
    for case in cases:
        table.setdefault(case.split, collections.Counter()).update(case.labels or (case.label,))
    return {split: dict(counter) for split, counter in table.items() if counter}


def patient_counts(cases: Sequence[Case]) -> Mapping[str, int]:
    """Returns the number of patients by split."""
    patients = {split: {case.patient_id for case in cases if case.split == split} for split in SPLITS}
    return {split: len(members) for split, members in patients.items() if members}
