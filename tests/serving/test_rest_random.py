"""Random requests: every one is answered, in JSON, and quick ways give what slow ones give."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2

from medkeras.serving import json_tensors, json_text, messages, options, rest, rest_predict, status
from tests.serving import registries

DTYPES = ("bool", "int8", "uint8", "int32", "uint32", "int64", "uint64", "half", "float", "double", "string")
SCALARS = (
    *("0", "-1", "300", "1.5", "1e39", "-2147483649", "4294967295", "18446744073709551615", "99999999999999999999"),
    *("true", "null", "NaN", "-Inf", '"a"', '"\\u00e9\\u0000"', '{"b64":"aGk="}', '{"b64":"*"}', '{"b64":1}', "{}"),
)


class Asker:
    """Writes requests that are nearly right: regular arrays, with a fault now and then."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def body(self) -> str:
        names = ["instances", "inputs", "examples", "context", "signature_name", "x"]
        count = self._random.choice([1, 1, 2, 3])
        members = [
            f'"{name}":{self._member(name)}' for name in self._random.choices(names, [9, 9, 5, 2, 1, 1], k=count)
        ]
        members.append(f'"signature_name":"{self._random.choice((*DTYPES, "half", "pair", "cls", "reg"))}"')
        text = f"{{{','.join(members)}}}"
        return text if self._random.random() < 0.95 else text[: self._random.randrange(len(text))]

    def value(self) -> str:
        """Returns a regular array of one kind of value, often with one that is of another or out of its place."""
        shape = [self._random.randint(0 if level else 1, 3) for level in range(self._random.randint(0, 3))]
        self._kind = self._random.choice(SCALARS)
        self._fault = 0.05 * self._random.randint(0, 1)
        return self._nested(shape)

    def _member(self, name: str) -> str:
        if name == "signature_name":
            return self._random.choice(SCALARS)
        if self._random.random() < 0.5:
            return self.value()
        rows = [self._object() for _ in range(self._random.randint(1, 3))]
        return rows[0] if name in ("inputs", "context") else f"[{','.join(rows)}]"

    def _object(self) -> str:
        names = self._random.choices(["a", "b", "x"], [2, 2, 3], k=self._random.randint(0, 3))
        return f"{{{','.join(f'{json.dumps(name)}:{self.value()}' for name in names)}}}"

    def _nested(self, shape: list[int]) -> str:
        if self._random.random() < self._fault:
            return self._random.choice([*SCALARS, "[]", "[1]", "[[]]"])
        if not shape:
            return self._kind
        return f"[{','.join(self._nested(shape[1:]) for _ in range(shape[0]))}]"


@pytest.fixture(scope="module")
def registry():
    echo = {dtype: registries.Signature({"x": dtype}, {"y": dtype}, lambda x: {"y": x}) for dtype in DTYPES}
    pair = {"a": "float", "b": "string"}
    model = registries.NumPyModel(
        **echo,
        serving_default=echo["float"],
        pair=registries.Signature(pair, {"a": "float", "b_bytes": "string"}, lambda a, b: {"a": a, "b_bytes": b}),
        cls=registries.Signature(
            {"inputs": "string"}, {"scores": "float"}, lambda inputs: {"scores": np.zeros((inputs.size, 2), "f")}
        ),
        reg=registries.Signature(
            {"inputs": "string"}, {"outputs": "float"}, lambda inputs: {"outputs": np.zeros(inputs.size, "f")}
        ),
    )
    return registries.Versions({"m": {1: model}})


@pytest.mark.parametrize("seed", range(4))
def test_every_request_is_answered(registry, seed):
    asker = Asker(seed)
    seen = set()
    for turn in range(1000):
        body, verb = asker.body(), ("predict", "predict", "classify", "regress")[turn % 4]
        request = messages.Request("POST", f"/v1/models/m:{verb}", {}, body.encode())
        response = rest.answer(request, registry, options.Options())
        answer = json.loads(response.body)

        assert response.status in (200, 400, 501), body
        assert (set(answer) == {"error"}) == (response.status != 200), body
        seen.add((response.status, *answer))
    assert {code for code, _ in seen} == {200, 400, 501}


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "half"])
def test_whole_arrays_are_made_as_their_values_one_by_one(dtype):
    asker = Asker(len(dtype))
    number = types_pb2.DataType.Value(f"DT_{dtype.upper()}")
    made = 0
    for _ in range(400):
        value = json_text.parse(asker.value().encode())
        quick = json_tensors.dense(value, number)
        try:
            shape, values = json_tensors.fill(value, number)
        except status.StatusError:
            assert quick is None
            continue
        made += 1
        assert quick is not None
        np.testing.assert_array_equal(quick, json_tensors.array(values, shape, number), strict=True)
    assert made > 20


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_batched_as_one_by_one(seed):
    asker = Asker(seed)
    dtypes = {"x": types_pb2.DT_FLOAT}
    for _ in range(400):
        instances = json_text.parse(f"[{asker.value()},{asker.value()}]".encode())
        named = rest_predict._is_named(instances[0])
        quick = (rest_predict._named_rows if named else rest_predict._plain_rows)(instances, dtypes)
        try:
            slow = rest_predict._Rows(dtypes).filled(instances, named=named)
        except status.StatusError:
            assert quick is None
            continue
        np.testing.assert_array_equal(quick["x"], slow["x"], strict=True)
