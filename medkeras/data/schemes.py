"""`SCHEME:PLACE` becomes a `CaseSet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from medkeras import config, errors
from medkeras.data import arrays, cases, folder, phantom, split, table, tfds

SCHEMES: Mapping[str, Callable[[str], cases.CaseSet]] = MappingProxyType(
    {
        "folder": folder.load,
        "csv": table.load,
        "npz": arrays.load_npz,
        "tfds": tfds.load,
    }
)


def load(settings: config.DataConfig, *, seed: int) -> cases.CaseSet:
    """Reads the cases that `data.source` names, every one of them in a split.

    Args:
        settings: `source` is `phantom` or `SCHEME:PLACE`; `validation` and `test` are the shares carved where the
            data hold no such split.
        seed: Seeds the phantom and the carving.

    Raises:
        DataError: The data are missing, or cannot train a classifier.
        ConfigError: The scheme is unknown.
    """
    case_set = read(settings, seed=seed)
    if len(case_set.classes) < 2 and not case_set.multilabel:
        raise errors.DataError(f"A classifier needs two classes or more. Received: {', '.join(case_set.classes)}")
    if not case_set.classes:
        raise errors.DataError("A classifier needs a class that some case has. Received: cases without any label")
    return split.complete(case_set, validation=settings.validation, test=settings.test, seed=seed)


def read(settings: config.DataConfig, *, seed: int) -> cases.CaseSet:
    """Reads the cases that `data.source` names as the data give them, splits untouched."""
    scheme, _, place = settings.source.partition(":")
    if scheme == "phantom":
        return phantom.load(seed=seed)
    if scheme not in SCHEMES:
        raise errors.ConfigError(errors.unknown("data scheme", scheme, ["phantom", *SCHEMES]))
    if not place:
        raise errors.ConfigError(f"Data are written {scheme}:PLACE. Received: {settings.source!r}")
    return SCHEMES[scheme](place)
