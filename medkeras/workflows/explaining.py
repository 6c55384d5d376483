"""How far a model's heatmaps can be believed, measured on test images that it answers."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras.data import cases, order, phantom, prepare, store
from medkeras.explain import ensemble, integrated, network, occlusion, sanity
from medkeras.preprocessing import canvas as canvas_layers

MOST, RANDOMISED = 64, 16
LEAST = 4
OPERATIONS = 5e10
"""Multiplications that the checks may take, each: some seconds on one core."""

_COMPLETE = "integrated_gradients"
# Passes through the network that one heatmap costs; backwards is twice forwards.
_PASSES: Mapping[str, int] = types.MappingProxyType(
    {
        "gradcam": 1,
        "gradcam++": 1,
        "integrated_gradients": 3 * integrated.STEPS,
        "occlusion": occlusion.PATCHES**2,
    }
)


def measure(model: keras.Model, data: prepare.Prepared, *, task: Any, method: str, seed: int) -> dict[str, Any]:
    """Returns what `check` finds on images of the test split, as many as take some seconds.

    Of the phantom, whose lesions are known, these are images with a tumour; of other data any images.

    Args:
        model: From stored values to `logits` and `probabilities`: one network, or an ensemble.
        data: The prepared data.
        task: Says what is explained, and what is right.
        method: A name of `methods.METHODS`.
        seed: Of the run, and so of the phantom.
    """
    images = data.stores["test"]
    drawn = data.case_set.name == "phantom"
    rows = _with_lesions(images.cases) if drawn else order.permutation(len(images.cases), seed=seed, epoch=0)
    rows = np.sort(rows[: images_for(model, method)])
    (batch,) = images.attach(tf.data.Dataset.from_tensors({"index": rows}))
    members = [images.cases[row] for row in rows]
    return check(
        model,
        batch["image"].numpy().astype(np.float32),
        task=task,
        method=method,
        seed=seed,
        targets=task.targets(members),
        masks=_lesions(members, data.canvas, seed) if drawn else None,
    )


def check(
    model: keras.Model,
    images: np.ndarray,
    *,
    task: Any,
    method: str,
    seed: int,
    targets: np.ndarray | None = None,
    masks: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the sanity checks of one method, for `metrics.json`.

    Args:
        model: From stored values to `logits` and `probabilities`: one network, or an ensemble.
        images: Stored values on the canvas, float32 `[N, H, W, C]`.
        task: Its `explained` says what is explained.
        method: A name of `methods.METHODS`.
        seed: Of shuffled weights and random orders.
        targets: The truth, float32 `[N, K]`; masks need it.
        masks: bool `[N, H, W]`, true inside the lesion; only images whose answer is right count.

    Returns:
        `method`; `n`; `inside` as `sanity.inside` returns it, or None; what `sanity.curves` returns, as `curves`;
        `randomised`: `n`, fewer images than the others, and `stages` as `sanity.randomised` returns them; and
        `missing`, on the same few, as `sanity.missing` returns it, None of methods that promise no sum.
    """
    trained, explain = network.answering(model), functools.partial(ensemble.explainer, method)
    outputs, heat = sanity.explained(tf.function(explain(trained, task.explained)), images)
    few = images[: _affordable(model, (1 + sanity.STAGES) * _PASSES[method], most=RANDOMISED)]
    stages = sanity.randomised(trained, few, method=explain, score=task.explained, seed=seed)
    inside = None
    if masks is not None and targets is not None:
        right = np.take_along_axis(targets, outputs[network.PROBABILITIES].argmax(1)[:, np.newaxis], 1)[:, 0] > 0
        inside = sanity.inside(heat[right], masks[right])
    return {
        "method": method,
        "n": len(images),
        "inside": inside,
        "curves": sanity.curves(trained, images, heat, seed=seed),
        "randomised": {"n": len(few), "stages": stages},
        "missing": sanity.missing(trained, few, score=task.explained) if method == _COMPLETE else None,
    }


def images_for(model: keras.Model, method: str) -> int:
    """Returns how many images `check` can be given for it to take some seconds, 4 to 64: the larger the fewer."""
    return _affordable(model, _PASSES[method] + 4 * (sanity.STEPS + 1), most=MOST)


def _affordable(model: keras.Model, passes: int, *, most: int) -> int:
    return int(np.clip(OPERATIONS / (passes * operations(model)), LEAST, most))


def operations(model: keras.Model) -> int:
    """Returns the multiplications of one image's way to the logits: every kernel at every place."""
    return sum(
        math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
        for member in ensemble.networks(model)
        for layer in network.to_logits(member).layers
        if hasattr(layer, "kernel")
    )


def _with_lesions(members: Sequence[cases.Case]) -> np.ndarray:
    """Returns the rows int64 of cases with a tumour, in order: lesions are drawn anew from the first patient on."""
    return np.array([row for row, case in enumerate(members) if case.label != phantom.CLASSES[0]], np.int64)


def _lesions(members: Sequence[cases.Case], canvas: store.Canvas, seed: int) -> np.ndarray:
    """Returns where the tumour is, bool `[N, H, W]`, on the canvas."""
    names = {case.case_id: row for row, case in enumerate(members)}
    masks = np.zeros((len(members), *canvas.size), bool)
    for one in phantom.slices(seed=seed):
        if one.case_id in names:
            drawn = tf.constant((one.mask > 0)[np.newaxis, ..., np.newaxis])
            masks[names.pop(one.case_id)] = canvas_layers.resize(drawn, canvas.size, canvas.mode)[0, ..., 0] > 0.5
        if not names:
            break
    return masks
