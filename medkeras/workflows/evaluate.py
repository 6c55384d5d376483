"""`--mode=evaluate`: any published model on any data."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import config, errors
from medkeras.data import cases, prepare, schemes
from medkeras.evaluation import predictions
from medkeras.export import card
from medkeras.workflows import failing, fitting, opening, publishing, terminal

_LABELS = {False: "one label a case", True: "any number of labels a case"}


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What an evaluation leaves behind: its folder, and what `metrics.json` in it holds."""

    folder: pathlib.Path
    metrics: Mapping[str, Any]


def evaluate(
    model: str | os.PathLike[str],
    settings: config.Config,
    *,
    output: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Evaluated:
    """Evaluates the SavedModel on labelled cases and writes `metrics.json`, `predictions.csv` and `report.html`.

    The cases are the data's test split. Data without one are evaluated whole, unless they are the data that the model
    was trained on, wherever they lie now and whatever was added to them: then the cases that tested it are evaluated.

    Seed and batch size are those of the training, so that its own test split gives its own numbers to the last digit.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        settings: `data.source` names the data; `data.on_error`, `data.max_errors` and `data.cache` count too.
        output: Folder of the results; by default `evaluations/NAME-VERSION-DATA`.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The model or the data cannot be used, or do not fit each other.
    """
    opened = opening.open_model(model)
    case_set = _fitting(_test_cases(opened, settings, key), opened)
    for note in case_set.notes:
        terminal.say(f"Note: {note}")
    folder = pathlib.Path(output or f"evaluations/{opened.card.name}-{opened.card.version}-{case_set.name}")
    _refuse_models(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = prepare.prepare(case_set, settings.data, canvas=opened.canvas, folder=folder, track=terminal.track)
    fitting.refuse_other_data(opened, settings.data.source, data)
    return Evaluated(folder, _evaluate(opened, data, folder))


def _evaluate(opened: opening.Opened, data: prepare.Prepared, folder: pathlib.Path) -> Mapping[str, Any]:
    trained = opened.card.training["settings"]
    with failing.naming_files(data):
        metrics, table = publishing.evaluate(
            opened.served,
            data,
            task=opened.task,
            seed=trained["seed"],
            batch_size=trained["train.batch_size"],
            folder=folder,
        )
        publishing.write_report(
            folder, served=opened.served, data=data, table=table, metrics=metrics, model_card=opened.card
        )
    return metrics


def _refuse_models(folder: pathlib.Path) -> None:
    if (folder / card.NAME).exists():
        raise errors.ModelError(
            f"An evaluation goes into a folder of its own and not over a model. Received: {errors.printable(folder)!r}"
        )


def _test_cases(opened: opening.Opened, settings: config.Config, key: str | os.PathLike[str] | None) -> cases.CaseSet:
    trained = opened.card.training["settings"]
    given = opened.viewing(settings.data)
    case_set = schemes.read(given, seed=trained["seed"], key=key)
    schemes.refuse_unusable(case_set, given)
    if any(case.split == "test" for case in case_set.cases):
        return case_set.replace_cases(case_set.of_split("test"))
    return _without_split(case_set, opened)


def _without_split(case_set: cases.CaseSet, opened: opening.Opened) -> cases.CaseSet:
    """Returns the cases that tested the model, where they are all here by their names, else all cases.

    They are not carved again: one case more, and the model would be tested on what it was trained on.
    """
    names = predictions.read_csv(opened.folder / publishing.PREDICTIONS).case_id
    tested = {errors.printable(name) for name in names}
    whole = [dataclasses.replace(case, split="test") for case in case_set.cases]
    again = [case for case in whole if errors.printable(case.case_id) in tested]
    if len(again) == len(tested):
        note = f"The data hold no test split: the {len(again)} cases that tested the model are evaluated again."
        return case_set.replace_cases(again, note)
    notes = [f"The data hold no test split: all {len(whole)} cases are evaluated."]
    if again:
        notes.append(
            f"{len(again)} of the {len(tested)} cases that tested the model are here by their names: if it was trained "
            "on these data, cases of its training are evaluated too."
        )
    return case_set.replace_cases(whole, *notes)


def _fitting(case_set: cases.CaseSet, opened: opening.Opened) -> cases.CaseSet:
    """Returns the cases with the model's classes; refuses labels that the model does not know."""
    known = opened.task.classes
    if case_set.multilabel != opened.task.multilabel:
        raise errors.ModelError(
            f"This model gives {_LABELS[opened.task.multilabel]}. Received: data with {_LABELS[case_set.multilabel]}"
        )
    strangers = sorted({label for case in case_set.cases for label in (case.labels or (case.label,))} - {*known, ""})
    if strangers:
        received = ", ".join(map(repr, strangers))
        raise errors.ModelError(f"This model tells {', '.join(known)} apart. Received: data with the class {received}")
    return dataclasses.replace(case_set, classes=known)
