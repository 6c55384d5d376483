"""What a TFLite file computes with: its operators, counted by the names of the schema."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def load(content: bytes) -> Any:
    """Returns a TFLite file as a `schema.ModelT`, tables as objects and tensors by number."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def count(content: bytes) -> dict[str, int]:
    """Returns the operators of a TFLite file and how often each stands in it; one that is not built in as `CUSTOM:x`."""
    model = load(content)
    names = [name(code) for code in model.operatorCodes]
    every = (names[each.opcodeIndex] for graph in model.subgraphs for each in graph.operators or ())
    return dict(collections.Counter(every).most_common())


def name(code: Any) -> str:
    """Returns the name of a `schema.OperatorCodeT`."""
    known = _NAMES[builtin(code)]
    return f"CUSTOM:{(code.customCode or b'').decode()}" if known == "CUSTOM" else known


def builtin(code: Any) -> int:
    """Returns the number of a built-in operator; files older than the 128th operator keep it in another field."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def foreign(operators: Mapping[str, int]) -> tuple[str, ...]:
    """Returns those that only an interpreter with additions can run."""
    return tuple(each for each in operators if each.startswith("CUSTOM:"))
