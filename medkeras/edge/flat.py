"""A TFLite file as Python objects and back, and what it computes with."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def load(content: bytes) -> Any:
    """Returns a TFLite file as a `schema.ModelT`, tables as objects and tensors by number."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def pack(model: Any) -> bytes:
    """Returns a `schema.ModelT` as a TFLite file, arrays that are equal written once."""
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Shares equal arrays.

    Scales and zero points of channels, eight bytes of nothing each, are a tenth of an int8 file otherwise.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, array: np.ndarray) -> int:  # noqa: N802  the name is that of flatbuffers
        """Returns where the array stands."""
        key = (array.dtype.str, array.tobytes())
        if key not in self._written:
            # The schema aligns the data of tensors, bytes whatever they mean, at 16.
            self.Prep(_ALIGNMENT if array.dtype == np.uint8 else 1, array.nbytes)
            self._written[key] = super().CreateNumpyVector(array)
        return self._written[key]


def count(content: bytes) -> dict[str, int]:
    """Returns the operators of a TFLite file, often ones first; one that is not built in is `CUSTOM:` and its name."""
    model = load(content)
    names = [name(code) for code in model.operatorCodes]
    every = (names[each.opcodeIndex] for graph in model.subgraphs for each in graph.operators or ())
    return dict(collections.Counter(every).most_common())


def name(code: Any) -> str:
    """Returns the name of a `schema.OperatorCodeT`."""
    # Files older than the 128th operator keep the number in the other field.
    known = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return f"CUSTOM:{(code.customCode or b'').decode()}" if known == "CUSTOM" else known


def foreign(operators: Mapping[str, int]) -> tuple[str, ...]:
    """Returns those that only an interpreter with additions can run."""
    return tuple(each for each in operators if each.startswith("CUSTOM:"))
