"""The measured REST requests and responses of TensorFlow Serving, those rebuilt that the file only describes."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from medkeras.serving import messages

FOLDER = pathlib.Path(
    os.environ.get("MEDKERAS_DATA", pathlib.Path(__file__).parents[3] / "shared" / "data")
).parent.joinpath("research", "tfserving")

# Recorded as `<bytes N>`, `12MB` or `500k nested`; made again as the driver beside the vectors makes them.
_PLAIN = b'{"instances":[1.0]}'
_BODIES: dict[str, Callable[[], bytes]] = {
    "bom": lambda: b"\xef\xbb\xbf" + _PLAIN,
    "utf8.bad": lambda: b'{"signature_name":"one","instances":["\xff\xfe"]}',
    "gzip.ok": lambda: gzip.compress(_PLAIN),
    "gzip.bad": lambda: _PLAIN,
    "gzip.substr": lambda: gzip.compress(_PLAIN),
    "deflate": lambda: zlib.compress(_PLAIN),
    "big.12MB": lambda: b'{"instances":[' + b",".join([b"1.0"] * 3_000_000) + b"]}",
    "gzip.over100MB": lambda: gzip.compress(b'{"instances":[' + b" " * (120 * 1024 * 1024) + b"1.0]}", 1),
    "deep": lambda: b'{"instances":[1],"nested":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
}
# Said by TensorFlow's runtime: only the beginning is the protocol's.
_NODE = re.compile(r"\n\t \[\[.*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Vector:
    """One request and what TensorFlow Serving answered.

    Attributes:
        id: Its name.
        method: The method.
        target: The request target.
        headers: Lower-case name to value.
        recorded: The body, or what the file says about it.
        status: The status of the answer.
        content_type: Its `Content-Type`.
        answer: Its text; of the big one the beginning.
    """

    id: str
    method: str
    target: str
    headers: Mapping[str, str]
    recorded: str
    status: int
    content_type: str
    answer: str

    @property
    def request(self) -> messages.Request:
        """The request, its body made again where the file does not hold it."""
        body = _BODIES[self.id]() if self.id in _BODIES else self.recorded.encode()
        return messages.Request(self.method, self.target, self.headers, body)

    @property
    def of_the_api(self) -> bool:
        """Whether the protocol answers it, and not the HTTP server before it."""
        return bool(re.fullmatch(r"(?is)/v1/.*", self.target)) and self.method not in ("OPTIONS", "TRACE")

    def answered(self, body: bytes) -> Any:
        """Returns a body as this one is compared: parsed, or the text if that is no JSON."""
        if self.id == "big.12MB":
            return body[: len(self.answer.encode())]
        return _comparable(body.decode("utf-8", "backslashreplace"))

    @property
    def expected(self) -> Any:
        """What `answered` gives for an equal body."""
        return self.answer.encode() if self.id == "big.12MB" else _comparable(self.answer)


def load() -> list[Vector]:
    """Returns all vectors; none where they are absent."""
    place = FOLDER / "golden_rest.json"
    return [_vector(entry) for entry in json.loads(place.read_text())] if place.exists() else []


def _vector(entry: Mapping[str, Any]) -> Vector:
    return Vector(
        id=entry["id"],
        method=entry["method"],
        target=entry["path"],
        headers={name.lower(): value for name, value in entry["req_headers"].items()},
        recorded=entry["request"] or "",
        status=entry["status"],
        content_type=entry["resp_headers"]["Content-Type"],
        answer=entry["body"],
    )


def _comparable(text: str) -> Any:
    try:
        # Numbers as they are written: NaN equals itself, and a last digit counts.
        value = json.loads(text, parse_float=str, parse_constant=str)
    except ValueError:
        return text
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return {"error": _NODE.sub("", value["error"])}
    return value
