"""Text of which nothing is left but words known to be harmless.

A name cannot be told from a word by its looks, so that no list of names is looked for: a closed list of words stays,
those of the standard's own coded concepts, and from them the words that the file itself uses for its people are taken.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

from pydicom.sr import _concepts_dict

DUMMY = "REMOVED"

_WORD = re.compile(r"[A-Za-z0-9]+")
_VENDORS = """
    agfa alpinion barco biograph bruker canon carestream elekta esaote fuji fujifilm ge general electric hitachi hologic
    imaging kodak konica leica medical minolta mindray nikon olympus philips samsung sciex shimadzu siemens healthineers
    systems topcon toshiba unitedimaging varian zeiss
"""
_ACQUISITION = """
    ap ax axial bh bone bravo cal cor coronal ct ctac dce diff dual dwi dynamic ep epi fast fat fiesta fl flair fov fs
    fse gad gre haste hires hr hu inv iso lat lava localiser localizer mip mpr mprage mr mra mrv od offset oblique pa pd
    pet phase pre post recon routine sag sagittal sat scan scout se series sc1 soft spgr space spin spir ssfp std stir
    supine surview survey swi t1 t1w t2 t2w tfe thick thin thk tirm tof topogram tra trans trufi tse us vibe vol wb
    window 1h 2d 3d 4d mgml z eff ed hu_mod pct cnts bqml gml hounsfield uint8 normalized unknown unspecified
"""
# Names of folders: splits, classes, and findings that the coded concepts do not have.
_LABELS = """
    abnormal adenocarcinoma adenoma adenosis anterior astrocytoma atelectasis benign blood cardiomegaly cases cells
    ckd classes class controls covid cyst data dataset dcm dementia demented dicom edema effusion emphysema fibrosis
    fold folds glioma gliomas good hcc healthy hernia hippocampus image images imagestr imagests imagesval infected
    infiltration label labels labelstr large
    malignant mass mask masks melanoma meningioma mild moderate neg negative nevus nifti no nofinding nodule non none
    normal not notumor nottumor opacity other others parasitized patients pituitary pleural pneumonia pneumothorax png
    pos positive posterior proliferative severe sick slices small split squamous stroke study subset  tb test testing
    tests thickening train training trains tuberculosis tumor tumors tumour uninfected val valid validation very volumes
    with without yes
"""


def is_label(part: str) -> bool:
    """Whether letters alone, or a number of two digits or less, may stay in the name of a folder.

    >>> is_label("glioma"), is_label("7"), is_label("Smith"), is_label("1971")
    (True, True, False, False)
    """
    if part.isdigit():
        return len(part) <= 2
    return part.lower() in _LABELS.split() or part.lower() in known()


def clean(text: str, forbidden: frozenset[str] = frozenset()) -> str:
    """Returns the known words of a text, one space apart; empty when none is known.

    >>> clean("MRI Brain of Doe, Jane 12.03.1971 axial T2")
    'MRI Brain of axial T2'
    """
    found = (word for word in _WORD.findall(text) if word.lower() in known())
    return " ".join(word for word in found if word.lower() not in forbidden)


def of_people(values: Iterable[object]) -> frozenset[str]:
    """Returns the words of names and numbers of a file's people, in small letters."""
    return frozenset(word.lower() for value in values for word in _WORD.findall(str(value)) if len(word) > 1)


def names(text: str, people: frozenset[str]) -> bool:
    """Whether a text has a word of three letters or more that is also one of the file's people.

    >>> names("DOE HEAD", of_people(["Doe^Jane^^MR"])), names("MR", of_people(["Doe^Jane^^MR"]))
    (True, False)
    """
    return any(len(word) > 2 and word.lower() in people for word in _WORD.findall(text))


@functools.cache
def known() -> frozenset[str]:
    """Returns the words that may stay: those of the meanings of the standard's coded concepts, and of a scanner."""
    meanings = " ".join(meaning for meaning in concepts().values())
    found = {word.lower() for word in _WORD.findall(meanings)}
    return frozenset(word for word in found if not word.isdigit()) | {*_VENDORS.split(), *_ACQUISITION.split()}


@functools.cache
def concepts() -> dict[tuple[str, str], str]:
    """Returns the meaning of each code of the standard's context groups, by scheme and value."""
    schemes: dict[str, Any] = _concepts_dict.concepts
    return {
        (scheme, value): meaning
        for scheme, keywords in schemes.items()
        for codes in keywords.values()
        for value, (meaning, *_) in codes.items()
    }
