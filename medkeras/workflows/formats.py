"""The formats of files for devices: how each is made, run, and told what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import keras
import numpy as np

from medkeras.data import store
from medkeras.edge import forms, lite, metadata, onnx


class Runner(Protocol):
    """A file that answers."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs by name for images `[B, H, W, C]` of the file's dtype."""


class Format(Protocol):
    """A format of files for devices.

    Attributes:
        quantize: The names of `forms.QUANTIZE` that it has.
        bundles: Whether a bundle can be made of it.
    """

    quantize: Sequence[str]
    bundles: bool

    def convert(
        self,
        network: keras.Model,
        outputs: Sequence[str],
        canvas: store.Canvas,
        form: forms.Form,
        *,
        facts: Mapping[str, Any],
        representative: np.ndarray,
        kept_float: Sequence[str],
    ) -> lite.Converted:
        """Returns the file that answers as a network."""

    def runner(self, content: bytes) -> Runner:
        """Returns what answers by a file."""

    def described(self, content: bytes, facts: Mapping[str, Any]) -> bytes:
        """Returns the file with the facts in it."""


class _TFLite:
    quantize: Sequence[str] = forms.QUANTIZE
    bundles = True

    def convert(
        self,
        network: keras.Model,
        outputs: Sequence[str],
        canvas: store.Canvas,
        form: forms.Form,
        *,
        facts: Mapping[str, Any],
        representative: np.ndarray,
        kept_float: Sequence[str],
    ) -> lite.Converted:
        measured = representative if form.quantize in lite.MEASURED else None
        return lite.convert(network, outputs, canvas, form, representative=measured, kept_float=kept_float)

    def runner(self, content: bytes) -> Runner:
        return lite.Runner(content)

    def described(self, content: bytes, facts: Mapping[str, Any]) -> bytes:
        return metadata.embed(content, facts)


class _ONNX:
    quantize: Sequence[str] = ("none",)
    bundles = False

    def convert(
        self,
        network: keras.Model,
        outputs: Sequence[str],
        canvas: store.Canvas,
        form: forms.Form,
        *,
        facts: Mapping[str, Any],
        representative: np.ndarray,
        kept_float: Sequence[str],
    ) -> lite.Converted:
        content = onnx.convert(network, outputs, canvas, form, facts=facts)
        return lite.Converted(content, onnx.operators(content))

    def runner(self, content: bytes) -> Runner:
        return onnx.Runner(content)

    def described(self, content: bytes, facts: Mapping[str, Any]) -> bytes:
        # The converter has written them.
        return content


FORMATS: Mapping[str, Format] = MappingProxyType({"tflite": _TFLite(), "onnx": _ONNX()})
