"""`--mode=serve`: models on this machine, answered for over REST, gRPC and a page."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import grpc
from tensorflow_serving.config import model_server_config_pb2

from medkeras import errors
from medkeras.serving import (
    access,
    access_log,
    config_files,
    garbage,
    grpc_noted,
    grpc_server,
    loading,
    manager,
    metrics,
    options,
    page,
    process,
    rest,
    status,
    verified,
    versions,
)
from medkeras.workflows import answering

Tell = Callable[[str], None]
_MICROSECONDS = 1_000_000


def serve(models: Sequence[str | os.PathLike[str]] = (), chosen: options.Options | None = None, *, tell: Tell) -> None:
    """Serves models as TensorFlow Serving does, until SIGTERM or SIGINT; then lets calls in flight end.

    Args:
        models: Folders of versions, or of models: then their newest version, one that comes later too. None: the
            options name the models.
        chosen: What the server is told.
        tell: Told, one line at a time, what an operator should know.

    Raises:
        ConfigError: No model is named, or a file that the options name cannot be used.
        ModelError: A model is not what its card says, or cannot be loaded.
    """
    chosen = chosen or options.Options()
    config = _configuration(models, chosen)
    verifier = verified.Verifier(chosen.model_hashes_file, unverified=chosen.allow_unverified_models)
    _verify(config, verifier)
    for warning in options.warnings(chosen):
        tell(warning)
    stop = process.Stop()
    with stop.listening(), _log(chosen) as log:
        _run(config, chosen, verifier, stop=stop, log=log, tell=tell)
    process.end()


def _run(
    config: model_server_config_pb2.ModelServerConfig,
    chosen: options.Options,
    verifier: verified.Verifier,
    *,
    stop: process.Stop,
    log: access_log.AccessLog,
    tell: Tell,
) -> None:
    """Loads, opens the ports when every model has a version, and answers until it is told to stop."""
    measured = metrics.Metrics(lambda name: name in kept.names())
    load = loading.Loader(chosen, verifier, measured)
    early = chosen.allow_version_labels_for_unavailable_models
    kept = manager.Manager(load, _timing(chosen), early_labels=early, tell=tell, settle=garbage.settle)
    certificate = _certificate(chosen)
    parts = _parts(chosen, kept, measured, log, certificate)
    with contextlib.closing(kept):
        _start(kept, config, stop)
        if chosen.model_config_file and chosen.model_config_file_poll_wait_seconds:
            threading.Thread(target=_reread, args=(kept, chosen, stop, tell), name="config", daemon=True).start()
        if not stop.requested.is_set():
            process.serve(_with_grpc(parts, kept, certificate), stop, ready=tell)


def _start(kept: manager.Manager, config: model_server_config_pb2.ModelServerConfig, stop: process.Stop) -> None:
    try:
        kept.start(config)
        kept.wait(stop.requested)
    except status.StatusError as error:
        raise errors.ModelError(f"Failed to start server. Error: {error.code.name}: {error.message}") from None


def _reread(kept: manager.Manager, chosen: options.Options, stop: process.Stop, tell: Tell) -> None:
    """Takes each change of the configuration file; one that is refused leaves the models as they are."""
    taken, told = None, ""
    while not stop.requested.wait(chosen.model_config_file_poll_wait_seconds):
        try:
            config = config_files.models(chosen.model_config_file)
            if config != taken:
                _reload(kept, config)
                taken, told = config, ""
        except (errors.ConfigError, status.StatusError) as error:
            # What is refused now, a label of a version that is still loading, may be taken the next time.
            if str(error) != told:
                told = str(error)
                tell(f"--model_config_file is not taken: {error}")


def _reload(kept: manager.Manager, config: model_server_config_pb2.ModelServerConfig) -> None:
    if not config.WhichOneof("config"):
        raise errors.ConfigError("A configuration that takes the place of another lists models. Received: none")
    kept.reload(config)


def _parts(
    chosen: options.Options,
    kept: manager.Manager,
    measured: metrics.Metrics,
    log: access_log.AccessLog,
    certificate: access.Certificate | None,
) -> process.Parts:
    return process.Parts(
        chosen,
        kept,
        lambda request, registry: rest.answer(request, registry, chosen),
        measured,
        log,
        tokens=access.Tokens(chosen.token_file) if chosen.token_file else None,
        tls=certificate.context() if certificate else None,
        metrics_path=config_files.metrics_path(chosen.monitoring_config_file) if chosen.monitoring_config_file else "",
        pages=page.routes(answering.Answers(kept)) if chosen.page else (),
    )


def _with_grpc(parts: process.Parts, kept: manager.Manager, certificate: access.Certificate | None) -> process.Parts:
    """Returns the parts with the server of the gRPC port, which is bound but not started, where one is asked for."""
    chosen, tokens = parts.chosen, parts.tokens
    if not (chosen.port or chosen.grpc_socket_path):
        return parts
    interceptors: list[grpc.ServerInterceptor] = [grpc_noted.Interceptor(parts.log, parts.measured)]
    if tokens is not None:
        interceptors = [grpc_noted.Interceptor(parts.log, parts.measured, tokens.user), access.GrpcTokens(tokens)]
    server = grpc_server.build(
        grpc_noted.Registry(kept, parts.measured),
        kept,
        chosen,
        credentials=certificate.credentials() if certificate else None,
        interceptors=interceptors,
    )
    return dataclasses.replace(parts, grpc_server=server)


def _certificate(chosen: options.Options) -> access.Certificate | None:
    if chosen.ssl_config_file:
        return config_files.certificate(chosen.ssl_config_file)
    return access.certificate(chosen)


def _timing(chosen: options.Options) -> manager.Timing:
    interval = chosen.load_retry_interval_micros / _MICROSECONDS
    return manager.Timing(chosen.file_system_poll_wait_seconds, chosen.max_num_load_retries, interval)


def _configuration(
    models: Sequence[str | os.PathLike[str]], chosen: options.Options
) -> model_server_config_pb2.ModelServerConfig:
    """Returns the models that the command line names."""
    if models and (chosen.model_base_path or chosen.model_config_file):
        raise errors.ConfigError(
            "Models are named by --model, --model_base_path or --model_config_file. Received: --model and another"
        )
    if models:
        return _named(models)
    if chosen.model_config_file:
        return config_files.models(chosen.model_config_file)
    if not chosen.model_base_path:
        raise errors.ConfigError("--mode=serve needs --model, --model_base_path or --model_config_file. Received: none")
    return versions.single(chosen.model_name, chosen.model_base_path)


def _named(models: Sequence[str | os.PathLike[str]]) -> model_server_config_pb2.ModelServerConfig:
    """Returns the configuration of folders: of a version this one alone, of a model its newest version."""
    config = model_server_config_pb2.ModelServerConfig()
    entries: dict[str, model_server_config_pb2.ModelConfig] = {}
    for model in models:
        folder = pathlib.Path(model).absolute()
        number = folder.name if (folder / "saved_model.pb").is_file() else ""
        base = folder.parent if number else folder
        if not base.is_dir() or (number and not number.isdecimal()):
            raise errors.ModelError(
                "A model to serve is a folder of numbered versions, or one of the versions. "
                f"Received: {errors.printable(model)!r}"
            )
        entry = entries.get(base.name) or config.model_config_list.config.add(
            name=base.name, base_path=str(base), model_platform=versions.PLATFORM
        )
        if entry.base_path != str(base):
            raise errors.ConfigError(f"Models that are served differ in name. Received: {base.name} twice")
        entries[base.name] = entry
        if number:
            entry.model_version_policy.specific.versions.append(int(number))
    return config


def _verify(config: model_server_config_pb2.ModelServerConfig, verifier: verified.Verifier) -> None:
    """Refuses at once, and not after minutes of tries, a version that may not be loaded."""
    try:
        for model in versions.configured(config):
            with contextlib.suppress(OSError):
                found = versions.on_disk(model.base_path)
                for number in sorted(model.policy.wanted(found)):
                    _check(verifier, found[number])
    except status.StatusError as error:
        raise errors.ConfigError(error.message) from None


def _check(verifier: verified.Verifier, folder: pathlib.Path) -> None:
    try:
        verifier.check(folder)
    except status.StatusError as error:
        raise errors.ModelError(f"{errors.printable(folder)}: {error.message}") from None


@contextlib.contextmanager
def _log(chosen: options.Options) -> Iterator[access_log.AccessLog]:
    with contextlib.ExitStack() as stack:
        stream = sys.stdout
        if chosen.access_log:
            stream = stack.enter_context(open(chosen.access_log, "a", encoding="utf-8"))
        log = access_log.AccessLog(stream)
        stack.callback(log.close)
        yield log
