"""Whose a DICOM file is, told from all files at once: one patient is never taken for two.

Reference:
    DICOM PS3.3, C.2.2 (Patient Identification) and C.7.1.1 (Patient).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a file says of its patient; empty where it says nothing.

    Attributes:
        patient_id: PatientID.
        issuer: IssuerOfPatientID.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        name: PatientName, from whoever may know it.
        instance: SOPInstanceUID.
    """

    patient_id: str = ""
    issuer: str = ""
    study: str = ""
    series: str = ""
    name: str = ""
    instance: str = ""


def of_files(found: Mapping[str, Identity]) -> dict[str, str]:
    """Returns what names the patient of each file, whatever the order of the files; empty where nothing does.

    That is PatientID with its issuer. A file that states none takes the issuer of its identifier in its study, else
    the only one that any file states for this identifier; where there are several, nobody can tell whose the file is,
    and all files of the identifier are one patient's. A file without identifier is its study's patient's, or that of
    its series; where no identifier is known there, those of one study, else of one name, are one patient's.
    """
    issuers = _issuers(found)
    torn = {found[name].patient_id for name, issuer in issuers.items() if not issuer}
    named = {name: one.patient_id for name, one in found.items()}
    for name, issuer in issuers.items():
        if named[name] not in torn:
            named[name] = f"{issuer}\\{named[name]}"
    for level in ("study", "series"):
        for uid, names in _groups({name: getattr(one, level) for name, one in found.items()}).items():
            owner = _first(named[name] for name in names) or _first(found[name].name for name in names) or str(uid)
            named |= {name: named[name] or owner for name in names}
    return {name: label or found[name].name for name, label in named.items()}


def _issuers(found: Mapping[str, Identity]) -> dict[str, str]:
    """Returns the issuer of each file that has an identifier, empty where nobody can tell."""
    having = {name: one for name, one in found.items() if one.patient_id}
    issuers = {name: one.issuer for name, one in having.items()}
    in_studies = {name: one.study and (one.patient_id, one.study) for name, one in having.items()}
    anywhere = {name: one.patient_id for name, one in having.items()}
    for places in (in_studies, anywhere):
        for names in _groups(places).values():
            stated = {issuers[name] for name in names} - {""}
            if len(stated) == 1:
                issuers |= dict.fromkeys(names, *stated)
    return issuers


def _groups(places: Mapping[str, Hashable]) -> dict[Hashable, list[str]]:
    """Returns the names that share a place; those without one are left out."""
    groups: dict[Hashable, list[str]] = collections.defaultdict(list)
    for name, place in places.items():
        if place:
            groups[place].append(name)
    return groups


def _first(labels: Iterable[str]) -> str:
    return min(filter(None, labels), default="")
