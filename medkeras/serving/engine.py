"""One SavedModel in a session of its own, run as TensorFlow Serving runs it.

The V1 loader and session take any SavedModel, those of TensorFlow 1 with reference variables too, and hold a request to
nothing but the operations of the graph: a declared shape is not enforced, as TensorFlow Serving does not enforce it.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session

from medkeras.serving import status

TAGS = ("serve",)
FILE = "saved_model.pb"
_NO_MODEL = (
    "Specified file path does not appear to contain a SavedModel bundle (should have a file called `saved_model.pb`)"
)

# What Python puts before the words of the runtime: where in the sources of whoever exported the model a node was made.
_DETECTED = re.compile(r"\AGraph execution error:\n\n(?:Detected at node.*?\nNode: '[^'\n]*'\n)?", re.DOTALL)


class Loaded:
    """A SavedModel in memory; see `servable.Servable`.

    Args:
        folder: Folder of the version.
        tags: Tags of its graph.
        intra_op_threads: Threads inside an operation; 0: TensorFlow's choice.
        inter_op_threads: Operations at once; 0: TensorFlow's choice.

    Raises:
        StatusError: It cannot be loaded: `NOT_FOUND`, `OUT_OF_RANGE` and others, as TensorFlow Serving tells them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        tags: Sequence[str] = TAGS,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        place = pathlib.Path(folder)
        if not any((place / name).is_file() for name in (FILE, f"{FILE}txt")):
            raise status.StatusError(status.Code.NOT_FOUND, _NO_MODEL)
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
        )
        # A version takes no more of an accelerator's memory than it needs, so that the next one finds room beside it.
        settings.gpu_options.allow_growth = True
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=settings)
        try:
            self._meta = self._load(place, tags)
        except status.StatusError:
            self._session.close()
            raise
        # Whether an operation of the graph runs now is the session's business, not that of the Python graph.
        self._session._extend_graph()
        # A map of protocol buffers fails on a name that is no UTF-8, where a dictionary does not find it.
        self._signatures = dict(self._meta.signature_def)
        self._tensors: dict[str, object] = {}

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """See `servable.Servable`."""
        return self._signatures

    def run(
        self, signature: str, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, np.ndarray]:
        """See `servable.Servable`."""
        defined = self._signatures[signature]
        fed = {self._tensor(defined.inputs[name].name): np.asarray(value) for name, value in feeds.items()}
        fetched = [name for name in outputs if ":" in defined.outputs[name].name]
        targets = [self._operation(defined.outputs[name].name) for name in outputs if name not in fetched]
        values = self._run(fed, [self._tensor(defined.outputs[name].name) for name in fetched], targets, timeout)
        return {name: _array(value) for name, value in zip(fetched, values, strict=True)}

    def close(self) -> None:
        """Gives its memory back; no call may be running."""
        self._session.close()

    def _load(self, folder: pathlib.Path, tags: Sequence[str]) -> meta_graph_pb2.MetaGraphDef:
        try:
            with self._graph.as_default():
                return tf.compat.v1.saved_model.loader.load(self._session, list(tags), str(folder))
        except tf.errors.OpError as error:
            told = _DETECTED.sub("", error.message).replace(str(folder), folder.name)
            raise status.StatusError(status.Code(error.error_code), told) from None
        except message.DecodeError:
            raise status.StatusError(status.Code.OUT_OF_RANGE, "Read less bytes than requested") from None
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            code = status.Code.NOT_FOUND if isinstance(error, RuntimeError) else status.Code.OUT_OF_RANGE
            raise status.StatusError(code, f"The SavedModel cannot be loaded: {type(error).__name__}") from None

    def _run(
        self, feeds: Mapping[object, np.ndarray], fetches: list[object], targets: list[object], timeout: float | None
    ) -> Sequence[np.ndarray]:
        options = None
        if timeout is not None:
            milliseconds = max(1, round(1000 * timeout))
            options = pywrap_tf_session.TF_NewBufferFromString(
                config_pb2.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
            )
        try:
            # Below `Session.run`, which would hold feeds to the shapes that the graph declares.
            return pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session, options, dict(feeds), fetches, targets, None
            )
        except tf.errors.OpError as error:
            raise _status(error) from None
        except UnicodeDecodeError:
            # The message quotes bytes of the input, which are no text; what the code was is lost with it.
            raise status.invalid("The graph refuses the input; its message quotes bytes that are no UTF-8") from None
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def _tensor(self, name: str) -> object:
        found = self._tensors.get(name)
        if found is None:
            found = self._tensors[name] = self._graph.get_tensor_by_name(name)._as_tf_output()
        return found

    def _operation(self, name: str) -> object:
        return self._graph.get_operation_by_name(name)._c_op


def _array(value: object) -> np.ndarray:
    """Returns an array; a lone string comes as bytes, which NumPy would cut at its trailing zeros."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _status(error: tf.errors.OpError) -> status.StatusError:
    return status.StatusError(status.Code(error.error_code), error.message)
