"""Heatmaps of one model, or of several as one: then the mean of what each sees of the class that they call together."""

from __future__ import annotations

import keras
import tensorflow as tf

from medkeras.explain import methods, network


def members_of(model: keras.Model) -> list[keras.Model]:
    """Returns the nested models that a model combines, in order; none where it is one network."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def networks(model: keras.Model) -> list[keras.Model]:
    """Returns the models that a model combines, or the model itself where it is one network."""
    return members_of(model) or [model]


def choose(name: str, model: keras.Model) -> str:
    """Returns `methods.choose` for a network, or for the first of several."""
    return methods.choose(name, networks(model)[0])


def explainer(method: str, model: keras.Model, score: network.Score) -> network.Explainer:
    """Returns a function that answers and explains its answer, as `methods.METHODS[method]` does for one network.

    Args:
        method: A name of `methods.METHODS`.
        model: A network, or nested networks between one input and outputs that are made of theirs.
        score: From the model's outputs to the number `[B]` that is explained; of several networks each is explained
            for the class that the score picks for all.
    """
    members = members_of(model)
    if not members:
        return methods.METHODS[method](model, score)

    def explain(images: tf.Tensor) -> tuple[network.Outputs, tf.Tensor]:
        outputs = model(images, training=False)
        chosen = network.direction(outputs, score)
        common = _along(chosen)
        maps = [methods.METHODS[method](member, common)(images)[1] for member in members]
        return outputs, network.scaled(tf.add_n(maps))

    return explain


def _along(direction: tf.Tensor) -> network.Score:
    return lambda outputs: tf.reduce_sum(direction * outputs[network.LOGITS], axis=-1)
