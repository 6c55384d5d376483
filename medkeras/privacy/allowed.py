"""What stays of a dataset beside the table's attributes: an allow-list, not a list of what to remove.

Reference:
    DICOM PS3.15, E.1.1 and E.3.10; PS3.6.
"""

from __future__ import annotations

import types
from collections.abc import Mapping

from pydicom import datadict

from medkeras.privacy import table

TEXT = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"))
NUMBERS = frozenset(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))
ARRAYS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW"))

# Outside the table: K keep what has the form of its VR, C known words alone, U new identifiers; others are removed.
_BY_VR: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(("SQ", "CS", "DS", "IS", "OD", "OF", "OL", "OV"), "K"),
        **dict.fromkeys(("LO", "SH"), "C"),
        "UI": "U",
    }
)
_WITH_OPTION = (
    ("clean_descriptors", ("ST", "LT", "UT", "UC"), "C"),
    ("retain_longitudinal_modified_dates", ("DA", "DT", "TM"), "S"),
    ("retain_uids", ("UI",), "K"),
)
_BYTES = """
    PixelData FloatPixelData DoubleFloatPixelData
    RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    AlphaPaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData SegmentedAlphaPaletteColorLookupTableData BlendingLookupTableData LUTData
    WaveformData WaveformPaddingValue ChannelMinimumValue ChannelMaximumValue
"""
_PIXELS = "PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths"
_TECHNICAL = """
    Manufacturer ManufacturerModelName ManufacturerModelVersion ManufacturerRelatedModelGroup SoftwareVersions DeviceID
    GridID SecondaryCaptureDeviceManufacturer SecondaryCaptureDeviceManufacturerModelName
    SecondaryCaptureDeviceSoftwareVersions DetectorManufacturerName DetectorManufacturerModelName
    ReceiveCoilManufacturerName ReceiveCoilName TransmitCoilManufacturerName TransmitCoilName ConvolutionKernel
    SequenceName PulseSequenceName FilterType CollimatorGridName TransducerData ProcessingFunction PlateType
    PhosphorType ApplicationName ApplicationVersion ApplicationManufacturer AlgorithmName AlgorithmVersion
    ImageFilter RadiationMachineName
"""
# Numbers alone, factors that give pixels their meaning: those of the standard's list of safe private attributes
# (PS3.15, table E.3.10-1) that pydicom's private dictionary knows under the same creator, number and meaning.
_SAFE_PRIVATE = frozenset(
    (
        ("Philips PET Private Group", 0x7053, 0x00),
        ("Philips PET Private Group", 0x7053, 0x09),
        ("Philips Imaging DD 001", 0x2001, 0x03),
        ("SIEMENS MR HEADER", 0x0019, 0x0C),
        ("SIEMENS MR HEADER", 0x0019, 0x0E),
        ("SIEMENS MR HEADER", 0x0019, 0x27),
        ("GEMS_ACQU_01", 0x0019, 0x23),
        ("GEMS_ACQU_01", 0x0019, 0x24),
        ("GEMS_ACQU_01", 0x0019, 0x27),
        ("GEMS_PARM_01", 0x0043, 0x39),
        ("ELSCINT1", 0x00E1, 0x21),
    )
)
# Groups of numbers and coded strings about the patient, orders, visits, signatures and labels of media; and of what is
# no medical image: tested materials and searched luggage.
_OTHER_GROUPS = frozenset((0x0010, 0x0014, 0x0032, 0x0038, 0x0400, 0x2200, 0x4000, 0x4008, 0x4010))
_BODY = "PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension ExaminedBodyThickness"
_OF_THE_PATIENT = "SubjectRelativePositionInImage QualityControlSubject AnatomicalOrientationType"
_SELECTED = """
    SelectorISValue SelectorOFValue SelectorODValue SelectorFDValue SelectorOLValue SelectorFLValue SelectorULValue
    SelectorUSValue SelectorSLValue SelectorSSValue SelectorOVValue SelectorSVValue SelectorUVValue SelectorDSValue
"""
_REQUIRED = """
    ManufacturerModelName SoftwareVersions Manufacturer SegmentLabel RescaleType LUTExplanation ModalityLUTType
    BeamName TrackSetLabel GraphicLayerDescription ContentDescription ContentLabel SegmentAlgorithmName AlgorithmName
    AlgorithmVersion DoseComment RTImageLabel FiducialIdentifier LUTLabel FrameOfInterestDescription TextValue
    ToleranceTableLabel OpticalPathIdentifier SetupDeviceLabel StackID
"""


def _tags(keywords: str) -> frozenset[int]:
    return frozenset(table.tag(keyword) for keyword in keywords.split())


BYTES = _tags(_BYTES)
AT_THE_TOP = _tags(_PIXELS)
"""Pixels anywhere else are an icon or a photograph."""

_DEVICE = _tags(_TECHNICAL)
_CONTENT = _tags("TextValue")
# Without meaning when the code that it belongs to was looked up anew; or values of any other attribute.
_NEVER = _tags("CodingSchemeVersion ContextIdentifier MappingResource") | _tags(_SELECTED)
_NUMBERS_OF_THE_BODY = _tags(_BODY)
_KEPT_OF_THE_PATIENT = _tags(_OF_THE_PATIENT)
FREE_TERMS = _tags("ContentLabel SelectorCSValue")
"""Coded strings that people choose."""
LAYERS = _tags("GraphicLayer")
"""Names by which parts of one object refer to each other."""
REQUIRED = _tags(_REQUIRED)
"""Texts outside the table that some object must have: a dummy stands where no known word is left."""


def action(tag: int, vr: str, *, options: frozenset[str]) -> str:
    """Returns what is done with an attribute that the table does not have; `X` is remove.

    Args:
        tag: A public tag.
        vr: Its value representation in the standard's dictionary.
        options: The chosen options.
    """
    if tag in _NEVER or (vr != "SQ" and tag >> 16 in _OTHER_GROUPS and tag not in _KEPT_OF_THE_PATIENT):
        return "K" if tag in _NUMBERS_OF_THE_BODY and "retain_patient_characteristics" in options else "X"
    if NUMBERS.issuperset(vr.split(" or ")):
        return "K"
    if vr != "SQ" and datadict.dictionary_is_retired(tag):
        return "X"
    if tag in BYTES:
        return "K"
    if tag in _DEVICE and "retain_device_identity" in options:
        return "K"
    if tag in _CONTENT and "clean_structured_content" in options:
        return "C"
    for option, vrs, instead in _WITH_OPTION:
        if vr in vrs and option in options:
            return instead
    return _BY_VR.get(vr, "X")


def is_safe_private(creator: str, group: int, *, offset: int) -> bool:
    """Whether a private attribute is one of the few whose values are known to be numbers without identity."""
    return (creator, group, offset) in _SAFE_PRIVATE
