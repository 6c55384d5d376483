"""Every network of the table as an ONNX file."""

from __future__ import annotations

import numpy as np
import pytest

from medkeras.edge import forms
from medkeras.edge import onnx as files
from tests.conformance import test_edge as edge
from tests.conformance import test_models as table

for tool in ("onnx", "tf2onnx", "onnxruntime"):
    pytest.importorskip(tool, reason="The extra onnx is not installed.")

pytestmark = table.pytestmark
QUICK = ("cnn", "resnet_small", "efficientnet_lite0")
FACTS = {"name": "table", "classes": []}
# Of networks that have learned nothing, whose logits are spread out until they differ, and their rounding with them:
# efficientnet_lite2 compiled by XLA is 4e-4 from itself.
FAR = dict.fromkeys(table.SHAPES, 1e-4) | {"efficientnet_lite2": 1e-3}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else edge.REST) for name in table.SHAPES]
)
def test_a_file_answers_as_the_model_with_the_standards_operators(name) -> None:
    made = table.make(name)
    form = forms.Form(made.canvas.size, made.canvas.channels, batch=0)
    runner = files.Runner(files.convert(edge.assured(name), edge.OUTPUTS, made.canvas, form, facts=FACTS))
    answer = runner.run(made.images)
    assert runner.outputs == edge.OUTPUTS
    np.testing.assert_allclose(answer["probabilities"], made.probabilities, atol=FAR[name])
    assert np.ptp(answer["probabilities"], axis=0).max() > 0.01
