"""How a file wants to be looked at: windows and VOI LUTs, for display only.

Reference:
    PS3.3 section C.11.2 (VOI LUT); C.11.2.1.2.1 LINEAR, C.11.2.1.3.1 SIGMOID, C.11.2.1.3.2 LINEAR_EXACT.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydicom

from medkeras import errors
from medkeras.data.readers.dicom import form as forms
from medkeras.data.readers.dicom import groups as functional
from medkeras.data.readers.dicom import tables, tags

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def facts(dataset: pydicom.Dataset, form: forms.Form) -> tuple[dict[str, Any], list[str]]:
    """Returns the windows, their function and the first VOI LUT, and notes on those that are left out.

    Windows are those of the first frame, and of the values that the file means (before MONOCHROME1 is inverted).
    """
    notes: list[str] = []
    frame = functional.Groups(dataset).item("FrameVOILUTSequence", 0)
    owner = dataset if frame is None else frame
    function = tags.text(owner, "VOILUTFunction") or "LINEAR"
    if function not in FUNCTIONS:
        notes.append("the VOI LUT function is unknown; LINEAR is taken")
        function = "LINEAR"
    windows = _windows(owner, function, notes)
    return {"windows": windows, "voi_function": function, "voi_lut": _lut(owner, form, notes)}, notes


def _windows(owner: pydicom.Dataset, function: str, notes: list[str]) -> list[list[Any]]:
    centers, widths = tags.optional_numbers(owner, "WindowCenter"), tags.optional_numbers(owner, "WindowWidth")
    names = tags.text(owner, "WindowCenterWidthExplanation").split("\\")
    least = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    pairs = list(zip(centers, widths, strict=False))
    kept = [
        [center, width, names[at] if at < len(names) else ""]
        for at, (center, width) in enumerate(pairs)
        if width >= least
    ]
    if len(kept) < max(len(centers), len(widths)):
        notes.append("a window without a positive width is ignored")
    return kept


def _lut(owner: pydicom.Dataset, form: forms.Form, notes: list[str]) -> dict[str, Any] | None:
    try:
        found = tags.items(owner, "VOILUTSequence")
        if not found:
            return None
        table = tables.table(found[0], "LUTDescriptor", "LUTData", form.signed)
    except errors.RefusalError:
        notes.append("the VOI LUT is damaged and is ignored")
        return None
    data = base64.b64encode(table.entries.astype("<u2").tobytes()).decode("ascii")
    return {"first": table.first, "bits": table.bits, "entries": data}


def voi(values: np.ndarray, file_facts: Mapping[str, Any]) -> np.ndarray:
    """Returns a picture to look at: the first window or VOI LUT of the file, else its own range.

    Args:
        values: What `read` returned, `[..., C]`.
        file_facts: What `inspect` returned.

    Returns:
        uint8 of the same shape; higher values are brighter.
    """
    if file_facts["channels"] == 3:
        return _scaled(values.astype(np.float64), 0, _white(file_facts))
    meant = values.astype(np.float64)
    mirror = file_facts["mirror"]
    meant = meant if mirror is None else mirror - meant
    shown = _shown(meant, file_facts)
    return (255 - shown) if mirror is not None or file_facts["photometric_interpretation"] == "MONOCHROME1" else shown


def _white(file_facts: Mapping[str, Any]) -> int:
    """Returns the highest value of a colour; that of a palette is the highest of its entries' type."""
    if file_facts["photometric_interpretation"] == "PALETTE COLOR":
        return int(np.iinfo(file_facts["dtype"]).max)
    return int((1 << file_facts["bits_stored"]) - 1)


def _shown(meant: np.ndarray, file_facts: Mapping[str, Any]) -> np.ndarray:
    lut, windows = file_facts["voi_lut"], file_facts["windows"]
    if lut is not None:
        entries = np.frombuffer(base64.b64decode(lut["entries"]), "<u2")
        shown = tables.Table(lut["first"], lut["bits"], entries).apply(np.rint(meant))
        return _scaled(shown.astype(np.float64), 0, (1 << lut["bits"]) - 1)
    if windows:
        return _rounded(255 * window(meant, windows[0][0], windows[0][1], file_facts["voi_function"]))
    return _scaled(meant, float(meant.min()), float(meant.max()))


def window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Maps values to 0..1 by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return _rounded((values - low) * (255 / (high - low)) if high > low else np.zeros_like(values))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
