"""Whether a heatmap can be believed, as numbers: does it lie on the lesion, know the weights, and name what matters?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from medkeras.explain import absence, ensemble, integrated, network

STEPS = 10
STAGES = 4
BATCH = 16
RANDOM_PATCHES = 8

Method = Callable[[keras.Model, network.Score], network.Explainer]


def explained(explain: network.Explainer, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the outputs `[N, ...]` and heatmaps float32 `[N, H, W]` of images `[N, H, W, C]`, in batches."""
    parts = [explain(tf.constant(images[first : first + BATCH])) for first in range(0, len(images), BATCH)]
    outputs = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    return outputs, np.concatenate([heat for _, heat in parts])[..., 0]


def inside(heatmaps: np.ndarray, masks: np.ndarray) -> dict[str, float | int | None]:
    """Returns how much of the heat lies where it should.

    Args:
        heatmaps: Not negative, `[N, H, W]`.
        masks: bool `[N, H, W]`, true inside the lesion; images without a lesion or without any heat do not count.

    Returns:
        `n`, the images that count; the means of `share`, the heat's share inside, of `chance`, the lesion's share of
        the area, which even heat would have, and of `hits`, whether the hottest place lies inside. None without images.
    """
    flat = (len(heatmaps), math.prod(heatmaps.shape[1:]))
    heat, mask = heatmaps.reshape(flat).astype(np.float64), masks.reshape(flat).astype(bool)
    counted = mask.any(1) & (heat.sum(1) > 0)
    heat, mask = heat[counted], mask[counted]
    return {
        "n": len(heat),
        "share": _mean((heat * mask).sum(1) / heat.sum(1)),
        "chance": _mean(mask.mean(1)),
        "hits": _mean(np.take_along_axis(mask, heat.argmax(1)[:, np.newaxis], 1)),
    }


def rank_correlation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation float64 `[N]` of two heatmaps `[N, H, W]` an image; NaN where one is constant."""
    ranks = [scipy.stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (before, after)]
    first, second = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.divide((first * second).sum(1), scale, out=np.full(len(scale), np.nan), where=scale > 0)


def randomised(
    model: keras.Model, images: np.ndarray, *, method: Method, score: network.Score, seed: int
) -> list[dict[str, Any]]:
    """Returns how much heatmaps still resemble themselves when the network forgets what it has learned.

    From the logits down, block after block, the values of every weight are shuffled, in a copy of the model. A method
    that explains the network and not the image alone ends near 0. What is explained is what the network answers then.

    Args:
        model: The trained model, with the outputs `logits` and `probabilities`; the networks of an ensemble are
            shuffled together, each block by block.
        images: `[N, H, W, C]`.
        method: A value of `methods.METHODS`, or of an ensemble what explains it.
        score: As of the method.
        seed: Of the shuffling.

    Returns:
        At up to `STAGES` stages: `down_to`, the last block that was shuffled; `layers`, the layers shuffled so far;
        `correlation`, the mean over the images of `rank_correlation`, None where no heatmap has any relief.

    Reference: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    trained = network.answering(model)
    copy = keras.models.clone_model(trained)
    copy.set_weights(trained.get_weights())
    explain = tf.function(method(copy, score))
    _, before = explained(explain, images)
    random, found, shuffled = np.random.default_rng(seed), [], 0
    for block, layers in _together([_stages(_blocks(member)) for member in ensemble.networks(copy)]):
        for layer in layers:
            layer.set_weights(
                [random.permutation(weight.ravel()).reshape(weight.shape) for weight in layer.get_weights()]
            )
        shuffled += len(layers)
        correlation = _mean(rank_correlation(before, explained(explain, images)[1]))
        found.append({"down_to": block, "layers": shuffled, "correlation": correlation})
    return found


def curves(model: keras.Model, images: np.ndarray, heatmaps: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Returns what happens to an answer when the hottest places go first, or come first.

    Places are replaced by the blurred image of `absence.blurred` after preprocessing, or replace it, in `STEPS` equal
    parts. Beside the order of the heatmap stands a random one, of whole patches: scattered pixels would be noise of
    their own.

    Args:
        model: With the output `probabilities`; of an ensemble, each network loses the same places of what it sees.
        images: `[N, H, W, C]`.
        heatmaps: `[N, H, W]`.
        seed: Of the random order, and of the order of equal heat.

    Returns:
        `fractions` of the image; `deletion` and `insertion`, the mean probability of the answer that was given after
        each of them; the areas under both, `deletion_area` (low is good) and `insertion_area` (high is good); and
        `random_deletion_area` and `random_insertion_area`, those of the random order.

    Reference: Petsiuk et al., "RISE", BMVC 2018, section 4.3.
    """
    random = np.random.default_rng(seed)
    ask = _Asking(model, images)
    fractions = np.linspace(0, 1, STEPS + 1)
    deletion, insertion = ask.both(_ranks(heatmaps, random), fractions)
    by_chance = [
        np.trapezoid(curve, fractions) for curve in ask.both(_ranks(_patches(heatmaps, random), random), fractions)
    ]
    return {
        "fractions": fractions.tolist(),
        "deletion": deletion.tolist(),
        "insertion": insertion.tolist(),
        "deletion_area": float(np.trapezoid(deletion, fractions)),
        "insertion_area": float(np.trapezoid(insertion, fractions)),
        "random_deletion_area": float(by_chance[0]),
        "random_insertion_area": float(by_chance[1]),
    }


def missing(model: keras.Model, images: np.ndarray, *, score: network.Score) -> float | None:
    """Returns how much of what they should sum to integrated gradients miss: 0 is complete, None where that is 0.

    The mean error over the images `[N, H, W, C]`, as a share of the mean difference of the score between image and
    blurred image; of an ensemble, each network's of its own answer.
    """
    measures = [tf.function(integrated.gap(member, score)) for member in ensemble.networks(model)]
    found = [measure(tf.constant(part)) for measure in measures for part in _parts(images)]
    error, difference = (np.abs(np.concatenate(values)).sum() for values in zip(*found, strict=True))
    return float(error / difference) if difference > 0 else None


class _Asking:
    """The answer to images, asked again of images of which a part is missing."""

    def __init__(self, model: keras.Model, images: np.ndarray) -> None:
        self._members = [_Seeing(member, images) for member in ensemble.networks(model)]
        self._called = self._probabilities(np.ones((*images.shape[:-1], 1), bool)).argmax(1)

    def both(self, ranks: np.ndarray, fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean probability after deleting, and after inserting, each fraction of places by rank."""
        pixels = ranks[0].size
        first = [(ranks < round(fraction * pixels))[..., np.newaxis] for fraction in fractions]
        return np.array([self._mean(~chosen) for chosen in first]), np.array([self._mean(chosen) for chosen in first])

    def _mean(self, kept: np.ndarray) -> float:
        return float(np.take_along_axis(self._probabilities(kept), self._called[:, np.newaxis], 1).mean())

    def _probabilities(self, kept: np.ndarray) -> np.ndarray:
        return np.mean([member.probabilities(kept) for member in self._members], axis=0)


class _Seeing:
    """What one network sees of images after its preprocessing, and what it answers where places of them are blurred."""

    def __init__(self, model: keras.Model, images: np.ndarray) -> None:
        start = network.input_of(model)
        answer = keras.Model(start, model.output[network.PROBABILITIES])
        self._answer = tf.function(lambda seen: answer(seen, training=False))
        see = keras.Model(model.input, start)
        self._seen = np.concatenate([see(part, training=False) for part in _parts(images)])
        self._absent = np.concatenate([absence.blurred(tf.constant(part)) for part in _parts(self._seen)])

    def probabilities(self, kept: np.ndarray) -> np.ndarray:
        """Returns `[N, K]` of images of which only `kept`, bool `[N, H, W, 1]`, is sharp."""
        left = np.where(kept, self._seen, self._absent)
        return np.concatenate([self._answer(tf.constant(part)) for part in _parts(left)])


def _parts(images: np.ndarray) -> list[np.ndarray]:
    return [images[first : first + BATCH] for first in range(0, len(images), BATCH)]


def _ranks(heatmaps: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the place of each pixel in its image's order, the hottest first; equals by chance."""
    flat = heatmaps.reshape(len(heatmaps), -1)
    order = np.lexsort((random.random(flat.shape), -flat), axis=1)
    return order.argsort(1).reshape(heatmaps.shape)


def _patches(heatmaps: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns random heat in `RANDOM_PATCHES` squares along each side."""
    sides = heatmaps.shape[1:]
    heat = random.random((len(heatmaps), *[RANDOM_PATCHES] * len(sides)))
    for axis, side in enumerate(sides, 1):
        heat = heat.take(np.arange(side) * RANDOM_PATCHES // side, axis=axis)
    return heat


def _blocks(model: keras.Model) -> list[tuple[str, list[keras.layers.Layer]]]:
    """Returns the layers with weights between image and logits by block, from the logits down."""
    blocks: dict[str, list[keras.layers.Layer]] = {}
    for layer in reversed(network.to_logits(model).layers):
        if layer.weights:
            blocks.setdefault(layer.name.partition("_")[0], []).append(layer)
    return list(blocks.items())


def _stages(
    blocks: Sequence[tuple[str, list[keras.layers.Layer]]],
) -> list[tuple[str, list[keras.layers.Layer]]]:
    """Returns the blocks merged into at most `STAGES`: the first alone, the others evenly; named after their last."""
    ends = np.unique(np.linspace(1, len(blocks), STAGES).round().astype(int))
    parts = [blocks[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    return [(part[-1][0], [layer for _, layers in part for layer in layers]) for part in parts]


def _together(
    members: Sequence[list[tuple[str, list[keras.layers.Layer]]]],
) -> list[tuple[str, list[keras.layers.Layer]]]:
    """Returns the stages of several networks as one list; a network of fewer stages is done before the others."""
    parts = [[part for part in stage if part is not None] for stage in itertools.zip_longest(*members)]
    return [
        (" and ".join(dict.fromkeys(name for name, _ in part)), [layer for _, layers in part for layer in layers])
        for part in parts
    ]


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
