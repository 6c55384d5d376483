"""Objects whose pixels, or whose whole content, may show who the patient is.

No attempt is made to read the pixels: what may hold burned-in text is held back, whatever the file says of itself.

Reference:
    DICOM PS3.15, E.3.1 (Clean Pixel Data); PS3.3, C.7.6.1 (Burned In Annotation).
"""

from __future__ import annotations

import pydicom
from pydicom import uid

from medkeras.privacy import held

# Ultrasound, secondary capture, screen shots, cameras, film and video: where patients' names are burned in.
_MODALITIES = frozenset(("DOC", "ES", "GM", "HC", "IVUS", "OP", "OT", "RF", "SC", "SM", "US", "XA", "XC"))
_CLASSES = (
    *("SecondaryCapture", "Ultrasound", "XRayAngiographic", "XRay3DAngiographic", "XRayRadiofluoroscopic"),
    *("VLEndoscopic", "VLMicroscopic", "VLPhotograph", "VLSlide", "VLWholeSlide", "OphthalmicPhotography"),
    *("VideoEndoscopic", "VideoMicroscopic", "VideoPhotographic", "HardcopyGrayscale", "HardcopyColor"),
)
_SCREENS = ("SCREEN", "DOSE", "LABEL", "OVERVIEW", "CAPTURE", "PROT")


def check(dataset: pydicom.Dataset, options: frozenset[str]) -> None:
    """Refuses what cannot be cleaned by attributes, whatever its pixels; raises `HeldBackError`."""
    keyword = _keyword(dataset)
    directory = "DirectoryRecordSequence" in dataset
    if not keyword and not directory:
        raise held.HeldBackError("the SOP class is not one of the standard's: what such an object holds is not known")
    if directory or keyword == "MediaStorageDirectoryStorage":
        raise held.HeldBackError("a DICOMDIR lists the files of a medium, under their old names")
    if "Encapsulated" in keyword or "EncapsulatedDocument" in dataset:
        raise held.HeldBackError("an encapsulated document is not read, and may name the patient on every page")
    if "Audio" in keyword:
        raise held.HeldBackError("a recorded voice is not listened to, and may say who the patient is")
    if "PresentationState" in keyword and "clean_graphics" not in options:
        raise held.HeldBackError(
            "a presentation state holds annotations; --option=clean_graphics keeps them without text"
        )


def reason(dataset: pydicom.Dataset) -> str:
    """Returns why the pixels may hold burned-in text, empty where nothing says so."""
    if not any(tag in dataset for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return ""
    if _value(dataset, "BurnedInAnnotation") == "YES":
        return "Burned In Annotation is YES"
    modality, keyword = _value(dataset, "Modality"), _keyword(dataset)
    if modality in _MODALITIES:
        return f"images of the modality {modality} often hold burned-in text"
    if any(name in keyword for name in _CLASSES):
        return f"images of the class {keyword} often hold burned-in text"
    if any(name in _value(dataset, "ImageType") for name in _SCREENS) or "ConversionType" in dataset:
        return "the image is a capture of a screen, a film or a label"
    return ""


def _keyword(dataset: pydicom.Dataset) -> str:
    return uid.UID(_value(dataset, "SOPClassUID")).keyword if _value(dataset, "SOPClassUID") else ""


def _value(dataset: pydicom.Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword, "")).upper().strip() if keyword in dataset else ""
    except Exception:
        return ""
