"""What a DICOM header says that subgroups may be made of, by the names that `data.metadata` asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("sex", "age", "modality", "manufacturer", "model", "view")
"""PatientSex, PatientAge in years, Modality, Manufacturer, ManufacturerModelName, ViewPosition."""

_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(r"([0-9]{1,3})([YMWD])")


def of_facts(facts: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns names and values, empty where the file says nothing or the name is none of `NAMES`.

    Args:
        facts: What a file says of itself.
        names: What is asked for.
    """
    known = {name: facts[name] for name in NAMES} | {"age": years(facts["age"])}
    return tuple((name, known.get(name, "")) for name in names)


def years(age: str) -> str:
    """Returns the years of DICOM's age string; empty where it is none.

    >>> years("045Y"), years("006M"), years("45")
    ('45', '0.5', '')

    Reference:
        DICOM PS3.5 section 6.2 (AS).
    """
    found = _AGE.fullmatch(age)
    return f"{int(found[1]) * _YEARS[found[2]]:.4g}" if found else ""
