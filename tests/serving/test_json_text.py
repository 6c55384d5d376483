"""JSON as RapidJSON reads it; both parsers give the same value, rule and offset for whatever text."""

from __future__ import annotations

import json
import math
import random

import pytest

from medkeras.serving import json_exact, json_text, status

ALPHABET = '[]{},:"\\ex.-+0 Nn\0tfI\t'


def outcome(parse, text: bytes) -> tuple:
    """Returns what a parser makes of a text, in a form that tells -0.0, NaN and types apart."""
    try:
        return ("value", repr(parse(text)))
    except json_exact.JsonError as error:
        return ("error", error.rule, error.offset)


class Writer:
    """Writes random JSON with every number, escape and literal that there is, some of it wrong."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self) -> bytes:
        chars = list(self._value(0))
        for _ in range(self._random.randint(0, 2)):
            place = self._random.randrange(len(chars) + 1)
            chars[place : place + self._random.randint(0, 1)] = self._random.choices(ALPHABET, k=1)
        return "".join(chars).encode("utf-8", "surrogatepass")

    def _value(self, depth: int) -> str:
        kinds = [self._number, self._string, self._literal] + [self._array, self._object] * (depth < 4)
        kind = self._random.choice(kinds)
        return kind(depth) if kind in (self._array, self._object) else kind()

    def _number(self) -> str:
        digits = "".join(self._random.choices("0123456789", k=self._random.randint(1, 25)))
        whole = digits.lstrip("0") or "0"
        fraction = f".{self._random.randrange(10 ** self._random.randint(1, 30))}" * self._random.randint(0, 1)
        exponent = f"{self._random.choice('eE')}{self._random.choice(['', '+', '-'])}{self._random.randint(0, 340)}"
        return self._random.choice(["", "-"]) + whole + fraction + exponent * self._random.randint(0, 1)

    def _string(self) -> str:
        parts = [
            "a",
            "é",
            "😀",
            "\\n",
            "\\/",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\u0000",
            "\\ud83d",
            "\\udc00",
            "\\q",
            "\\u12g4",
        ]
        return f'"{"".join(self._random.choices(parts, [20, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 1], k=5))}"'

    def _literal(self) -> str:
        return self._random.choice(["true", "false", "null", "NaN", "-NaN", "Inf", "-Inf", "Infinity", "-Infinity"])

    def _space(self) -> str:
        return self._random.choice(["", "", " ", "\n", "\t\r"])

    def _array(self, depth: int) -> str:
        values = [self._value(depth + 1) + self._space() for _ in range(self._random.randint(0, 4))]
        return f"[{self._space()}{','.join(values)}]"

    def _object(self, depth: int) -> str:
        values = [
            f"{self._string()}{self._space()}:{self._value(depth + 1)}" for _ in range(self._random.randint(0, 3))
        ]
        return f"{{{self._space()}{','.join(values)}}}"


@pytest.mark.parametrize("seed", range(8))
def test_the_fast_and_the_exact_parser_agree_on_random_text(seed):
    writer = Writer(seed)
    texts = [writer.text() for _ in range(400)]
    fast = [outcome(json_text._parsed, text) for text in texts]

    assert fast == [outcome(json_exact.parse, text) for text in texts]
    assert {kind for kind, *_ in fast} == {"value", "error"}


@pytest.mark.parametrize("parse", [json_text.parse, json_exact.parse])
def test_numbers_have_upstreams_last_digit(parse):
    text = b"[123456789.123456789, 0.30000000000000004, 1e22, 18446744073709551615, 18446744073709551616, -0, -0.0]"
    values = parse(text)

    assert [f"{value:.17g}" for value in values[:3]] == ["123456789.12345681", "0.30000000000000004", "1e+22"]
    assert values[3:6] == [2**64 - 1, 2.0**64, 0]
    assert [type(value) for value in values[3:6]] == [int, float, int]
    assert math.copysign(1, values[6]) == -1


@pytest.mark.parametrize("parse", [json_text.parse, json_exact.parse])
def test_an_object_keeps_both_members_of_a_name_and_finds_the_first(parse):
    value = parse(b'{"a": 1, "b": {}, "a": 2}')

    assert type(value) is json_text.Object
    assert value == [("a", 1), ("b", []), ("a", 2)]
    assert value.find("a") == 1
    assert value.find("c") is json_text.MISSING


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"instances = [1, 2]", "Invalid value. at offset: 0"),
        (b'{"instances":[1.0,]}', "Invalid value. at offset: 18"),
        (b"{'instances':[1]}", "Missing a name for object member. at offset: 1"),
        (b"{/*c*/}", "Missing a name for object member. at offset: 1"),
        (b'\xef\xbb\xbf{"a" 1}', "Missing a colon after a name of object member. at offset: 8"),
        (b'{"instances":[1.0', "Missing a comma or ']' after an array element. at offset: 17"),
        (b'{"a":1', "Missing a comma or '}' after an object member. at offset: 6"),
        (b'{"a":[1e400]}', "Number too big to be stored in double. at offset: 6"),
        (b"[" * 2000 + b"1e400", "Number too big to be stored in double. at offset: 2000"),
        (b"[" * 2000 + b"9" * 5000, "Number too big to be stored in double. at offset: 2000"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[+1]", "Invalid value. at offset: 1"),
        (b"[nan]", "Invalid value. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b'["\\ud83d"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\uzzzz"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\x"]', "Invalid escape character in string. at offset: 2"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'{"a":"\xff" "', "Missing a comma or '}' after an object member. at offset: 9"),
    ],
)
def test_what_is_not_json_is_told_with_its_offset(text, message):
    with pytest.raises(status.StatusError) as caught:
        json_text.parse(text)

    assert caught.value.code is status.Code.INVALID_ARGUMENT
    assert caught.value.message == f"JSON Parse error: {message}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[1] garbage", [1]),
        (b"[1] {", [1]),
        (b"\xef\xbb\xbf[1]", [1]),
        (b" \t\r\n[1]\n", [1]),
        (b"[1]\x00\xff", [1]),
        (b'["\xc3\xa9\\u00e9"]', ["éé"]),
    ],
)
def test_text_around_the_value_does_not_count(text, value):
    assert json_text.parse(text) == value


def test_bytes_that_are_not_utf8_come_through():
    value = json_text.parse(b'{"\xff":"a\xfe\\u00e9\xc3\xa9"}')

    assert [(json_text.encoded(name), json_text.encoded(text)) for name, text in value] == [
        (b"\xff", b"a\xfe\xc3\xa9\xc3\xa9")
    ]


def test_nesting_knows_no_end():
    depth = 50_000
    value = json_text.parse(b"[" * depth + b'{"a":1}' + b"]" * depth)

    for _ in range(depth):
        (value,) = value
    assert value == [("a", 1)]


def test_a_large_text_that_only_the_slow_parser_reads_is_refused():
    with pytest.raises(status.StatusError, match="A text of over 2 MiB is valid UTF-8"):
        json_text.parse(b"[" * (json_text.MOST_EXACT + 1))


def test_a_large_text_of_numbers_is_read_as_the_standard_library_reads_it():
    numbers = [index / 8 for index in range(100_000)]

    assert json_text.parse(json.dumps(numbers).encode()) == numbers
