"""Every network of the table as a TFLite file, in every form."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest

from medkeras.edge import forms, lite
from tests.confidence import made as assurances
from tests.conformance import test_models as table

pytestmark = table.pytestmark
OUTPUTS = ("probabilities", "prediction_set", "abstain", "familiarity")
# How far probabilities may be from the model's own, on networks that have learned nothing, whose logits are spread
# out until they differ: a step of int8 goes with them.
FAR = {"none": 1e-4, "float16": 3e-2, "dynamic": 0.4, "int16x8": 0.3, "int8": 0.4}
# Eager TensorFlow and XLA differ as far on this network, which has learned nothing.
ROUNDED = {"efficientnet_lite2": 1e-3}
PAIRS = [(how, name) for how in forms.QUANTIZE for name in table.SHAPES]
# All of them take an hour: the rest is for whoever changes the conversion, MEDKERAS_EVERY_FORM=1.
EVERY = bool(os.environ.get("MEDKERAS_EVERY_FORM"))
QUICK = {
    *(("none", name) for name in table.QUICK),
    *((how, name) for how in forms.QUANTIZE for name in ("cnn", "resnet_small")),
    ("int8", "efficientnet_lite0"),
}
# Forms that a network cannot take: (form, name) to the operator at fault. There is none.
BROKEN: dict[tuple[str, str], str] = {}


@functools.cache
def assured(name: str):
    return assurances.assured(table.make(name).model, value_range=(0.0, 255.0))


REST = (
    pytest.mark.slow,
    pytest.mark.skipif(not EVERY, reason="one of those that take an hour together: MEDKERAS_EVERY_FORM=1"),
)


def marked(pair: tuple[str, str]):
    marks = [] if pair in QUICK else [*REST]
    if pair in BROKEN:
        marks.append(pytest.mark.xfail(reason=BROKEN[pair], strict=True))
    return pytest.param(*pair, marks=marks, id="-".join(pair))


@pytest.mark.parametrize(("how", "name"), [marked(pair) for pair in PAIRS])
def test_a_file_answers_as_the_model_with_built_in_operators(how, name) -> None:
    made = table.make(name)
    form = forms.Form(made.canvas.size, made.canvas.channels, quantize=how)
    converted = lite.convert(assured(name), OUTPUTS, made.canvas, form, representative=made.images)
    assert not [each for each in converted.operators if each.startswith("CUSTOM")]
    answer = lite.Runner(converted.content).run(made.images)
    assert set(answer) == set(OUTPUTS)
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], made.probabilities, atol=max(FAR[how], ROUNDED.get(name, 0.0)))
