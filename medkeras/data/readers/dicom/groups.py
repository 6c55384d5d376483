"""Functional groups: what an enhanced multi-frame object says of one frame, or of all of them.

Reference:
    PS3.3 section C.7.6.16: a group stands in the shared or in the per-frame sequence, never in both.
"""

from __future__ import annotations

import pydicom

from medkeras.data.readers.dicom import tags


def group(dataset: pydicom.Dataset, keyword: str, frame: int) -> pydicom.Dataset | None:
    """Returns the first item of a functional group for a frame; None where the object has no such group."""
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        found = tags.items(dataset, sequence)
        inside = tags.items(found[index], keyword) if index < len(found) else []
        if inside:
            return inside[0]
    return None
