"""Numbers in upstream's digits, strings byte for byte, and values shown in messages."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medkeras.serving import json_dump, json_text, json_write, status

FLOATS = {
    "probabilities": lambda rng: rng.random(4000),
    "logits": lambda rng: rng.normal(size=4000) * 10.0 ** rng.integers(-3, 4, 4000),
    "all sizes": lambda rng: rng.normal(size=4000) * 10.0 ** rng.integers(-44, 38, 4000),
    "few digits": lambda rng: np.round(rng.normal(size=4000) * 10.0 ** rng.integers(-6, 9, 4000), 2),
    "whole": lambda rng: rng.integers(-(10**9), 10**9, 4000),
    "powers of two": lambda rng: 2.0 ** np.arange(-149, 128),
    "powers of ten": lambda rng: 10.0 ** np.arange(-45, 39),
    "ties": lambda rng: np.arange(999990, 1000010) / 2.0 ** rng.integers(0, 12, 20),
    "any bits": lambda rng: rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32),
}


@pytest.mark.parametrize("kind", FLOATS)
def test_many_float32_are_written_as_each_alone(kind):
    with np.errstate(over="ignore", under="ignore"):
        values = FLOATS[kind](np.random.default_rng(0)).astype(np.float32)
    texts = [json_write.number(value, single=True) for value in values]

    assert all(json_write.whole(value) == text for value, text in zip(values, texts, strict=True))
    assert json_write.rows(values) == texts
    assert json_write.whole(values) == b"[" + b", ".join(texts) + b"]"


def test_a_float_reads_back_unless_it_is_denormal():
    values = np.random.default_rng(1).integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    read = np.array(json.loads(json_write.whole(values)), np.float32)
    expected = np.where(np.abs(values) < 2.0**-126, np.copysign(np.float32(0), values), values)

    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("value", "single", "text"),
    [
        (9_000_000, True, b"9e+06"),
        (999_999, True, b"999999.0"),
        (0.5, True, b"0.5"),
        (0.0003, True, b"0.0003"),
        (0.00003, True, b"3e-05"),
        (555_557.5, True, b"555557.5"),
        (1 / 3, True, b"0.333333343"),
        (0.1, True, b"0.1"),
        (1_234_567, True, b"1234567.0"),
        (16_777_217, True, b"16777216.0"),
        (100_000, True, b"100000.0"),
        (1_000_000, True, b"1e+06"),
        (-0.0, True, b"-0.0"),
        (1e-40, True, b"0.0"),
        (float("nan"), True, b"NaN"),
        (float("-inf"), True, b"-Infinity"),
        (3.4028235e38, True, b"3.40282347e+38"),
        (123456789.12345681, False, b"123456789.12345681"),
        (0.1, False, b"0.1"),
        (0.30000000000000004, False, b"0.30000000000000004"),
        (1e300, False, b"1e+300"),
        (1e-310, False, b"0.0"),
    ],
)
def test_digits_are_upstreams(value, single, text):
    array = np.array(value, np.float32 if single else np.float64)

    assert json_write.number(value, single=single) == text
    assert json_write.whole(array) == text


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int8", "uint8", "int16", "int32", "int64", "uint32", "uint64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2, 3), (0,), (2, 0), (2, 0, 3)])
def test_every_shape_nests_as_it_should(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) - 1).astype(dtype)

    assert json.loads(json_write.whole(array)) == array.tolist()
    if shape:
        assert [json.loads(row) for row in json_write.rows(array)] == array.tolist()


@pytest.mark.parametrize("name", ["float16", "uint16", "complex64"])
def test_what_has_no_json_is_refused_unless_there_is_nothing_to_write(name):
    with pytest.raises(status.StatusError) as caught:
        json_write.whole(np.zeros(1, name))

    assert caught.value.message == f"Failed to write JSON value for tensor type: {name.replace('float16', 'half')}"
    assert json_write.whole(np.zeros((2, 0), name)) == b"[[], []]"


def test_strings_are_escaped_as_rapidjson_does_and_else_untouched():
    texts = np.array([b'a"b\\c/\n\x01\x1f\x7f', b"\xff\xfe", "é".encode()], object)

    assert json_write.rows(texts) == [b'"a\\"b\\\\c/\\n\\u0001\\u001F\x7f"', b'"\xff\xfe"', '"é"'.encode()]
    assert json_write.rows(texts, as_bytes=True)[1] == b'{"b64": "//4="}'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"1e3", "1000.0"),
        (b"0.1", "0.1"),
        (b"1e300", "1e+300"),
        (b"18446744073709551616", "1.84467441e+19"),
        (b"[NaN, -Infinity]", "[NaN, -Infinity]"),
        (
            b'{"a": {}, "b": [[], {"c": "\\u0007"}]}',
            '{\n    "a": {},\n    "b": [[], {\n            "c": "\\u0007"\n        }]\n}',
        ),
        (
            b"[0.1, 1e21, 1e22, 1.5e-6, 1.5e-7, -2, 5e-324, 1234.5]",
            "[0.1, 1e21, 1e22, 0.0000015, 1.5e-7, -2, 5e-324, 1234.5]",
        ),
    ],
)
def test_a_value_is_shown_as_rapidjsons_pretty_writer_shows_it(text, shown):
    assert json_dump.text(json_text.parse(text)) == shown


def test_a_shown_value_ends_near_256_bytes_however_large_or_deep():
    numbers = json_text.parse(b"[" + b"1," * 1_000_000 + b"1]")
    nested = json_text.parse(b"[" * 50_000 + b"]" * 50_000)

    assert json_dump.text(numbers) == "[1" + ", 1" * 85
    assert json_dump.text(nested) == "[" * 256
    assert json_dump.text("a" * 600) == f'"{"a" * 600}"'
