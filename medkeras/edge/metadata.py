"""What a TFLite file says of itself: our facts as JSON, and the standard's metadata for everybody else's tools.

Reference: `metadata_schema.fbs` of TensorFlow Lite Support, of which the slot numbers of the fields below are taken;
https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from medkeras import errors
from medkeras.edge import flat

NAME = "medkeras"
STANDARD = "TFLITE_METADATA"
LABELS = "labels.txt"
_IDENTIFIER = b"M001"
_PARSER = "1.0.0"
_AXIS_LABELS = 2
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES, _NORMALISATION = 2, 1, 1
_COLOURS = {1: 2, 3: 1}
_DESCRIPTIONS = {
    "probabilities": "The calibrated probability of each class, 0 to 1.",
    "prediction_set": "Whether each class belongs to the set that holds the truth as often as the model promises.",
    "abstain": "Whether the model declines to answer.",
    "familiarity": "How much the picture is like those of the training, 0 to 1.",
}
_BUILD_FAILURES = (struct.error, IndexError, AttributeError, TypeError, ValueError, KeyError, UnicodeDecodeError)


def embed(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """Returns the file with metadata; what it computes stays the same, bit for bit.

    Args:
        content: A TFLite file of one graph, without metadata of ours.
        facts: Ready for JSON. The standard's metadata are made of `name`, `version`, `classes`, `dtype`, `size`,
            `channels`, `value_range` and `limits`.

    Raises:
        ModelError: It is no TFLite file of one graph.
    """
    model = _loaded(content)
    outputs = _outputs(model)
    ours = json.dumps(facts, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    for name, data in ((NAME, ours), (STANDARD, _Standard(facts).built(outputs))):
        model.metadata = [*(model.metadata or ()), schema.MetadataT(name=name.encode(), buffer=len(model.buffers))]
        model.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    file = io.BytesIO(flat.pack(model))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        # A moment of its own would make every file another.
        archive.writestr(
            zipfile.ZipInfo(LABELS, (1980, 1, 1, 0, 0, 0)), "".join(f"{one}\n" for one in facts["classes"])
        )
    return file.getvalue()


def read(content: bytes) -> dict[str, Any]:
    """Returns the facts that `embed` wrote.

    Raises:
        ModelError: It is no TFLite file, or not one of ours.
    """
    model = _loaded(content)
    for entry in model.metadata or ():
        if entry.name == NAME.encode():
            try:
                return json.loads(bytes(model.buffers[entry.buffer].data))
            except (ValueError, TypeError, IndexError):
                break
    raise errors.ModelError(
        "A file for devices holds what medkeras wrote of its model. Received: a TFLite file without it"
    )


def _loaded(content: bytes) -> Any:
    try:
        if not schema.Model.ModelBufferHasIdentifier(content, 0):
            raise ValueError
        model = flat.load(content)
        if len(model.subgraphs) != 1:
            raise ValueError
        return model
    except _BUILD_FAILURES:
        raise errors.ModelError("A TFLite file of one graph is needed. Received: something else") from None


def _outputs(model: Any) -> list[str]:
    """Returns the signature's names of the outputs, in the order of the graph's."""
    names = {each.tensorIndex: each.name.decode() for each in model.signatureDefs[0].outputs}
    return [names[int(number)] for number in model.subgraphs[0].outputs]


class _Standard:
    """The tables of the standard's schema.

    Args:
        facts: See `embed`.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts
        self._builder = flatbuffers.Builder(1024)

    def built(self, outputs: Sequence[str]) -> bytes:
        """Returns the buffer; its one subgraph describes the image and the outputs."""
        inputs = self._vector([self._image()])
        answers = self._vector([self._answer(name) for name in outputs])
        graph = self._vector([self._table(10, {2: inputs, 3: answers})])
        facts = self._facts
        strings = {0: facts["name"], 1: " ".join(facts["limits"]), 2: str(facts["version"]), 4: NAME, 7: _PARSER}
        model = self._table(8, {slot: self._text(text) for slot, text in strings.items()} | {3: graph})
        self._builder.Finish(model, file_identifier=_IDENTIFIER)
        return bytes(self._builder.Output())

    def _image(self) -> int:
        (height, width), channels = self._facts["size"], self._facts["channels"]
        size = self._table(2, {}, numbers={0: ("Uint32", width), 1: ("Uint32", height)})
        image = self._table(2, {1: size}, numbers={0: ("Int8", _COLOURS[channels])})
        low, high = self._facts["value_range"]
        stats = self._table(2, {0: self._floats([high] * channels), 1: self._floats([low] * channels)})
        # Pixels are taken as they are stored; whatever is to be done to them is done in the file.
        options = self._table(2, {0: self._floats([0.0] * channels), 1: self._floats([1.0] * channels)})
        unit = self._table(2, {1: options}, numbers={0: ("Uint8", _NORMALISATION)})
        return self._tensor(
            "image",
            f"The picture as it is stored, {self._facts['dtype']}.",
            {3: self._content(_IMAGE_PROPERTIES, image), 4: self._vector([unit]), 5: stats},
        )

    def _answer(self, name: str) -> int:
        more = {3: self._content(_FEATURE_PROPERTIES, self._table(0, {}))}
        if name == "probabilities":
            texts = {0: self._text(LABELS), 1: self._text("The classes, one a line.")}
            more[6] = self._vector([self._table(5, texts, numbers={2: ("Int8", _AXIS_LABELS)})])
        return self._tensor(name, _DESCRIPTIONS.get(name, ""), more)

    def _tensor(self, name: str, description: str, more: Mapping[int, int]) -> int:
        return self._table(7, {0: self._text(name), 1: self._text(description), **more})

    def _content(self, kind: int, properties: int) -> int:
        return self._table(3, {1: properties}, numbers={0: ("Uint8", kind)})

    def _table(
        self, slots: int, offsets: Mapping[int, int], *, numbers: Mapping[int, tuple[str, int]] | None = None
    ) -> int:
        """Returns where a table stands: references to others by slot, and small numbers with their types."""
        self._builder.StartObject(slots)
        for slot, offset in offsets.items():
            self._builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, (kind, value) in (numbers or {}).items():
            getattr(self._builder, f"Prepend{kind}Slot")(slot, value, 0)
        return self._builder.EndObject()

    def _vector(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def _floats(self, values: Sequence[float]) -> int:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return self._builder.EndVector()

    def _text(self, text: str) -> int:
        return self._builder.CreateString(text)
