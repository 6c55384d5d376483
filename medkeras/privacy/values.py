"""New values for old ones: identifiers, dates, dummies, and numbers that are numbers."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import types
from collections.abc import Mapping
from typing import Any

from pydicom import uid

from medkeras.privacy import words

LARGEST_SHIFT = 3650
"""Days by which a patient's dates go back at most."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_PLAIN = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_SEXES = frozenset(("f", "m", "o", "u", "female", "male", "other", "unknown"))
# Years: from when on whole ones are told, and beyond which a number is no age.
_INFANT, _OLDEST = 2, 130
_AGE = re.compile(r"([0-9]{3})([DWMY])")
_ZONE = re.compile(r"[+-][0-9]{4}")
_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")
_MOMENT = re.compile(r"([0-9]{8})([0-9]{2,6}(?:\.[0-9]{1,6})?)?([+-][0-9]{4})?")

PHOTOMETRIC_INTERPRETATIONS = frozenset(
    (
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"),
        *("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
    )
)
"""PS3.3, C.7.6.3.1.2, retired ones too."""

DUMMIES: Mapping[str, Any] = types.MappingProxyType(
    {
        **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), words.DUMMY),
        **dict.fromkeys(("DS", "IS"), "0"),
        **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
        **dict.fromkeys(("OB", "OW", "UN"), b"\0\0"),
        "AS": "000Y",
        "DA": "19000101",
        "DT": "19000101000000",
        "TM": "000000",
        "UI": "2.25.0",
        "UR": "http://removed.invalid",
    }
)


def new_uid(key: bytes, old: str) -> str:
    """Returns the unique identifier that stands for another one under a key; the standard's own stay.

    Reference:
        DICOM PS3.5, B.2: `2.25.` and an integer of 128 bits.

    >>> new_uid(bytes(16), "1.2.840.10008.1.2.1")
    '1.2.840.10008.1.2.1'
    """
    if not old or old in uid.UID_dictionary:
        return old
    digest = hmac.new(key, f"uid\0{old}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def kept_uid(key: bytes, old: str) -> str:
    """Returns the unique identifier as it is, or a new one for what is none."""
    return old if _UID.fullmatch(old) and len(old) <= 64 else new_uid(key, old)


def days_of(key: bytes, patient: str) -> int:
    """Returns by how many days the dates of a patient go back, 1 to `LARGEST_SHIFT`."""
    digest = hmac.new(key, f"days\0{patient}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return 1 + int.from_bytes(digest[:8]) % LARGEST_SHIFT


def shifted(vr: str, value: str, *, days: int) -> str:
    """Returns a date or date and time moved back by whole days, a time as it is; empty for what is none.

    Args:
        vr: `DA`, `DT` or `TM`.
        value: As stored.
        days: How far back.

    >>> shifted("DA", "20200301", days=1)
    '20200229'
    >>> shifted("DT", "20200301120000.5+0100", days=1)
    '20200229120000.5+0100'
    """
    text = value.strip()
    if vr == "TM":
        return text if _TIME.fullmatch(text) else ""
    found = _MOMENT.fullmatch(text)
    if not found or (vr == "DA" and text != found[1]):
        return ""
    try:
        day = datetime.datetime.strptime(found[1], "%Y%m%d") - datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{day.year:04d}{day.month:02d}{day.day:02d}{found[2] or ''}{found[3] or ''}"


def decimal(text: str) -> str:
    """Returns a number written in digits, empty for what is none (VR `DS`)."""
    return text.strip() if _NUMBER.fullmatch(text.strip()) else ""


def integer(text: str) -> str:
    """Returns a whole number of 32 bits, empty for what is none (VR `IS`)."""
    found = _INTEGER.fullmatch(text.strip())
    return text.strip() if found and -(2**31) <= int(text) < 2**31 else ""


def age(text: str) -> str:
    """Returns an age, no more than 90 years, empty for what is none (VR `AS`).

    >>> age("097Y"), age("003M"), age("old")
    ('090Y', '003M', '')
    """
    found = _AGE.fullmatch(text.strip())
    if not found:
        return ""
    return "090Y" if found[2] == "Y" and int(found[1]) > 90 else text.strip()


def sex(text: str) -> str:
    """Returns a sex as tables write it, empty for what is none.

    >>> sex("F"), sex("male"), sex("Jane")
    ('F', 'male', '')
    """
    return text.strip() if text.strip().lower() in _SEXES else ""


def years(text: str) -> str:
    """Returns an age in years, whole from 2 on and no more than 90, empty for what is none.

    >>> years("97"), years("41.37"), years("0.52"), years("1.1.1971")
    ('90', '41', '0.5', '')
    """
    age = text.strip()
    number = float(age) if _PLAIN.fullmatch(age) else -1.0
    if not 0 <= number <= _OLDEST:
        return ""
    return f"{min(int(number), 90)}" if number >= _INFANT else f"{number:.1f}"


def zone(text: str) -> str:
    """Returns an offset from UTC, empty for what is none."""
    return text.strip() if _ZONE.fullmatch(text.strip()) else ""
