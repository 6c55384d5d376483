"""The pictures that a model has seen: kept with it as digests, so that no evaluation takes them for a test."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from medkeras import errors
from medkeras.data import cases, prepare

NAME = "seen.npz"
DIGEST = 8
"""Bytes of a digest."""


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How many pictures of a test the model has seen.

    Attributes:
        training: Cases whose picture it was trained on.
        validation: Other cases whose picture stood in validation, which chose the best epoch.
        of: Cases that were looked at.
        left_out: Cases that are not evaluated: those above and, where patients are known, the others of their patients.
    """

    training: int
    validation: int
    of: int
    left_out: int = 0

    @property
    def warning(self) -> str:
        """What to know of seen pictures that are evaluated all the same; empty where there are none."""
        if self.left_out or not self.training + self.validation:
            return ""
        return (
            f"{self.training + self.validation:,} of {self.of:,} test pictures are identical to pictures that the "
            f"model has seen: {self.training:,} in training, {self.validation:,} in validation. What is measured on "
            "them is memory; data.leakage=drop leaves them out."
        )

    @property
    def reasons(self) -> str:
        """Why cases are left out."""
        others = self.left_out - self.training - self.validation
        more = f", {others:,} are of the patients of such pictures" if others else ""
        return f"{self.training:,} show pictures of its training, {self.validation:,} of its validation{more}"


@dataclasses.dataclass(frozen=True)
class Seen:
    """The digests of a training, as `prepare.Prepared.digests` gives them.

    A digest stands for the values that a file stores: the same pixels are known again under any name, in any folder
    and in any lossless format. It is no patient's name and gives no picture back, but who holds the picture can tell
    that it was there. That two pictures of a million and a million share one has a chance of 5 in 10**8.

    Attributes:
        training: Those of the training split.
        validation: Those of the validation split.
    """

    training: frozenset[bytes]
    validation: frozenset[bytes]

    def overlap(self, digests: Sequence[bytes]) -> Overlap:
        """Returns how many of these pictures were seen."""
        training = [digest in self.training for digest in digests]
        either = [digest in self.training or digest in self.validation for digest in digests]
        return Overlap(sum(training), sum(either) - sum(training), len(digests))

    def unseen(self, data: prepare.Prepared) -> tuple[cases.Case, ...]:
        """Returns the test cases of patients of whom no test picture was seen; without patients a case is its own."""
        members = zip(data.stores["test"].cases, data.digests["test"], strict=True)
        known = {case.patient_id for case, digest in members if digest in self.training or digest in self.validation}
        return tuple(case for case in data.stores["test"].cases if case.patient_id not in known)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Writes `seen.npz`: `training` and `validation`, uint8 `[N, 8]`, sorted: the order tells nothing."""
        np.savez(pathlib.Path(folder, NAME), training=_rows(self.training), validation=_rows(self.validation))


def of(data: prepare.Prepared) -> Seen:
    """Returns what a model that is trained on these data sees."""
    training, validation = (frozenset(data.digests[split]) - {b""} for split in ("train", "validation"))
    return Seen(training, validation)


def read(folder: str | os.PathLike[str]) -> Seen:
    """Returns what the model in a folder has seen.

    Raises:
        ModelError: `seen.npz` is not one that medkeras wrote.
    """
    path = pathlib.Path(folder, NAME)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Seen(_digests(arrays["training"]), _digests(arrays["validation"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise errors.ModelError(
            f"{errors.printable(path)}: holds no digests that medkeras wrote ({type(error).__name__})"
        ) from None


def _rows(digests: frozenset[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(sorted(digests)), np.uint8).reshape(-1, DIGEST)


def _digests(rows: np.ndarray) -> frozenset[bytes]:
    if rows.dtype != np.uint8 or rows.shape[1:] != (DIGEST,):
        raise ValueError(rows.dtype, rows.shape)
    return frozenset(row.tobytes() for row in rows)
