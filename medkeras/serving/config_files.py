"""The configuration files of TensorFlow Serving: protobuf messages as text.

Reference: TensorFlow Serving's `config/model_server_config.proto`, `monitoring_config.proto`, `ssl_config.proto` and
`session_bundle_config.proto`; but for the first they are not in its Python package, and are defined here.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from medkeras import errors
from medkeras.serving import access, batching, status

METRICS_PATH = "/monitoring/prometheus/metrics"
_WRAPPED = (
    *("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"),
    "enable_large_batch_splitting",
)
_PACKAGE = "medkeras.serving"
_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {bool: _FIELD.TYPE_BOOL, str: _FIELD.TYPE_STRING, int: _FIELD.TYPE_INT64}
_MESSAGES: dict[str, dict[str, Any]] = {
    "PrometheusConfig": {"enable": bool, "path": str},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "Number": {"value": int},
    "Text": {"value": str},
    "Truth": {"value": bool},
    "BatchingParameters": {
        "max_batch_size": "Number",
        "batch_timeout_micros": "Number",
        "max_enqueued_batches": "Number",
        "num_batch_threads": "Number",
        "thread_pool_name": "Text",
        "allowed_batch_sizes": [int],
        "pad_variable_length_inputs": bool,
        "enable_large_batch_splitting": "Truth",
    },
    "SSLConfig": {"server_key": str, "server_cert": str, "custom_ca": str, "client_verify": bool},
}


def models(path: str | os.PathLike[str]) -> model_server_config_pb2.ModelServerConfig:
    """Returns the models that a file lists; raises `ConfigError` if it cannot be read."""
    return _parsed(path, model_server_config_pb2.ModelServerConfig(), secret=False)


def metrics_path(path: str | os.PathLike[str]) -> str:
    """Returns where Prometheus reads, as a file says; empty: nowhere; raises `ConfigError` if it is no such file."""
    config = _parsed(path, _message("MonitoringConfig"), secret=False).prometheus_config
    if not config.enable:
        return ""
    found = config.path or METRICS_PATH
    if not found.startswith("/"):
        raise errors.ConfigError(f"The path that Prometheus reads begins with a slash. Received: {found!r}")
    return found


def batching_parameters(path: str | os.PathLike[str]) -> batching.Parameters:
    """Returns how requests are put together, as a file says; raises `ConfigError` if it is no such file."""
    config = _parsed(path, _message("BatchingParameters"), secret=False)
    if config.pad_variable_length_inputs:
        raise errors.ConfigError("Inputs are put together as they are. Received: pad_variable_length_inputs: true")
    given = {name: getattr(config, name).value for name in _WRAPPED if config.HasField(name)}
    try:
        return batching.Parameters(**given, allowed_batch_sizes=tuple(config.allowed_batch_sizes))
    except status.StatusError as error:
        raise errors.ConfigError(error.message) from None


def certificate(path: str | os.PathLike[str]) -> access.Certificate:
    """Returns the certificate that a file holds; raises `ConfigError` if it is no such file."""
    config = _parsed(path, _message("SSLConfig"), secret=True)
    clients = config.custom_ca.encode() if config.client_verify else b""
    if config.client_verify and not clients:
        raise errors.ConfigError("An SSLConfig with client_verify has custom_ca. Received: none")
    return access.Certificate(key=config.server_key.encode(), chain=config.server_cert.encode(), clients=clients)


def _parsed(path: str | os.PathLike[str], message: Any, *, secret: bool) -> Any:
    name = message.DESCRIPTOR.name
    try:
        return text_format.Parse(pathlib.Path(path).read_text(encoding="utf-8"), message)
    except OSError as error:
        raise errors.ConfigError(f"{errors.printable(path)}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        # Where it broke may be in the middle of a key.
        place = "" if secret else f" ({str(error).splitlines()[0]})"
        raise errors.ConfigError(f"{errors.printable(path)}: is no {name} as protobuf text{place}") from None


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))()


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="medkeras_serving.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            repeated = isinstance(kind, list)
            added = described.field.add(name=field, number=number, label=3 if repeated else 1)
            if repeated:
                added.type = _KINDS[kind[0]]
            elif isinstance(kind, str):
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = _KINDS[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()
