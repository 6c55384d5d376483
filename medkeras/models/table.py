"""Every network that medkeras can train, in one table, and the builder that reads it."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence

import keras

from medkeras import errors
from medkeras.models import cnn, efficientnet, efficientnet_lite, resnet, weights

Head = Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]]


@dataclasses.dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        build: Takes the network's input `[B, H, W, C]`, returns the embedding `[B, F]`.
        normalise: The normalisation that the network expects: `zscore`; `lite`, `(v - 127) / 128` of
            0..255; or `byte`, 0..255 itself.
        channels: 3 where the weights need colour; grey is then repeated. None: any number.
        min_size: Smallest height and width in pixels.
        pretrained: The ImageNet weights, where anybody publishes them.
    """

    build: Callable[[keras.KerasTensor], keras.KerasTensor]
    normalise: str = "zscore"
    channels: int | None = None
    min_size: int = 8
    pretrained: weights.Pretrained | None = None


@dataclasses.dataclass(frozen=True)
class BuiltModel:
    """A model and where its weights came from."""

    model: keras.Model
    weights: weights.WeightsReport


def _lite(width: float, depth: float, pretrained: weights.Pretrained) -> Family:
    build = functools.partial(efficientnet_lite.build, width=width, depth=depth)
    return Family(build, normalise="lite", channels=3, min_size=28, pretrained=pretrained)


def _application(application: Callable[..., keras.Model], pretrained: weights.Pretrained) -> Family:
    build = functools.partial(efficientnet.build, application=application)
    return Family(build, normalise="byte", channels=3, min_size=28, pretrained=pretrained)


MODELS: Mapping[str, Family] = types.MappingProxyType(
    {
        "cnn": Family(cnn.build),
        "resnet": Family(functools.partial(resnet.build, width=64)),
        "resnet_small": Family(functools.partial(resnet.build, width=16)),
        "efficientnet_lite0": _lite(1.0, 1.0, efficientnet_lite.LITE0),
        "efficientnet_lite1": _lite(1.0, 1.1, efficientnet_lite.LITE1),
        "efficientnet_lite2": _lite(1.1, 1.2, efficientnet_lite.LITE2),
        "efficientnet_b0": _application(keras.applications.EfficientNetB0, efficientnet.B0),
        "efficientnet_b1": _application(keras.applications.EfficientNetB1, efficientnet.B1),
        "efficientnet_b2": _application(keras.applications.EfficientNetB2, efficientnet.B2),
        "efficientnet_b3": _application(keras.applications.EfficientNetB3, efficientnet.B3),
        "efficientnet_v2_b0": _application(keras.applications.EfficientNetV2B0, efficientnet.V2_B0),
        "efficientnet_v2_s": _application(keras.applications.EfficientNetV2S, efficientnet.V2_S),
    }
)


def build_model(
    name: str,
    *,
    image_shape: tuple[int | None, int | None, int],
    preprocessing: Sequence[keras.layers.Layer],
    head: Head,
    weights: str = "auto",
    dropout: float = 0.0,
) -> BuiltModel:
    """Builds stored values -> preprocessing -> network -> head as one functional model.

    Args:
        name: A name of `MODELS`.
        image_shape: Height, width and channels of the input `image`, float32 `[B, H, W, C]`, stored values.
        preprocessing: Layers from stored values to what the network expects (`Family.normalise`), in order.
        head: Takes the embedding `[B, F]`, returns the outputs by name.
        weights: `auto`, `none`, `imagenet` or a file; see `weights.initialise`.
        dropout: Share of the embedding dropped in training before the head, 0 <= dropout < 1.

    Returns:
        The model, whose last map `[B, h, w, F]` is the output of the layer `features` and whose embedding is that
        of `embedding`, and the report of its weights.

    Raises:
        ConfigError: The name is unknown, the image too small, or the weights cannot be had.
        ModelError: The weights file is damaged or does not fit.
    """
    family = _family(name)
    image = keras.Input(image_shape, dtype="float32", name="image")
    network_input = _network_input(image, preprocessing, name=name, family=family)
    embedding = family.build(network_input)
    report = _initialise(keras.Model(network_input, embedding), family, name, weights)
    x = keras.layers.Dropout(dropout, name="dropout")(embedding) if dropout else embedding
    return BuiltModel(keras.Model(image, head(x), name=name), report)


def _family(name: str) -> Family:
    if name not in MODELS:
        raise errors.ConfigError(errors.unknown("model", name, MODELS))
    return MODELS[name]


def _initialise(network: keras.Model, family: Family, name: str, source: str) -> weights.WeightsReport:
    return weights.initialise(network, family.pretrained, name=name, weights=source)


def _network_input(
    image: keras.KerasTensor, preprocessing: Sequence[keras.layers.Layer], *, name: str, family: Family
) -> keras.KerasTensor:
    x = image
    for layer in preprocessing:
        x = layer(x)
    _check_size(x, name=name, family=family)
    if family.channels in (None, x.shape[-1]):
        return x
    if x.shape[-1] != 1:
        raise errors.ConfigError(f"{name} takes 1 or {family.channels} channels. Received: {x.shape[-1]}")
    return keras.layers.Concatenate(name="repeat_channels")([x] * family.channels)


def _check_size(x: keras.KerasTensor, *, name: str, family: Family) -> None:
    height, width = x.shape[1:3]
    if height is None or width is None or min(height, width) < family.min_size:
        raise errors.ConfigError(
            f"{name} takes images of a fixed size, {family.min_size}x{family.min_size} pixels or more. "
            f"Received: {height}x{width}"
        )
