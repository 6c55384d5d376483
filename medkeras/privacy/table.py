"""The actions of PS3.15 table E.1-1, edition 2026c, as dicom-anonymizer lists them.

Reference:
    DICOM PS3.15, E.2 and table E.1-1.
"""

from __future__ import annotations

import types
from collections.abc import Mapping

from dicomanonymizer import dicomfields_selector
from pydicom import datadict

from medkeras import errors

EDITION = "2026c"

# The table leaves a choice by what the object's definition requires: where it is unknown, the one that always conforms.
_STRONGEST = {
    "X_TAGS": "X",
    "Z_TAGS": "Z",
    "D_TAGS": "D",
    "U_TAGS": "U",
    "Z_D_TAGS": "D",
    "X_Z_TAGS": "Z",
    "X_D_TAGS": "D",
    "X_Z_D_TAGS": "D",
    "X_Z_U_STAR_TAGS": "U",
}


def _actions() -> dict[int, str]:
    lists = dicomfields_selector.dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    # Entries of four numbers are the repeating groups 50xx and 60xx, which the allow-list leaves out.
    return {
        entry[0] << 16 | entry[1]: action
        for name, action in _STRONGEST.items()
        for entry in lists[name]
        if len(entry) == 2
    }


ACTIONS: Mapping[int, str] = types.MappingProxyType(_actions())
"""Tag to `X` remove, `Z` empty, `D` replace by a dummy, `U` replace the unique identifiers."""


def tag(keyword: str) -> int:
    """Returns the tag of a keyword of the standard's dictionary."""
    found = datadict.tag_for_keyword(keyword)
    if found is None:
        raise errors.InternalError(f"A keyword is one of the DICOM dictionary. Received: {keyword!r}")
    return found
