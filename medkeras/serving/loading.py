"""From a folder to a model that answers: verified, loaded, warmed up."""

from __future__ import annotations

import pathlib
import time

from medkeras.serving import batching, config_files, engine, lifecycle, metrics, options, status, verified, warmup

_OWN_PARAMETERS = "batching_params.pbtxt"


class Loader:
    """Loads versions for a `manager.Manager`.

    Args:
        chosen: What the server is told.
        verifier: Says which folders may be loaded.
        measured: Where loads are counted.

    Raises:
        ConfigError: The file of the batching parameters cannot be used.
    """

    def __init__(self, chosen: options.Options, verifier: verified.Verifier, measured: metrics.Metrics) -> None:
        self._parameters = _parameters(chosen)
        self._pool = batching.Pool(self._parameters.num_batch_threads) if self._parameters else None
        self._chosen = chosen
        self._verifier = verifier
        self._measured = measured

    def __call__(self, name: str, version: int, folder: pathlib.Path) -> lifecycle.Closable:
        """Returns a model that answers.

        Raises:
            StatusError: It may not be loaded, or cannot.
        """
        began, code = time.monotonic(), status.Code.OK
        try:
            loaded = self._loaded(folder)
            self._warm_up(loaded, folder)
            return self._batched(loaded, folder)
        except status.StatusError as error:
            code = error.code
            raise
        except Exception as error:
            # Whatever a folder holds, it must not end the thread that keeps the other models.
            code = status.Code.INTERNAL
            raise status.StatusError(code, f"The version cannot be loaded: {type(error).__name__}") from None
        finally:
            self._measured.load(folder, code=code, seconds=time.monotonic() - began)

    def _warm_up(self, loaded: lifecycle.Closable, folder: pathlib.Path) -> None:
        if not self._chosen.enable_model_warmup:
            return
        began, code, records = time.monotonic(), status.Code.OK, 0
        try:
            records = warmup.run(loaded, folder, iterations=self._chosen.num_request_iterations_for_warmup)
        except BaseException as error:
            code = error.code if isinstance(error, status.StatusError) else status.Code.INTERNAL
            loaded.close()
            raise
        finally:
            self._measured.warmup(folder, code=code, seconds=time.monotonic() - began, records=records)

    def _batched(self, loaded: lifecycle.Closable, folder: pathlib.Path) -> lifecycle.Closable:
        if self._parameters is None or self._pool is None:
            return loaded
        own = folder / _OWN_PARAMETERS
        per_model = self._chosen.enable_per_model_batching_parameters and own.is_file()
        parameters = config_files.batching_parameters(own) if per_model else self._parameters
        return batching.Batched(loaded, parameters, self._pool)

    def _loaded(self, folder: pathlib.Path) -> lifecycle.Closable:
        self._verifier.check(folder)
        chosen = self._chosen
        return engine.Loaded(
            folder,
            tags=[tag.strip() for tag in chosen.saved_model_tags.split(",")],
            intra_op_threads=chosen.tensorflow_intra_op_parallelism or chosen.tensorflow_session_parallelism,
            inter_op_threads=chosen.tensorflow_inter_op_parallelism or chosen.tensorflow_session_parallelism,
        )


def _parameters(chosen: options.Options) -> batching.Parameters | None:
    if not chosen.enable_batching:
        return None
    file = chosen.batching_parameters_file
    return config_files.batching_parameters(file) if file else batching.Parameters()
