"""What the protocols see of a model: its signatures, one call, and how it is found.

`engine` makes a `Servable` of a SavedModel, `manager` keeps the versions and hands them out. The protocols (`rest`,
`grpc`) need nothing else, and a test may hand them anything that has these methods.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

DEFAULT_SIGNATURE = "serving_default"


class Servable(Protocol):
    """One loaded version of a model."""

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signature definitions of the graph, the initialisation ones too, as TensorFlow Serving lists them."""

    def run(
        self, signature: str, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], *, timeout: float | None = None
    ) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
            signature: Its name, one of `signatures`.
            feeds: Input name to array in the graph's dtype: strings as objects of `bytes`, bfloat16 as `ml_dtypes`.
            outputs: Names of the outputs wanted.
            timeout: Seconds until it is given up, or None.

        Returns:
            Output name to array.

        Raises:
            StatusError: The graph refused, the time is over, or too many wait.
        """


@dataclasses.dataclass(frozen=True)
class Lease:
    """A version in use: it is not unloaded before its lease is given back.

    Attributes:
        name: Name of the model.
        version: The version that the request was resolved to.
        servable: The model.
        folder: Where it was loaded from, or None where it has no folder.
    """

    name: str
    version: int
    servable: Servable
    folder: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class VersionState:
    """State of one version, as the status document lists it.

    Attributes:
        version: Its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        code: Name of the status code of its load, `OK` unless it failed.
        message: Why it failed.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


class Registry(Protocol):
    """Where the protocols find models."""

    def names(self) -> Sequence[str]:
        """The names of the models that are configured, in order."""

    def lease(
        self, name: str, *, version: int | None = None, label: str | None = None
    ) -> contextlib.AbstractContextManager[Lease]:
        """Lends a version: the one asked for, the one labelled, or the latest that is loaded.

        Raises:
            StatusError: `NOT_FOUND` for a model or version that is not loaded, `INVALID_ARGUMENT` for an unknown label.
        """

    def states(self, name: str, version: int | None = None) -> Sequence[VersionState]:
        """The states of the versions of a model, newest first; those that ended stay listed.

        Raises:
            StatusError: `NOT_FOUND` where there is none.
        """
