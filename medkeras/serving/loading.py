"""From a folder to a model that answers: verified, loaded, warmed up."""

from __future__ import annotations

import pathlib
import time

from medkeras.serving import engine, lifecycle, metrics, options, status, verified


class Loader:
    """Loads versions for a `manager.Manager`.

    Args:
        chosen: What the server is told.
        verifier: Says which folders may be loaded.
        measured: Where loads are counted.
    """

    def __init__(self, chosen: options.Options, verifier: verified.Verifier, measured: metrics.Metrics) -> None:
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
            return self._loaded(folder)
        except status.StatusError as error:
            code = error.code
            raise
        finally:
            self._measured.load(folder, code=code, seconds=time.monotonic() - began)

    def _loaded(self, folder: pathlib.Path) -> lifecycle.Closable:
        self._verifier.check(folder)
        chosen = self._chosen
        return engine.Loaded(
            folder,
            tags=[tag.strip() for tag in chosen.saved_model_tags.split(",")],
            intra_op_threads=chosen.tensorflow_intra_op_parallelism or chosen.tensorflow_session_parallelism,
            inter_op_threads=chosen.tensorflow_inter_op_parallelism or chosen.tensorflow_session_parallelism,
        )
