"""What a TFLite file says of itself, read as other tools read it: by the slots of the published schema."""

from __future__ import annotations

import functools
import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types, packer, table

from medkeras import errors
from medkeras.edge import flat, lite, metadata
from tests.edge import test_lite as lite_files

FACTS = {
    "name": "räntgen",
    "version": 3,
    "classes": ["no finding", "Müller's sign", "pneumonia"],
    "dtype": "uint8",
    "size": [20, 16],
    "channels": 1,
    "value_range": [0.0, 255.0],
    "limits": ["Trained on children.", "No ultrasound."],
    "fingerprint": "abc",
}


@functools.cache
def embedded(quantize: str = "none") -> bytes:
    return metadata.embed(lite_files.converted(quantize).content, FACTS)


class Entry:
    """A table of a flatbuffer, its fields by slot; written against the schema alone."""

    def __init__(self, data: bytes, place: int) -> None:
        self._table = table.Table(bytearray(data), place)

    @classmethod
    def root(cls, data: bytes) -> Entry:
        return cls(data, encode.Get(packer.uoffset, data, 0))

    def _at(self, slot: int) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        return offset and offset + self._table.Pos

    def text(self, slot: int) -> str:
        return self._table.String(self._at(slot)).decode()

    def number(self, slot: int, kind: type) -> int:
        return self._table.Get(kind, self._at(slot)) if self._at(slot) else 0

    def child(self, slot: int) -> Entry:
        return Entry(self._table.Bytes, self._table.Indirect(self._at(slot)))

    def children(self, slot: int) -> list[Entry]:
        offset = self._table.Offset(4 + 2 * slot)
        start = self._table.Vector(offset) if offset else 0
        count = self._table.VectorLen(offset) if offset else 0
        return [Entry(self._table.Bytes, self._table.Indirect(start + 4 * each)) for each in range(count)]

    def floats(self, slot: int) -> list[float]:
        return self._table.GetVectorAsNumpy(number_types.Float32Flags, self._table.Offset(4 + 2 * slot)).tolist()


def standard(content: bytes) -> bytes:
    model = flat.load(content)
    entries = {each.name.decode(): each.buffer for each in model.metadata}
    return bytes(model.buffers[entries["TFLITE_METADATA"]].data)


@pytest.mark.parametrize("quantize", ["none", "int8", "int16x8"])
def test_a_file_answers_as_before_bit_for_bit(quantize) -> None:
    before = lite.Runner(lite_files.converted(quantize).content).run(lite_files.pictures(6))
    after = lite.Runner(embedded(quantize)).run(lite_files.pictures(6))
    assert set(after) == set(before)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_what_was_embedded_is_read() -> None:
    assert metadata.read(embedded()) == FACTS


def test_the_same_facts_make_the_same_file() -> None:
    assert metadata.embed(lite_files.converted("none").content, FACTS) == embedded()


def test_other_tools_read_the_model() -> None:
    data = standard(embedded())
    assert data[4:8] == b"M001"
    model = Entry.root(data)
    assert [model.text(slot) for slot in (0, 1, 2, 7)] == [
        "räntgen", "Trained on children. No ultrasound.", "3", "1.0.0",
    ]  # fmt: skip
    (graph,) = model.children(3)
    assert len(graph.children(2)) == 1


@pytest.mark.parametrize(("channels", "colours"), [(1, 2), (3, 1)])
def test_other_tools_read_the_picture(channels, colours) -> None:
    content = lite_files.converted("none").content
    data = standard(metadata.embed(content, FACTS | {"channels": channels, "value_range": [-1024.0, 3071.0]}))
    image = Entry.root(data).children(3)[0].children(2)[0]
    assert image.text(0) == "image"
    properties = image.child(3).child(1)
    size = properties.child(1)
    assert (image.child(3).number(0, number_types.Uint8Flags), properties.number(0, number_types.Int8Flags)) == (
        2,
        colours,
    )
    # Width first.
    assert [size.number(slot, number_types.Uint32Flags) for slot in (0, 1)] == [16, 20]
    (unit,) = image.children(4)
    assert unit.number(0, number_types.Uint8Flags) == 1
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([0.0] * channels, [1.0] * channels)
    highest, lowest = image.child(5).floats(0), image.child(5).floats(1)
    assert (lowest, highest) == ([-1024.0] * channels, [3071.0] * channels)


def test_other_tools_read_the_answers_in_the_order_of_the_graph() -> None:
    content = embedded()
    interpreter = lite_files.litert.Interpreter(model_content=content)
    shapes = [tuple(each["shape_signature"]) for each in interpreter.get_output_details()]
    answers = Entry.root(standard(content)).children(3)[0].children(3)
    expected = {"probabilities": (1, 3), "prediction_set": (1, 3), "abstain": (1,), "familiarity": (1,)}
    assert {each.text(0) for each in answers} == set(expected)
    assert [expected[each.text(0)] for each in answers] == shapes
    assert all(each.text(1).endswith(".") for each in answers)
    kinds = [each["dtype"] for each in interpreter.get_output_details() if each["shape_signature"].size == 2]
    assert kinds[[each.text(0) for each in answers if len(expected[each.text(0)]) == 2].index("probabilities")] == (
        np.float32
    )


def test_the_labels_are_those_of_the_axis_of_the_probabilities() -> None:
    """Type 2, TENSOR_AXIS_LABELS: one label for each probability; 3 is of tensors that hold numbers of classes."""
    answers = Entry.root(standard(embedded())).children(3)[0].children(3)
    files = {each.text(0): each.children(6) for each in answers}
    (labels,) = files.pop("probabilities")
    assert (labels.text(0), labels.number(2, number_types.Int8Flags)) == ("labels.txt", 2)
    assert not any(files.values())
    with zipfile.ZipFile(io.BytesIO(embedded())) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == FACTS["classes"]


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_every_array_stays_aligned(quantize) -> None:
    model = schema.Model.GetRootAsModel(embedded(quantize), 0)
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    starts = [each._tab.Vector(each._tab.Offset(4)) for each in buffers if each.DataLength()]
    assert len(starts) > 2
    assert {start % 16 for start in starts} == {0}


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"no model at all", b"\0\0\0\0TFL3", b"\xff" * 4 + b"TFL3" + b"\xff" * 90]
)
def test_what_is_no_file_of_one_graph_is_refused(content) -> None:
    for refused in (lambda: metadata.read(content), lambda: metadata.embed(content, FACTS)):
        with pytest.raises(errors.ModelError, match="A TFLite file of one graph is needed. Received: something else"):
            refused()


def test_a_file_of_others_is_refused() -> None:
    with pytest.raises(errors.ModelError, match="holds what medkeras wrote of its model. Received: a TFLite file with"):
        metadata.read(lite_files.converted("none").content)


def test_a_damaged_file_is_read_or_refused() -> None:
    """Wherever bytes are lost or changed, only errors of ours come out."""
    random = np.random.default_rng(0)
    content = embedded()
    refused = 0
    for cut in random.integers(0, len(content) // 2, 20):
        with pytest.raises(errors.ModelError):
            metadata.read(content[:cut])
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, len(damaged), 200)] = random.integers(0, 256, 200)
        try:
            metadata.read(damaged.tobytes())
        except errors.ModelError:
            refused += 1
    assert refused > 20
