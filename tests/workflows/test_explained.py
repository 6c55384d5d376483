"""Every network of the table explained by every method: the exported model's `explain`, and `--mode=predict`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from medkeras.explain import methods
from medkeras.export import card, saved_model
from medkeras.workflows import predict
from tests.confidence import made as assurances
from tests.conformance import test_models as networks

SMALL = ("cnn", "resnet_small")
# One of each family: their siblings are made of the same layers, more of them.
DEEP = ("resnet", "efficientnet_lite0", "efficientnet_v2_b0")


def check(heat: np.ndarray, images: np.ndarray) -> bool:
    """Heat is of the image's shape, each image's largest is 1 or all are 0; returns whether any is not 0."""
    assert heat.shape == (*images.shape[:3], 1)
    assert heat.min() >= 0
    highest = heat.max(axis=(1, 2, 3))
    assert set(highest.round(5).tolist()) <= {0.0, 1.0}
    return bool(highest.any())


@pytest.mark.parametrize("method", methods.METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_exported_and_asked_by_predict(name, method, trained, tmp_path) -> None:
    made, folder = networks.make(name), tmp_path / "1"
    model = assurances.assured(made.model, value_range=(0.0, 255.0))
    saved_model.write(model, folder, task=networks.TASK, canvas=made.canvas, method=method)
    height, width, channels = networks.SHAPES[name]
    known = card.read(trained.published.folder)
    given = {**known.input, "height": height, "width": width, "channels": channels}
    card.write(dataclasses.replace(known, task=networks.TASK.description(), input=given), folder)
    heat = saved_model.Served(folder).explain(made.images)["heatmap"]
    assert check(heat, made.images)
    expected = methods.METHODS[method](made.model, networks.TASK.explained)(tf.constant(made.images, tf.float32))[1]
    # The noise alone: where neighbours are equal, which of them a maximum takes is a matter of rounding.
    assert np.corrcoef(heat[2].ravel(), np.ravel(expected[2]))[0, 1] > 0.95
    picture = made.images[0][..., 0] if channels == 1 else made.images[0]
    Image.fromarray(picture).save(tmp_path / "scan.png")
    found = predict.predict(folder, [tmp_path / "scan.png"], heatmaps=tmp_path / "heat")
    with Image.open(tmp_path / "heat" / found.answers[0].heatmap) as drawn:
        assert drawn.size == (width, height)
        assert (np.ptp(np.asarray(drawn.convert("RGB")), axis=2).max() > 0) == (heat[0].max() > 0 or channels == 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_in_a_graph(name) -> None:
    made = networks.make(name)
    images = tf.constant(made.images[:2], tf.float32)
    warm = {}
    for method, make in methods.METHODS.items():
        explain = tf.function(make(made.model, networks.TASK.explained))
        warm[method] = check(explain(images)[1].numpy(), made.images[:2])
    # In a network that has learned nothing, no cell need speak for the answer; some pixel does.
    assert warm["integrated_gradients"]
    assert warm["occlusion"]
