"""Transfer in stages: freeze all but the last blocks, or cut the model where the frozen part ends."""

from __future__ import annotations

import re

import keras

from medkeras import errors

_BLOCK = re.compile(r"(stem|block\d+[a-z]*|top)_")
_END = ("features", "embedding")


def block_outputs(model: keras.Model) -> tuple[str, ...]:
    """Returns the last layer of every block of the network, in order; the last one is `embedding`.

    Everything after such a layer depends on its output alone, so that the model can be cut there.

    >>> from medkeras import models
    >>> def head(x): return {"logits": keras.layers.Dense(2, name="logits")(x)}
    >>> built = models.build_model("cnn", image_shape=(28, 28, 1), preprocessing=(), head=head)
    >>> block_outputs(built.model)
    ('block1_pool', 'features', 'embedding')
    """
    last: dict[str, str] = {}
    block = ""
    # Keras lists layers by their distance from the outputs: a block's single exit comes after its other layers.
    for layer in model.layers:
        match = _BLOCK.match(layer.name)
        block = match[1] if match else block
        if match or layer.name in _END:
            last[block] = layer.name
        if layer.name == "embedding":
            break
    return tuple(last.values())


def freeze(model: keras.Model, *, unfreeze: int) -> None:
    """Makes the head and the last blocks trainable, and nothing else.

    Batch normalisation of the network is never trainable: it stays in inference mode, with the moments that the
    pretrained weights were learnt with. A model that was compiled must be compiled again.

    Args:
        model: Built by `build_model` from pretrained weights, or loaded.
        unfreeze: Number of blocks to train, counted from the head; -1: all.

    Raises:
        ConfigError: `unfreeze` is below -1.
    """
    _check(unfreeze, low=-1)
    ends = block_outputs(model)
    all_blocks = unfreeze < 0 or unfreeze >= len(ends)
    cut = -1 if all_blocks else _index(model, ends[-unfreeze - 1])
    embedding = _index(model, ends[-1])
    for index, layer in enumerate(model.layers):
        in_network = index <= embedding
        layer.trainable = index > cut and not (in_network and isinstance(layer, keras.layers.BatchNormalization))


def split(model: keras.Model, *, unfreeze: int) -> tuple[keras.Model, keras.Model]:
    """Cuts the model where `freeze` with the same `unfreeze` ends.

    Args:
        model: Built by `build_model`, or loaded.
        unfreeze: Number of blocks after the cut; 0 cuts at the embedding `[B, F]`.

    Returns:
        From `image` to the tensor at the cut, and from there to the outputs: both share the model's layers.

    Raises:
        ConfigError: `unfreeze` leaves no block before the cut.
    """
    ends = block_outputs(model)
    _check(unfreeze, low=0, high=len(ends) - 1)
    cut = model.get_layer(ends[-unfreeze - 1]).output
    prefix = keras.Model(model.input, cut, name=f"{model.name}_prefix")
    return prefix, keras.Model(cut, model.output, name=f"{model.name}_suffix")


def _index(model: keras.Model, name: str) -> int:
    return [layer.name for layer in model.layers].index(name)


def _check(unfreeze: int, *, low: int, high: int | None = None) -> None:
    if unfreeze < low or (high is not None and unfreeze > high):
        rule = f"at least {low}" if high is None else f"between {low} and {high}, a block before the cut being needed"
        raise errors.ConfigError(f"train.unfreeze is {rule}. Received: {unfreeze}")
