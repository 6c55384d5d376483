"""A registry of models that are functions, for what stands around the protocol."""

from __future__ import annotations

import contextlib
import json
import time

from medkeras.serving import messages, servable, status


class Doubling:
    signatures: dict = {}

    def run(self, signature, feeds, outputs, *, timeout=None):
        return {name: 2 * array for name, array in feeds.items()}


class Registry:
    """Serves one model, `brain`, version 3."""

    def names(self):
        return ("brain",)

    @contextlib.contextmanager
    def lease(self, name, *, version=None, label=None):
        if name != "brain":
            raise status.StatusError(status.Code.NOT_FOUND, f"Servable not found for request: Latest({name})")
        yield servable.Lease(name, 3, Doubling())

    def states(self, name, version=None):
        return [servable.VersionState(3, "AVAILABLE")]


def answer(request: messages.Request, registry: servable.Registry) -> messages.Response:
    """Says what it was asked; `sleep=SECONDS` in the body makes it slow, `fail` makes it fail."""
    if request.body.startswith(b"sleep="):
        time.sleep(float(request.body[6:]))
    if request.body == b"fail":
        raise OSError("/secret/path")
    name = request.target.removeprefix("/v1/models/").partition(":")[0]
    headers = (("Content-Type", "application/json"),)
    try:
        with registry.lease(name) as lease:
            text = json.dumps({"method": request.method, "version": lease.version, "body": request.body.decode()})
    except status.StatusError as error:
        return messages.Response(error.code.http, headers, json.dumps({"error": error.message}).encode())
    return messages.Response(200, headers, text.encode())
