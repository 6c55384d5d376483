"""The reader of legacy PyTorch files, fed with honest and hostile ones."""

import os
import pickle
import struct

import numpy as np
import pytest

from medkeras import errors
from medkeras.models import torch_file

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, *, shape, strides, count, offset=0, storage="FloatStorage"):
    """Returns the opcodes of one rebuilt tensor, as torch.save writes them."""
    reference = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + number(count)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + reference
        + b"NtQ"
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def state(**tensors):
    items = b"".join(text(name) + opcodes for name, opcodes in tensors.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def legacy(pickled_state, storages, *, magic=MAGIC, keys=None):
    header = [magic, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}]
    parts = [pickle.dumps(value, protocol=2) for value in header]
    parts += [pickled_state, pickle.dumps(list(storages) if keys is None else keys, protocol=2)]
    for values in storages.values():
        parts += [struct.pack("<q", values.size), values.tobytes()]
    return b"".join(parts)


VALUES = np.arange(6, dtype="<f4")


def honest():
    rows = tensor("7", shape=(2, 3), strides=(3, 1), count=6)
    columns = tensor("7", shape=(3, 2), strides=(1, 3), count=6)
    tail = tensor("7", shape=(2,), strides=(1,), count=6, offset=4)
    counter = tensor("8", shape=(), strides=(), count=1, storage="LongStorage")
    pickled = state(rows=rows, columns=columns, tail=tail, counter=counter)
    return legacy(pickled, {"7": VALUES, "8": np.array([5], "<i8")})


def test_views_of_a_storage_are_read():
    tensors = torch_file.read(honest(), name="honest.pth")
    assert list(tensors) == ["rows", "columns", "tail", "counter"]
    np.testing.assert_array_equal(tensors["rows"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["columns"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(tensors["tail"], [4, 5])
    assert tensors["counter"] == 5
    assert {name: value.dtype for name, value in tensors.items()} == {
        "rows": np.float32,
        "columns": np.float32,
        "tail": np.float32,
        "counter": np.int64,
    }


def test_every_truncation_is_refused():
    content = honest()
    for length in range(len(content)):
        with pytest.raises(errors.ModelError, match="cut.pth"):
            torch_file.read(content[:length], name="cut.pth")


def test_more_than_the_storages_is_refused():
    with pytest.raises(errors.ModelError, match="ends with its last storage"):
        torch_file.read(honest() + b"\0", name="long.pth")


class Evil:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command_is_refused(protocol, tmp_path):
    marker = tmp_path / "marker"
    hostile = pickle.dumps(Evil(f"touch {marker}"), protocol=protocol)
    for content in (hostile, legacy(hostile, {}), legacy(state(), {"7": VALUES}, keys=Evil(f"touch {marker}"))):
        with pytest.raises(errors.ModelError):
            torch_file.read(content, name="evil.pth")
    assert not marker.exists()
    pickle.loads(hostile)
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins\neval", "torch\nload", "collections\nnamedtuple", "torch._utils\n_rebuild_parameter", "os\nsystem"],
)
def test_names_that_are_no_tensors_are_refused(name):
    with pytest.raises(errors.ModelError, match="names tensors only"):
        torch_file.read(legacy(b"\x80\x02c" + name.encode() + b"\n.", {}), name="names.pth")


def test_a_memo_index_does_not_reserve_memory():
    pickled = b"\x80\x02Nr\xff\xff\xff\x7f."
    with pytest.raises(errors.ModelError, match="memo index"):
        torch_file.read(legacy(pickled, {}), name="memo.pth")


@pytest.mark.parametrize(
    "view",
    [
        {"shape": (7,), "strides": (1,)},
        {"shape": (2, 3), "strides": (4, 1)},
        {"shape": (6,), "strides": (1,), "offset": 1},
        {"shape": (2,), "strides": (1,), "offset": -1},
        {"shape": (2,), "strides": (-1,), "offset": 3},
        {"shape": (-1, -3), "strides": (1, 1)},
        {"shape": (0, 2), "strides": (1, 1)},
        {"shape": (1000, 1000), "strides": (0, 0)},
    ],
)
def test_a_tensor_outside_its_storage_is_refused(view):
    content = legacy(state(x=tensor("7", count=6, **view)), {"7": VALUES})
    with pytest.raises(errors.ModelError, match="inside its storage"):
        torch_file.read(content, name="view.pth")


def test_a_storage_of_another_size_is_refused():
    content = legacy(state(x=tensor("7", shape=(2,), strides=(1,), count=2)), {"7": VALUES})
    with pytest.raises(errors.ModelError, match="declared size, 2 values. Received: 6"):
        torch_file.read(content, name="size.pth")


def test_another_magic_number_is_refused():
    with pytest.raises(errors.ModelError, match="is a legacy PyTorch file. Received: 7"):
        torch_file.read(legacy(state(), {}, magic=7), name="magic.pth")


def test_values_that_are_no_tensors_are_refused():
    with pytest.raises(errors.ModelError, match="holds tensors only. Received: 1 other"):
        torch_file.read(legacy(state(x=number(1)), {}), name="values.pth")
