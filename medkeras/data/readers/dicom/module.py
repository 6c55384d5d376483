"""What the modules of an object ask for and its file does not have, and dates in it that contradict each other.

Reference:
    PS3.3 tables A.3-1 and A.4-1 (CT and MR Image), C.7.1.1, C.7.3.1, C.7.4.1, C.7.6.2, C.8.2.1, C.8.3.1. Only
    elements that are always required (types 1 and 2) and PatientPosition, which those classes require unless they
    have a Patient Orientation Code Sequence (C.7.3.1.1.2).
"""

from __future__ import annotations

import datetime

import pydicom

from medkeras.data.readers.dicom import tags

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_PLANE = ("FrameOfReferenceUID", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness")
_MR = ("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength")
_CT = ("RescaleIntercept", "RescaleSlope", "KVP")
REQUIRED = {
    "1.2.840.10008.5.1.4.1.1.2": (*_PATIENT, "PatientPosition", *_PLANE, *_CT),
    "1.2.840.10008.5.1.4.1.1.4": (*_PATIENT, "PatientPosition", *_PLANE, *_MR),
    **dict.fromkeys(("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"), (*_PATIENT, "PatientPosition")),
}
"""SOP class (CT, MR, enhanced CT, enhanced MR) to keywords."""

_APART = datetime.timedelta(days=1)


def lacking(dataset: pydicom.Dataset) -> list[str]:
    """Returns the keywords that the object's class requires and that are absent; one that is empty is there."""
    required = REQUIRED.get(tags.text(dataset, "SOPClassUID"), ())
    oriented = "PatientOrientationCodeSequence" in dataset
    return [word for word in required if word not in dataset and not (word == "PatientPosition" and oriented)]


def acquired_apart(dataset: pydicom.Dataset) -> bool:
    """Whether the image was acquired more than a day before or after its study began."""
    study, acquired = _day(dataset, "StudyDate"), _day(dataset, "AcquisitionDate")
    return bool(study and acquired and abs(acquired - study) > _APART)


def study_began(dataset: pydicom.Dataset) -> str:
    """Returns date and time of the study, to the second; empty where the file does not state both."""
    date, time = tags.text(dataset, "StudyDate"), tags.text(dataset, "StudyTime").partition(".")[0]
    return date + time if date and time else ""


def _day(dataset: pydicom.Dataset, keyword: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(tags.text(dataset, keyword), "%Y%m%d")
    except ValueError:
        return None
