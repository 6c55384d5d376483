"""Where a network's weights come from, and the report that says so."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import Protocol

import keras

from medkeras import errors


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """Which weights a network starts from.

    Attributes:
        source: `random`, `imagenet`, or the file as the user named it.
        sha256: Of the file that was read; empty for random weights.
        pretrained: Whether the weights were learnt before.
        sentence: The same for a person to read.
    """

    source: str
    sha256: str
    pretrained: bool
    sentence: str


class Pretrained(Protocol):
    """The ImageNet weights of one network."""

    @property
    def origin(self) -> str:
        """What the weights are and under which licence."""

    @property
    def advice(self) -> str:
        """What to do where the weights are absent."""

    @property
    def suffix(self) -> str:
        """How the name of their file ends."""

    def locate(self, *, download: bool) -> pathlib.Path | None:
        """Returns the file, or None where it is absent; raises `ConfigError` when a download fails."""

    def verify(self, content: bytes) -> None:
        """Raises `ModelError` unless the content is that of the published file."""

    def load(self, network: keras.Model, path: pathlib.Path) -> None:
        """Fills the network from a file; raises `ModelError` for a file that does not fit."""


def initialise(network: keras.Model, pretrained: Pretrained | None, *, name: str, weights: str) -> WeightsReport:
    """Fills a network with the weights asked for.

    Args:
        network: From the network's input to its embedding.
        pretrained: The ImageNet weights of this network; None where nobody publishes any.
        name: The network's name in `MODELS`.
        weights: `auto`: ImageNet's where they are on this machine, random ones otherwise; `none`: random;
            `imagenet`: ImageNet's, downloaded if need be; else a file: `.keras` of the same network, or the
            format of its published weights.

    Raises:
        ConfigError: There are no such weights, or they cannot be had.
        ModelError: The file is damaged, or is of another network.
    """
    if weights == "none":
        return _random(f"{name} starts from random weights, as asked.")
    if weights == "auto":
        return _automatic(network, pretrained, name)
    if weights == "imagenet":
        return _imagenet(network, pretrained, name)
    return _from_file(network, pretrained, name=name, path=pathlib.Path(weights))


def read_bytes(path: pathlib.Path) -> bytes:
    """Returns a weights file's content; raises `ConfigError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise errors.ConfigError(f"A weights file can be read. Received: {errors.printable(path)} ({reason})") from None


def _random(sentence: str) -> WeightsReport:
    return WeightsReport("random", "", False, sentence)


def _automatic(network: keras.Model, pretrained: Pretrained | None, name: str) -> WeightsReport:
    if pretrained is None:
        return _random(f"{name} starts from random weights: it has no published ones.")
    path = pretrained.locate(download=False)
    if path is None:
        return _random(f"{name} starts from RANDOM weights: ImageNet's are not on this machine. {pretrained.advice}")
    return _published(network, pretrained, name, path)


def _imagenet(network: keras.Model, pretrained: Pretrained | None, name: str) -> WeightsReport:
    if pretrained is None:
        raise errors.ConfigError(f"weights=imagenet needs a network with ImageNet weights. Received: {name!r}")
    path = pretrained.locate(download=True)
    if path is None:
        raise errors.ConfigError(f"weights=imagenet needs ImageNet's weights of {name}. {pretrained.advice}")
    return _published(network, pretrained, name, path)


def _published(network: keras.Model, pretrained: Pretrained, name: str, path: pathlib.Path) -> WeightsReport:
    content = read_bytes(path)
    pretrained.verify(content)
    pretrained.load(network, path)
    sentence = f"{name} starts from ImageNet weights: {pretrained.origin}."
    return WeightsReport("imagenet", hashlib.sha256(content).hexdigest(), True, sentence)


def _from_file(network: keras.Model, pretrained: Pretrained | None, *, name: str, path: pathlib.Path) -> WeightsReport:
    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    if path.suffix == ".keras":
        _load_keras(network, path)
    elif pretrained is not None and path.suffix == pretrained.suffix:
        pretrained.load(network, path)
    else:
        accepted = ".keras" if pretrained is None else f".keras or {pretrained.suffix}"
        raise errors.ConfigError(f"A weights file of {name} ends in {accepted}. Received: {errors.printable(path)}")
    shown = errors.printable(path)
    return WeightsReport(shown, digest, True, f"{name} starts from the weights of {shown}.")


def _load_keras(network: keras.Model, path: pathlib.Path) -> None:
    source = _load_model(path)
    layers = {layer.name: layer for layer in source.layers}
    for layer in network.layers:
        if layer.weights:
            _copy(layer, layers.get(layer.name), path)


def _load_model(path: pathlib.Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras documents no exception for a file that is not its own: ValueError, KeyError, zipfile's and h5py's occur.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise errors.ModelError(
            f"{errors.printable(path)}: a .keras file holds a Keras model. Received: {reason}"
        ) from None


def _copy(target: keras.Layer, source: keras.Layer | None, path: pathlib.Path) -> None:
    wanted = [tuple(weight.shape) for weight in target.weights]
    received = None if source is None else [tuple(weight.shape) for weight in source.weights]
    if source is None or wanted != received:
        raise errors.ModelError(
            f"{errors.printable(path)}: the weights fit the network, layer by layer. "
            f"Received: {target.name} of {received}, not {wanted}"
        )
    target.set_weights(source.get_weights())
