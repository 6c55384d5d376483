"""Functional groups: what an enhanced multi-frame object says of one frame, or of all of them.

Reference:
    PS3.3 section C.7.6.16: a group stands in the shared or in the per-frame sequence, never in both.
"""

from __future__ import annotations

import pydicom

from medkeras.data.readers.dicom import tags


class Groups:
    """The functional groups of an object; none in an object that is not enhanced."""

    def __init__(self, dataset: pydicom.Dataset) -> None:
        self._frames = tags.items(dataset, "PerFrameFunctionalGroupsSequence")
        self._shared = tags.items(dataset, "SharedFunctionalGroupsSequence")[:1]

    def item(self, keyword: str, frame: int) -> pydicom.Dataset | None:
        """Returns the first item of a functional group for a frame; None where the object has no such group."""
        for owner in (*self._frames[frame : frame + 1], *self._shared):
            inside = tags.items(owner, keyword)
            if inside:
                return inside[0]
        return None
