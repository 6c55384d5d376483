"""The classic network of four convolutions and one dense layer."""

from __future__ import annotations

import keras

LARGEST_MAP = 8


def build(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the embedding `[B, 512]` of `[B, H, W, C]`.

    Two 3x3 convolutions of 32, max-pooling, two of 64, max-pooling, flatten, dense 512. The
    flatten size follows from the input. Where the map is still larger than 8x8 (inputs above 32
    pixels), an average pooling brings it to at most 8x8, so that the dense layer never has more
    than 2.1 million weights: without it, 224x224 would take 103 million.

    Reference: Krizhevsky, Learning multiple layers of features from tiny images, 2009 (the data);
        the network is the one of Keras's first CIFAR-10 example.
    """
    x = _conv(x, filters=32, name="block1_conv1")
    x = _conv(x, filters=32, name="block1_conv2")
    x = keras.layers.MaxPooling2D(name="block1_pool")(x)
    x = _conv(x, filters=64, name="block2_conv1")
    x = _conv(x, filters=64, name="block2_conv2")
    x = keras.layers.Identity(name="features")(x)
    x = keras.layers.MaxPooling2D(name="block3_pool")(x)
    x = _bounded(x)
    x = keras.layers.Flatten(name="block3_flatten")(x)
    return keras.layers.Dense(512, activation="relu", kernel_initializer="he_normal", name="embedding")(x)


def _conv(x: keras.KerasTensor, *, filters: int, name: str) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name
    )(x)


def _bounded(x: keras.KerasTensor) -> keras.KerasTensor:
    window = tuple(-(-side // LARGEST_MAP) for side in x.shape[1:3])
    if window == (1, 1):
        return x
    return keras.layers.AveragePooling2D(window, name="block3_bound")(x)
