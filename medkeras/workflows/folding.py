"""One part of a cross-validation: networks learn from some patients and answer for others, once."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras import config, errors
from medkeras.confidence import assurance
from medkeras.data import cases, folds, prepare, split, store
from medkeras.evaluation import predictions
from medkeras.export import versions
from medkeras.training import strategy
from medkeras.workflows import assuring, failing, finished, gate, learning, passing, terminal, train

LOGITS = "logits.npy"
MODEL = "network"
_VALIDATION, _SIZES = 1, 2


@dataclasses.dataclass(frozen=True)
class Part:
    """One training and its test.

    Attributes:
        name: Its folder.
        repeat: Counted from 1.
        fold: Counted from 1.
        case_set: Training, validation and, as `test`, the fold that is held out.
        share: Share of the training patients that it learns from.
    """

    name: str
    repeat: int
    fold: int
    case_set: cases.CaseSet
    share: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Answered:
    """What a part has to show.

    Attributes:
        part: What was asked for.
        table: The exported model's predictions for the fold that was held out; with a share below 1, the network's.
        facts: `network`, `epochs` (of each stage), `trained_on` (cases), `counts`, `patients`, `leakage`, and of an
            exported network `metrics` and `undefined`; ready for JSON.
        folder: Where the model and its logits are.
    """

    part: Part
    table: predictions.Predictions
    facts: Mapping[str, Any]
    folder: pathlib.Path

    @property
    def model(self) -> pathlib.Path:
        """Folder of the exported model."""
        return self.folder / MODEL / "1"

    @property
    def logits(self) -> np.ndarray:
        """What the network said before calibration, float32 `[N, K]`, in the order of the table."""
        return np.load(self.folder / LOGITS, allow_pickle=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """What every part works with.

    Attributes:
        settings: Settings of the whole.
        networks: Names of the networks that each part chooses among by its own validation split.
        canvas: What a batch looks like, the same everywhere.
        output: Folder of the cross-validation.
        workdir: Folder of caches on disk.
        shelf: What is finished.
    """

    settings: config.Config
    networks: Sequence[str]
    canvas: store.Canvas
    output: pathlib.Path
    workdir: pathlib.Path
    shelf: finished.Shelf


def shelf_of(
    settings: config.Config, networks: Sequence[str], data: prepare.Prepared, folder: pathlib.Path
) -> finished.Shelf:
    """Returns where finished parts are kept: those of the same data and of settings that matter to them."""
    kept = {
        key: value for key, value in settings.flat().items() if not key.startswith(("crossval.", "compare.", "name"))
    }
    return finished.Shelf(folder, {"data": data.fingerprint, "settings": kept, "networks": list(networks)})


def parts(development: cases.CaseSet, settings: config.Config) -> Iterator[Part]:
    """Yields the parts, repeat by repeat and fold by fold.

    Args:
        development: Cases that may be learnt from; their splits do not matter.
        settings: `crossval`, `seed` and `data.validation` count.
    """
    chosen = settings.crossval
    for repeat in range(chosen.repeats):
        seed = settings.seed + repeat
        homes = folds.assign(development.cases, folds=chosen.folds, seed=seed)
        for fold in range(chosen.folds):
            name = f"repeat{repeat + 1}-fold{fold + 1}"
            held_out = homes == fold
            yield Part(name, repeat + 1, fold + 1, _split(development, held_out, settings, fold=fold, seed=seed))


def smaller(part: Part, share: float, settings: config.Config) -> Part:
    """Returns a part that learns from a share of the patients, and answers for the same fold."""
    learnt = [case for case in part.case_set.cases if case.split != "test"]
    kept = folds.some(learnt, share, seed=_seed(settings, _SIZES, part.fold - 1), least=folds.LEAST)
    members = [case for case in part.case_set.cases if case.split == "test" or case.patient_id in kept]
    held_out = np.array([case.split == "test" for case in members])
    fewer = _split(part.case_set.replace_cases(members), held_out, settings, fold=part.fold - 1, seed=settings.seed)
    return dataclasses.replace(part, name=f"share{share:g}-fold{part.fold}", case_set=fewer, share=share)


def answer(part: Part, bench: Bench) -> Answered:
    """Returns what a part has to show; what was finished from the same data and settings is not done again."""
    folder = bench.output / "folds" / part.name
    identity = {"cases": _digest(part.case_set)}
    found = bench.shelf.get(part.name, identity)
    if found is not None and (part.share < 1 or (folder / LOGITS).is_file()):
        terminal.say(f"{part.name}: finished before.")
        return Answered(part, found.table, found.facts, folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table, facts = _trained(part, bench, folder)
    bench.shelf.put(part.name, identity, finished.Answered(table, facts))
    return Answered(part, table, facts, folder)


def renamed(case_id: str, repeat: int) -> str:
    """Returns a case's name in a table that holds several repeats."""
    return f"{case_id}@{repeat}"


def _split(
    development: cases.CaseSet, held_out: np.ndarray, settings: config.Config, *, fold: int, seed: int
) -> cases.CaseSet:
    """Returns the cases with a fold as `test` and, of the others, some patients as `validation`."""
    learnt = [case for case, held in zip(development.cases, held_out, strict=True) if not held]
    chosen = folds.some(
        learnt, settings.data.validation, seed=_seed(settings, _VALIDATION, fold, seed), least=1, spared=1
    )
    if not chosen:
        raise errors.DataError(
            "Every fold leaves a class with two patients or more, one of them for validation. Received: none"
        )
    names = ["test" if held else "" for held in held_out]
    rows = [
        dataclasses.replace(case, split=name or ("validation" if case.patient_id in chosen else "train"))
        for case, name in zip(development.cases, names, strict=True)
    ]
    result = development.replace_cases(rows)
    split.refuse_unlearnable(result)
    return result


def _seed(settings: config.Config, purpose: int, fold: int, seed: int | None = None) -> int:
    """Returns the seed of one choice: a function of the run's seed, of what is chosen and of the fold."""
    root = settings.seed if seed is None else seed
    return int(np.random.SeedSequence((root, purpose, fold)).generate_state(1)[0])


def _digest(case_set: cases.CaseSet) -> str:
    rows = sorted(f"{case.case_id}\0{case.split}" for case in case_set.cases)
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


def _trained(part: Part, bench: Bench, folder: pathlib.Path) -> tuple[predictions.Predictions, dict[str, Any]]:
    terminal.say(f"\n{part.name}: {', '.join(bench.networks)}")
    data, leakage = gate.prepare_checked(part.case_set, bench.settings.data, folder=bench.workdir, canvas=bench.canvas)
    with failing.naming_files(data):
        trained, epochs = _best(bench, data, folder, leakage)
        facts: dict[str, Any] = {
            "network": trained.settings.model.name,
            "epochs": epochs,
            "trained_on": len(data.stores["train"].cases),
            "counts": cases.counts(data.case_set.cases),
            "patients": cases.patient_counts(data.case_set.cases),
            "leakage": list(leakage.sentences),
        }
        if part.share < 1:
            return _answers(trained), facts
        with versions.new_version(folder / MODEL, 1) as model:
            metrics = train.publish(trained, model, name=part.name, version=1)
        np.save(folder / LOGITS, _raw(trained, "test"))
    table = predictions.read_csv(folder / MODEL / "1" / "predictions.csv")
    return table, facts | {"metrics": metrics["metrics"], "undefined": metrics["undefined"]}


def _best(
    bench: Bench, data: prepare.Prepared, folder: pathlib.Path, leakage: gate.Leakage
) -> tuple[train.Trained, list[int]]:
    """Returns the network with the lowest validation loss, and the epochs of each of its stages."""
    found: list[tuple[float, int, train.Trained, list[int]]] = []
    for number, name in enumerate(bench.networks):
        trained, loss, epochs = _learnt(
            bench.settings.override({"model.name": name}), data, folder / "run" / name, leakage
        )
        found = [min([*found, (loss, number, trained, epochs)], key=lambda each: each[:2])]
    return found[0][2:]


def _learnt(
    settings: config.Config, data: prepare.Prepared, run: pathlib.Path, leakage: gate.Leakage
) -> tuple[train.Trained, float, list[int]]:
    run.mkdir(parents=True)
    fresh(settings)
    train.begin_run(run, settings, data)
    gate.report(leakage, run)
    trained = train.learn(settings, data, run, leakage)
    stages = learning.stages(settings.train, pretrained=trained.learner.built.weights.pretrained)
    best = [learning.best(trained.history, stage) for stage in stages]
    return trained, best[-1][1], [epochs for epochs, _ in best]


def fresh(settings: config.Config) -> None:
    """Makes a training the same whatever the process did before it."""
    keras.utils.clear_session()
    strategy.seed_everything(settings.seed, deterministic=settings.train.deterministic)


def _raw(trained: train.Trained, name: str) -> np.ndarray:
    """Returns the logits of a split, float32 `[N, K]`."""
    model = trained.learner.built.model

    @tf.function(reduce_retracing=True)
    def ask(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {assurance.LOGITS: model(tf.cast(images, tf.float32), training=False)[assurance.LOGITS]}

    return passing.run(
        ask,
        trained.data.stores[name],
        batch_size=trained.settings.train.batch_size,
        description=f"Asking the network: {name}",
    )[assurance.LOGITS]


def _answers(trained: train.Trained) -> predictions.Predictions:
    """Returns what the network, calibrated on validation, says of the test split, without exporting it."""
    task, stores = trained.learner.task, trained.data.stores
    chosen = trained.settings.evaluation
    _, scaling = assuring.calibrated(_raw(trained, "validation"), stores["validation"].cases, task, chosen)
    return task.predictions(stores["test"].cases, {"probabilities": scaling.apply(_raw(trained, "test"))})
