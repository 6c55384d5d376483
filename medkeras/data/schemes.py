"""`SCHEME:PLACE` becomes a `CaseSet`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from medkeras import config, errors
from medkeras.data import arrays, cases, dicom, folder, nifti, phantom, split, table, tfds
from medkeras.privacy import pseudonyms

FLAT: Mapping[str, Callable[[str], cases.CaseSet]] = MappingProxyType(
    {
        "folder": folder.load,
        "npz": arrays.load_npz,
        "tfds": tfds.load,
    }
)
"""Schemes that name all there is to know."""

DETAILED: Mapping[str, Callable[[str, config.DataConfig], cases.CaseSet]] = MappingProxyType(
    {
        "csv": table.load,
        "dicom": dicom.load,
        "nifti": nifti.load,
    }
)
"""Schemes whose cases depend on settings too: metadata, labels, slices or volumes, spacing."""

MEDICAL = ("dicom", "nifti")
"""Schemes whose images may stand without labels."""


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
    secret = _given(key)
    case_set = _read(settings, seed)
    refuse_untrainable(case_set, settings)
    if settings.leakage == "drop":
        case_set = split.without_shared_patients(case_set)
    # Patients are chosen by the names that the data give them: by pseudonym, the key would say who tests.
    case_set = split.complete(case_set, validation=settings.validation, test=settings.test, seed=seed)
    return _through_the_door(case_set, settings, secret)


def read(settings: config.DataConfig, *, seed: int, key: str | os.PathLike[str] | None = None) -> cases.CaseSet:
    """Reads the cases that `data.source` names as the data give them, splits untouched, patients by pseudonym.

    This and `load` are the door: no identifier of a patient that stands in the data is known beyond it.
    """
    secret = _given(key)
    return _through_the_door(_read(settings, seed), settings, secret)


def _given(key: str | os.PathLike[str] | None) -> bytes | None:
    return None if key is None else pseudonyms.load_key(key)


def _through_the_door(case_set: cases.CaseSet, settings: config.DataConfig, secret: bytes | None) -> cases.CaseSet:
    if settings.source.partition(":")[0] == "phantom" or not case_set.patients_known:
        return case_set
    return pseudonymised(case_set, secret or pseudonyms.load_key(None))


def refuse_unusable(case_set: cases.CaseSet, settings: config.DataConfig) -> None:
    """Refuses what can be audited, and neither trained on nor evaluated.

    Raises:
        BadInputError: A file could not be read when cases were made, and `data.on_error` is `raise`.
        DataError: More files than `data.max_errors` allows could not be read, or there are no labels.
    """
    _refuse_unreadable(case_set, settings)
    if not case_set.classes and settings.source.partition(":")[0] in MEDICAL:
        raise errors.DataError(
            "Images need labels: data.labels names their table, else it is labels.csv in the folder, else folders "
            "are classes. Received: images without any"
        )


def refuse_untrainable(case_set: cases.CaseSet, settings: config.DataConfig) -> None:
    """Refuses what cannot train a classifier.

    Raises:
        BadInputError: As `refuse_unusable`.
        DataError: As `refuse_unusable`, or there are no classes to tell apart.
    """
    refuse_unusable(case_set, settings)
    if len(case_set.classes) < 2 and not case_set.multilabel:
        raise errors.DataError(f"A classifier needs two classes or more. Received: {', '.join(case_set.classes)}")
    if not case_set.classes:
        raise errors.DataError("A classifier needs a class that some case has. Received: cases without any label")


def _refuse_unreadable(case_set: cases.CaseSet, settings: config.DataConfig) -> None:
    broken = [problem for problem in case_set.problems if problem.kind == "unreadable"]
    if broken and settings.on_error == "raise":
        names = ", ".join(errors.printable(problem.path) for problem in broken[1:6])
        more = f" (and {len(broken) - 1} more files: {names}{', …' * (len(broken) > 6)})" if len(broken) > 1 else ""
        raise errors.BadInputError(
            broken[0].path, f"{broken[0].reason}{more}; data.on_error=skip leaves such files out"
        )
    total = len(case_set.cases) + len(broken)
    if len(broken) > settings.max_errors * total:
        raise errors.DataError(
            f"At most {settings.max_errors:.1%} of the files may be unreadable (data.max_errors). "
            f"Received: {len(broken)} of {total}, {errors.printable(broken[0].path)} the first"
        )


def pseudonymised(case_set: cases.CaseSet, key: bytes) -> cases.CaseSet:
    """Returns the set with keyed hashes in the place of the patients' identifiers."""
    return case_set.replace_cases(
        dataclasses.replace(case, patient_id=pseudonyms.pseudonym(key, case.patient_id)) for case in case_set.cases
    )


def _read(settings: config.DataConfig, seed: int) -> cases.CaseSet:
    scheme, _, place = settings.source.partition(":")
    if scheme == "phantom":
        # Nobody real is told apart by them, so the phantom's sex and age need not be asked for.
        names = table.metadata_names(settings)
        return _with_metadata(phantom.load(seed=seed), names) if names else phantom.load(seed=seed)
    if scheme not in (*FLAT, *DETAILED) and os.path.exists(settings.source):
        kind = "folder" if os.path.isdir(settings.source) else "csv"
        raise errors.ConfigError(
            f"Data are written SCHEME:PLACE; is '{kind}:{settings.source}' meant? Received: {settings.source!r}"
        )
    if ":" not in settings.source and scheme not in (*FLAT, *DETAILED):
        schemes = ", ".join(sorted((*FLAT, *DETAILED)))
        raise errors.ConfigError(
            f"Data are phantom, or written SCHEME:PLACE with a scheme of {schemes}. Received: {settings.source!r}"
        )
    if scheme not in (*FLAT, *DETAILED):
        raise errors.ConfigError(errors.unknown("data scheme", scheme, ["phantom", *FLAT, *DETAILED]))
    if not place:
        raise errors.ConfigError(f"Data are written {scheme}:PLACE. Received: {settings.source!r}")
    if settings.units and scheme != "nifti":
        raise errors.ConfigError(f"data.units says what the values of nifti data mean. Received: {settings.source!r}")
    if scheme in DETAILED:
        return DETAILED[scheme](place, settings)
    return _with_metadata(FLAT[scheme](place), table.metadata_names(settings))


def _with_metadata(case_set: cases.CaseSet, names: Sequence[str]) -> cases.CaseSet:
    """Returns the set with the metadata that were asked for; raises `ConfigError` where the scheme has none such."""
    known = [name for name, _ in case_set.cases[0].metadata] if case_set.cases else []
    for name in names:
        if name not in known:
            raise errors.ConfigError(f"data.metadata: {errors.unknown('name', name, known or ['none'])}")
    return case_set.replace_cases(
        dataclasses.replace(case, metadata=tuple((name, dict(case.metadata)[name]) for name in names))
        for case in case_set.cases
    )
