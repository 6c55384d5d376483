"""What a cross-validation publishes: the folds' networks as one model, and a model of all cases."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import shutil
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from medkeras.confidence import ensemble
from medkeras.data import cases, prepare
from medkeras.evaluation import predictions, report
from medkeras.explain import ensemble as explain_ensemble
from medkeras.export import card, saved_model, versions
from medkeras.tasks import classification
from medkeras.workflows import (
    assuring,
    explaining,
    export,
    finished,
    folding,
    gate,
    predicting,
    publishing,
    seen,
    terminal,
    train,
)

UNTESTED = (
    "Its figures are those of the folds' networks, each on patients that it had not seen; this model, which learnt "
    "from all of them, has no test of its own."
)
_HEATMAPS = (
    "Heatmaps are those of the folds' networks, each of images that it had not seen; how far they can be believed "
    "stands in the folds' own reports."
)
_ENSEMBLE_SETS = (
    "The prediction sets' thresholds come from what each network said of patients that it had not seen. That the sets "
    "of the mean hold the truth as often is not proved; it is measured where there is a test split."
)
_FINAL_SETS = (
    "Calibration and prediction sets come from the folds' networks, which learnt from fewer patients than this one; "
    "that they hold for it is not proved. Familiarity was fitted to cases that it has seen."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """A cross-validation whose folds are finished.

    Attributes:
        bench: What every part worked with.
        data: All cases: `train`, and `test` where the data hold such a split.
        leakage: The copies among them.
        answered: The parts.
        table: What they said of the cases that they had not seen.
    """

    bench: folding.Bench
    data: prepare.Prepared
    leakage: gate.Leakage
    answered: Sequence[folding.Answered]
    table: predictions.Predictions

    @property
    def task(self) -> classification.Classification:
        """Gives targets, and predictions as a table."""
        return classification.for_training(self.data.case_set, self.bench.settings.train)


@dataclasses.dataclass(frozen=True)
class Published:
    """A model and the figures of its card."""

    folder: pathlib.Path
    metrics: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class _Made:
    """A model that is ready to be published.

    Attributes:
        model: With `assurance.OUTPUTS`.
        fitted: What the card says was fitted.
        facts: What the card says of the network.
        limit: What the card says that it does not promise.
        history: Rows of `history.csv`.
    """

    model: keras.Model
    fitted: Mapping[str, Any]
    facts: Mapping[str, Any]
    limit: str
    history: Sequence[Mapping[str, float]] = ()


def publish_ensemble(whole: Whole) -> Published:
    """Publishes the mean of the calibrated probabilities of all parts."""
    return _published(whole, "ensemble", _ensemble)


def publish_final(whole: Whole) -> Published:
    """Publishes a network that learnt from all cases, as long as the folds' networks did at their best."""
    return _published(whole, "final", _final)


MAKERS: Mapping[str, Callable[[Whole], Published]] = types.MappingProxyType(
    {"ensemble": publish_ensemble, "final": publish_final}
)


def _published(whole: Whole, kind: str, make: Callable[[Whole, str], _Made]) -> Published:
    settings, output = whole.bench.settings, whole.bench.output
    name = f"{settings.name or whole.data.case_set.name}-{kind}"
    base = output / "models" / name
    identity = {"folds": [each.part.name for each in whole.answered], "name": name}
    found = whole.bench.shelf.get(kind, identity)
    if found is not None and (base / "1" / card.NAME).is_file():
        terminal.say(f"{name}: finished before.")
        return Published(base / "1", found.facts["metrics"])
    terminal.say(f"\n{name}")
    shutil.rmtree(base, ignore_errors=True)
    made = make(whole, name)
    with versions.new_version(base, 1) as folder:
        metrics, table = _written(whole, made, folder, name)
    whole.bench.shelf.put(kind, identity, finished.Answered(table, {"metrics": metrics["metrics"]}))
    return Published(base / "1", metrics["metrics"])


def _ensemble(whole: Whole, name: str) -> _Made:
    chosen, task = whole.bench.settings.evaluation, whole.task
    folding.fresh(whole.bench.settings)
    members = [export.load_keras(each.model / publishing.KERAS_FILE) for each in whole.answered]
    found = assuring.promises(whole.table, task, chosen)
    model = ensemble.combine(
        members,
        thresholds=found.sets.thresholds.tolist(),
        gate=chosen.gate,
        confidence=found.confidence,
        multilabel=task.multilabel,
        name="ensemble",
    )
    networks = collections.Counter(each.facts["network"] for each in whole.answered)
    facts = {
        "name": "mean of " + " and ".join(f"{count} {network}" for network, count in networks.items()),
        "parameters": model.count_params(),
        "weights": "Those of the networks of the folds.",
        "members": [each.part.name for each in whole.answered],
    }
    calibration = {"calibration": {"method": "ensemble", "temperature": None}}
    return _Made(model, calibration | found.to_json(chosen), facts, _ENSEMBLE_SETS)


def _final(whole: Whole, name: str) -> _Made:
    counted = collections.Counter(each.facts["network"] for each in whole.answered)
    network = counted.most_common(1)[0][0]
    settings = whole.bench.settings.override({"model.name": network})
    alike = [each for each in whole.answered if each.facts["network"] == network]
    stops = median_epochs([each.facts["epochs"] for each in alike])
    run = whole.bench.output / "folds" / name
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    folding.fresh(settings)
    train.begin_run(run, settings, whole.data)
    trained = train.learn(settings, whole.data, run, whole.leakage, stops=stops)
    members = {case.case_id: case for case in whole.data.stores["train"].cases}
    assured = assuring.assure_from(
        trained.learner.built.model,
        whole.data,
        logits=np.concatenate([each.logits for each in alike]),
        members=[_renamed(members[name], each.part.repeat) for each in alike for name in each.table.case_id],
        task=whole.task,
        settings=settings,
    )
    facts = {
        "name": network,
        "parameters": trained.learner.built.model.count_params(),
        "weights": trained.learner.built.weights.sentence,
        "epochs": list(stops),
    }
    return _Made(assured.model, assured.fitted, facts, _FINAL_SETS, trained.history)


def median_epochs(epochs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Returns for each stage the median of the epochs that led to the best weights, halves rounded up."""
    return tuple(int(np.floor(np.median(stage) + 0.5)) for stage in zip(*epochs, strict=True))


def _renamed(case: cases.Case, repeat: int) -> cases.Case:
    return dataclasses.replace(case, case_id=folding.renamed(case.case_id, repeat))


def _written(
    whole: Whole, made: _Made, folder: pathlib.Path, name: str
) -> tuple[Mapping[str, Any], predictions.Predictions]:
    data, task, settings = whole.data, whole.task, whole.bench.settings
    method = explain_ensemble.choose(settings.explain.method, made.model)
    publishing.export(made.model, folder, task=task, data=data, method=method)
    served, known = saved_model.Served(folder), seen.of(data)
    known.write(folder)
    model_card = publishing.describe(
        name=name,
        version=1,
        task=task,
        data=data,
        network={**made.facts, "explained_by": method},
        settings=settings.flat(),
    )
    tested = bool(data.stores["test"].cases)
    limits = (*model_card.limits, made.limit, *(() if tested else (UNTESTED,)))
    model_card = dataclasses.replace(
        model_card, leakage=whole.leakage.to_json(), fitted=dict(made.fitted), limits=limits
    )
    if tested:
        return _tested(whole, made, folder, served=served, known=known, model_card=model_card)
    return _untested(whole, folder, model_card)


def _tested(
    whole: Whole,
    made: _Made,
    folder: pathlib.Path,
    *,
    served: saved_model.Served,
    known: seen.Seen,
    model_card: card.Card,
) -> tuple[Mapping[str, Any], predictions.Predictions]:
    settings = whole.bench.settings
    source = {"model": model_card.name, "version": 1, "data": settings.data.source}
    metrics, table = publishing.evaluate(
        served,
        whole.data,
        task=whole.task,
        judging=publishing.Judging(settings.seed, settings.train.batch_size, settings.evaluation, made.fitted, source),
        folder=folder,
        overlap=known.overlap(whole.data.digests["test"]),
        explanations=explaining.measure(
            made.model, whole.data, task=whole.task, method=model_card.model["explained_by"], seed=settings.seed
        ),
    )
    model_card = dataclasses.replace(model_card, metrics=metrics["metrics"])
    publishing.write_report(
        folder,
        served=served,
        data=whole.data,
        table=table,
        metrics=metrics,
        model_card=model_card,
        history=made.history,
    )
    card.write(model_card, folder)
    return metrics, table


def _mistakes(whole: Whole) -> list[report.Mistake]:
    """Returns the mistakes that the folds' networks were surest of, each with its own network's heatmap."""
    several = any(each.part.repeat > 1 for each in whole.answered)
    found = []
    for each in whole.answered:
        served = saved_model.Served(each.model)
        for mistake in predicting.worst_mistakes(served, whole.data.stores["train"], each.table):
            name = folding.renamed(mistake.case_id, each.part.repeat) if several else mistake.case_id
            found.append(dataclasses.replace(mistake, case_id=name))
    return sorted(found, key=lambda mistake: -mistake.probability)[: predicting.MISTAKES]


def _untested(
    whole: Whole, folder: pathlib.Path, model_card: card.Card
) -> tuple[Mapping[str, Any], predictions.Predictions]:
    """Publishes with the figures of the folds, for want of a test split."""
    settings, table = whole.bench.settings, whole.table
    table.write_csv(folder / publishing.PREDICTIONS)
    metrics = whole.task.evaluate(table, seed=settings.seed, settings=settings.evaluation, fitted={})
    data = f"{settings.data.source}, out of fold"
    metrics["source"] = {"model": model_card.name, "version": 1, "data": data}
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / publishing.METRICS).write_text(text + "\n", encoding="utf-8")
    report.write_report(
        folder / publishing.REPORT,
        report.Report(
            title=model_card.name,
            metrics=metrics,
            predictions=table,
            mistakes=_mistakes(whole),
            data_counts=cases.counts(whole.data.case_set.cases),
            patient_counts=cases.patient_counts(whole.data.case_set.cases),
            settings=model_card.training["settings"],
            model_facts={"Evaluated on": data, **publishing.model_facts(model_card)},
            notes=(UNTESTED, _HEATMAPS, *whole.data.case_set.notes),
            limits=model_card.limits,
        ),
    )
    card.write(dataclasses.replace(model_card, metrics=metrics["metrics"]), folder)
    return metrics, table
