"""`--mode=evaluate`: any published model on any data."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import config, errors
from medkeras.data import cases, prepare, schemes
from medkeras.export import card, versions
from medkeras.workflows import explaining, export, failing, fitting, opening, publishing, seen, strangers, terminal

UNKNOWN = (
    f"This model keeps no {seen.NAME}, by which pictures of its training are known again: where cases of these data "
    "trained it, they are evaluated too."
)
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

    The cases are the data's test split. Data without one are evaluated whole, but for what the model has seen: cases
    with a picture of its training or validation, whatever file shows it now, are left out, and all cases of their
    patients. In a test split such cases are counted and warned of, and left out if `data.leakage` is `drop`.

    Seed and batch size are those of the training, so that its own test split gives its own numbers to the last digit.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        settings: `data.source` names the data; `data.on_error`, `data.max_errors`, `data.cache` and `data.leakage`
            count too.
        output: Folder of the results; by default `evaluations/NAME-VERSION-DATA`.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The model or the data cannot be used, or do not fit each other, or the model has seen every case.
    """
    strangers.check(settings.evaluation.foreign)
    opened = opening.open_model(model)
    case_set = _fitting(_read(opened, settings, key), opened)
    folder = pathlib.Path(
        output or versions.unused(f"evaluations/{opened.card.name}-{opened.card.version}-{case_set.name}")
    )
    _refuse_models(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data, overlap = _prepared(case_set, opened, settings.data, folder)
    for note in data.case_set.notes:
        terminal.say(f"Note: {note}")
    if overlap is not None and overlap.warning:
        terminal.say(f"WARNING, data leakage: {overlap.warning}")
    trained = opened.card.training["settings"]
    source = {"model": opened.card.name, "version": opened.card.version, "data": settings.data.source}
    judging = publishing.Judging(
        trained["seed"], trained["train.batch_size"], settings.evaluation, opened.card.fitted, source
    )
    return Evaluated(folder, _evaluate(opened, data, overlap, folder, judging))


def _evaluate(
    opened: opening.Opened,
    data: prepare.Prepared,
    overlap: seen.Overlap | None,
    folder: pathlib.Path,
    judging: publishing.Judging,
) -> Mapping[str, Any]:
    with failing.naming_files(data):
        metrics, table = publishing.evaluate(
            opened.served,
            data,
            task=opened.task,
            judging=judging,
            folder=folder,
            overlap=overlap,
            explanations=explaining.measure(
                export.load_keras(opened.folder / publishing.KERAS_FILE),
                data,
                task=opened.task,
                method=opened.card.model.get("explained_by", export.METHOD),
                seed=judging.seed,
            ),
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


def _read(opened: opening.Opened, settings: config.Config, key: str | os.PathLike[str] | None) -> cases.CaseSet:
    """Returns the cases of the test split, or where there is none all cases, still without a split."""
    given = opened.viewing(settings.data)
    case_set = schemes.read(given, seed=opened.card.training["settings"]["seed"], key=key)
    schemes.refuse_unusable(case_set, given)
    if any(case.split == "test" for case in case_set.cases):
        return case_set.replace_cases(case_set.of_split("test"))
    return case_set.replace_cases(dataclasses.replace(case, split="") for case in case_set.cases)


def _prepared(
    case_set: cases.CaseSet, opened: opening.Opened, settings: config.DataConfig, folder: pathlib.Path
) -> tuple[prepare.Prepared, seen.Overlap | None]:
    """Prepares the cases, without those that the model has seen unless the data call them a test, and counts them."""
    given = any(case.split == "test" for case in case_set.cases)
    case_set = case_set.replace_cases(dataclasses.replace(case, split="test") for case in case_set.cases)
    data = prepare.prepare(case_set, settings, canvas=opened.canvas, folder=folder, track=terminal.track)
    fitting.refuse_other_data(opened, settings.source, data)
    if seen.NAME not in opened.card.files:
        return _with_notes(data, *_whole(data, given), UNKNOWN), None
    known = seen.read(opened.folder)
    overlap = known.overlap(data.digests["test"])
    kept = data.stores["test"].cases if given and settings.leakage != "drop" else known.unseen(data)
    overlap = dataclasses.replace(overlap, left_out=overlap.of - len(kept))
    if not overlap.left_out:
        return _with_notes(data, *_whole(data, given)), overlap
    left = data.case_set.replace_cases(kept, _parted(overlap, given))
    del data
    return prepare.prepare(left, settings, canvas=opened.canvas, folder=folder, track=terminal.track), overlap


def _whole(data: prepare.Prepared, given: bool) -> list[str]:
    count = len(data.case_set.cases)
    return [] if given else [f"The data hold no test split: all {count:,} cases are evaluated."]


def _parted(overlap: seen.Overlap, given: bool) -> str:
    """Returns how many cases are evaluated and why no more; raises `DataError` where none is."""
    left = overlap.of - overlap.left_out
    if not left:
        raise errors.DataError(
            f"An evaluation needs a case that the model has not seen. Received: {overlap.of:,} cases, of which "
            f"{overlap.reasons}"
        )
    whence = "The test split is cleaned (data.leakage=drop)" if given else "The data hold no test split"
    return (
        f"{whence}: {left:,} of {overlap.of:,} cases are evaluated. The others are left out, for the model has seen "
        f"them: {overlap.reasons}."
    )


def _with_notes(data: prepare.Prepared, *notes: str) -> prepare.Prepared:
    return dataclasses.replace(data, case_set=data.case_set.replace_cases(data.case_set.cases, *notes))


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
