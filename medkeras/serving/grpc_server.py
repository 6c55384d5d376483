"""The gRPC port: PredictionService, ModelService and, if asked, the health service."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from medkeras import errors
from medkeras.serving import grpc_protocol, options, servable, status

_LOG = logging.getLogger(__name__)
MOST_MESSAGE = 1024
_CUT = "...TRUNCATED"
_PER_PROCESSOR = 4
_FOREVER = 10**8
_UNSUPPORTED = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
)
_SERVICES = ("", "ModelService", "PredictionService")


class Reloading(Protocol):
    """Who takes a new configuration."""

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Returns when the new models answer; raises `StatusError`."""


def build(
    registry: servable.Registry,
    reloading: Reloading,
    chosen: options.Options,
    *,
    credentials: grpc.ServerCredentials | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
) -> grpc.Server:
    """Returns the server of the gRPC port, its addresses bound; it is not started.

    Args:
        registry: Where models are found.
        reloading: Who takes a new configuration.
        chosen: What the server is told.
        credentials: For TLS, or None.
        interceptors: What stands around each call, the outermost first.

    Raises:
        ConfigError: An address cannot be had.
    """
    threads = chosen.grpc_max_threads or _PER_PROCESSOR * (os.cpu_count() or 1)
    server = grpc.server(
        futures.ThreadPoolExecutor(max(threads, chosen.max_in_flight), thread_name_prefix="grpc"),
        interceptors=tuple(interceptors),
        maximum_concurrent_rpcs=chosen.max_in_flight,
        options=(
            ("grpc.max_receive_message_length", chosen.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ),
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(registry, chosen), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(registry, reloading), server)
    if chosen.enable_grpc_healthcheck_service:
        health_pb2_grpc.add_HealthServicer_to_server(_healthy(), server)
    for address in _addresses(chosen):
        _bind(server, address, credentials)
    return server


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, registry: servable.Registry, chosen: options.Options) -> None:
        self._registry = registry
        self._content = chosen.enable_serialization_as_tensor_content

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def answer() -> Any:
            timeout = _left(context)
            return grpc_protocol.predict(request, self._registry, timeout=timeout, content=self._content)

        return _told(context, answer)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _told(context, lambda: grpc_protocol.classify(request, self._registry, timeout=_left(context)))

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _told(context, lambda: grpc_protocol.regress(request, self._registry, timeout=_left(context)))

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _told(context, lambda: grpc_protocol.multi_inference(request, self._registry, timeout=_left(context)))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _told(context, lambda: grpc_protocol.metadata(request, self._registry))


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, registry: servable.Registry, reloading: Reloading) -> None:
        self._registry = registry
        self._reloading = reloading

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _told(context, lambda: grpc_protocol.states(request, self._registry))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def answer() -> Any:
            if request.config.WhichOneof("config") != "model_config_list":
                raise status.invalid(_UNSUPPORTED)
            self._reloading.reload(request.config)
            return model_management_pb2.ReloadConfigResponse()

        return _told(context, answer)


def _told(context: grpc.ServicerContext, answer: Callable[[], Any]) -> Any:
    """Returns the answer, or ends the call with a status; of what fails in us the log has the type alone."""
    try:
        return answer()
    except status.StatusError as error:
        context.abort(grpc.StatusCode[error.code.name], cut(error.message))
    except Exception as error:
        _LOG.error("gRPC call: %s", type(error).__name__)
        context.abort(grpc.StatusCode.INTERNAL, "The server failed")


def cut(message: str) -> str:
    """Returns a message as it goes over the wire: its first 1,024 characters."""
    return message if len(message) <= MOST_MESSAGE else f"{message[:MOST_MESSAGE]}{_CUT}"


def _left(context: grpc.ServicerContext) -> float | None:
    """Returns the seconds that the client waits, or None."""
    left = context.time_remaining()
    return None if left is None or left > _FOREVER else max(0.0, left)


def _healthy() -> health.HealthServicer:
    servicer = health.HealthServicer()
    for name in _SERVICES:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def _addresses(chosen: options.Options) -> list[str]:
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    found = [f"{host}:{chosen.port}"] if chosen.port else []
    return [*found, f"unix:{chosen.grpc_socket_path}"] if chosen.grpc_socket_path else found


def _bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    try:
        if credentials is not None and not address.startswith("unix:"):
            server.add_secure_port(address, credentials)
        else:
            server.add_insecure_port(address)
    except RuntimeError:
        raise errors.ConfigError(
            f"A server listens on an address and port that are its own and free. Received: {address}"
        ) from None
