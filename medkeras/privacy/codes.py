"""Coded entries: a code of a public scheme stays, one that a site made up becomes a keyed hash.

Reference:
    DICOM PS3.3, 8.1 to 8.3.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping

import pydicom

from medkeras.privacy import pseudonyms, words

VALUE, SCHEME, MEANING = 0x00080100, 0x00080102, 0x00080104
TAGS = frozenset((VALUE, SCHEME, MEANING))
LOCAL = "99LOCAL"
_NAMED = 0x0040A043

_PATTERNS: Mapping[str, re.Pattern[str]] = types.MappingProxyType(
    {
        "BARI": re.compile(r"[0-9]{1,3}"),
        "BI": re.compile(r"[0-9]"),
        "CPT4": re.compile(r"[0-9]{4}[0-9A-Z]"),
        "DCM": re.compile(r"[0-9]{4,6}|[A-Z]{2,8}"),
        "FMA": re.compile(r"[0-9]{1,6}"),
        "I10": re.compile(r"[A-Z][0-9]{2}(\.[0-9]{1,3})?"),
        "LN": re.compile(r"[0-9]{1,6}-[0-9]"),
        "MDC": re.compile(r"[0-9]{1,6}"),
        "NCIt": re.compile(r"C[0-9]{1,6}"),
        "RADLEX": re.compile(r"RID[0-9]{1,6}"),
        "SCT": re.compile(r"[0-9]{6,9}"),
        "SNM3": re.compile(r"[A-Z]-?[0-9A-F]{4,6}"),
        "SRT": re.compile(r"[A-Z][0-9]?-?[0-9A-F]{4,6}"),
        "99SDM": re.compile(r"[A-Z][0-9]?-?[0-9A-F]{4,6}"),
        "UCUM": re.compile(r"[A-Za-z0-9%/\[\]{}.]{1,8}"),
        "UMLS": re.compile(r"C[0-9]{7}"),
    }
)

_SUBJECT = frozenset(("121028", "121029", "121030", "121031", "121032", "121033", "121118"))
_TRAIT = re.compile(
    r"((patient|subject)('s)? )?(age|sex|gender|birth ?date|date of birth|body mass index|bmi|body surface area|bsa)"
    r"|(patient|subject|body|standing)('s)? (height|length|size|weight|mass|race|ethnic group|occupation)",
    re.IGNORECASE,
)


def tells_of_the_patient(item: pydicom.Dataset) -> bool:
    """Whether a content item says who its subject is, or of what age, sex or size.

    Reference:
        DICOM PS3.16, TID 1007 (Subject Context, Patient), by code or by meaning.
    """
    try:
        names = [(str(name.get("CodeValue", "")), str(name.get("CodeMeaning", ""))) for name in item[_NAMED].value]
        return any(value in _SUBJECT or _TRAIT.fullmatch(meaning.strip()) for value, meaning in names)
    except (KeyError, TypeError, AttributeError):
        return False


def clean(item: pydicom.Dataset, key: bytes, *, people: frozenset[str]) -> dict[int, str]:
    """Returns value, scheme and meaning of a coded entry, by tag; empty where the item is none.

    Args:
        item: A dataset, as read.
        key: The secret.
        people: Words that belong to the people of the file.
    """
    value, scheme, meaning = (str(item[tag].value or "").strip() if tag in item else "" for tag in sorted(TAGS))
    if not value:
        return {SCHEME: scheme if scheme in _PATTERNS else LOCAL} if scheme else {}
    if (scheme, value) in words.concepts():
        return {VALUE: value, SCHEME: scheme, MEANING: words.concepts()[scheme, value][:64]}
    safe = words.clean(meaning, people)[:64].strip() or words.DUMMY
    if scheme in _PATTERNS and _PATTERNS[scheme].fullmatch(value):
        return {VALUE: value, SCHEME: scheme, MEANING: safe}
    return {VALUE: pseudonyms.pseudonym(key, f"{scheme}\0{value}", prefix="c")[:16], SCHEME: LOCAL, MEANING: safe}
