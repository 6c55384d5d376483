"""`--mode=evaluate`: any published model on any data."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import config, errors
from medkeras.data import cases, prepare, schemes, split
from medkeras.workflows import opening, publishing, terminal


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What an evaluation leaves behind: its folder, and what `metrics.json` in it holds."""

    folder: pathlib.Path
    metrics: Mapping[str, Any]


def evaluate(
    model: str | os.PathLike[str], settings: config.Config, *, output: str | os.PathLike[str] | None = None
) -> Evaluated:
    """Evaluates the SavedModel on labelled cases and writes `metrics.json`, `predictions.csv` and `report.html`.

    The cases are the data's test split. Data without splits are evaluated whole, unless they are the data that the
    model was trained on: then the test split of that training is carved again.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        settings: `data.source` names the data; `data.on_error` and `data.cache` count too.
        output: Folder of the results; by default `evaluations/NAME-VERSION-DATA`.

    Raises:
        UserError: The model or the data cannot be used, or do not fit each other.
    """
    opened = opening.open_model(model)
    case_set = _fitting(_test_cases(opened, settings), opened)
    for note in case_set.notes:
        terminal.say(f"Note: {note}")
    folder = pathlib.Path(output or f"evaluations/{opened.card.name}-{opened.card.version}-{case_set.name}")
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare.prepare(case_set, settings.data, canvas=opened.canvas, folder=folder, track=terminal.track)
    metrics, table = publishing.evaluate(
        opened.served,
        data,
        task=opened.task,
        seed=settings.seed,
        batch_size=settings.train.batch_size,
        folder=folder,
    )
    publishing.write_report(
        folder,
        served=opened.served,
        data=data,
        table=table,
        metrics=metrics,
        model_card=opened.card,
    )
    return Evaluated(folder, metrics)


def _test_cases(opened: opening.Opened, settings: config.Config) -> cases.CaseSet:
    trained = opened.card.training["settings"]
    case_set = schemes.read(settings.data.source, seed=trained["seed"])
    if not any(case.split == "test" for case in case_set.cases):
        if settings.data.source != trained["data.source"]:
            whole = [dataclasses.replace(case, split="test") for case in case_set.cases]
            return case_set.replace_cases(whole, f"The data hold no test split: all {len(whole)} cases are evaluated.")
        case_set = split.complete(
            case_set, validation=trained["data.validation"], test=trained["data.test"], seed=trained["seed"]
        )
    return case_set.replace_cases(case_set.of_split("test"))


def _fitting(case_set: cases.CaseSet, opened: opening.Opened) -> cases.CaseSet:
    """Returns the cases with the model's classes; refuses labels that the model does not know."""
    known = opened.task.classes
    strangers = sorted({label for case in case_set.cases for label in (case.labels or (case.label,))} - {*known, ""})
    if strangers or case_set.multilabel != opened.task.multilabel:
        kind = "several labels a case" if case_set.multilabel else f"the class {', '.join(map(repr, strangers))}"
        raise errors.ModelError(f"This model tells {', '.join(known)} apart. Received: data with {kind}")
    return dataclasses.replace(case_set, classes=known)
