"""Which versions of a model lie on disk, and which of them its configuration wants."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from tensorflow_serving.config import model_server_config_pb2

from medkeras.serving import status

LARGEST = 2**63 - 1
PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which versions of those on disk are wanted.

    Attributes:
        latest: So many of the highest numbers; None: any number.
        specific: Only these numbers; None: any.
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def wanted(self, found: Iterable[int]) -> frozenset[int]:
        """Returns the versions that are there and wanted."""
        there = (number for number in found if self.specific is None or number in self.specific)
        return frozenset(sorted(there, reverse=True)[: self.latest])


@dataclasses.dataclass(frozen=True)
class Configured:
    """A model as its configuration names it.

    Attributes:
        name: Its name.
        base_path: Folder of its versions, absolute.
        policy: Which versions are wanted.
        labels: Label to version.
    """

    name: str
    base_path: pathlib.Path
    policy: Policy = Policy()
    labels: tuple[tuple[str, int], ...] = ()


def configured(config: model_server_config_pb2.ModelServerConfig) -> tuple[Configured, ...]:
    """Returns the models that a configuration lists.

    Raises:
        StatusError: `INVALID_ARGUMENT`: a model is listed twice, has no absolute path, or another platform.
    """
    models: dict[str, Configured] = {}
    for given in config.model_config_list.config:
        if given.name in models:
            raise status.invalid(f"Illegal to list model {given.name} multiple times in config list")
        _check(given)
        models[given.name] = Configured(
            given.name, pathlib.Path(given.base_path), _policy(given), tuple(sorted(given.version_labels.items()))
        )
    return tuple(models.values())


def single(name: str, base_path: str) -> model_server_config_pb2.ModelServerConfig:
    """Returns the configuration of one model, its latest version wanted."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def on_disk(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """Returns number and folder of each version: a subfolder whose whole name is a number.

    Raises:
        OSError: The folder is not there, or cannot be read.
    """
    with os.scandir(base_path) as entries:
        names = sorted(entry.name for entry in entries if _is_number(entry.name) and entry.is_dir())
    return {int(name): base_path / name for name in names}


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 40 and int(name) <= LARGEST


def _check(given: model_server_config_pb2.ModelConfig) -> None:
    if not given.model_platform and not given.model_type:
        raise status.invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {given.name}"
        )
    if given.model_platform != PLATFORM and given.model_type != model_server_config_pb2.TENSORFLOW:
        raise status.invalid(f"Model {given.name} requests unsupported platform {given.model_platform}")
    if not os.path.isabs(given.base_path):
        raise status.invalid(
            f"Expected model {given.name} to have an absolute path or URI; got base_path()={given.base_path}"
        )


def _policy(given: model_server_config_pb2.ModelConfig) -> Policy:
    policy = given.model_version_policy
    if policy.WhichOneof("policy_choice") == "all":
        return Policy(latest=None)
    if policy.WhichOneof("policy_choice") == "specific":
        return Policy(latest=None, specific=frozenset(policy.specific.versions))
    return Policy(latest=max(1, policy.latest.num_versions))
