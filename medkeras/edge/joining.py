"""Several TFLite files as one: what a part gives under a name is what a later part takes under it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from medkeras import errors
from medkeras.edge import flat

SIGNATURE = "serving_default"
_RUNTIME = b"min_runtime_version"


def join(parts: Sequence[bytes], *, image: str, outputs: Sequence[str]) -> bytes:
    """Returns one file with one graph and one signature.

    Args:
        parts: Files of one graph and one signature each, in the order they run in.
        image: Name of the first part's input, the input of the whole.
        outputs: Names of what the whole gives; some part gives each.

    Raises:
        ModelError: A part has control flow, graphs within graphs.
    """
    joint = _Joint()
    for part in parts:
        joint.add(flat.load(part))
    return joint.packed(image, outputs)


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """What becomes of the numbers of a part: of its tensors, and of its kinds of operators."""

    tensors: dict[int, int]
    codes: dict[int, int]

    def renumber(self, operator: Any) -> Any:
        """Returns an operator of the part as one of the whole; -1 is an input that is left out."""
        operator.opcodeIndex = self.codes[operator.opcodeIndex]
        for field in ("inputs", "outputs", "intermediates"):
            numbers = getattr(operator, field)
            if numbers is not None:
                setattr(operator, field, [self.tensors.get(int(number), -1) for number in numbers])
        return operator


class _Joint:
    def __init__(self) -> None:
        self._graph = schema.SubGraphT(name=b"main", tensors=[], operators=[])
        # By the schema's rule the first buffer is empty.
        self._model = schema.ModelT(
            version=3, operatorCodes=[], subgraphs=[self._graph], buffers=[schema.BufferT()], description=b"medkeras"
        )
        self._named: dict[str, int] = {}
        self._codes: dict[tuple[Any, ...], int] = {}
        self._runtimes: list[bytes] = []

    def add(self, part: Any) -> None:
        if len(part.subgraphs) != 1:
            raise errors.ModelError(
                f"A network that is quantised has no control flow. Received: {len(part.subgraphs)} graphs in one"
            )
        graph, signature = part.subgraphs[0], part.signatureDefs[0]
        taken = {each.tensorIndex: self._named.get(each.name.decode()) for each in signature.inputs}
        numbers = _Numbers(self._tensors(graph, taken, len(self._model.buffers)), self._kinds(part))
        self._model.buffers.extend(part.buffers)
        self._graph.operators.extend(numbers.renumber(each) for each in graph.operators or ())
        self._named |= {
            each.name.decode(): numbers.tensors[each.tensorIndex] for each in (*signature.inputs, *signature.outputs)
        }
        self._runtimes.extend(_runtime(part))

    def _tensors(self, graph: Any, taken: dict[int, int | None], shift: int) -> dict[int, int]:
        """Adds a part's tensors but those that an earlier part gives; returns their numbers in the whole."""
        numbers = {}
        for number, tensor in enumerate(graph.tensors):
            given = taken.get(number)
            numbers[number] = len(self._graph.tensors) if given is None else given
            if given is None:
                tensor.buffer += shift
                self._graph.tensors.append(tensor)
        return numbers

    def _kinds(self, part: Any) -> dict[int, int]:
        numbers = {}
        for number, code in enumerate(part.operatorCodes):
            key = (flat.name(code), code.version)
            if key not in self._codes:
                self._codes[key] = len(self._model.operatorCodes)
                self._model.operatorCodes.append(code)
            numbers[number] = self._codes[key]
        return numbers

    def packed(self, image: str, outputs: Sequence[str]) -> bytes:
        """Returns the file, its tensors at the ends named as in its signature."""
        self._graph.inputs = [self._named[image]]
        self._graph.outputs = [self._named[name] for name in outputs]
        for name in (image, *outputs):
            self._graph.tensors[self._named[name]].name = name.encode()
        self._model.signatureDefs = [
            schema.SignatureDefT(
                inputs=[self._end(image)],
                outputs=[self._end(name) for name in outputs],
                signatureKey=SIGNATURE.encode(),
            )
        ]
        self._state_runtime()
        return flat.pack(self._model)

    def _end(self, name: str) -> Any:
        return schema.TensorMapT(name=name.encode(), tensorIndex=self._named[name])

    def _state_runtime(self) -> None:
        """States the newest interpreter that any part needs."""
        if self._runtimes:
            newest = max(self._runtimes, key=lambda text: [int(number) for number in text.split(b".")])
            self._model.metadata = [schema.MetadataT(name=_RUNTIME, buffer=len(self._model.buffers))]
            self._model.buffers.append(schema.BufferT(data=np.frombuffer(newest.ljust(16, b"\0"), np.uint8)))


def _runtime(part: Any) -> list[bytes]:
    """Returns the oldest interpreter that runs a part, as its converter stated it, if it did."""
    stated = [part.buffers[each.buffer].data for each in part.metadata or () if each.name == _RUNTIME]
    return [text for text in (bytes(each).rstrip(b"\0") for each in stated) if text]
