"""The checks as a run makes them."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from medkeras import config, models
from medkeras.data import phantom, prepare
from medkeras.tasks import classification
from medkeras.workflows import explaining
from tests.explain import small

TASK = classification.Classification(("bright", "dark"))
CORNERS = ((0, 0), (0, 12), (6, 5), (12, 12))


@pytest.fixture(scope="module")
def prepared() -> prepare.Prepared:
    return prepare.prepare(phantom.load(patients=12, slices_per_patient=1), config.DataConfig(image_size=32))


def test_what_is_known_to_be_right_passes_every_check() -> None:
    images = small.squares(*CORNERS)
    target = np.array([[1, 0]] * 4, np.float32)
    model = small.spotter(above=0.8, gain=400)
    found = explaining.check(
        model, images, task=TASK, method="gradcam", seed=0, targets=target, masks=images[..., 0] > 0
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["inside"] == {"n": 4, "share": pytest.approx(1), "chance": 1 / 16, "hits": 1}
    assert found["curves"]["deletion_area"] < found["curves"]["random_deletion_area"]
    assert (found["method"], found["n"], found["randomised"]["n"]) == ("gradcam", 4, 4)


def test_only_right_answers_are_looked_for_in_the_lesion() -> None:
    images = small.squares(*CORNERS)
    target = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    found = explaining.check(
        small.spotter(), images, task=TASK, method="gradcam", seed=0, targets=target, masks=images[..., 0] > 0
    )
    assert found["inside"]["n"] == 2
    assert explaining.check(small.spotter(), images, task=TASK, method="gradcam", seed=0)["inside"] is None


def test_a_run_on_the_phantom_knows_its_lesions(prepared) -> None:
    """Heat is laid by hand on what `slices` calls the lesion."""
    task = classification.Classification(prepared.case_set.classes)
    keras.utils.set_random_seed(0)
    built = models.build_model("cnn", image_shape=(32, 32, 1), preprocessing=(), head=task.head, weights="none")
    found = explaining.measure(built.model, prepared, task=task, method="gradcam", seed=0)
    tumours = [case for case in prepared.stores["test"].cases if case.label != "none"]
    assert found["n"] == len(tumours) > 0
    masks = explaining._lesions(tumours, prepared.canvas, 0)
    truth = {one.case_id: one.mask > 0 for one in phantom.slices(patients=12, slices_per_patient=1)}
    for case, mask in zip(tumours, masks, strict=True):
        expected = truth[case.case_id].reshape(32, 3, 32, 3).mean((1, 3))
        assert mask[expected > 0.8].all()
        assert not mask[expected < 0.05].any()


def test_operations_by_hand() -> None:
    # 3x3x1x4 at 16x16, 3x3x4x3 at 8x8, and 192x2.
    assert explaining.operations(small.network()) == 36 * 256 + 108 * 64 + 384


def test_large_networks_are_asked_about_fewer_images(monkeypatch) -> None:
    model = small.network()
    assert explaining.images_for(model, "gradcam") == explaining.MOST
    monkeypatch.setattr(explaining, "OPERATIONS", explaining.operations(model) * 45 * 7)
    assert explaining.images_for(model, "gradcam") == 7
    assert explaining.images_for(model, "occlusion") == explaining.LEAST
