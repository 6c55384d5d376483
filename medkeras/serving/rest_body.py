"""What every call of the REST API that has a body begins with."""

from __future__ import annotations

import dataclasses
from typing import Any

from medkeras.serving import json_dump, json_text, servable, status


@dataclasses.dataclass(frozen=True)
class Body:
    """A body that is a JSON object.

    Attributes:
        document: The object.
        signature: The signature that it names, or empty.
    """

    document: json_text.Object
    signature: str

    @property
    def signature_or_default(self) -> str:
        """The signature that is meant."""
        return self.signature or servable.DEFAULT_SIGNATURE

    def fault(self, message: str) -> status.StatusError:
        """Returns the refusal of the whole body."""
        return status.invalid(f"JSON Value: {json_dump.text(self.document)} {message}")


def read(raw: bytes) -> Body:
    """Reads a body.

    Raises:
        StatusError: It is not JSON, not an object, or its `signature_name` is not a string.
    """
    document: Any = json_text.parse(raw)
    if type(document) is not json_text.Object:
        raise status.invalid(f"JSON Value: {json_dump.text(document)} Is not object")
    name = document.find("signature_name")
    if name is json_text.MISSING:
        return Body(document, "")
    if not isinstance(name, str):
        raise Body(document, "").fault("not formatted correctly. 'signature_name' key must be a string value.")
    return Body(document, name)
