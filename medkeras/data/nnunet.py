"""The names that nnU-Net gives to the channels of a case: `case_0000`, `case_0001`, …

Reference:
    Isensee et al.: nnU-Net, Nature Methods 18 (2021), and its documentation, dataset_format.md.
"""

from __future__ import annotations

import collections
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping

IMAGES, MASKS = "imagesTr", "labelsTr"
OTHERS = ("imagesTs", "imagesVal")
DESCRIPTION = "dataset.json"

_CHANNEL = re.compile(r"(.+)_(\d{4})$")
_MOST_CHANNELS = 16
_MOST_OF_ONE_CASE = 4


def case_of(name: str) -> str:
    """Returns the name of the case that a channel belongs to.

    >>> case_of("la_003_0000"), case_of("la_003")
    ('la_003', 'la_003')
    """
    found = _CHANNEL.fullmatch(name)
    return found[1] if found else name


def name_of(case: str, channel: int) -> str:
    """Returns the name of a channel of a case.

    >>> name_of("la_003", 1)
    'la_003_0001'
    """
    return f"{case}_{channel:04d}"


def channels(names: Iterable[str], folder: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Returns each case and its channels, where the names of images are channels; else nothing.

    Every name ends in a channel below 16, for whatever numbers patients soon goes beyond that. Where neither the folder
    nor a `dataset.json` is nnU-Net's, every case has the same channels from 0 on, and a case alone at most four.

    Args:
        names: Paths of the images without extension.
        folder: The folder that they lie in.
    """
    found = [_CHANNEL.fullmatch(name) for name in names]
    cases: dict[str, list[int]] = collections.defaultdict(list)
    for one in found:
        if one is None or int(one[2]) >= _MOST_CHANNELS:
            return {}
        cases[one[1]].append(int(one[2]))
    told = {name: tuple(sorted(numbers)) for name, numbers in cases.items()}
    return told if told and (_says_so(folder) or _regular(told)) else {}


def incomplete(told: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Yields the cases that lack a channel that another has: name, channels and a sentence."""
    every = sorted({number for numbers in told.values() for number in numbers})
    for name, numbers in told.items():
        if list(numbers) != every:
            have, need = (", ".join(f"{number:04d}" for number in each) for each in (numbers, every))
            yield name, numbers, f"a case has the channels that others have, {need}. Received: {have}"


def _says_so(folder: pathlib.Path) -> bool:
    known = folder.name in (IMAGES, *OTHERS)
    return known or any((place / DESCRIPTION).is_file() for place in (folder, folder.parent))


def _regular(told: dict[str, tuple[int, ...]]) -> bool:
    first = next(iter(told.values()))
    same = first == tuple(range(len(first))) and set(told.values()) == {first}
    return same and (len(told) > 1 or len(first) <= _MOST_OF_ONE_CASE)
