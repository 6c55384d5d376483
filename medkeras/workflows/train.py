"""`--mode=train`: from data to a published model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import config
from medkeras.data import cases, prepare, schemes, split
from medkeras.explain import methods
from medkeras.export import card, saved_model, versions
from medkeras.preprocessing import preprocessor
from medkeras.tasks import classification
from medkeras.training import strategy
from medkeras.workflows import (
    assuring,
    building,
    explaining,
    failing,
    gate,
    learning,
    publishing,
    seen,
    terminal,
)


@dataclasses.dataclass(frozen=True)
class Published:
    """What a training leaves behind.

    Attributes:
        folder: The model, `saved_models/NAME/VERSION`.
        run: The run, `runs/NAME/VERSION`.
        metrics: What `metrics.json` holds.
    """

    folder: pathlib.Path
    run: pathlib.Path
    metrics: Mapping[str, Any]


def train(
    settings: config.Config,
    *,
    output: str | os.PathLike[str] = "saved_models",
    workdir: str | os.PathLike[str] = "runs",
    key: str | os.PathLike[str] | None = None,
) -> Published:
    """Prepares the data, trains, exports, evaluates the exported model on the test split, and publishes it.

    Args:
        settings: All settings; `data.source` names the data.
        output: Folder of the models; the version appears in `output/NAME/` whole or not at all.
        workdir: Folder of the runs: settings, split, history, TensorBoard scalars, weights.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The settings, the data or the weights cannot be used, or the loss diverged.
    """
    building.begin(settings, output, workdir)
    case_set = schemes.load(settings.data, seed=settings.seed, key=key)
    data, leakage = gate.prepare_checked(case_set, settings.data, folder=pathlib.Path(workdir))
    settings = building.choose_network(settings, data.canvas.size)
    name = settings.name or f"{case_set.name}-{settings.model.name}"
    base = pathlib.Path(output, name)
    version = _claim_version(base, pathlib.Path(workdir, name))
    run = pathlib.Path(workdir, name, str(version))
    begin_run(run, settings, data)
    gate.report(leakage, run)
    with failing.naming_files(data):
        trained = learn(settings, data, run, leakage)
        with versions.new_version(base, version) as folder:
            metrics = publish(trained, folder, name=name, version=version)
    return Published(folder=base / str(version), run=run, metrics=metrics)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training that has ended, before its model is exported.

    Attributes:
        settings: Settings of the run, the network chosen.
        data: The prepared data.
        learner: Holds the trained model and its task.
        history: Rows of `history.csv`.
        leakage: The copies among the data.
    """

    settings: config.Config
    data: prepare.Prepared
    learner: learning.Learner
    history: list[dict[str, float]]
    leakage: gate.Leakage


def _claim_version(base: pathlib.Path, runs: pathlib.Path) -> int:
    """Returns a new version's number, which is this training's alone as soon as the folder of its run is made."""
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        version = versions.next_version(base, runs)
        with contextlib.suppress(FileExistsError):
            (runs / str(version)).mkdir()
            return version


def begin_run(run: pathlib.Path, settings: config.Config, data: prepare.Prepared) -> None:
    """Leaves settings and split in the folder of a run, and tells what is about to be learnt."""
    (run / "config.json").write_text(json.dumps(settings.flat(), indent=2) + "\n", encoding="utf-8")
    split.write_csv(data.case_set, run / "split.csv")
    for note in data.case_set.notes:
        terminal.say(f"Note: {note}")
    canvas = data.canvas
    terminal.say(
        f"{data.case_set.name}: {len(data.case_set.cases)} cases, {len(data.case_set.classes)} classes, "
        f"{canvas.size[0]}x{canvas.size[1]}x{canvas.channels} {canvas.dtype}, seed {settings.seed}"
    )
    for name, count in cases.counts(data.case_set.cases).items():
        terminal.say(f"  {name:<11}{', '.join(f'{label} {number}' for label, number in sorted(count.items()))}")


def learn(
    settings: config.Config,
    data: prepare.Prepared,
    run: pathlib.Path,
    leakage: gate.Leakage,
    *,
    stops: tuple[int, ...] = (),
) -> Trained:
    """Trains a network.

    Args:
        settings: All settings, `model.name` the name of a network.
        data: The prepared data.
        run: Folder of the run, which exists.
        leakage: The copies among the data.
        stops: Epochs of each stage when there is no validation split to choose the best one by.
    """
    task = classification.for_training(data.case_set, settings.train)
    augmenter = preprocessor.augmenter_for(settings.augment, value_range=data.value_range)
    with strategy.make_strategy(settings.train.strategy).scope():
        built = building.build(settings, data, task)
        terminal.say(f"{built.model.name}: {built.model.count_params():,} parameters. {built.weights.sentence}")
        learner = learning.Learner(built, data, task, settings, augmenter, run, stops)
        history = learner.learn()
    return Trained(settings, data, learner, history, leakage)


def publish(trained: Trained, folder: pathlib.Path, *, name: str, version: int) -> Mapping[str, Any]:
    """Makes a training's model honest, exports it, evaluates the export on the test split and describes it.

    Returns:
        What `metrics.json` holds.
    """
    learner, data, settings = trained.learner, trained.data, trained.settings
    assured = assuring.assure(learner.built.model, data, task=learner.task, settings=settings)
    method = methods.choose(settings.explain.method, assured.model)
    publishing.export(assured.model, folder, task=learner.task, data=data, method=method)
    served, known = saved_model.Served(folder), seen.of(data)
    known.write(folder)
    metrics, table = publishing.evaluate(
        served,
        data,
        task=learner.task,
        judging=publishing.Judging(
            settings.seed,
            settings.train.batch_size,
            settings.evaluation,
            assured.fitted,
            {"model": name, "version": version, "data": settings.data.source},
        ),
        folder=folder,
        overlap=known.overlap(data.digests["test"]),
        explanations=explaining.measure(assured.model, data, task=learner.task, method=method, seed=settings.seed),
    )
    network = {
        "name": settings.model.name,
        "parameters": learner.built.model.count_params(),
        "weights": learner.built.weights.sentence,
        "explained_by": method,
    }
    model_card = publishing.describe(
        name=name, version=version, task=learner.task, data=data, network=network, settings=settings.flat()
    )
    model_card = dataclasses.replace(
        model_card, metrics=metrics["metrics"], leakage=trained.leakage.to_json(), fitted=assured.fitted
    )
    publishing.write_report(
        folder, served=served, data=data, table=table, metrics=metrics, model_card=model_card, history=trained.history
    )
    card.write(model_card, folder)
    return metrics
