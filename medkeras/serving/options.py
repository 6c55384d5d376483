"""What the server is told: TensorFlow Serving's own flags by their own names, and ours.

Reference: TensorFlow Serving's `main.cc`: names, meanings and defaults, but for `rest_api_port`, which its Docker image
sets to 8501 and which is 0 without.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Any

from medkeras import errors

_PORTS = 65535
_MEBIBYTE = 1024 * 1024


def _flag(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Options:
    """Everything that a server is told; each field is a flag of the same name, its help text in the metadata."""

    port: int = _flag(8500, "port of gRPC; 0: none")
    rest_api_port: int = _flag(8501, "port of REST and of the page; 0: none")
    grpc_socket_path: str = _flag("", "a Unix socket on which gRPC listens too")
    model_name: str = _flag("default", "name of the model in --model_base_path")
    model_base_path: str = _flag("", "absolute path of a folder whose subfolders are versions")
    model_config_file: str = _flag(
        "", "a ModelServerConfig as protobuf text: several models; --model_base_path is unused"
    )
    model_config_file_poll_wait_seconds: int = _flag(0, "seconds between readings of --model_config_file; 0: once")
    file_system_poll_wait_seconds: int = _flag(1, "seconds between looks for new versions; 0: once")
    max_num_load_retries: int = _flag(5, "how often the load of a version is tried again")
    load_retry_interval_micros: int = _flag(60_000_000, "microseconds between tries to load a version")
    enable_model_warmup: bool = _flag(True, "whether a version answers its warm-up requests before it is available")
    num_request_iterations_for_warmup: int = _flag(1, "how often each warm-up request is answered")
    allow_version_labels_for_unavailable_models: bool = _flag(False, "whether a label may name a version not loaded")
    saved_model_tags: str = _flag("serve", "comma separated tags of the graph in a SavedModel")
    rest_api_timeout_in_ms: int = _flag(30_000, "milliseconds after which a REST call is given up")
    rest_api_num_threads: int = _flag(0, "threads that answer REST calls; 0: four a processor")
    rest_api_enable_cors_support: bool = _flag(False, "whether pages of other origins may call the REST port")
    grpc_max_threads: int = _flag(0, "threads that answer gRPC calls; 0: four a processor")
    enable_serialization_as_tensor_content: bool = _flag(False, "whether gRPC answers carry tensor_content")
    enable_grpc_healthcheck_service: bool = _flag(False, "whether gRPC answers grpc.health.v1")
    enable_batching: bool = _flag(False, "whether requests that arrive together are run together")
    batching_parameters_file: str = _flag("", "BatchingParameters as protobuf text")
    enable_per_model_batching_parameters: bool = _flag(False, "whether batching_params.pbtxt of a version counts")
    tensorflow_session_parallelism: int = _flag(0, "threads of a session, where the two below are 0; 0: TensorFlow's")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads inside an operation; 0: TensorFlow's choice")
    tensorflow_inter_op_parallelism: int = _flag(0, "operations that run at once; 0: TensorFlow's choice")
    monitoring_config_file: str = _flag("", "a MonitoringConfig as protobuf text: whether and where Prometheus reads")
    ssl_config_file: str = _flag("", "an SSLConfig as protobuf text, which holds the PEM texts; for both ports")
    # Ours, from here on.
    host: str = _flag("127.0.0.1", "address to listen on; anything but loopback should have tokens and TLS")
    tls_certificate: str = _flag("", "PEM file of the certificate chain, for both ports")
    tls_key: str = _flag("", "PEM file of the certificate's key")
    token_file: str = _flag("", "file of bearer tokens, one `name token` a line; each call then needs one")
    model_hashes_file: str = _flag("", "SHA-256 sums, as sha256sum writes them, of models without a card")
    allow_unverified_models: bool = _flag(False, "whether a model without card or sums is loaded: a model is code")
    page: bool = _flag(True, "whether browsers that ask for / get the page")
    access_log: str = _flag("", "file of the access log, a JSON object a line; standard output if empty")
    max_body_bytes: int = _flag(128 * _MEBIBYTE, "bytes that a request may have")
    max_connections: int = _flag(1000, "connections to the REST port that may be open")
    max_in_flight: int = _flag(128, "calls that may be unanswered; one more gets 503 at once")
    drain_seconds: int = _flag(20, "seconds that SIGTERM leaves to calls in flight")

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        return is_loopback(self.host)

    @property
    def encrypted(self) -> bool:
        """Whether both ports speak TLS."""
        return bool(self.tls_certificate or self.ssl_config_file)


AT_LEAST_ONE = (
    *("num_request_iterations_for_warmup", "rest_api_timeout_in_ms", "max_body_bytes", "max_connections"),
    "max_in_flight",
)


def from_flags(values: Mapping[str, Any]) -> Options:
    """Returns the options that flags ask for; a flag that is None was not given.

    Raises:
        ConfigError: A name is unknown, a value out of its range, or two flags contradict each other.
    """
    fields = {field.name: field for field in dataclasses.fields(Options)}
    for name in values:
        if name not in fields:
            raise errors.ConfigError(errors.unknown("flag of the server", name, fields))
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        _check_value(name, value, type(fields[name].default))
    options = Options(**given)
    _check_ports(options)
    _check_files(options)
    return options


def is_loopback(host: str) -> bool:
    """Returns whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warnings(options: Options) -> tuple[str, ...]:
    """Returns a sentence for each thing about the options that an operator should know before anybody connects."""
    found = []
    if not options.loopback and not (options.token_file and options.encrypted):
        missing = [text for text, there in (("tokens", options.token_file), ("TLS", options.encrypted)) if not there]
        found.append(f"--host={options.host} lets other machines connect, without {' and without '.join(missing)}.")
    if options.allow_unverified_models:
        found.append("--allow_unverified_models: models without a card or sums are loaded, and a model is code.")
    return tuple(found)


def _check_value(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise errors.ConfigError(f"--{name} takes {_KINDS[kind]}. Received: {value!r}")
    least = int(name in AT_LEAST_ONE)
    if isinstance(value, int) and kind is int and value < least:
        raise errors.ConfigError(f"--{name} is at least {least}. Received: {value}")


_KINDS: Mapping[type, str] = {int: "a whole number", bool: "true or false", str: "text"}


def _check_ports(options: Options) -> None:
    for name in ("port", "rest_api_port"):
        if getattr(options, name) > _PORTS:
            raise errors.ConfigError(f"--{name} is at most {_PORTS}. Received: {getattr(options, name)}")
    if not (options.port or options.rest_api_port or options.grpc_socket_path):
        raise errors.ConfigError("A server listens on --port, --rest_api_port or --grpc_socket_path. Received: none")
    if options.port and options.port == options.rest_api_port:
        raise errors.ConfigError(f"--port and --rest_api_port differ. Received: {options.port} for both")
    if options.monitoring_config_file and not options.rest_api_port:
        raise errors.ConfigError("--monitoring_config_file needs --rest_api_port. Received: --rest_api_port=0")


def _check_files(options: Options) -> None:
    for name in ("batching_parameters_file", "enable_per_model_batching_parameters"):
        if getattr(options, name) and not options.enable_batching:
            raise errors.ConfigError(f"--{name} needs --enable_batching. Received: --{name} alone")
    if bool(options.tls_certificate) != bool(options.tls_key):
        alone = "tls_certificate" if options.tls_certificate else "tls_key"
        raise errors.ConfigError(f"--tls_certificate and --tls_key go together. Received: --{alone} alone")
    if options.tls_certificate and options.ssl_config_file:
        raise errors.ConfigError("TLS is set by --ssl_config_file or by --tls_certificate. Received: both")
