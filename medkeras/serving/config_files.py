"""The configuration files of TensorFlow Serving: protobuf messages as text.

Reference: TensorFlow Serving's `config/model_server_config.proto`, `monitoring_config.proto` and `ssl_config.proto`;
the latter two are not in its Python package, so they are defined here.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from medkeras import errors
from medkeras.serving import access

METRICS_PATH = "/monitoring/prometheus/metrics"
_PACKAGE = "medkeras.serving"
_KINDS = {bool: descriptor_pb2.FieldDescriptorProto.TYPE_BOOL, str: descriptor_pb2.FieldDescriptorProto.TYPE_STRING}
_MESSAGES: dict[str, dict[str, Any]] = {
    "PrometheusConfig": {"enable": bool, "path": str},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
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
            added = described.field.add(name=field, number=number, label=1)
            if isinstance(kind, str):
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = _KINDS[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()
