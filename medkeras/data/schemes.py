"""`SCHEME:PLACE` becomes a `CaseSet`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from medkeras import config, errors
from medkeras.data import arrays, cases, folder, phantom, split, table, tfds
from medkeras.privacy import pseudonyms

SCHEMES: Mapping[str, Callable[[str], cases.CaseSet]] = MappingProxyType(
    {
        "folder": folder.load,
        "csv": table.load,
        "npz": arrays.load_npz,
        "tfds": tfds.load,
    }
)


def load(settings: config.DataConfig, *, seed: int, key: str | os.PathLike[str] | None = None) -> cases.CaseSet:
    """Reads the cases that `data.source` names, every one of them in a split.

    Args:
        settings: `source` is `phantom` or `SCHEME:PLACE`; `validation` and `test` are the shares carved where the
            data hold no such split.
        seed: Seeds the phantom and the carving.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        DataError: The data are missing, or cannot train a classifier.
        ConfigError: The scheme is unknown.
        UserError: There is no key.
    """
    case_set = read(settings, seed=seed, key=key)
    if len(case_set.classes) < 2 and not case_set.multilabel:
        raise errors.DataError(f"A classifier needs two classes or more. Received: {', '.join(case_set.classes)}")
    if not case_set.classes:
        raise errors.DataError("A classifier needs a class that some case has. Received: cases without any label")
    return split.complete(case_set, validation=settings.validation, test=settings.test, seed=seed)


def read(settings: config.DataConfig, *, seed: int, key: str | os.PathLike[str] | None = None) -> cases.CaseSet:
    """Reads the cases that `data.source` names as the data give them, splits untouched, patients by pseudonym.

    This is the door: no identifier of a patient that stands in the data is known beyond it.
    """
    secret = None if key is None else pseudonyms.load_key(key)
    case_set = _read(settings, seed)
    if settings.source.partition(":")[0] == "phantom" or not case_set.patients_known:
        return case_set
    return pseudonymised(case_set, secret or pseudonyms.load_key(None))


def pseudonymised(case_set: cases.CaseSet, key: bytes) -> cases.CaseSet:
    """Returns the set with keyed hashes in the place of the patients' identifiers."""
    return case_set.replace_cases(
        dataclasses.replace(case, patient_id=pseudonyms.pseudonym(key, case.patient_id)) for case in case_set.cases
    )


def _read(settings: config.DataConfig, seed: int) -> cases.CaseSet:
    scheme, _, place = settings.source.partition(":")
    if scheme == "phantom":
        return phantom.load(seed=seed)
    if scheme not in SCHEMES:
        raise errors.ConfigError(errors.unknown("data scheme", scheme, ["phantom", *SCHEMES]))
    if not place:
        raise errors.ConfigError(f"Data are written {scheme}:PLACE. Received: {settings.source!r}")
    return SCHEMES[scheme](place)
