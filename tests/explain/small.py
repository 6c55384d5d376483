"""Networks whose evidence is known, and images to ask them about."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

SIDE = 16


def likeliest(outputs) -> tf.Tensor:
    """Returns the logit of the class that is called."""
    return tf.reduce_max(outputs["logits"], axis=-1)


@keras.saving.register_keras_serializable("tests")
class WholeNumbers(keras.layers.Layer):
    """A step that no gradient passes."""

    def call(self, images):
        return tf.cast(tf.cast(images, tf.int32), tf.float32)


def with_head(image, x) -> keras.Model:
    logits = keras.layers.Dense(2, name="logits")(x)
    return keras.Model(image, {"logits": logits, "probabilities": keras.layers.Softmax(name="probabilities")(logits)})


def network(*, side: int = SIDE, before: tuple[keras.layers.Layer, ...] = (), seed: int = 0) -> keras.Model:
    """Two convolutions whose places matter, with weights drawn from a seed."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((side, side, 1), name="image")
    for layer in before:
        x = layer(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="block1_conv")(x)
    x = keras.layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", name="block2_conv")(x)
    x = keras.layers.Identity(name="features")(x)
    return with_head(image, keras.layers.Flatten(name="embedding")(x))


def spotter(*, above: float = 0.0, gain: float = 40.0) -> keras.Model:
    """Calls an image `bright` by the mean of what is brighter than a value: the evidence is where that is."""
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = keras.layers.Conv2D(2, 1, name="block1_conv")(image)
    x = keras.layers.ReLU(name="features")(x)
    model = with_head(image, keras.layers.GlobalAveragePooling2D(name="embedding")(x))
    model.get_layer("block1_conv").set_weights([np.array([[[[1, 0]]]], np.float32), np.array([-above, 0], np.float32)])
    model.get_layer("logits").set_weights([np.array([[gain, -gain], [0, 0]], np.float32), np.zeros(2, np.float32)])
    return model


def squares(*corners: tuple[int, int]) -> np.ndarray:
    """Returns black images `[N, 16, 16, 1]` with a bright square of 4 pixels each."""
    images = np.zeros((len(corners), SIDE, SIDE, 1), np.float32)
    for image, (top, left) in zip(images, corners, strict=True):
        image[top : top + 4, left : left + 4] = 1.0
    return images


def noise(count: int = 5, *, side: int = SIDE, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, side, side, 1)).astype(np.float32)
