"""A Keras model as a TFLite file for LiteRT."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.data import store
from medkeras.edge import cutting, flat, forms, joining, parts, running, simulated
from medkeras.preprocessing import canvas as canvas_layers

IMAGE = "image"
MEASURED = ("int8", "int16x8")
"""Forms whose ranges are measured on representative images."""

Runner = running.Runner


@dataclasses.dataclass(frozen=True)
class Converted:
    """A TFLite file and what is in it.

    Attributes:
        content: The file.
        operators: Its built-in operators and how often each stands in it.
        kept_float: Layers of the network that were left in float32.
    """

    content: bytes
    operators: Mapping[str, int]
    kept_float: tuple[str, ...] = ()


def convert(
    model: keras.Model,
    outputs: Sequence[str],
    canvas: store.Canvas,
    form: forms.Form,
    *,
    representative: np.ndarray | None = None,
    kept_float: Sequence[str] = (),
) -> Converted:
    """Converts a model to a file of one signature, from `image` of the device's dtype to the outputs by name.

    The device's pictures are brought onto the canvas inside the file. Whatever the form, only the network is
    quantised, its weights per channel: the preparation of pixels stays in float32, and so does everything from the
    logits on, for an int8 probability is a multiple of 1/256.

    Args:
        model: Functional, from stored values on the canvas `[B, H, W, C]` to a dict.
        outputs: Names of the model's outputs that the file answers with.
        canvas: What the model takes.
        form: What the device gives, and what it computes in.
        representative: Training images `[N, H, W, C]` as the device gives them; `MEASURED` forms need them.
        kept_float: Names of layers of the network that `int8` leaves in float32.

    Raises:
        ConfigError: The form does not fit the canvas, or the names or images that it needs are missing.
        ModelError: An operator is not built in, or the model cannot be cut into pixels, network and answer.
    """
    _check(canvas, form, representative, kept_float)
    conversion = _Conversion(model, tuple(outputs), canvas, form)
    content = conversion.whole() if form.quantize == "none" else conversion.quantised(representative, kept_float)
    found = flat.count(content)
    if foreign := flat.foreign(found):
        raise errors.ModelError(f"A device has built-in operators only. Received: {', '.join(foreign)}")
    return Converted(content, found, tuple(kept_float))


def _check(
    canvas: store.Canvas, form: forms.Form, representative: np.ndarray | None, kept_float: Sequence[str]
) -> None:
    if canvas.depth:
        raise errors.ModelError(f"A device gives pictures. Received: a model of volumes of {canvas.depth} planes")
    if form.channels not in (1, canvas.channels):
        raise errors.ConfigError(
            f"A device gives the channels that the model takes, or grey. "
            f"Received: {form.channels} for a model of {canvas.channels}"
        )
    if form.quantize in MEASURED and (representative is None or not len(representative)):
        raise errors.ConfigError(f"{form.quantize} is measured on representative images. Received: none")
    if kept_float and form.quantize != "int8":
        raise errors.ConfigError(f"Layers are kept in float32 by int8 alone. Received: {form.quantize}")


class _Conversion:
    def __init__(self, model: keras.Model, outputs: tuple[str, ...], canvas: store.Canvas, form: forms.Form) -> None:
        self._model = model
        self._outputs = outputs
        self._form = form
        self._size = canvas.size
        self._channels = canvas.channels
        self._to_canvas = canvas_layers.Canvas(canvas.size, mode=canvas.mode, round_values=canvas.dtype != "float32")

    def whole(self) -> bytes:
        """Returns the file in float32."""

        def function(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._chosen(self._model(self._prepared(image), training=False))

        content = parts.Part(function, {IMAGE: self._image()}, [self._model]).floating()
        return joining.join([content], image=IMAGE, outputs=self._outputs)

    def quantised(self, representative: np.ndarray | None, kept_float: Sequence[str]) -> bytes:
        """Returns the file with a quantised network."""
        # A copy: Keras cannot save a model that was cut.
        pieces = cutting.cut(simulated.copy(self._model))
        unknown = set(kept_float) - {layer.name for layer in pieces.network.layers}
        if unknown:
            names = [layer.name for layer in pieces.network.layers]
            raise errors.ConfigError(errors.unknown("layer of the network", min(unknown), names))
        samples = self._samples(pieces.pixels, representative) if representative is not None else []
        ways = self._quantised(self._network(pieces), samples, kept_float)
        network, shift = _closest(pieces, ways, samples) if self._form.quantize in MEASURED else (ways[0], None)
        contents = [self._pixels(pieces).floating(), network, self._answer(pieces, shift).floating()]
        return joining.join(contents, image=IMAGE, outputs=self._outputs)

    def _quantised(self, network: parts.Part, samples: parts.Samples, kept_float: Sequence[str]) -> tuple[bytes, ...]:
        match self._form.quantize:
            case "int8":
                return network.int8(samples, kept_float)
            case "int16x8":
                return (network.int16x8(samples),)
            case weights:
                return (network.reduced(weights),)

    def _pixels(self, pieces: cutting.Pieces) -> parts.Part:
        def function(image: tf.Tensor) -> dict[str, tf.Tensor]:
            prepared = self._prepared(image)
            return {cutting.CANVAS: prepared, cutting.NETWORK_INPUT: pieces.pixels(prepared, training=False)}

        return parts.Part(function, {IMAGE: self._image()}, [pieces.pixels])

    def _network(self, pieces: cutting.Pieces) -> parts.Part:
        def function(network_input: tf.Tensor) -> dict[str, tf.Tensor]:
            return {cutting.EMBEDDING: pieces.network(network_input, training=False)}

        inputs = {cutting.NETWORK_INPUT: self._spec(pieces.network.input, cutting.NETWORK_INPUT)}
        return parts.Part(function, inputs, [pieces.network])

    def _answer(self, pieces: cutting.Pieces, shift: np.ndarray | None) -> parts.Part:
        def function(embedding: tf.Tensor, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
            shifted = embedding if shift is None else embedding + shift
            return self._chosen(pieces.answer([shifted, canvas], training=False))

        inputs = {
            cutting.EMBEDDING: self._spec(pieces.network.output, cutting.EMBEDDING),
            cutting.CANVAS: self._spec(pieces.pixels.input, cutting.CANVAS),
        }
        return parts.Part(function, inputs, [pieces.answer])

    def _samples(self, pixels: keras.Model, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Returns the network's input for representative images, as many at a time as the file takes."""
        step = self._form.batch or 1
        rows = np.resize(np.arange(len(images)), -(-len(images) // step) * step).reshape(-1, step)
        prepare = tf.function(lambda image: pixels(self._prepared(image), training=False))
        return [{cutting.NETWORK_INPUT: prepare(images[row]).numpy()} for row in rows]

    def _prepared(self, image: tf.Tensor) -> tf.Tensor:
        """Returns stored values on the canvas, float32 `[B, H, W, C]`."""
        prepared = self._to_canvas(tf.cast(image, tf.float32))
        return tf.concat([prepared] * self._channels, axis=-1) if self._form.channels != self._channels else prepared

    def _chosen(self, answer: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: answer[name] for name in self._outputs}

    def _image(self) -> tf.TensorSpec:
        form = self._form
        return tf.TensorSpec((form.batch or None, *form.size, form.channels), form.dtype, name=IMAGE)

    def _spec(self, tensor: keras.KerasTensor, name: str) -> tf.TensorSpec:
        return tf.TensorSpec((self._form.batch or None, *tensor.shape[1:]), tf.float32, name=name)


def _closest(pieces: cutting.Pieces, ways: Sequence[bytes], samples: parts.Samples) -> tuple[bytes, np.ndarray]:
    """Returns the quantised network whose logits are nearest to the exact ones, and what its embeddings lack.

    That is the mean over the samples, float32 `[F]`, which is added where the answer begins.

    Reference:
        Nagel, van Baalen, Blankevoort and Welling (2019), Data-Free Quantization Through Weight Equalization and Bias
        Correction, ICCV, 4.2.
    """
    exact = tf.function(lambda given: pieces.network(given, training=False))
    expected = np.concatenate([exact(sample[cutting.NETWORK_INPUT]).numpy() for sample in samples])

    def tried(content: bytes) -> tuple[float, bytes, np.ndarray]:
        run = running.Runner(content).call
        found = np.concatenate([run(**sample)[cutting.EMBEDDING] for sample in samples])
        shift = (expected - found).mean(axis=0)
        lost = pieces.logits(found + shift, training=False) - pieces.logits(expected, training=False)
        return float(np.square(lost).mean()), content, shift

    _, content, shift = min((tried(content) for content in ways), key=lambda found: found[0])
    return content, shift
