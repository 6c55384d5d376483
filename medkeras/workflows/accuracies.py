"""How accurate models of any runtime are on the same cases, each asked in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.data import cases, prepare, schemes, store
from medkeras.edge import machine, metadata, onnx, timing, timing_process
from medkeras.evaluation import intervals, predictions
from medkeras.export import card
from medkeras.tasks import classification
from medkeras.workflows import failing, fitting, opening, passing, seen, terminal

BATCH = 16


@dataclasses.dataclass(frozen=True)
class Judged:
    """What was found.

    Attributes:
        accuracy: By title, `value`, `low` and `high` of the 95% interval, `n` cases, `n_patients`.
        faults: By title, why a model does not answer.
        notes: What a reader must know of it.
        data: `source`, and `cases` in words; None: accuracy was not asked for.
    """

    accuracy: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    faults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    data: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """A model and what its answers mean."""

    subject: timing.Subject
    described: opening.Described

    @property
    def task(self) -> classification.Classification:
        return self.described.task

    @property
    def canvas(self) -> store.Canvas:
        return self.described.canvas


def judge(
    subjects: Sequence[timing.Subject], settings: config.Config, *, key: str | os.PathLike[str] | None = None
) -> Judged:
    """Asks every model for every test case.

    The cases are the data's test split; of data without one, all cases. Those that a SavedModel among the models has
    seen in its training, and the others of their patients, are left out where there is no test split, or where
    `data.leakage` is `drop`; else they are warned of.

    Args:
        subjects: The models; what the classes of a file are, it says itself.
        settings: `data.source` names the data.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The data cannot be used, or do not fit a model.
    """
    asked, faults, notes = _read(subjects)
    if not asked:
        return Judged(faults=faults, notes=tuple(notes))
    case_set, given = _cases(settings, asked, key)
    for each in asked:
        _refuse_other_classes(each, case_set)
    with tempfile.TemporaryDirectory() as folder:
        prepared = _Prepared(settings, folder)
        case_set, told = _unseen(case_set, asked, prepared, given=given, drop=settings.data.leakage == "drop")
        accuracy = {}
        for each in sorted(asked, key=lambda one: str(one.canvas)):
            data = prepared.of(case_set, each)
            try:
                accuracy[each.subject.title] = _accuracy(each, data)
            except errors.ModelError as error:
                faults[each.subject.title] = str(error)
    split = "the test split" if given else "all cases but those that a SavedModel here has seen"
    words = f"{split}: {len(case_set.cases):,} images"
    return Judged(accuracy, faults, (*notes, *told), {"source": settings.data.source, "cases": words})


def table(
    title: str, task: classification.Classification, outputs: Any, images: store.Store
) -> predictions.Predictions:
    """Returns a model's answers as a table of predictions."""
    missing = {"probabilities"} - set(outputs)
    if missing:
        raise errors.ModelError(f"{title}: a model answers with probabilities. Received: {', '.join(sorted(outputs))}")
    return task.predictions(images.cases, {"probabilities": outputs["probabilities"]})


def wilson(table: predictions.Predictions) -> dict[str, Any]:
    """Returns accuracy, all labels of a case right, with Wilson's interval for what its patients are worth."""
    hits = (table.decisions == table.target).all(axis=1).astype(float)
    low, high = intervals.proportion(hits, np.ones(len(hits)), table.patients)
    patients = len(np.unique(table.patients))
    return {"value": float(hits.mean()), "low": low, "high": high, "n": len(hits), "n_patients": patients}


def _read(subjects: Sequence[timing.Subject]) -> tuple[list[_Asked], dict[str, str], list[str]]:
    """Returns the models whose answers have a meaning, why others cannot be opened, and what the rest lack."""
    asked, faults, notes = [], {}, []
    for subject in subjects:
        try:
            found = _described(subject)
        except errors.ModelError as error:
            faults[subject.title] = str(error)
            continue
        if found is None:
            notes.append(f"{subject.title} does not say what its classes are: its accuracy is not known.")
        else:
            asked.append(_Asked(subject, found))
    return asked, faults, notes


def _described(subject: timing.Subject) -> opening.Described | None:
    """Returns what a model says of itself, or None: it is a file that says nothing.

    Raises:
        ModelError: It cannot be opened.
    """
    if subject.runtime == "tensorflow":
        return opening.describe(subject.path)
    process = _process(subject)
    try:
        given = process.start()
    finally:
        process.end()
    try:
        facts = (onnx if subject.runtime == "onnx" else metadata).read(subject.path.read_bytes())
    except errors.ModelError:
        return None
    return _by_facts(subject, facts, given) if "classes" in facts else None


def _by_facts(subject: timing.Subject, facts: Mapping[str, Any], given: Mapping[str, Any]) -> opening.Described:
    """Returns what a file says of itself, its pictures as its input tensor has them."""
    height, width, channels = given["shape"]
    task = {"name": "classification", "classes": facts["classes"], "multilabel": facts.get("multilabel", False)}
    about = card.Card(
        name=facts.get("name", subject.title),
        version=facts.get("version", 0),
        task=task,
        input={name: facts[name] for name in ("value_range", "units") if name in facts},
        model={},
        training={"settings": {}},
    )
    canvas = store.Canvas((height, width), channels, given["dtype"], facts.get("resize", "pad"))
    return opening.Described(subject.path, about, classification.from_description(task), canvas)


def _process(subject: timing.Subject) -> timing_process.Process:
    return timing_process.Process(subject.path, subject.runtime, threads=machine.processors(), shape=subject.shape)


def _cases(
    settings: config.Config, asked: Sequence[_Asked], key: str | os.PathLike[str] | None
) -> tuple[cases.CaseSet, bool]:
    """Returns the cases, all of them called a test, and whether the data did so themselves."""
    # A file says nothing of slices and volumes; a SavedModel does.
    given = max(asked, key=lambda each: len(each.described.card.training["settings"])).described.viewing(settings.data)
    case_set = schemes.read(given, seed=settings.seed, key=key)
    schemes.refuse_unusable(case_set, given)
    held = any(case.split == "test" for case in case_set.cases)
    chosen = case_set.of_split("test") if held else case_set.cases
    return case_set.replace_cases(dataclasses.replace(case, split="test") for case in chosen), held


def _refuse_other_classes(asked: _Asked, case_set: cases.CaseSet) -> None:
    known = asked.task.classes
    found = sorted({label for case in case_set.cases for label in (case.labels or (case.label,))} - {*known, ""})
    if found or case_set.multilabel != asked.task.multilabel:
        kind = "any number of labels a case" if case_set.multilabel else "one label a case"
        raise errors.ModelError(
            f"{asked.subject.title} tells {', '.join(known)} apart. "
            f"Received: data with {kind}{', ' * bool(found)}{', '.join(found)}"
        )


class _Prepared:
    """The data on the canvas that was asked for last."""

    def __init__(self, settings: config.Config, folder: str) -> None:
        self._settings = settings.data
        self._folder = folder
        self._kept: tuple[Any, prepare.Prepared] | None = None

    def of(self, case_set: cases.CaseSet, asked: _Asked) -> prepare.Prepared:
        """Returns the cases on the model's canvas, after they were held against what it was trained on."""
        about = (asked.canvas, case_set.cases)
        if self._kept is None or self._kept[0] != about:
            self._kept = None
            known = dataclasses.replace(case_set, classes=asked.task.classes)
            data = prepare.prepare(
                known, self._settings, canvas=asked.canvas, folder=self._folder, track=terminal.track
            )
            self._kept = (about, data)
        data = self._kept[1]
        if asked.described.card.input:
            fitting.refuse_other_data(asked.described, self._settings.source, data)
        return data


def _unseen(
    case_set: cases.CaseSet, asked: Sequence[_Asked], prepared: _Prepared, *, given: bool, drop: bool
) -> tuple[cases.CaseSet, list[str]]:
    """Returns the cases that count, and what is to be said of those that models have seen.

    Raises:
        DataError: Nothing is left.
    """
    notes: list[str] = []
    if not given:
        notes.append("The data hold no test split: what the models were trained on may be among the cases.")
    for each in asked:
        if seen.NAME not in each.described.card.files:
            continue
        known = seen.read(each.described.folder)
        data = prepared.of(case_set, each)
        if given and not drop:
            warning = known.overlap(data.digests["test"]).warning
            notes += [f"{each.subject.title}: {warning}"] if warning else []
            continue
        kept = known.unseen(data)
        if not kept:
            raise errors.DataError(
                f"An accuracy needs a case that the model has not seen. Received: {len(case_set.cases):,} cases, all "
                f"of which {each.subject.title} was trained on"
            )
        if len(kept) < len(case_set.cases):
            notes.append(f"{each.subject.title} has seen {len(case_set.cases) - len(kept):,} cases: they do not count.")
        case_set = case_set.replace_cases(kept)
    return case_set, notes


def _accuracy(asked: _Asked, data: prepare.Prepared) -> dict[str, Any]:
    images, process = data.stores["test"], _process(asked.subject)
    try:
        process.start()
        with failing.naming_files(data):
            outputs = passing.run(
                lambda batch: process.run(np.asarray(batch)),
                images,
                batch_size=BATCH,
                description=f"Asking {asked.subject.title}",
            )
    finally:
        process.end()
    return wilson(table(asked.subject.title, asked.task, outputs, images))
