"""Who competes in a comparison: classifiers over features, networks to train, and saved models."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from medkeras import config, errors
from medkeras.baselines import classifiers, features
from medkeras.data import prepare, store
from medkeras.evaluation import predictions
from medkeras.export import card, saved_model
from medkeras.models import transfer
from medkeras.preprocessing import preprocessor
from medkeras.tasks import classification
from medkeras.workflows import building, finished, fitting, opening, passing, predicting, seen, terminal, train

BATCH = 32
"""Images at once when features are computed and when answers are timed."""
EMBEDDER = "efficientnet_lite0"
LEAST_SIDE = 128
"""Pixels of the shorter side that the pretrained network sees; smaller images are enlarged for it."""
TRADITIONAL, EMBEDDING, NETWORK, SAVED = "traditional", "embedding", "network", "saved"

_REPEATS = 10
_KNOWS_NOT = "keeps no list of the pictures that it was trained on: whether it has seen test cases is unknown."


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """What every contender works with.

    Attributes:
        settings: Settings of the comparison.
        data: The prepared data.
        task: Gives targets, and predictions as a table.
        output: Folder of the comparison.
        workdir: Folder of the runs of networks.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.
    """

    settings: config.Config
    data: prepare.Prepared
    task: classification.Classification
    output: pathlib.Path
    workdir: pathlib.Path
    key: str | os.PathLike[str] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Contender:
    """One who competes.

    Attributes:
        name: Its name in `comparison.json` and of its files.
        kind: `traditional`, `embedding`, `network` or `saved`.
        title: What a reader calls it.
        compete: Learns what there is to learn and answers for the test split.
        identity: What its answers depend on beside data and settings, ready for JSON.
        note: What a reader must know of it, or empty.
    """

    name: str
    kind: str
    title: str
    compete: Callable[[], finished.Answered]
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Describer:
    """Turns images into features.

    Attributes:
        answer: From stored values `[B, H, W, C]` to `features` float32 `[B, D]`.
        parameters: Numbers that were learnt, or None where none were.
    """

    answer: passing.Answer
    parameters: int | None = None


class Described:
    """The features of the training and the test split, computed once, when they are first asked for."""

    def __init__(self, bench: Bench, make: Callable[[Bench], Describer], description: str) -> None:
        self.bench = bench
        self._make = make
        self._description = description

    @functools.cached_property
    def describer(self) -> Describer:
        """What makes them."""
        return self._make(self.bench)

    @functools.cached_property
    def training(self) -> tuple[np.ndarray, float]:
        """float32 `[N, D]`, and the seconds that they took."""
        start = time.perf_counter()
        found = self._of("train")
        return found, time.perf_counter() - start

    @functools.cached_property
    def test(self) -> np.ndarray:
        """float32 `[N, D]`."""
        return self._of("test")

    def _of(self, split: str) -> np.ndarray:
        return passing.run(
            self.describer.answer,
            self.bench.data.stores[split],
            batch_size=BATCH,
            description=f"{self._description}: {split}",
        )["features"]


def traditional(bench: Bench, names: Sequence[str]) -> list[Contender]:
    """Returns classifiers over hand-made features."""
    described = Described(bench, hand_made, "Hand-made features")
    return [_over(described, TRADITIONAL, name, "hand-made features") for name in names]


def embeddings(bench: Bench, names: Sequence[str]) -> list[Contender]:
    """Returns classifiers over the embedding of a frozen pretrained network."""
    described = Described(bench, embedding, "Pretrained features")
    return [_over(described, EMBEDDING, name, f"frozen {EMBEDDER} features") for name in names]


def networks(bench: Bench, names: Sequence[str]) -> list[Contender]:
    """Returns networks to train, each once; `auto` is the one that a training would choose."""
    size = bench.data.canvas.size
    chosen = [building.choose_network(bench.settings, size).model.name if name == "auto" else name for name in names]
    return [
        Contender(name, NETWORK, f"{name} (network)", functools.partial(_train, bench, name))
        for name in dict.fromkeys(chosen)
    ]


def saved(bench: Bench, models: Sequence[str | os.PathLike[str]]) -> list[Contender]:
    """Returns published models.

    Raises:
        ModelError: One is no model, tells other classes apart, or has seen test cases.
    """
    return [_saved(bench, model) for model in models]


def hand_made(bench: Bench) -> Describer:
    """Returns gradients, patterns, co-occurrence and statistics of the grey image that a network would see."""
    chosen, data = bench.settings.preprocessing, bench.data
    layers = preprocessor.layers_for(
        dataclasses.replace(chosen, grayscale=True, normalise="none"),
        channels=data.canvas.channels,
        value_range=data.value_range,
        mean=(0.0,),
        std=(1.0,),
        network_normalise="none",
    )
    low, high = data.value_range if chosen.window == "none" else (0.0, 1.0)

    def answer(images: tf.Tensor) -> dict[str, np.ndarray]:
        grey = tf.cast(images, tf.float32)
        for layer in layers:
            grey = layer(grey)
        return {"features": features.describe((grey.numpy()[..., 0] - low) / ((high - low) or 1.0))}

    return Describer(answer)


def embedding(bench: Bench) -> Describer:
    """Returns the embedding of a network with ImageNet's weights, which does not learn.

    Raises:
        ConfigError: The weights are not on this machine and cannot be had.
    """
    canvas = bench.data.canvas
    factor = max(1.0, LEAST_SIDE / min(canvas.size))
    height, width = (round(factor * side) for side in canvas.size)
    settings = bench.settings.override({"model.name": EMBEDDER, "model.weights": "imagenet"})
    larger = dataclasses.replace(bench.data, canvas=dataclasses.replace(canvas, size=(height, width)))
    network, _ = transfer.split(building.build(settings, larger, bench.task).model, unfreeze=0)

    @tf.function(reduce_retracing=True)
    def embedded(images: tf.Tensor) -> tf.Tensor:
        x = tf.cast(images, tf.float32)
        return network(x if factor == 1.0 else tf.image.resize(x, (height, width)), training=False)

    return Describer(lambda images: {"features": embedded(images).numpy()}, network.count_params())


def milliseconds(answer: Callable[[tf.Tensor], Any], images: store.Store) -> float:
    """Returns the time of an answer a case, in ms, asked for 32 at once: the shortest of ten, after one to warm up.

    The shortest, for other work on the machine makes times longer and never shorter.
    """
    (batch,) = images.attach(tf.data.Dataset.from_tensors({"index": np.arange(BATCH) % len(images.cases)}))
    answer(batch["image"])
    found = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        answer(batch["image"])
        found.append(time.perf_counter() - start)
    return 1000 * min(found) / BATCH


def _over(described: Described, kind: str, method: str, of: str) -> Contender:
    title = f"{classifiers.METHODS[method].title} on {of}"
    return Contender(f"{kind}_{method}", kind, title, functools.partial(_classify, described, method))


def _classify(described: Described, method: str) -> finished.Answered:
    bench = described.bench
    members, training = bench.data.stores["train"].cases, described.training
    tuner = classifiers.Tuner(
        method,
        bench.settings.seed,
        multilabel=bench.task.multilabel,
        balanced=bench.settings.train.loss == "weighted",
        track=terminal.track,
    )
    start = time.perf_counter()
    tuned = tuner.fit(
        training[0],
        bench.task.targets(members),
        names=[case.case_id for case in members],
        patients=[case.patient_id for case in members],
    )
    seconds = training[1] + time.perf_counter() - start
    images, describer = bench.data.stores["test"], described.describer
    table = bench.task.predictions(images.cases, {"probabilities": tuned.probabilities(described.test)})

    def answer(batch: tf.Tensor) -> np.ndarray:
        return tuned.probabilities(np.asarray(describer.answer(batch)["features"]))

    facts = {
        "train_seconds": seconds,
        "predict_ms_per_case": milliseconds(answer, images),
        "parameters": describer.parameters,
        "size_bytes": tuned.nbytes + 4 * (describer.parameters or 0),
        "chosen": tuned.chosen,
    }
    return finished.Answered(table, facts)


def _train(bench: Bench, network: str) -> finished.Answered:
    base = bench.settings.name
    asked = bench.settings.override({"model.name": network, "name": f"{base}-{network}" if base else ""})
    start = time.perf_counter()
    published = train.train(asked, output=bench.output / "models", workdir=bench.workdir, key=bench.key)
    seconds = time.perf_counter() - start
    table = predictions.read_csv(published.folder / "predictions.csv")
    model_card, served = card.read(published.folder), saved_model.Served(published.folder)
    return finished.Answered(
        table,
        _costs(published.folder, model_card, milliseconds(served.predict, bench.data.stores["test"]))
        | {"train_seconds": seconds, "model": os.path.relpath(published.folder, bench.output)},
    )


def _costs(folder: pathlib.Path, model_card: card.Card, ms: float) -> dict[str, Any]:
    graph = [name for name in model_card.files if name == "saved_model.pb" or name.startswith("variables/")]
    return {
        "train_seconds": None,
        "predict_ms_per_case": ms,
        "parameters": model_card.model["parameters"],
        "size_bytes": sum(os.path.getsize(folder / name) for name in graph),
    }


def _saved(bench: Bench, model: str | os.PathLike[str]) -> Contender:
    opened = opening.open_model(model)
    name = f"{opened.card.name}-{opened.card.version}"
    _refuse_other_classes(opened, bench.task, name)
    test = bench.data.case_set.replace_cases(bench.data.case_set.of_split("test"))
    data = prepare.prepare(test, bench.settings.data, canvas=opened.canvas, folder=bench.workdir, track=terminal.track)
    fitting.refuse_other_data(opened, bench.settings.data.source, data)
    known = seen.NAME in opened.card.files
    if known:
        _refuse_seen(opened, bench.data, data, name)
    files = {"files": dict(opened.card.files)}
    note = "" if known else f"{name} {_KNOWS_NOT}"
    return Contender(name, SAVED, f"{name} (saved model)", functools.partial(_ask, opened, data), files, note)


def _ask(opened: opening.Opened, data: prepare.Prepared) -> finished.Answered:
    images = data.stores["test"]
    table = predicting.predict_split(opened.served, images, opened.task, batch_size=BATCH)
    return finished.Answered(table, _costs(opened.folder, opened.card, milliseconds(opened.served.predict, images)))


def _refuse_other_classes(opened: opening.Opened, task: classification.Classification, name: str) -> None:
    ours, theirs = (task.classes, task.multilabel), (opened.task.classes, opened.task.multilabel)
    if ours != theirs:
        raise errors.ModelError(
            f"Models are compared on the same classes, in one order: {', '.join(task.classes)}. "
            f"Received: {name}, which tells {', '.join(opened.task.classes)}"
        )


def _refuse_seen(opened: opening.Opened, data: prepare.Prepared, test: prepare.Prepared, name: str) -> None:
    """Refuses a model that has seen test pictures; those that training holds too, every contender has seen."""
    known = seen.read(opened.folder)
    ours = seen.of(data)
    everyone = ours.training | ours.validation
    met = [each for each in test.digests["test"] if each in known.training | known.validation and each not in everyone]
    if met:
        raise errors.ModelError(
            f"A model is compared on cases that it has not seen. Received: {name}, which has seen {len(met):,} of the "
            f"{len(test.digests['test']):,} test pictures in its own training"
        )
