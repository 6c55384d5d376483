"""A model cut into what becomes of pixels, the network, and what becomes of its embedding."""

from __future__ import annotations

import dataclasses

import keras

from medkeras import errors

CANVAS, NETWORK_INPUT, EMBEDDING, LOGITS = "canvas", "network_input", "embedding", "logits"


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Models that do together what one did; the weights are shared.

    Attributes:
        pixels: From stored values `[B, H, W, C]` to `network_input`.
        network: From there to `embedding`: where the sums are, and the weights.
        logits: From `embedding` to the output `logits`.
        answer: From `embedding` and the stored values to all outputs.
    """

    pixels: keras.Model
    network: keras.Model
    logits: keras.Model
    answer: keras.Model


def cut(model: keras.Model) -> Pieces:
    """Cuts a functional model before its first layer with a kernel, and after `embedding`.

    Raises:
        ModelError: It has no layer `embedding`, or more than one way leads there.
    """
    try:
        embedding = model.get_layer(EMBEDDING).output
        start = _first_kernel(keras.Model(model.input, embedding)).input
        return Pieces(
            pixels=keras.Model(model.input, start),
            network=keras.Model(start, embedding),
            logits=keras.Model(embedding, model.output[LOGITS]),
            answer=keras.Model([embedding, model.input], model.output),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise errors.ModelError(
            "A model that is quantised has one way from its pixels to a layer 'embedding'. "
            f"Received: {model.name} ({error})"
        ) from None


def _first_kernel(network: keras.Model) -> keras.Layer:
    found = next((layer for layer in network.layers if hasattr(layer, "kernel")), None)
    if found is None:
        raise ValueError("no layer with a kernel")
    return found
