"""TensorFlow Serving's REST API, from a request to its response: no socket, no thread, no state."""

from __future__ import annotations

import zlib

from medkeras.serving import (
    json_text,
    json_write,
    messages,
    options,
    rest_body,
    rest_documents,
    rest_examples,
    rest_predict,
    routing,
    servable,
    status,
)

MOST_INFLATED = 100 * 1024 * 1024
"""Bytes that a compressed body may have without its compression."""

_HEADERS = (("Content-Type", "application/json"),)
_GZIP = 16 + zlib.MAX_WBITS
_MILLISECONDS = 1000


def answer(request: messages.Request, registry: servable.Registry, chosen: options.Options) -> messages.Response:
    """Answers a request whose target begins with `/v1/`, whatever it holds.

    Args:
        request: The request, its body still as `content-encoding` says.
        registry: Where the models are found.
        chosen: What the server is told; `rest_api_timeout_in_ms` bounds the run of a model.
    """
    code = status.Code.OK
    try:
        body = _answered(request, registry, chosen)
    except routing.UntoldError as error:
        code, body = error.code, b""
    except status.StatusError as error:
        code, body = error.code, error_body(error.message)
    return messages.Response(code.http, _HEADERS, b"" if request.method == "HEAD" else body)


def error_body(message: str) -> bytes:
    """Returns the body of a refusal."""
    return b'{\n    "error": ' + json_write.string(json_text.encoded(message)) + b"\n}"


def inflated(body: bytes, encoding: str) -> bytes:
    """Returns a body without its gzip; empty, as upstream has it, if that fails or leaves over 100 MiB.

    Args:
        body: The bytes as they came.
        encoding: The header `Content-Encoding`; anything that contains `gzip` means gzip, anything else nothing.
    """
    if "gzip" not in encoding:
        return body
    inflater = zlib.decompressobj(_GZIP)
    try:
        plain = inflater.decompress(body, MOST_INFLATED + 1)
    except zlib.error:
        return b""
    return plain if inflater.eof and len(plain) <= MOST_INFLATED else b""


def _answered(request: messages.Request, registry: servable.Registry, chosen: options.Options) -> bytes:
    call = routing.route(request.method, request.target)
    if call.verb == "status":
        return rest_documents.states(call, registry)
    if call.verb == "metadata":
        return rest_documents.metadata(call, registry)
    body = rest_body.read(inflated(request.body, request.headers.get("content-encoding", "")))
    timeout = chosen.rest_api_timeout_in_ms / _MILLISECONDS
    # What is wrong with the examples is told before whether there is such a model.
    examples = [] if call.verb == "predict" else rest_examples.examples(body)
    with registry.lease(call.model, version=call.version, label=call.label) as lease:
        if call.verb == "predict":
            return rest_predict.answer(body, lease, timeout=timeout)
        run = rest_examples.classify if call.verb == "classify" else rest_examples.regress
        return run(body, examples, lease, timeout=timeout)
