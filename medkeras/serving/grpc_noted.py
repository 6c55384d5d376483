"""What is counted and written down of a gRPC call, as of a REST call."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from medkeras.serving import access_log, http_limits, metrics, noted, servable, status

_COUNTED = ("Predict", "Classify", "Regress")
_CALL: contextvars.ContextVar[http_limits.Call | None] = contextvars.ContextVar("call", default=None)


class Registry:
    """A registry for gRPC, whose leases are noted in the call that takes them.

    Args:
        registry: Where models are found.
        measured: Where times and examples are counted.
    """

    def __init__(self, registry: servable.Registry, measured: metrics.Metrics) -> None:
        self._registry = registry
        self._measured = measured

    def names(self) -> Sequence[str]:
        """The names of the models."""
        return self._registry.names()

    @contextlib.contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[servable.Lease]:
        """Lends a version, and notes which."""
        call = _CALL.get() or http_limits.Call("")
        noting = noted.Noting(self._registry, call, self._measured, api=call.route.rpartition("/")[2])
        with noting.lease(name, version=version, label=label) as lease:
            yield lease

    def states(self, name: str, version: int | None = None) -> Sequence[servable.VersionState]:
        """The states of the versions of a model."""
        return self._registry.states(name, version)


class Interceptor(grpc.ServerInterceptor):
    """Counts each unary call and writes it down.

    Args:
        log: Where it is written.
        measured: Where it is counted.
        user: Names the token in an `authorization`, if tokens are on.
    """

    def __init__(
        self,
        log: access_log.AccessLog,
        measured: metrics.Metrics,
        user: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        self._log = log
        self._measured = measured
        self._user = user

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Puts itself around the method that is called."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        inner, details = handler.unary_unary, handler_call_details

        def noted_call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._noting(details, request, context):
                return inner(request, context)

        return grpc.unary_unary_rpc_method_handler(
            noted_call, handler.request_deserializer, handler.response_serializer
        )

    @contextlib.contextmanager
    def _noting(self, details: Any, request: Any, context: grpc.ServicerContext) -> Iterator[None]:
        metadata = {key.encode(): _bytes(value) for key, value in details.invocation_metadata}
        call = access_log.begin("GRPC", metadata)
        call.route = details.method
        # A call without a token is refused before its message is read as one.
        call.received = len(request) if isinstance(request, bytes) else request.ByteSize()
        call.user = self._user(metadata.get(b"authorization", b"")) or ""
        token = _CALL.set(call)
        failed = True
        try:
            yield
            failed = False
        finally:
            _CALL.reset(token)
            self._end(call, _code(context, failed=failed))

    def _end(self, call: http_limits.Call, code: status.Code) -> None:
        call.seconds = time.monotonic() - call.started
        call.status = code.http
        self._log.add(call)
        api = call.route.rpartition("/")[2]
        if api in _COUNTED:
            self._measured.request(call.model, api=api, entrypoint="GRPC", code=code, seconds=call.seconds)


def _code(context: grpc.ServicerContext, *, failed: bool) -> status.Code:
    told = context.code()
    if told is not None:
        return status.Code[told.name]
    return status.Code.UNKNOWN if failed else status.Code.OK


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
