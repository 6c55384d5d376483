"""Registries without a manager: SavedModels in folders, and models that are NumPy functions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from medkeras.serving import servable, status


class Versions:
    """Serves models that are there for good.

    Args:
        models: Name to version to servable.
        labels: Name to label to version.
    """

    def __init__(
        self,
        models: Mapping[str, Mapping[int, servable.Servable]],
        labels: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._models = models
        self._labels = labels or {}

    def names(self) -> Sequence[str]:
        return list(self._models)

    @contextlib.contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[servable.Lease]:
        if label is not None:
            if label not in self._labels.get(name, {}):
                raise status.invalid(f"Unrecognized servable version label: {label}")
            version = self._labels[name][label]
        versions = self._models.get(name, {})
        wanted = max(versions, default=None) if version is None else version
        if wanted not in versions:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise status.StatusError(status.Code.NOT_FOUND, f"Servable not found for request: {asked}")
        yield servable.Lease(name, wanted, versions[wanted])

    def states(self, name: str, version: int | None = None) -> Sequence[servable.VersionState]:
        versions = [one for one in sorted(self._models.get(name, {}), reverse=True) if version in (None, one)]
        if not versions:
            what = "any versions of" if version is None else f"version {version} of"
            raise status.StatusError(status.Code.NOT_FOUND, f"Could not find {what} model {name}")
        return [servable.VersionState(one, "AVAILABLE") for one in versions]


@dataclasses.dataclass
class Signature:
    """One signature of a `NumPyModel`: dtypes of its inputs and outputs by name, and what it computes."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    compute: Callable[..., Mapping[str, np.ndarray]]
    method: str = "tensorflow/serving/predict"

    @property
    def definition(self) -> meta_graph_pb2.SignatureDef:
        definition = meta_graph_pb2.SignatureDef(method_name=self.method)
        for fields, names in ((definition.inputs, self.inputs), (definition.outputs, self.outputs)):
            for name, dtype in names.items():
                fields[name].name = f"{name}:0"
                fields[name].dtype = types_pb2.DataType.Value(f"DT_{dtype.upper()}")
        return definition


class NumPyModel:
    """A servable whose signatures are functions of arrays; it remembers what it was fed."""

    def __init__(self, **signatures: Signature) -> None:
        self._signatures = signatures
        self.signatures = {name: one.definition for name, one in signatures.items()}
        self.fed: dict[str, np.ndarray] = {}
        self.timeout: float | None = None

    def run(
        self, signature: str, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, np.ndarray]:
        self.fed, self.timeout = dict(feeds), timeout
        for name, array in feeds.items():
            wanted = tf.as_dtype(self.signatures[signature].inputs[name].dtype).as_numpy_dtype
            assert array.dtype == wanted, f"{name} is {array.dtype}, and the graph takes {wanted}"
        found = self._signatures[signature].compute(**feeds)
        texts = {name for name, info in self.signatures[signature].outputs.items() if info.dtype == types_pb2.DT_STRING}
        return {name: np.asarray(found[name], object if name in texts else None) for name in outputs}
