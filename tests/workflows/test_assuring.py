"""What a model that is made honest says of its own limits."""

from __future__ import annotations

import pytest

from medkeras import config
from medkeras.evaluation import predictions
from medkeras.export import card
from medkeras.tasks import classification
from medkeras.workflows import assuring


@pytest.mark.parametrize(
    ("count", "gate", "needed"),
    [(49, 0.02, 50), (6, 0.02, 50), (32, 0.03, 33), (0, 0.5, 2), (50, 0.02, 0), (3, 0.0, 0)],
)
def test_a_gate_that_can_turn_nothing_away_says_so(count, gate, needed) -> None:
    notes = assuring.powerless(count, gate)
    if not needed:
        assert notes == []
    else:
        assert f"needs {needed} cases" in notes[0]
        assert assuring.powerless(needed, gate) == []
        assert assuring.powerless(needed - 1, gate) != []


def test_a_model_that_answers_nothing_says_so(trained) -> None:
    table = predictions.read_csv(trained.published.folder / "predictions.csv")
    task = classification.Classification(table.classes, False)
    found = assuring.promises(table, task, config.EvaluationConfig(risk=0.1))
    (note,) = found.to_json(config.EvaluationConfig(risk=0.1))["abstain"]["notes"]
    assert note.startswith("The model declines to answer every case")
    assert note.endswith("evaluation.risk=0.1.")
    assert table.confidence.max() < found.confidence


@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_a_model_that_answers_everything_has_nothing_to_say(trained, risk) -> None:
    table = predictions.read_csv(trained.published.folder / "predictions.csv")
    chosen = config.EvaluationConfig(risk=risk)
    found = assuring.promises(table, classification.Classification(table.classes, False), chosen)
    assert found.to_json(chosen)["abstain"]["notes"] == []


def test_card_and_report_say_it(trained) -> None:
    folder = trained.published.folder
    (note,) = card.read(folder).fitted["abstain"]["notes"]
    assert note.startswith("The input gate turns nothing away")
    assert note in (folder / "report.html").read_text(encoding="utf-8")
