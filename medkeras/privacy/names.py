"""New names of files and folders: nobody's name stays, and what readers tell by a name can be told by the new one.

Reference:
    BIDS 1.10, subjects; nnU-Net, dataset_format.md.
"""

from __future__ import annotations

import itertools
import pathlib
import re

from medkeras.privacy import pseudonyms, words

_IMAGES = ("images", "imagesTr", "imagesTs", "imagesVal")
_VOLUME = re.compile(r"(?i:\.nii\.gz|\.nii)$")
_MASK = re.compile(r"_(?:labels|label|seg|mask)$")
_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[_/])")
_CHANNEL = re.compile(r"_00(?:0[0-9]|1[0-5])$")


def renamed(relative: str, suffix: str, key: bytes) -> str:
    """Returns the new name of a picture or a volume.

    A folder called by known words alone, as classes and splits are, keeps its name: another may be a patient's. The
    file's own name is hashed without its folder and suffix, so that `images/A.png` and `masks/A.png` stay a pair. What
    a volume's name says beside the patient stays: the ending of a mask, the subject of BIDS as a subject, and in
    folders of nnU-Net the channel.

    Args:
        relative: The old name below the folder that the user named, with slashes.
        suffix: How the new name ends.
        key: The secret.
    """
    *above, name = pathlib.PurePath(relative).parts
    stem = _without_suffix(name)
    subject = _SUBJECT.match(name)
    volume = suffix.startswith(".nii")
    ending = _ending(stem, above) if volume else ""
    hashed = pseudonyms.pseudonym(key, stem.removesuffix(ending), prefix="n")
    whose = f"{_subject(subject[1], key)}_" if volume and subject else ""
    return "/".join((*(_folder(part, key) for part in above), f"{whose}{hashed}{ending}{suffix}"))


def classes(relative: str, people: frozenset[str]) -> tuple[str, ...]:
    """Returns the folders that may be the split and the class of a DICOM file: two at most, known words, nobody's name.

    Args:
        relative: The old name below the folder that the user named, with slashes.
        people: Words of names and identifiers of the files' patients, in small letters.
    """
    above = pathlib.PurePath(relative).parts[:-1][:2]
    known = itertools.takewhile(lambda part: _is_harmless(part) and not words.names(part, people), above)
    return tuple(known)


def patient_folder(new: str) -> str:
    """Returns the patient's pseudonym, which is among the folders of a new DICOM file."""
    return pathlib.PurePosixPath(new).parts[-4]


def patients_of(relative: str) -> tuple[str, str, str]:
    """Returns by what names a table of labels may call the patient of a volume, old and new names in the same order."""
    names = [_VOLUME.sub("", place) for place in (relative, _below_images(relative))]
    subject = _SUBJECT.search(names[0])
    return names[0], _CHANNEL.sub("", names[1]), subject[1] if subject else names[0]


def places(relative: str) -> tuple[str, ...]:
    """Returns by what paths a table of labels may call a file: its own, and for volumes the one below `images`."""
    return tuple(dict.fromkeys((relative, _below_images(relative))))


def _below_images(relative: str) -> str:
    first, _, rest = relative.partition("/")
    return rest if rest and first in _IMAGES else relative


def _without_suffix(name: str) -> str:
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _ending(stem: str, above: list[str]) -> str:
    channel = _CHANNEL.search(stem) if any(part in _IMAGES[1:] for part in above) else None
    found = _MASK.search(stem) or channel
    return found[0] if found else ""


def _folder(name: str, key: bytes) -> str:
    if name.startswith("sub-") and name[4:].isalnum():
        return _subject(name, key)
    return name if _is_harmless(name) else pseudonyms.pseudonym(key, name, prefix="d")


def _subject(name: str, key: bytes) -> str:
    return pseudonyms.pseudonym(key, name, prefix="sub")


def _is_harmless(name: str) -> bool:
    parts = re.findall(r"[^\W\d_]+|[0-9]+", name)
    return bool(parts) and all(words.is_label(part) for part in parts)
