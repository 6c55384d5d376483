"""From settings to layers: the chain in front of the network, and the augmentation of training images."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from medkeras import config, errors
from medkeras.preprocessing import augment, denoise, equalise, geometry, grayscale, normalise, window

BYTES = (0.0, 255.0)
NORMALISATIONS = ("zscore", "dataset", "minmax", "imagenet", "lite", "byte", "none")
WINDOWS = ("auto", "none", "percentile", *window.CT_WINDOWS)

# Means and standard deviations of ImageNet's red, green and blue on 0…1.
# Reference: torchvision and Keras ("torch" mode of `imagenet_utils.preprocess_input`).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The others are defined on values in 0…1.
_ON_ANY_VALUES = ("zscore", "dataset", "minmax", "none")


def layers_for(
    settings: config.PreprocessingConfig,
    *,
    channels: int,
    value_range: tuple[float, float],
    mean: Sequence[float],
    std: Sequence[float],
    network_normalise: str,
) -> tuple[keras.layers.Layer, ...]:
    """Returns the layers between the canvas and the network, in order.

    Args:
        settings: What the user asked for.
        channels: Channels of the images, 1 or 3.
        value_range: The range that the images' values live in.
        mean: The data set's mean of each channel **after the window** (and after luminance), for `dataset`.
        std: The data set's standard deviation of each channel, likewise.
        network_normalise: What `normalise="auto"` stands for: one of `NORMALISATIONS`.

    Raises:
        ConfigError: The window or the normalisation is unknown, or a step that works on 0…1 has no window before it.
    """
    how = network_normalise if settings.normalise == "auto" else settings.normalise
    if how not in NORMALISATIONS:
        raise errors.ConfigError(errors.unknown("normalise", how, NORMALISATIONS))
    _check_unit_values(settings, how, value_range)
    channels = 1 if settings.grayscale else channels
    return (
        *_denoise(settings.denoise, value_range),
        *((grayscale.Grayscale(),) if settings.grayscale else ()),
        *_window(settings.window, value_range),
        *_equalise(settings.equalise),
        *_normalise(how, channels=channels, mean=mean, std=std),
    )


def augmenter_for(settings: config.AugmentConfig, *, value_range: tuple[float, float]) -> augment.Augmenter:
    """Returns the augmentation of training images; a setting of zero (or `none`) leaves its step out."""
    motion = (settings.rotation, settings.zoom, settings.translation)
    steps: list[keras.layers.Layer] = []
    if settings.flips != "none":
        steps.append(geometry.RandomFlip(settings.flips))
    if any(motion):
        steps.append(geometry.RandomAffine(motion[0], motion[1], translation=motion[2]))
    if settings.elastic:
        steps.append(geometry.RandomElastic(settings.elastic))
    if settings.intensity:
        steps.append(augment.RandomIntensity(settings.intensity, value_range))
    if settings.noise:
        steps.append(augment.RandomNoise(settings.noise, value_range))
    if settings.cutout:
        steps.append(augment.RandomCutout(settings.cutout))
    if settings.mixup:
        steps.append(augment.Mixup(settings.mixup))
    return augment.Augmenter(steps, value_range)


def _check_unit_values(settings: config.PreprocessingConfig, how: str, value_range: tuple[float, float]) -> None:
    if settings.window != "none" or (value_range[0] >= 0 and value_range[1] <= 1):
        return
    for name, value, harmless in (("equalise", settings.equalise, ("none",)), ("normalise", how, _ON_ANY_VALUES)):
        if value not in harmless:
            raise errors.ConfigError(f"{name}={value} works on values in 0…1 and needs a window. Received: window=none")


def _denoise(name: str, value_range: tuple[float, float]) -> tuple[keras.layers.Layer, ...]:
    match name:
        case "median":
            return (denoise.MedianDenoise(),)
        case "gaussian":
            return (denoise.GaussianDenoise(),)
        case "bilateral":
            return (denoise.BilateralDenoise(value_range=value_range),)
        case "tv":
            return (denoise.TotalVariationDenoise(value_range=value_range),)
    return ()


def _window(name: str, value_range: tuple[float, float]) -> tuple[keras.layers.Layer, ...]:
    if name == "auto":
        return (window.FixedWindow(*BYTES) if tuple(value_range) == BYTES else window.PercentileWindow(),)
    if name == "none":
        return ()
    if name == "percentile":
        return (window.PercentileWindow(),)
    if name in window.CT_WINDOWS:
        centre, width = window.CT_WINDOWS[name]
        return (window.FixedWindow(centre - width / 2, centre + width / 2),)
    return (window.FixedWindow(*_bounds(name)),)


def _bounds(text: str) -> tuple[float, float]:
    """Returns the ends of a window written LOW:HIGH."""
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise errors.ConfigError(errors.unknown("window", text, (*WINDOWS, "LOW:HIGH"))) from None


def _equalise(name: str) -> tuple[keras.layers.Layer, ...]:
    match name:
        case "histogram":
            return (equalise.HistogramEqualise(),)
        case "clahe":
            return (equalise.CLAHE(),)
    return ()


def _normalise(
    name: str, *, channels: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[keras.layers.Layer, ...]:
    match name:
        case "zscore":
            return (normalise.ZScore(),)
        case "minmax":
            return (normalise.MinMax(),)
        case "dataset":
            return (normalise.Affine(mean, std),)
        case "imagenet":
            # Grey is repeated first: the three channels of pretrained weights have statistics of their own.
            repeat = (grayscale.RepeatChannels(3),) if channels == 1 else ()
            return (*repeat, normalise.Affine(IMAGENET_MEAN, IMAGENET_STD))
        case "lite":
            return (normalise.Affine((127 / 255,), (128 / 255,)),)
        case "byte":
            return (normalise.Affine((0.0,), (1 / 255,)),)
    return ()
