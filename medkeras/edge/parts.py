"""One part of a model as a TFLite file of its own, in the numbers that are asked for."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors

Tensors = Mapping[str, tf.Tensor]
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
_AT_FAULT = re.compile(r"'(tf\.\w+)' op|^\s*(tf\.\w+) ", re.MULTILINE)
_COPY = re.compile(r"_\d+$")


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
        self._held = tf.Module()
        self._held.variables_held = [variable.value for model in models for variable in model.variables]
        self._held.function = tf.function(function)
        self._concrete = self._held.function.get_concrete_function(**inputs)

    def floating(self) -> bytes:
        """Returns the part as it is, in float32."""
        return _converted(self._converter())

    def quantised(
        self, how: str, *, samples: Sequence[Mapping[str, np.ndarray]] = (), kept_float: Sequence[str] = ()
    ) -> bytes:
        """Returns the part with quantised weights, and by `int8` and `int16x8` quantised activations.

        Args:
            how: `float16`, `dynamic`, `int8` or `int16x8`.
            samples: Inputs by name, which the ranges of activations are measured on.
            kept_float: Names of layers that `int8` leaves in float32.
        """
        converter = self._converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if how == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if how in ("int8", "int16x8"):
            converter.representative_dataset = lambda: iter(samples)
        if how == "int16x8":
            # The second set: an operator that has no int16 stays in float32.
            converter.target_spec.supported_ops = [_INT16, tf.lite.OpsSet.TFLITE_BUILTINS]
        return _debugged(converter, self._nodes(kept_float)) if kept_float else _converted(converter)

    def _converter(self) -> tf.lite.TFLiteConverter:
        return tf.lite.TFLiteConverter.from_concrete_functions([self._concrete], self._held)

    def _nodes(self, layers: Sequence[str]) -> list[str]:
        """Returns the names that the converter knows the operations of layers by."""
        known = {layer.name for model in self._models for layer in model.layers}
        return [
            operation.name
            for operation in self._concrete.graph.get_operations()
            if any(_layer(scope, known) in layers for scope in operation.name.split("/"))
        ]


def _layer(scope: str, known: set[str]) -> str:
    """Returns the layer that a scope of the graph belongs to; a scope that is entered again has a number behind."""
    return scope if scope in known else _COPY.sub("", scope)


def _converted(converter: tf.lite.TFLiteConverter) -> bytes:
    with _quiet():
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class is not public
            raise _explained(error) from None


def _debugged(converter: tf.lite.TFLiteConverter, nodes: list[str]) -> bytes:
    """Returns an int8 file in which the operations of some nodes stay in float32."""
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=nodes)
    with _quiet():
        try:
            debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
            return debugger.get_nondebug_quantized_model()
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
