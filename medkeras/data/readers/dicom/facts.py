"""What a DICOM file says of itself, as JSON-able facts."""

from __future__ import annotations

from typing import Any

import pydicom

from medkeras.data.readers.dicom import display, geometry, module, picture, tags
from medkeras.data.readers.dicom import source as sources

_TEXTS = {
    "modality": "Modality",
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "sex": "PatientSex",
    "age": "PatientAge",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "view": "ViewPosition",
    "frame_of_reference_uid": "FrameOfReferenceUID",
}
_YES_OR_NO = {"YES": True, "NO": False}


def inspect(path: str) -> dict[str, Any]:
    """Reads the facts of a DICOM image without decoding its pixels.

    Returns:
        `frames`, `rows`, `columns`, `channels`, `dtype`, `units` (`HU` or empty): what `read` will return;
        `modality`, `patient_id`, `issuer_of_patient_id`, `study_uid`, `series_uid`, `sop_uid`, `sop_class_uid`,
        `sex`, `age`, `manufacturer`, `model`, `view`, `frame_of_reference_uid`: text, empty where absent;
        `transfer_syntax_uid`, `photometric_interpretation`, `bits_stored`; `positions` and `orientation`: a list with
        three and six numbers, or None, for each frame; `spacing` of rows and columns, `slice_thickness`,
        `spacing_between`, `slice_location`: mm, or None; `instance_number` or None; `burned_in` and
        `identity_removed`: True, False or None; `names_patient`: whether PatientName holds anything but PatientID;
        `lacking`: keywords that the class requires and the file has not; `acquired_apart`: whether it was acquired more
        than a day from the beginning of its study; `study_began`: date and time; `windows`: center, width and
        explanation of each; `voi_function`, `voi_lut`, `mirror`: see `voi`; `notes`: sentences.

    Raises:
        RefusalError: Why the file is not read.
    """
    with sources.refusing():
        opened = picture.open_picture(path)
        dataset, form = opened.source.dataset, opened.form
        place, place_notes = geometry.geometry(dataset, form)
        look, look_notes = display.facts(dataset, form)
        return {
            "frames": form.frames,
            "rows": form.rows,
            "columns": form.columns,
            "channels": opened.channels,
            "dtype": opened.dtype,
            "units": opened.meaning.units if opened.meaning else "",
            "mirror": opened.meaning.mirror if opened.meaning else None,
            "transfer_syntax_uid": opened.source.transfer_syntax,
            "photometric_interpretation": form.photometric,
            "bits_stored": form.stored,
            "instance_number": _instance(dataset),
            "slice_location": next(iter(tags.optional_numbers(dataset, "SliceLocation")), None),
            "burned_in": _YES_OR_NO.get(tags.text(dataset, "BurnedInAnnotation")),
            "identity_removed": _YES_OR_NO.get(tags.text(dataset, "PatientIdentityRemoved")),
            "names_patient": _names_patient(dataset),
            "lacking": module.lacking(dataset),
            "acquired_apart": module.acquired_apart(dataset),
            "study_began": module.study_began(dataset),
            **{name: tags.text(dataset, keyword) for name, keyword in _TEXTS.items()},
            **place,
            **look,
            "notes": [*opened.notes, *place_notes, *look_notes],
        }


def _instance(dataset: pydicom.Dataset) -> int | None:
    found = tags.optional_numbers(dataset, "InstanceNumber")
    return int(found[0]) if found else None


def _names_patient(dataset: pydicom.Dataset) -> bool:
    name, identifier = (
        "".join(filter(str.isalnum, str(dataset.get(keyword) or ""))).lower()
        for keyword in ("PatientName", "PatientID")
    )
    return name not in ("", identifier)
