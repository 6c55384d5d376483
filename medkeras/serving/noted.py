"""A registry that notes, of one call, which model and version it was answered by, and how long the graph took."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.serving import http_limits, metrics, routing, servable, status

_RUN = ("predict", "classify", "regress")
_CODES = {code.http: code for code in reversed(status.Code)} | {500: status.Code.INTERNAL}


class Noting:
    """A registry for one call.

    Args:
        registry: Where models are found.
        call: What is written down.
        measured: Where times and examples are counted.
        api: `predict`, `Predict`, …, as the metrics name it.
    """

    def __init__(
        self, registry: servable.Registry, call: http_limits.Call, measured: metrics.Metrics, *, api: str
    ) -> None:
        self._registry = registry
        self._call = call
        self._measured = measured
        self._api = api

    def names(self) -> Sequence[str]:
        """The names of the models."""
        return self._registry.names()

    @contextlib.contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[servable.Lease]:
        """Lends a version, and notes which."""
        with self._registry.lease(name, version=version, label=label) as lease:
            self._call.model, self._call.version = lease.name, lease.version
            yield dataclasses.replace(lease, servable=Timed(lease.servable, self._measured, name, api=self._api))

    def states(self, name: str, version: int | None = None) -> Sequence[servable.VersionState]:
        """The states of the versions of a model."""
        found = self._registry.states(name, version)
        self._call.model = name
        return found


class Timed:
    """A servable that counts its examples and its time."""

    def __init__(self, inner: servable.Servable, measured: metrics.Metrics, model: str, *, api: str) -> None:
        self._inner = inner
        self._measured = measured
        self._model = model
        self._api = api

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The signatures of the graph."""
        return self._inner.signatures

    def run(
        self, signature: str, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, np.ndarray]:
        """Runs one signature."""
        began = time.monotonic()
        answer = self._inner.run(signature, feeds, outputs, timeout=timeout)
        self._measured.runtime(self._model, api=self._api, seconds=time.monotonic() - began)
        self._measured.examples(self._model, _examples(feeds))
        return answer


def route(method: str, target: str) -> tuple[str, str]:
    """Returns the pattern of a target, which names no model, and the API that it asks for.

    >>> route("POST", "/v1/models/brain/versions/3:predict")
    ('/v1/models/{model}/versions/{version}:predict', 'predict')
    >>> route("GET", "/v1/patients/Smith")
    ('/v1', '')
    """
    try:
        found = routing.route(method, target)
    except status.StatusError:
        return "/v1", ""
    which = "/versions/{version}" if found.version is not None else "/labels/{label}" if found.label else ""
    api = found.verb if found.verb in _RUN else ""
    end = f":{api}" if api else "/metadata" if found.verb == "metadata" else ""
    return f"/v1/models/{{model}}{which}{end}", api


def code(http_status: int) -> status.Code:
    """Returns the code that an HTTP status stands for, the likeliest where several do."""
    return _CODES.get(http_status, status.Code.UNKNOWN)


def _examples(feeds: Mapping[str, np.ndarray]) -> int:
    return max((len(array) for array in feeds.values() if array.ndim), default=1)
