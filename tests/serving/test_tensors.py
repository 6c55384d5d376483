"""TensorProtos to arrays and back, held to TensorFlow's own reading of the same messages."""

from __future__ import annotations

import contextlib

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import message as message_module
from tensorflow.core.framework import tensor_pb2, types_pb2

from medkeras.serving import status, tensors

ARRAYS = [
    *(np.arange(6).reshape(2, 3).astype(kind) for kind in "bBhHiIqQefdFD"),
    np.array([[1.5, -2]], ml_dtypes.bfloat16),
    np.array([True, False]),
    np.array([b"a\x00", b"", b"\xff"], object),
    np.float32(3),
    np.zeros((0, 4), np.float32),
    np.array(b"alone", object),
    np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    np.array([-128, 127], np.int8),
]


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind == "O":
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{np.asarray(array).dtype}{np.shape(array)}")
def test_there_and_back_as_tensorflow_reads_it(array, content) -> None:
    array = np.asarray(array)
    message = tensors.proto(array, content=content)
    same(tensors.parse(message, "x"), array)
    same(np.asarray(tf.make_ndarray(message), array.dtype).reshape(array.shape), array)
    assert bool(message.tensor_content) == (content and array.dtype.kind != "O" and array.size > 0)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{np.asarray(array).dtype}{np.shape(array)}")
def test_what_tensorflow_writes(array) -> None:
    array = np.asarray(array)
    same(tensors.parse(tf.make_tensor_proto(array), "x"), array)


def message(dtype, shape, **fields) -> tensor_pb2.TensorProto:
    given = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        given.tensor_shape.dim.add(size=size)
    return given


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (message(types_pb2.DT_FLOAT, [3], float_val=[1, 2]), np.float32([1, 2, 2])),
        (message(types_pb2.DT_FLOAT, [2], float_val=[1, 2, 3]), np.float32([1, 2])),
        (message(types_pb2.DT_INT32, [2]), np.int32([0, 0])),
        (message(types_pb2.DT_STRING, [2]), np.array([b"", b""], object)),
        (message(types_pb2.DT_INT8, [2], int_val=[300, -129]), np.int8([44, 127])),
        (message(types_pb2.DT_STRING, [2], tensor_content=b"\x01\x01ab"), np.array([b"a", b"b"], object)),
        (message(types_pb2.DT_STRING, [1], tensor_content=b"\x81\x01" + b"x" * 129), np.array([b"x" * 129], object)),
        (message(types_pb2.DT_FLOAT, [], float_val=[7]), np.float32(7)),
    ],
)
def test_few_values_many_and_none(given, expected) -> None:
    same(tensors.parse(given, "x"), np.asarray(expected))
    read = tf.io.parse_tensor(given.SerializeToString(), tf.as_dtype(given.dtype)).numpy()
    same(np.asarray(read, np.asarray(expected).dtype), np.asarray(expected))


@pytest.mark.parametrize(
    "given",
    [
        message(types_pb2.DT_FLOAT, [2], tensor_content=b"\x00"),
        message(types_pb2.DT_FLOAT, [-1], float_val=[1]),
        message(types_pb2.DT_INVALID, [1]),
        message(types_pb2.DT_RESOURCE, [1]),
        message(types_pb2.DT_FLOAT, [2**40], float_val=[1]),
        message(types_pb2.DT_FLOAT, [0, 2**62, 2**62]),
        message(types_pb2.DT_FLOAT, [2**62, 4, 0]),
        message(types_pb2.DT_FLOAT, [1] * 65, float_val=[1]),
        message(types_pb2.DT_BOOL, [3], tensor_content=b"\x00\x02\xff"),
        message(types_pb2.DT_STRING, [2], tensor_content=b"\x01\x02ab"),
        message(types_pb2.DT_STRING, [2], tensor_content=b"\x01"),
        message(types_pb2.DT_STRING, [1], tensor_content=b"\xff" * 20),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}),
    ],
)
def test_what_does_not_belong_together(given) -> None:
    with pytest.raises(status.StatusError) as caught:
        tensors.parse(given, "x")
    assert (caught.value.code, caught.value.message) == (status.Code.INVALID_ARGUMENT, "tensor parsing error: x")


def test_large_content_is_not_copied() -> None:
    given = tensors.proto(np.zeros(1000, np.float32), content=True)
    assert not tensors.parse(given, "x").flags.owndata


def test_random_messages_are_read_or_refused() -> None:
    draw, told = np.random.default_rng(0), set()
    for _ in range(3000):
        with contextlib.suppress(message_module.DecodeError):
            told.add(outcome(tensor_pb2.TensorProto.FromString(draw.bytes(int(draw.integers(1, 60))))))
    assert "tensor parsing error: x" in told
    assert told <= {"array", "tensor parsing error: x"}


def outcome(given) -> str:
    try:
        tensors.parse(given, "x")
    except status.StatusError as error:
        return error.message
    return "array"
