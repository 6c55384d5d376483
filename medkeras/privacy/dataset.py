"""One dataset made anew from another: every attribute, at every level, by the table or by the allow-list.

Reference:
    DICOM PS3.15, E.1 to E.3.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
from pydicom import charset, datadict
from pydicom.dataelem import DataElement

from medkeras.privacy import allowed, arrays, codes, held, options, patients, pseudonyms, table, terms, values, words

LARGEST_DEPTH = 32

IDENTITY = (
    *("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "PatientName", "SOPInstanceUID"),
)
"""What the fields of `patients.Identity` are read from."""

_LONGEST_NAME = 1024
_PATIENT_NAME, _PATIENT_ID, _CHARSET = 0x00100010, 0x00100020, 0x00080005
_AGE, _ZONE, _PHOTOMETRIC = 0x00101010, 0x00080201, 0x00280004
_STATUS = {
    table.tag(keyword)
    for keyword in (
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
        "LongitudinalTemporalInformationModified",
    )
}
_PEOPLE = """
    PatientName PatientID OtherPatientIDs OtherPatientNames PatientBirthName PatientMotherBirthName AccessionNumber
    ReferringPhysicianName PerformingPhysicianName OperatorsName PhysiciansOfRecord RequestingPhysician PatientAddress
    NameOfPhysiciansReadingStudy ResponsiblePerson StudyID IssuerOfPatientID PatientTelephoneNumbers
"""
_CODE_ITEMS, _OBSERVERS = table.tag("PersonIdentificationCodeSequence"), table.tag("VerifyingObserverSequence")
_PERFORMED = table.tag("ReferencedPerformedProcedureStepSequence")
_CONTENT = table.tag("ContentSequence")


@dataclasses.dataclass
class Subject:
    """What one file is cleaned with.

    Attributes:
        key: The secret.
        options: The chosen options.
        changed: What the options do instead of the table, by tag.
        patient: The patient's pseudonym.
        days: By how many days dates go back.
        people: Words of the file's people, in small letters.
        counts: How often each action was taken.
    """

    key: bytes
    options: frozenset[str]
    changed: dict[int, str]
    patient: str
    days: int
    people: frozenset[str]
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def identity(dataset: pydicom.Dataset) -> patients.Identity:
    """Returns what a dataset says of its patient."""
    texts = (_text(dataset, keyword)[:_LONGEST_NAME] for keyword in IDENTITY)
    return patients.Identity(*texts)


def subject(dataset: pydicom.Dataset, key: bytes, *, chosen: frozenset[str], patient: str = "") -> Subject:
    """Returns what a dataset is cleaned with.

    Args:
        dataset: As read.
        key: The secret.
        chosen: The chosen options.
        patient: What names the patient, from all files that are cleaned together; empty to look at this one alone.
    """
    patient = patient or patients.of_files({"": identity(dataset)})[""] or _text(dataset, "SOPInstanceUID")
    people = words.of_people(_text(dataset, keyword) for keyword in _PEOPLE.split())
    return Subject(
        key=key,
        options=chosen,
        changed=options.actions(chosen),
        patient=pseudonyms.pseudonym(key, patient),
        days=values.days_of(key, patient),
        people=people,
    )


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword, "") or ""
        return "\\".join(map(str, value if isinstance(value, pydicom.multival.MultiValue) else [value])).strip()
    except Exception:
        return ""


def clean(dataset: pydicom.Dataset, given: Subject, *, depth: int = 0) -> pydicom.Dataset:
    """Returns a new dataset without identity; counts what was done in `given`.

    Raises:
        HeldBackError: Sequences nest deeper than `LARGEST_DEPTH`.
    """
    if depth > LARGEST_DEPTH:
        raise held.HeldBackError(f"sequences nest deeper than {LARGEST_DEPTH} levels")
    new = pydicom.Dataset()
    for element in _elements(dataset, given):
        tag = int(element.tag)
        if tag in codes.TAGS:
            continue
        if element.tag.is_private:
            _private(dataset, element, new, given)
            continue
        made = _element(element, given, depth)
        given.counts["kept" if made is element else "removed" if made is None else _name(made, element)] += 1
        if made is not None:
            new.add(made)
    for tag, value in codes.clean(dataset, given.key, people=given.people).items():
        new.add_new(tag, datadict.dictionary_VR(tag), value)
        given.counts["codes"] += 1
    arrays.cut(new)
    return new


def _elements(dataset: pydicom.Dataset, given: Subject) -> Iterator[DataElement]:
    for tag in sorted(dataset.keys()):
        try:
            yield dataset[tag]
        except RecursionError:
            raise
        except Exception:
            given.counts["unreadable"] += 1


def _name(made: DataElement, old: DataElement) -> str:
    if made.VR == "SQ":
        return "sequences"
    if made.VR == "UI":
        return "uids" if made.value != old.value else "kept"
    return "emptied" if made.is_empty and not old.is_empty else "kept" if made.value == old.value else "replaced"


def _element(element: DataElement, given: Subject, depth: int) -> DataElement | None:
    tag, vr = int(element.tag), _vr(element)
    if not vr or tag in _STATUS or element.tag.group < 8 or element.tag.element == 0:
        return None
    if tag in allowed.AT_THE_TOP and depth:
        return None
    action = given.changed.get(tag) or table.ACTIONS.get(tag) or allowed.action(tag, vr, options=given.options)
    if vr == "SQ":
        return _sequence(element, action, given, depth)
    if action == "X":
        return None
    if vr in allowed.NUMBERS or vr in allowed.ARRAYS or " or " in vr:
        return _binary(element, action)
    made = [_value(tag, vr, str(value), action, given) for value in _list(element)]
    return DataElement(tag, vr, made[0] if len(made) == 1 else made or None) if any(made) else _left(tag, vr, action)


def _left(tag: int, vr: str, action: str) -> DataElement | None:
    """Returns what stands for a text of which nothing is left."""
    base = table.ACTIONS.get(tag)
    if base == "D" or (base is None and tag in allowed.REQUIRED):
        return DataElement(tag, vr, values.DUMMIES[vr])
    # An attribute outside the table may have to be there, if empty.
    stays = base == "Z" or action in "ZU" or (base is None and action in "CK")
    return DataElement(tag, vr, "") if stays else None


def _vr(element: DataElement) -> str:
    """Returns the dictionary's VR of an element, or the file's where the dictionary has several; empty: not allowed."""
    if not datadict.dictionary_has_tag(element.tag):
        return ""
    vr = datadict.dictionary_VR(element.tag)
    if element.VR in (vr, *vr.split(" or ")):
        return element.VR
    same = element.VR in allowed.TEXT and vr in allowed.TEXT
    return vr if same else ""


def _list(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    return list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]


def _binary(element: DataElement, action: str) -> DataElement | None:
    if action == "K":
        return element
    if action == "Z":
        return DataElement(element.tag, element.VR, None)
    return DataElement(element.tag, element.VR, values.DUMMIES[element.VR]) if action == "D" else None


def _value(tag: int, vr: str, value: str, action: str, given: Subject) -> str:
    """Returns what stands for one text, empty where nothing of it may stay."""
    if tag in (_PATIENT_NAME, _PATIENT_ID):
        return given.patient
    if not value or action == "Z":
        return ""
    if action == "D":
        return str(values.DUMMIES[vr]) if vr != "UI" else values.new_uid(given.key, value)
    if action == "U":
        return values.new_uid(given.key, value)
    if action == "S":
        made = values.shifted(vr, value, days=given.days)
        given.counts["dates_shifted"] += bool(made)
        return made
    if action == "C":
        return words.clean(value, given.people)[: _LONGEST.get(vr, 1024)].strip()
    return _kept(tag, vr, value, given)


_LONGEST = {"SH": 16, "LO": 64}


def _kept(tag: int, vr: str, value: str, given: Subject) -> str:
    if tag == _CHARSET:
        return value if value in charset.python_encoding else ""
    if tag == _PHOTOMETRIC:
        return value if value in values.PHOTOMETRIC_INTERPRETATIONS else ""
    if tag in allowed.LAYERS:
        return pseudonyms.pseudonym(given.key, value, prefix="l")[:16].upper().replace("-", "_")
    if tag in allowed.FREE_TERMS:
        return words.clean(value, given.people)[:16].strip().upper()
    if vr == "CS" and words.names(value, given.people):
        return ""
    if vr == "UI":
        return values.kept_uid(given.key, value)
    if tag == _ZONE:
        return values.zone(value)
    return _FORMS[vr](value) if vr in _FORMS else value


_FORMS: dict[str, Callable[[str], str]] = {
    "AS": values.age,
    "CS": terms.clean,
    "DS": values.decimal,
    "IS": values.integer,
}


def _sequence(element: DataElement, action: str, given: Subject, depth: int) -> DataElement | None:
    tag = int(element.tag)
    if action == "D" and tag == _CODE_ITEMS:
        return DataElement(tag, "SQ", [_code("000000", "99REMOVED", words.DUMMY)])
    if action == "D" and tag == _CONTENT:
        return DataElement(tag, "SQ", [_comment()])
    if action == "X" or (action == "D" and tag not in (_OBSERVERS, _PERFORMED)):
        return None
    told = "retain_patient_characteristics" in given.options
    items = [item for item in element.value or () if told or not codes.tells_of_the_patient(item)]
    return DataElement(tag, "SQ", [] if action == "Z" else [clean(item, given, depth=depth + 1) for item in items])


def _code(value: str, scheme: str, meaning: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _comment() -> pydicom.Dataset:
    """Returns the one content item of a report whose content is gone."""
    item = pydicom.Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", words.DUMMY
    item.ConceptNameCodeSequence = [_code("121106", "DCM", "Comment")]
    return item


def _private(dataset: pydicom.Dataset, element: DataElement, new: pydicom.Dataset, given: Subject) -> None:
    """Keeps a private attribute of the safe list, with its creator, where that is asked for."""
    tag = element.tag
    creator_tag = tag.group << 16 | tag.element >> 8
    if "retain_safe_private" not in given.options or tag.element < 0x1000 or creator_tag not in dataset:
        given.counts["private"] += 1
        return
    creator = str(dataset[creator_tag].value).strip()
    made = _numbers(element) if allowed.is_safe_private(creator, tag.group, offset=tag.element & 0xFF) else None
    given.counts["private_kept" if made else "private"] += 1
    if made:
        new.add_new(creator_tag, "LO", creator)
        new.add(made)


def _numbers(element: DataElement) -> DataElement | None:
    if element.VR in ("FD", "FL", "SL", "SS", "UL", "US"):
        return element
    if element.VR not in ("DS", "IS"):
        return None
    return element if all(_FORMS[element.VR](str(value)) for value in _list(element)) else None
