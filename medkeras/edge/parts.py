"""One part of a model as a TFLite file of its own, in the numbers that are asked for."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.edge import flat, ranges

Samples = Sequence[Mapping[str, np.ndarray]]
_Result = TypeVar("_Result")
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
_AT_FAULT = re.compile(r"'(tf\.\w+)' op|^\s*(tf\.\w+) ", re.MULTILINE)
_COPY, _SCOPE = re.compile(r"_\d+$"), re.compile(r"[/;]")


class Part:
    """A function from named tensors to named tensors.

    Args:
        function: Takes the tensors by name, returns others by name.
        inputs: What it takes; a first dimension of None is any number of pictures.
        models: What it calls: their variables become constants of the file.
    """

    def __init__(
        self,
        function: Callable[..., dict[str, tf.Tensor]],
        inputs: Mapping[str, tf.TensorSpec],
        models: Sequence[keras.Model],
    ) -> None:
        self._models = models
        self._last = [model.output_names[0] for model in models]
        self._held = tf.Module()
        self._held.variables_held = [variable.value for model in models for variable in model.variables]
        # The function is not held: TensorFlow would trace it once more to save it.
        self._concrete = tf.function(function, autograph=False).get_concrete_function(**inputs)

    def floating(self) -> bytes:
        """Returns the part as it is, in float32."""
        return _guarded(self._converter().convert)

    def reduced(self, how: str) -> bytes:
        """Returns the part with weights of fewer bits: `float16` or `dynamic`."""
        converter = self._converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16] if how == "float16" else []
        return _guarded(converter.convert)

    def int16x8(self, samples: Samples) -> bytes:
        """Returns the part with int16 activations, ranged by samples, and int8 weights; the rest in float32."""
        converter = self._measuring(samples)
        converter.target_spec.supported_ops = [_INT16, tf.lite.OpsSet.TFLITE_BUILTINS]
        return _guarded(converter.convert)

    def int8(self, samples: Samples, kept_float: Sequence[str] = ()) -> tuple[bytes, ...]:
        """Returns the part with int8 activations and weights, in each way of `ranges.refine`.

        Args:
            samples: Inputs by name, which ranges are measured on.
            kept_float: Names of layers that stay in float32.
        """
        # Every range is measured again: one sample shows the converter which tensors have one.
        converter = self._measuring(samples[:1])

        def quantise() -> tuple[bytes, ...]:
            options = tf.lite.experimental.QuantizationDebugOptions()
            debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
            options.denylisted_nodes = self._nodes(debugger.calibrated_model, kept_float)
            ways = []
            for calibrated in ranges.refine(debugger.calibrated_model, samples):
                debugger.calibrated_model = calibrated
                ways.append(debugger.get_nondebug_quantized_model())
            return tuple(ways)

        return _guarded(quantise)

    def _converter(self) -> tf.lite.TFLiteConverter:
        return tf.lite.TFLiteConverter.from_concrete_functions([self._concrete], self._held)

    def _measuring(self, samples: Samples) -> tf.lite.TFLiteConverter:
        converter = self._converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter(samples)
        return converter

    def _nodes(self, content: bytes, layers: Sequence[str]) -> list[str]:
        """Returns the tensors that layers give; the name of one that several operations were fused into lists all."""
        known = {layer.name for model in self._models for layer in model.layers}
        graph = flat.load(content).subgraphs[0]
        names = [tensor.name.decode() for tensor in graph.tensors]
        # What the part itself gives has lost its name.
        ends = {names[number] for number in graph.outputs} if {*self._last} & {*layers} else set()
        return [
            name for name in names if name in ends or {_layer(each, known) for each in _SCOPE.split(name)} & {*layers}
        ]


def _layer(scope: str, known: set[str]) -> str:
    """Returns the layer that a scope of the graph belongs to; a scope that is entered again has a number behind."""
    return scope if scope in known else _COPY.sub("", scope)


def _guarded(convert: Callable[[], _Result]) -> _Result:
    with _quiet():
        try:
            return convert()
        except Exception as error:  # the converter's own class is not public
            raise _explained(error) from None


def _explained(error: Exception) -> errors.MedkerasError:
    at_fault = sorted({first or second for first, second in _AT_FAULT.findall(str(error))})
    if at_fault:
        return errors.ModelError(f"A device has built-in operators only. Received: {', '.join(at_fault)}")
    return errors.InternalError(f"The conversion to TFLite failed: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the converter, C++ for the most part, writes to the standard error off the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as elsewhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
