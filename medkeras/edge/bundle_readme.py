"""The README of a device bundle: how to prove it, what each output means, how to call the file from an app.

The templates lie in `bundle_files/`; in the texts, `@{name}` is a blank.
"""

from __future__ import annotations

import importlib.resources
import math
import string
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras import version

_ITEM = {"uint8": 1, "uint16": 2, "float32": 4}
_C_TYPES = {"uint8": "uint8_t", "uint16": "uint16_t", "float32": "float", "bool": "bool"}
_VALUES = {
    "uint8": "8 bits a value, 0 to 255",
    "uint16": "16 bits a value, 0 to 65535, as the picture stores them",
    "float32": "floating point, the values that the picture stores, not rescaled",
}
_FILES = {
    ("uint8", 1): "8-bit grey (PNG, JPEG, BMP), or `.npy` of uint8",
    ("uint8", 3): "8-bit RGB or grey (PNG, JPEG, BMP), or `.npy` of uint8 `[H, W, 3]`",
    ("uint16", 1): "16-bit grey (PNG), or `.npy` of uint16",
    ("uint16", 3): "`.npy` of uint16 `[H, W, 3]`",
    ("float32", 1): "`.npy` of float32",
    ("float32", 3): "`.npy` of float32 `[H, W, 3]`",
}
_MEANINGS = {
    "probabilities": "calibrated, 0 to 1, {total}",
    "prediction_set": "true: the class cannot be ruled out",
    "abstain": "true: leave the picture to somebody else",
    "familiarity": "0 to 1, how much the picture is like those of the training; near 0 the answer means nothing",
}
_OF_THE_DATA = "The pictures in `cases/` come from the model's data. Pass them on only where those data may go."
_NO_KOTLIN = {
    "uint16": "Kotlin's and Java's interfaces have no unsigned 16-bit tensors: call the C interface through the NDK.",
    "any": "`CompiledModel` wants a fixed number of pictures in a call: export the model with a batch of 1 for it, or "
    "call the C interface through the NDK.",
}


class _Blanks(string.Template):
    delimiter = "@"


def template(name: str) -> str:
    """Returns the text of a file of `bundle_files/`."""
    return (importlib.resources.files("medkeras.edge") / "bundle_files" / f"{name}.template").read_text("utf-8")


def render(name: str, facts: Mapping[str, Any], answers: Mapping[str, np.ndarray], tolerance: float) -> str:
    """Returns the README; the arguments are those of `bundle.write`."""
    answers = {known: answers[known] for known in (*_MEANINGS, *answers) if known in answers}
    height, width = facts["size"]
    shape = (max(1, facts.get("batch", 1)), height, width, facts["channels"])
    values = {
        "name": name,
        "medkeras": version.VERSION,
        "limits": "\n".join(f"- {sentence}" for sentence in facts.get("limits", ())),
        "cases": facts.get("cases", _OF_THE_DATA),
        "count": str(len(answers["probabilities"])),
        "tolerance": f"{tolerance:g}",
        "width": str(width),
        "height": str(height),
        "files": _FILES[facts["dtype"], facts["channels"]],
        "batch": str(facts.get("batch", 1) or "any number"),
        "tensors": "\n".join(_rows(facts, answers)),
        "labels": ", ".join(f"`{label}`" for label in facts["classes"]),
        "values": str(math.prod(shape)),
        "bytes": str(math.prod(shape) * _ITEM[facts["dtype"]]),
        "repeat": f", to be given {shape[0]} times in one call" if shape[0] > 1 else "",
        "order": ", red, green and blue of a pixel side by side" if facts["channels"] == 3 else "",
        "c_type": _C_TYPES[facts["dtype"]],
        "c_shape": ", ".join(map(str, shape)),
    }
    composed = {"kotlin": _kotlin(facts, answers, values), "c": _c(facts, answers, values)}
    return _Blanks(template("README.md")).substitute(values | composed)


def _rows(facts: Mapping[str, Any], answers: Mapping[str, np.ndarray]) -> list[str]:
    rows = [f"| `image` (input) | {facts['dtype']} `[B, {_image_shape(facts)}]` | {_VALUES[facts['dtype']]} |"]
    total = "each class for itself" if facts["multilabel"] else "their sum is 1"
    for name, values in answers.items():
        shape = "[B]" if values.ndim == 1 else f"[B, {values.shape[1]}]"
        rows.append(f"| `{name}` | {values.dtype} `{shape}` | {_MEANINGS.get(name, '').format(total=total)} |")
    return rows


def _image_shape(facts: Mapping[str, Any]) -> str:
    return ", ".join(map(str, (*facts["size"], facts["channels"])))


def _kotlin(facts: Mapping[str, Any], answers: Mapping[str, np.ndarray], values: Mapping[str, str]) -> str:
    why = "uint16" if facts["dtype"] == "uint16" else "any" if values["batch"] == "any number" else ""
    if why:
        return _NO_KOTLIN[why]
    whole = facts["dtype"] == "uint8"
    reads = (
        f'val {name} = outputs.getValue("{name}").{"readBoolean" if array.dtype == bool else "readFloat"}()'
        for name, array in answers.items()
    )
    blanks = {
        "array": "ByteArray" if whole else "FloatArray",
        "write": "writeInt8" if whole else "writeFloat",
        "names": ", ".join(f'"{name}"' for name in answers),
        "reads": "\n".join(reads),
    }
    return _Blanks(template("kotlin.md")).substitute(values, **blanks).rstrip("\n")


def _c(facts: Mapping[str, Any], answers: Mapping[str, np.ndarray], values: Mapping[str, str]) -> str:
    batch = max(1, facts.get("batch", 1))
    resize = (
        f"const int shape[] = {{{values['c_shape']}}};  // or more pictures\n"
        'TfLiteSignatureRunnerResizeInputTensor(runner, "image", shape, 4);\n'
    )
    reads = (
        f"{_C_TYPES[str(array.dtype)]} {name}[{batch * array[0].size}];\n"
        f'TfLiteTensorCopyToBuffer(TfLiteSignatureRunnerGetOutputTensor(runner, "{name}"), {name}, sizeof {name});'
        for name, array in answers.items()
    )
    blanks = {"resize": "" if facts.get("batch", 1) else resize, "reads": "\n".join(reads)}
    return _Blanks(template("c.md")).substitute(values, **blanks).rstrip("\n")
