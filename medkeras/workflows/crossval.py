"""`--mode=crossval`: every patient is held out once, and a network that has not seen the patient answers."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.data import cases, prepare, schemes, split
from medkeras.evaluation import crossval_page, predictions
from medkeras.models import table
from medkeras.tasks import classification
from medkeras.workflows import building, ensembling, folding, gate, learning_curves, terminal

JSON, HTML, OUT_OF_FOLD = "crossval.json", "crossval.html", "oof_predictions.csv"
_MERGED = (
    "The validation split of the data was joined with training: each fold carves its own validation out of its "
    "training part, by patient."
)
_KEPT = "The test split of the data ({n:,} cases) stayed out of every fold."


@dataclasses.dataclass(frozen=True)
class CrossValidated:
    """What a cross-validation leaves behind.

    Attributes:
        folder: `crossval.json`, `crossval.html`, `oof_predictions.csv`, and in `folds/` the model of each fold.
        result: What `crossval.json` holds.
    """

    folder: pathlib.Path
    result: Mapping[str, Any]

    @property
    def ensemble(self) -> pathlib.Path | None:
        """The folds' networks as one model, if they were asked for."""
        return _place(self.folder, self.result["ensemble"])

    @property
    def final(self) -> pathlib.Path | None:
        """The model of all cases, if it was asked for."""
        return _place(self.folder, self.result["final"])

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        return tuple(crossval_page.sentences(self.result))


def crossval(
    settings: config.Config,
    *,
    output: str | os.PathLike[str] = "crossval",
    workdir: str | os.PathLike[str] = "runs",
    key: str | os.PathLike[str] | None = None,
) -> CrossValidated:
    """Trains a network for each fold of the patients and judges what each says of the fold that it has not seen.

    Folds are of patients, stratified by class. A fold that the folder holds finished, from the same data and settings,
    is not trained again: a cross-validation that was stopped goes on where it was. Where `compare.networks` names
    several networks, each fold trains all of them and its own validation split, not the held-out fold, chooses one.

    Args:
        settings: All settings; `data.source` names the data.
        output: Folder of the results.
        workdir: Folder of caches on disk.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The settings or the data cannot be used, or the loss diverged.
    """
    named = _networks(settings)
    shares = learning_curves.shares(settings.crossval.sizes)
    building.begin(settings, output, workdir)
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    data, leakage = gate.prepare_checked(_whole(settings, key), settings.data, folder=pathlib.Path(workdir))
    gate.report(leakage, folder)
    bench = _bench(settings, named, data, folder, pathlib.Path(workdir))
    answered = _answered(bench, data)
    pooled = pool(answered)
    pooled.write_csv(folder / OUT_OF_FOLD)
    whole = ensembling.Whole(bench, data, leakage, answered, pooled)
    models = {name: make(whole) for name, make in ensembling.MAKERS.items() if getattr(settings.crossval, name)}
    curve = learning_curves.measure(bench, answered, shares, pool=pool) if shares else None
    result = _result(whole, models, curve)
    _write(folder, result)
    return CrossValidated(folder, result)


def pool(answered: Sequence[folding.Answered]) -> predictions.Predictions:
    """Returns the tables of all parts as one; of several repeats, a case's names tell which one answers."""
    tables = [each.table for each in answered]
    several = len({each.part.repeat for each in answered}) > 1

    def names(each: folding.Answered) -> list[str]:
        return [folding.renamed(name, each.part.repeat) if several else name for name in each.table.case_id]

    columns: dict[str, Any] = {"case_id": tuple(name for each in answered for name in names(each))}
    for name in ("patient_id", "path", "split"):
        columns[name] = tuple(value for each in tables for value in getattr(each, name))
    for name in ("target", "probabilities", "sets", "abstain", "familiarity"):
        arrays = [getattr(each, name) for each in tables]
        columns[name] = None if arrays[0] is None else np.concatenate(arrays)
    columns["metadata"] = {
        name: tuple(value for each in tables for value in each.metadata[name]) for name in tables[0].metadata
    }
    return dataclasses.replace(tables[0], **columns)


def _networks(settings: config.Config) -> list[str]:
    """Returns the networks that each fold chooses among; raises `ConfigError` before anything slow begins."""
    listed = [name.strip() for name in settings.compare.networks.split(",") if name.strip()]
    named = list(dict.fromkeys(listed)) if listed not in ([], [building.AUTO]) else [settings.model.name]
    for name in named:
        if name not in (building.AUTO, *table.MODELS):
            raise errors.ConfigError(errors.unknown("model", name, (building.AUTO, *table.MODELS)))
    return named


def _whole(settings: config.Config, key: str | os.PathLike[str] | None) -> cases.CaseSet:
    """Returns all cases: `test` where the data say so, else `train`."""
    case_set = schemes.read(settings.data, seed=settings.seed, key=key)
    schemes.refuse_untrainable(case_set, settings.data)
    if settings.data.leakage == "drop":
        case_set = split.without_shared_patients(case_set)
    split.refuse_shared_patients(case_set)
    held_out = len(case_set.of_split("test"))
    notes = [_KEPT.format(n=held_out)] if held_out else []
    notes += [_MERGED] if case_set.of_split("validation") else []
    notes += [] if case_set.patients_known else [split.NO_PATIENTS]
    rows = [dataclasses.replace(case, split="test" if case.split == "test" else "train") for case in case_set.cases]
    return case_set.replace_cases(rows, *notes)


def _bench(
    settings: config.Config, named: Sequence[str], data: prepare.Prepared, folder: pathlib.Path, workdir: pathlib.Path
) -> folding.Bench:
    size = data.canvas.size
    asked = (settings.override({"model.name": name}) for name in named)
    networks = list(dict.fromkeys(building.choose_network(each, size).model.name for each in asked))
    shelf = folding.shelf_of(settings, networks, data, folder)
    return folding.Bench(settings, networks, data.canvas, folder, workdir, shelf)


def _answered(bench: folding.Bench, data: prepare.Prepared) -> list[folding.Answered]:
    for note in data.case_set.notes:
        terminal.say(f"Note: {note}")
    development = data.case_set.replace_cases(data.case_set.of_split("train"))
    parts = list(folding.parts(development, bench.settings))
    return [folding.answer(part, bench) for part in parts]


def _result(
    whole: ensembling.Whole, models: Mapping[str, ensembling.Published], curve: Mapping[str, Any] | None
) -> dict[str, Any]:
    bench, data, answered = whole.bench, whole.data, whole.answered
    settings = bench.settings
    task = classification.for_training(data.case_set, settings.train)
    pooled = task.evaluate(whole.table, seed=settings.seed, settings=settings.evaluation, fitted={})
    rows = [_row(each, bench.output) for each in answered]
    return {
        **{name: pooled[name] for name in ("task", "classes", "n_patients")},
        "n": len(data.case_set.of_split("train")),
        "patients_known": data.case_set.patients_known,
        "networks": list(bench.networks),
        "folds": rows,
        "spread": _spread(rows),
        "pooled": pooled,
        "oof_predictions": OUT_OF_FOLD,
        "learning_curve": curve,
        **{name: _path(models, name, bench.output) for name in ensembling.MAKERS},
        "test": {name: each.metrics for name, each in models.items()} if data.stores["test"].cases else None,
        "seeds": {
            "training": settings.seed,
            "folds": [settings.seed + repeat for repeat in range(settings.crossval.repeats)],
        },
        "data": {
            "source": settings.data.source,
            "fingerprint": data.fingerprint,
            "counts": cases.counts(data.case_set.cases),
            "patients": cases.patient_counts(data.case_set.cases),
        },
        "notes": [*data.case_set.notes, *whole.leakage.sentences],
        "settings": settings.flat(),
    }


def _row(each: folding.Answered, folder: pathlib.Path) -> dict[str, Any]:
    return {
        "repeat": each.part.repeat,
        "fold": each.part.fold,
        "n": len(each.table),
        "n_patients": len(set(each.table.patient_id)),
        **each.facts,
        "model": each.model.relative_to(folder).as_posix(),
    }


def _spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Returns mean and spread of each metric over the folds in which it exists.

    The spread is no standard error: folds share most of their training cases, so it says how much one fold differs
    from another and not how sure the mean is.
    """
    found: dict[str, dict[str, float | int | None]] = {}
    for name in rows[0]["metrics"]:
        values = [row["metrics"][name]["value"] for row in rows if row["metrics"][name]["value"] is not None]
        found[name] = {
            "folds": len(values),
            "mean": statistics.fmean(values) if values else None,
            "sd": statistics.stdev(values) if len(values) > 1 else None,
            "min": min(values, default=None),
            "max": max(values, default=None),
        }
    return found


def _path(models: Mapping[str, ensembling.Published], name: str, folder: pathlib.Path) -> str | None:
    return models[name].folder.relative_to(folder).as_posix() if name in models else None


def _place(folder: pathlib.Path, name: str | None) -> pathlib.Path | None:
    return None if name is None else folder / name


def _write(folder: pathlib.Path, result: Mapping[str, Any]) -> None:
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / JSON).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    crossval_page.write(folder / HTML, result)
