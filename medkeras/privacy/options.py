"""The options of the Basic Application Level Confidentiality Profile, by name.

Each keeps no attribute that the standard's column for it does not name (table E.1-1, compared with a transcription of
September 2024), and fewer than it might: dates of calibration and titles of servers do not stay with a device.

Reference:
    DICOM PS3.15, E.3; PS3.16, CID 7050.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterable, Mapping

from pydicom import datadict

from medkeras import errors
from medkeras.privacy import table


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: its code in CID 7050 with the standard's meaning, and what it does here."""

    code: str
    meaning: str
    effect: str


BASIC = Option("113100", "Basic Application Confidentiality Profile", "always applied")
OPTIONS: Mapping[str, Option] = types.MappingProxyType(
    {
        "clean_pixel_data": Option(
            "113101", "Clean Pixel Data Option", "blank ultrasound pixels outside the regions that the file states"
        ),
        "clean_graphics": Option(
            "113103", "Clean Graphics Option", "keep lines and points of annotations, without their text"
        ),
        "clean_structured_content": Option(
            "113104", "Clean Structured Content Option", "keep the content of reports: codes, numbers and known words"
        ),
        "clean_descriptors": Option(
            "113105", "Clean Descriptors Option", "keep the known medical words of descriptions and comments"
        ),
        "retain_longitudinal_modified_dates": Option(
            "113107",
            "Retain Longitudinal Temporal Information Modified Dates Option",
            "keep dates, shifted by one number of days a patient",
        ),
        "retain_patient_characteristics": Option(
            "113108", "Retain Patient Characteristics Option", "keep sex, age up to 90 years, size and weight"
        ),
        "retain_device_identity": Option(
            "113109", "Retain Device Identity Option", "keep model, serial number and station of the device"
        ),
        "retain_uids": Option("113110", "Retain UIDs Option", "keep unique identifiers"),
        "retain_safe_private": Option(
            "113111", "Retain Safe Private Option", "keep a short list of numerical private attributes"
        ),
        "retain_institution": Option(
            "113112", "Retain Institution Identity Option", "keep the institution's name and address"
        ),
    }
)

_DEVICE = """
    CassetteID DetectorID DeviceDescription DeviceLabel DeviceSerialNumber GantryID GeneratorID LensMake LensModel
    LensSerialNumber LensSpecification ManufacturerDeviceIdentifier
    PerformedStationGeographicLocationCodeSequence PerformedStationName PerformedStationNameCodeSequence PlateID
    ScheduledProcedureStepLocation ScheduledStationGeographicLocationCodeSequence
    ScheduledStationName ScheduledStationNameCodeSequence ScheduledStudyLocation
    SourceManufacturer SourceSerialNumber StationName TransducerIdentificationSequence TreatmentMachineName UDISequence
    UniqueDeviceIdentifier XRayDetectorID XRayDetectorLabel XRaySourceID DeviceUID ManufacturerDeviceClassUID
"""
_TITLES = "PerformedStationAETitle ScheduledStationAETitle ScheduledStudyLocationAETitle"
_INSTITUTION = """
    InstitutionName InstitutionAddress InstitutionCodeSequence InstitutionalDepartmentName
    InstitutionalDepartmentTypeCodeSequence ClinicalTrialCoordinatingCenterName ClinicalTrialSiteID
    ClinicalTrialSiteName ClinicalTrialProtocolEthicsCommitteeName
"""
_PATIENT_KEPT = """
    EthnicGroupCodeSequence PatientAge PatientSex PatientSexNeutered PatientSize PatientWeight
    PregnancyStatus SmokingStatus
"""
_PATIENT_CLEANED = "Allergies EthnicGroup PatientState PreMedication SpecialNeeds"
_DESCRIPTORS = re.compile(
    "(Description|Comments|Label|Notes|Narrative|Impressions|InterpretationText|LabelText)$"
    "|^(ReasonFor.*|Allergies|ContrastBolusAgent|EntityName|LongDeviceDescription|MedicalAlerts|Occupation"
    "|PatientState|ProtocolName|ROIName|RTPlanName|RequestedContrastAgent|RequestAttributesSequence|StructureSetName"
    "|PrescriptionNotesSequence|AdmittingDiagnosesCodeSequence|TreatmentSites?)$"
)
_NO_DESCRIPTORS = {
    "AcquisitionContextDescription",
    "ChannelDerivationDescription",
    "ChannelLabel",
    "DeviceDescription",
    "DeviceLabel",
    "MultiplexGroupLabel",
    "ConfidentialityConstraintOnPatientDataDescription",
    "ImagePresentationComments",
    "ModifiedImageDescription",
    "TextComments",
    "XRayDetectorLabel",
}
# A report's own text of a UID, and a signature's, which is void.
_NEVER_KEPT = "UID DigitalSignatureUID"
_TEXT = {"LO", "SH", "ST", "LT", "UT", "SQ"}
# A satellite's time is exact to the second, and no shift of days hides it.
_NO_DATES = {"PatientBirthDate", "PatientBirthTime", "GPSTimeStamp"}


def checked(names: Iterable[str]) -> frozenset[str]:
    """Returns the options as a set; raises `ConfigError` with the nearest name for an unknown one."""
    for name in names:
        if name not in OPTIONS:
            raise errors.ConfigError(errors.unknown("option", name, OPTIONS))
    return frozenset(names)


def codes(options: frozenset[str]) -> list[Option]:
    """Returns the profile and the options that were applied, in the order of their codes."""
    return [BASIC, *(option for name, option in OPTIONS.items() if name in options)]


def actions(options: frozenset[str]) -> dict[int, str]:
    """Returns what replaces an action of the basic profile, by tag: `K` keep, `C` keep known words, `S` shift a date.

    A sequence that is kept or cleaned is cleaned inside.
    """
    changed: dict[int, str] = {}
    if "clean_descriptors" in options:
        changed.update(dict.fromkeys(filter(_is_descriptor, table.ACTIONS), "C"))
    if "clean_structured_content" in options:
        changed.update(_tags("ContentSequence AcquisitionContextSequence SpecimenPreparationSequence", "C"))
    if "clean_graphics" in options:
        changed.update(_tags("GraphicAnnotationSequence", "C"))
    if "retain_longitudinal_modified_dates" in options:
        changed.update(dict.fromkeys(filter(_is_date, table.ACTIONS), "S"))
        changed.update(_tags("TimezoneOffsetFromUTC", "K"))
    if "retain_patient_characteristics" in options:
        changed.update(_tags(_PATIENT_CLEANED, "C") | _tags(_PATIENT_KEPT, "K"))
    if "retain_device_identity" in options:
        changed.update(_tags(_DEVICE, "K") | _tags(_TITLES, "C"))
    if "retain_institution" in options:
        changed.update(_tags(_INSTITUTION, "K"))
    if "retain_uids" in options:
        uids = {tag: "K" for tag, action in table.ACTIONS.items() if action == "U"}
        changed.update({tag: action for tag, action in uids.items() if tag not in _tags(_NEVER_KEPT, "U")})
    return changed


def _tags(keywords: str, action: str) -> dict[int, str]:
    return {table.tag(keyword): action for keyword in keywords.split()}


def _is_descriptor(tag: int) -> bool:
    if not datadict.dictionary_has_tag(tag) or datadict.dictionary_VR(tag) not in _TEXT:
        return False
    keyword = datadict.keyword_for_tag(tag)
    return bool(_DESCRIPTORS.search(keyword)) and keyword not in _NO_DESCRIPTORS


def _is_date(tag: int) -> bool:
    known = datadict.dictionary_has_tag(tag) and datadict.dictionary_VR(tag) in {"DA", "DT", "TM"}
    return known and datadict.keyword_for_tag(tag) not in _NO_DATES
