"""What is shown of a mistake."""

from __future__ import annotations

import numpy as np
import pytest

from medkeras.data import cases
from medkeras.evaluation import predictions
from medkeras.workflows import predicting


@pytest.mark.parametrize(
    ("labels", "probabilities", "is_", "called"),
    [
        (("a", "b"), (0.99, 0.9, 0.8), "a | b", "a | b | c"),
        (("a",), (0.2, 0.1, 0.3), "a", "none"),
        ((), (0.1, 0.9, 0.1), "none", "b"),
    ],
)
def test_a_mistake_of_several_labels_shows_all_that_was_called(labels, probabilities, is_, called) -> None:
    table = predictions.Predictions(
        case_id=("x",), patient_id=("x",), path=("x",), split=("test",), classes=("a", "b", "c"),
        target=np.array([[float(name in labels) for name in "abc"]], np.float32),
        probabilities=np.array([probabilities], np.float32), multilabel=True,
    )  # fmt: skip
    picture = np.zeros((4, 4, 1), np.uint8)
    mistake = predicting._mistake(table, cases.Case("x", "x", "x", labels=labels), 0, picture, picture[..., 0])
    assert (mistake.label, mistake.prediction) == (is_, called)
    assert mistake.probability == pytest.approx(max(probabilities))
