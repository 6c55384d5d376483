"""`:predict`: rows under `instances` or columns under `inputs`, and `predictions` or `outputs` back.

Reference: TensorFlow Serving's RESTful API and `util/json_tensor.cc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from medkeras.serving import json_dump, json_tensors, json_text, json_write, rest_body, servable, status

Dtypes = Mapping[str, int]


def answer(body: rest_body.Body, lease: servable.Lease, *, timeout: float | None) -> bytes:
    """Answers a call with the signature that its body names.

    Raises:
        StatusError: The signature is unknown, the inputs do not fit it, or the model refuses them.
    """
    signature = _signature(body, lease.servable)
    dtypes = {name: info.dtype for name, info in sorted(signature.inputs.items())}
    if not dtypes:
        raise status.invalid(f"Failed to get input map for signature: {body.signature or 'DEFAULT'}")
    in_rows, feeds = _feeds(body, dtypes)
    _check_names(feeds, dtypes)
    names = sorted(signature.outputs)
    outputs = lease.servable.run(body.signature_or_default, feeds, names, timeout=timeout)
    if not names:
        raise status.invalid("Cannot convert empty tensor map to JSON")
    return _predictions(names, outputs) if in_rows else _outputs(names, outputs)


def _signature(body: rest_body.Body, model: servable.Servable) -> meta_graph_pb2.SignatureDef:
    name = body.signature_or_default
    if name not in model.signatures:
        raise status.invalid(f'Serving signature name: "{name}" not found in signature def')
    return model.signatures[name]


def _feeds(body: rest_body.Body, dtypes: Dtypes) -> tuple[bool, dict[str, np.ndarray]]:
    """Returns whether the body has rows, and the array of each input."""
    instances, inputs = body.document.find("instances"), body.document.find("inputs")
    if instances is json_text.MISSING and inputs is json_text.MISSING:
        raise status.invalid("Missing 'inputs' or 'instances' key")
    if instances is json_text.MISSING:
        return False, _columns(inputs, dtypes)
    if inputs is not json_text.MISSING:
        raise body.fault("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
    if type(instances) is not list:
        raise body.fault("Expecting 'instances' to be an list/array")
    if not instances:
        raise body.fault("No values in 'instances' array")
    return True, _rows(instances, dtypes)


def _check_names(feeds: Mapping[str, np.ndarray], dtypes: Dtypes) -> None:
    missing = sorted(set(dtypes) - set(feeds))
    if missing:
        raise status.invalid(
            f"input size does not match signature: {len(feeds)}!={len(dtypes)} len({{{','.join(sorted(feeds))}}}) != "
            f"len({{{','.join(dtypes)}}}). Sent extra: {{}}. Missing but required: {{{','.join(missing)}}}."
        )


def _columns(value: Any, dtypes: Dtypes) -> dict[str, np.ndarray]:
    if type(value) is not json_text.Object or json_tensors.is_base64(value):
        if len(dtypes) > 1:
            raise status.invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        return {name: _column(value, name, dtype) for name, dtype in dtypes.items()}
    return {name: _column(_named(value, name), name, dtype) for name, dtype in dtypes.items()}


def _named(value: json_text.Object, name: str) -> Any:
    found = value.find(name)
    if found is json_text.MISSING:
        raise status.invalid(f"Missing named input: {name} in 'inputs' object.")
    return found


def _column(value: Any, name: str, dtype: int) -> np.ndarray:
    array = json_tensors.dense(value, dtype)
    if array is not None:
        return array
    _check_rank(json_tensors.rank(value), name)
    shape, values = json_tensors.fill(value, dtype)
    return json_tensors.array(values, shape, dtype)


def _check_rank(rank: int, name: str) -> None:
    if rank > json_tensors.MOST_DIMENSIONS:
        raise status.invalid(f"tensor parsing error: {name}")


def _rows(instances: list[Any], dtypes: Dtypes) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], json_text.Object) and len(dtypes) > 1:
        raise status.invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    named = _is_named(instances[0])
    quick = _named_rows(instances, dtypes) if named else _plain_rows(instances, dtypes)
    return quick or _Rows(dtypes).filled(instances, named=named)


def _is_named(value: Any) -> bool:
    return type(value) is json_text.Object and not json_tensors.is_base64(value)


def _plain_rows(instances: list[Any], dtypes: Dtypes) -> dict[str, np.ndarray] | None:
    name = next(iter(dtypes))
    array = json_tensors.dense(instances, dtypes[name])
    return None if array is None else {name: array}


def _named_rows(instances: list[Any], dtypes: Dtypes) -> dict[str, np.ndarray] | None:
    """Returns the arrays of rows that all have exactly the inputs, in one order; None for any others."""
    if set(map(type, instances)) != {json_text.Object}:
        return None
    names = tuple(name for name, _ in instances[0])
    if sorted(names) != list(dtypes) or any(tuple(name for name, _ in row) != names for row in instances):
        return None
    columns = zip(*([value for _, value in row] for row in instances), strict=True)
    arrays = {name: json_tensors.dense(list(column), dtypes[name]) for name, column in zip(names, columns, strict=True)}
    found = {name: array for name, array in arrays.items() if array is not None}
    return found if len(found) == len(arrays) else None


class _Rows:
    """Rows put together one by one, so that the first that does not fit is named."""

    def __init__(self, dtypes: Dtypes) -> None:
        self._dtypes = dtypes
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._sizes: dict[str, int] = {}
        self._values: dict[str, list[Any]] = {}

    def filled(self, instances: list[Any], *, named: bool) -> dict[str, np.ndarray]:
        """Returns the array of each input."""
        for index, row in enumerate(instances):
            if _is_named(row) != named:
                kinds = ("object", "list") if named else ("value/list", "object")
                raise status.invalid(f"Expecting {kinds[0]} but got {kinds[1]} at item {index} of input list")
            if named:
                self._add_named(row, index)
            else:
                self._add(row, next(iter(self._dtypes)), place=str(index))
        return {name: self._array(name, len(instances)) for name in self._shapes}

    def _add_named(self, row: json_text.Object, index: int) -> None:
        for name, value in row:
            self._add(value, name, place=f"{index} key: {name}")
        if {name for name, _ in row} != set(self._dtypes):
            raise status.invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {json_dump.text(row)} "
                f"keys must be equal to: {','.join(self._dtypes)}"
            )

    def _add(self, value: Any, name: str, *, place: str) -> None:
        _check_rank(json_tensors.rank(value) + 1, name)
        try:
            self._put(value, name)
        except status.StatusError as error:
            raise status.invalid(
                f"Failed to process element: {place} of 'instances' list. Error: {error.code.name}: {error.message}"
            ) from None

    def _put(self, value: Any, name: str) -> None:
        if name not in self._dtypes:
            raise status.invalid(f"JSON object: does not have named input: {name}")
        shape, values = json_tensors.fill(value, self._dtypes[name])
        first, size = self._shapes.setdefault(name, shape), self._sizes.setdefault(name, len(values))
        if len(values) != size:
            raise status.invalid(f"Expecting tensor size: {size} but got: {len(values)}")
        if shape != first:
            raise status.invalid(f"Expecting shape {_listed(first)} but got: {_listed(shape)}")
        self._values.setdefault(name, []).extend(values)

    def _array(self, name: str, count: int) -> np.ndarray:
        # A name that comes twice in a row gives too many values; upstream takes the first of them.
        values = self._values[name][: count * self._sizes[name]]
        return json_tensors.array(values, (count, *self._shapes[name]), self._dtypes[name])


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _predictions(names: Sequence[str], outputs: Mapping[str, np.ndarray]) -> bytes:
    """Writes one value a row, or one object if there are several outputs."""
    count: int | None = None
    for name in names:
        shape = outputs[name].shape
        if not shape:
            raise status.invalid(f"Tensor name: {name} has no shape information ")
        if count is not None and shape[0] != count:
            raise status.invalid(f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {count}")
        count = shape[0]
    if len(names) == 1:
        # Written as one text, which a row each would be many times slower than where rows are numbers.
        return listed("predictions", [json_write.whole(outputs[names[0]], as_bytes=_has_bytes(names[0]))[1:-1]])
    columns = [json_write.rows(outputs[name], as_bytes=_has_bytes(name)) for name in names]
    keys = [json_write.string(name.encode()) for name in names]
    members = (
        b",\n            ".join(key + b": " + value for key, value in zip(keys, row, strict=True))
        for row in zip(*columns, strict=True)
    )
    return listed("predictions", [b"\n        {\n            " + member + b"\n        }" for member in members])


def listed(name: str, items: Sequence[bytes]) -> bytes:
    """Writes an object of one list."""
    tail = b"\n    ]" if any(items) else b"]"
    return b"{\n    " + json_write.string(name.encode()) + b": [" + b", ".join(items) + tail + b"\n}"


def _outputs(names: Sequence[str], outputs: Mapping[str, np.ndarray]) -> bytes:
    """Writes the one output, or an object of several."""
    values = [json_write.whole(outputs[name], as_bytes=_has_bytes(name)) for name in names]
    if len(names) == 1:
        return b'{\n    "outputs": ' + values[0] + b"\n}"
    keys = [json_write.string(name.encode()) for name in names]
    members = b",\n        ".join(key + b": " + value for key, value in zip(keys, values, strict=True))
    return b'{\n    "outputs": {\n        ' + members + b"\n    }\n}"


def _has_bytes(name: str) -> bool:
    return name.endswith("_bytes")
