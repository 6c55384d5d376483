"""The two documents about a model: the states of its versions, and the signatures of one of them.

Reference: TensorFlow Serving's `apis/get_model_status.proto` and `apis/get_model_metadata.proto`, in protocol buffers'
own JSON: 64 bit numbers as strings, empty fields written.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from medkeras.serving import routing, servable, status


def states(call: routing.Call, registry: servable.Registry) -> bytes:
    """Answers what the states of a model's versions are; a label is not looked at.

    Raises:
        StatusError: No model is named, or there is no such version.
    """
    if not call.model:
        raise _nameless()
    found = [
        {
            "version": str(state.version),
            "state": state.state,
            "status": {"error_code": state.code, "error_message": state.message},
        }
        for state in registry.states(call.model, call.version)
    ]
    return _written({"model_version_status": found})


def metadata(call: routing.Call, registry: servable.Registry) -> bytes:
    """Answers what the signatures of a version are.

    Raises:
        StatusError: No model is named, or the version is not loaded.
    """
    if not call.model:
        raise _nameless()
    with registry.lease(call.model, version=call.version, label=call.label) as lease:
        signatures = {
            name: json_format.MessageToDict(
                signature, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
            )
            for name, signature in lease.servable.signatures.items()
        }
        spec = {"name": call.model, "version": str(lease.version), "signature_name": ""}
    document = {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}
    return _written(document)


def _nameless() -> status.StatusError:
    return status.invalid("Missing model name in request.")


def _written(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
