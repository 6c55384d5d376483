"""What the headers of a DICOM series say against each other, the standard, or belief; a sentence each.

Reference:
    DICOM PS3.3 C.7.6.2 (Image Plane Module), C.7.4.1 (Frame of Reference Module).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Facts = Mapping[str, Any]

_INVENTED = "the geometry looks made up: corners at 0, 0 of the patient, no tilt, pixels and steps of exactly 1 mm"
_UNTILTED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_EXACT = 1e-6
_SAME_STEP = 0.01
"""Share of a step by which SliceLocation may differ from the positions: it is written with few digits."""


def of_set(series: Mapping[str, Sequence[Facts]]) -> Iterator[tuple[str, str]]:
    """Yields the name of a series and what is wrong with its headers.

    Args:
        series: Name to what each of its files says of itself.
    """
    tilted = {facts["frame_of_reference_uid"] for files in series.values() if _is_tilted(files) for facts in files}
    for name, files in series.items():
        yield from ((name, sentence) for sentence in _of_series(files, tilted - {""}))
    yield from _of_studies(series)


def _of_studies(series: Mapping[str, Sequence[Facts]]) -> Iterator[tuple[str, str]]:
    """Yields the first series of a study whose files state several dates and times at which it began."""
    first: dict[str, str] = {}
    began: dict[str, set[str]] = {}
    for name, files in series.items():
        for facts in files:
            first.setdefault(facts["study_uid"], name)
            began.setdefault(facts["study_uid"], set()).update({facts["study_began"]} - {""})
    for uid, stated in began.items():
        if uid and len(stated) > 1:
            yield first[uid], f"a study begins once. Received: its files state {len(stated)} dates and times"


def _of_series(files: Sequence[Facts], tilted: set[str]) -> Iterator[str]:
    if _looks_invented(files):
        shared = files[0]["frame_of_reference_uid"] in tilted
        yield _INVENTED + ("; and the frame of reference is that of a series that is tilted" if shared else "")
    yield from _location(files)
    apart = sum(facts["acquired_apart"] for facts in files)
    if apart:
        yield f"{apart} of {len(files)} files were acquired more than a day before or after their study began"
    lacking = [facts["lacking"] for facts in files if facts["lacking"]]
    if lacking:
        words = dict.fromkeys(word for each in lacking for word in each)
        yield f"{len(lacking)} of {len(files)} files lack what their class requires: {', '.join(words)}"


def _planes(files: Sequence[Facts]) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns positions `[N, 3]` and orientations `[N, 6]` in mm, LPS; None where a plane has none."""
    positions = [one for facts in files for one in facts["positions"]]
    orientations = [one for facts in files for one in facts["orientation"]]
    if len(positions) < 2 or len(positions) != len(orientations) or None in positions or None in orientations:
        return None
    return np.array(positions, np.float64), np.array(orientations, np.float64)


def _is_tilted(files: Sequence[Facts]) -> bool:
    planes = _planes(files)
    return planes is not None and not np.isin(np.abs(planes[1]).round(6), (0, 1)).all()


def _looks_invented(files: Sequence[Facts]) -> bool:
    """Whether a program that knew no geometry wrote one: no scanner's field of view begins at its centre."""
    planes = _planes(files)
    if planes is None or any(facts["spacing"] != [1, 1] for facts in files):
        return False
    positions, orientations = planes
    steps = np.diff(np.sort(positions[:, 2]))
    untilted = np.allclose(orientations, _UNTILTED, rtol=0, atol=_EXACT)
    return untilted and not positions[:, :2].any() and bool((steps == 1).all())


def _location(files: Sequence[Facts]) -> Iterator[str]:
    """Compares the steps of SliceLocation with those of the positions along the normal; where zero lies is free."""
    planes = _planes(files)
    locations = [facts["slice_location"] for facts in files]
    if planes is None or len(planes[0]) != len(files) or None in locations or np.ptp(planes[1], axis=0).max() > _EXACT:
        return
    normal = np.cross(planes[1][0, :3], planes[1][0, 3:])
    places, stated = planes[0] @ normal, np.array(locations, np.float64)
    order = np.argsort(places, kind="stable")
    steps, said = np.diff(places[order]), np.diff(stated[order])
    said = -said if np.median(said) < 0 else said
    off = np.abs(said - steps)
    worst = int(off.argmax())
    if off[worst] > _SAME_STEP * max(float(np.median(steps)), 1.0):
        yield (
            f"SliceLocation contradicts the positions, which are believed: a step of {said[worst]:.4g} mm "
            f"where they are {steps[worst]:.4g} mm apart"
        )
