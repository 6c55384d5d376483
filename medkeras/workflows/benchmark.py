"""`--mode=benchmark`: what saved models and files for devices cost on this machine, and how accurate they are."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medkeras import config, errors
from medkeras.edge import machine, timing
from medkeras.evaluation import edge_figures, edge_page
from medkeras.export import card, versions
from medkeras.workflows import accuracies, opening, terminal

JSON, HTML = "benchmark.json", "benchmark.html"
RUNTIMES = {".tflite": "litert", ".onnx": "onnx"}
"""What computes a file, by the end of its name; a folder is a SavedModel, for TensorFlow."""

_GRAPH = "saved_model.pb"
_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Benchmarked:
    """What a benchmark leaves behind.

    Attributes:
        folder: `benchmark.json` and `benchmark.html`.
        result: What `benchmark.json` holds.
    """

    folder: pathlib.Path
    result: Mapping[str, Any]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        return tuple(edge_page.sentences(self.result))

    @property
    def failed(self) -> tuple[str, ...]:
        """Why models were not measured, one sentence each."""
        return tuple(each["reason"] for each in self.result["failed"])


def benchmark(
    models: Sequence[str | os.PathLike[str]],
    settings: config.Config | None = None,
    *,
    output: str | os.PathLike[str],
    seconds: float = _SECONDS,
    key: str | os.PathLike[str] | None = None,
) -> Benchmarked:
    """Measures models beside each other: latency, throughput, start-up, memory, size; accuracy where data are given.

    A model that cannot be run is named with its reason, and the others are measured.

    Args:
        models: Files `.tflite` and `.onnx`, folders with such files, and folders of SavedModels: a version, or a model
            and then its newest version.
        settings: `data.source` names the data for the accuracy, and the other settings of `data` count; None: accuracy
            is not measured.
        output: A new folder of the results, which appears whole or not at all.
        seconds: For which each model is asked one picture at a time, with each number of threads.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        ConfigError: No model is named, or no time.
        ModelError: A path leads to no model, no model could be run, or the folder exists.
        UserError: The data cannot be used, or do not fit a model.
    """
    plan = timing.Plan(seconds=seconds)
    folder = _new(output)
    found = [each for model in models for each in _found(pathlib.Path(model))]
    if not found:
        raise errors.ConfigError("A benchmark needs a model, --model=FILE or FOLDER. Received: none")
    subjects = _titled(found)
    faults = dict(filter(None, map(_unverified, subjects)))
    judged = accuracies.Judged()
    if settings is not None:
        judged = accuracies.judge(_without(subjects, faults), settings, key=key)
        faults |= judged.faults
    measured, slow = _measure(_without(subjects, faults), plan)
    faults |= slow
    if not measured:
        raise errors.ModelError(next(iter(faults.values())))
    result = _result(subjects, plan, measured, faults=faults, judged=judged)
    with versions.new_folder(folder) as written:
        _write(written, result)
    return Benchmarked(folder, result)


def _new(output: str | os.PathLike[str]) -> pathlib.Path:
    folder = pathlib.Path(output)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise errors.ModelError(f"A benchmark is written into a new folder. Received: {errors.printable(folder)!r}")
    versions.require_writable(folder)
    return folder


def _found(path: pathlib.Path) -> Iterator[timing.Subject]:
    """Yields the models that a path means, by the name of the file, or of the SavedModel and its version.

    Raises:
        ModelError: There is none.
    """
    if path.is_file() and path.suffix in RUNTIMES:
        yield timing.Subject(path.name, path, RUNTIMES[path.suffix], path.stat().st_size)
    elif path.is_dir() and (inside := _files(path)):
        for file in inside:
            yield from _found(file)
    elif path.is_dir():
        yield _saved(opening.describe(opening.locate(path)))
    else:
        raise errors.ModelError(
            f"A model is a folder, or a file whose name ends in {' or '.join(RUNTIMES)}. "
            f"Received: {errors.printable(path)!r}{'' if path.exists() else ', which does not exist'}"
        )


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files for devices in a folder that holds no SavedModel."""
    if (folder / _GRAPH).exists():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix in RUNTIMES and file.is_file())


def _saved(described: opening.Described) -> timing.Subject:
    graph = [name for name in described.card.files if name == _GRAPH or name.startswith("variables/")]
    sizes = (described.folder / name for name in graph)
    return timing.Subject(
        f"{described.card.name}-{described.card.version}",
        described.folder,
        "tensorflow",
        sum(path.stat().st_size for path in sizes if path.is_file()),
        described.canvas.shape,
    )


def _titled(subjects: Sequence[timing.Subject]) -> list[timing.Subject]:
    """Returns each model once, under titles of their own: those alike get the name of their folder, then a number."""
    once = list({each.path.resolve(): each for each in subjects}.values())
    titles = [each.title for each in once]
    titles = [
        f"{each.path.resolve().parent.name}/{each.title}" if titles.count(each.title) > 1 else each.title
        for each in once
    ]
    taken: set[str] = set()
    for place, title in enumerate(titles):
        free = (title if number == 1 else f"{title}-{number}" for number in itertools.count(1))
        titles[place] = next(name for name in free if name not in taken)
        taken.add(titles[place])
    return [dataclasses.replace(each, title=errors.printable(title)) for each, title in zip(once, titles, strict=True)]


def _unverified(subject: timing.Subject) -> tuple[str, str] | None:
    """Returns title and reason of a SavedModel whose files are not those that its card lists."""
    if subject.runtime != "tensorflow":
        return None
    try:
        card.verify(card.read(subject.path), subject.path)
    except errors.ModelError as error:
        return subject.title, str(error)
    return None


def _without(subjects: Sequence[timing.Subject], faults: Mapping[str, str]) -> list[timing.Subject]:
    return [each for each in subjects if each.title not in faults]


def _measure(subjects: Sequence[timing.Subject], plan: timing.Plan) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    if not subjects:
        return {}, {}
    expected = edge_figures.milliseconds(max(1000.0, 1000 * plan.estimate(len(subjects))))
    count = f"{len(subjects)} model{'s' * (len(subjects) > 1)}"
    terminal.say(f"Measuring {count} on {', '.join(map(str, plan.threads))} threads: {expected} or more")
    return timing.measure(subjects, plan, track=terminal.track)


def _result(
    subjects: Sequence[timing.Subject],
    plan: timing.Plan,
    measured: Mapping[str, Mapping[str, Any]],
    *,
    faults: Mapping[str, str],
    judged: accuracies.Judged,
) -> dict[str, Any]:
    paths = {each.title: errors.printable(each.path) for each in subjects}
    return {
        "machine": machine.describe(),
        "threads": list(plan.threads),
        "batches": list(plan.batches),
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "data": judged.data,
        "models": {
            title: {"file": paths[title], **entry, "accuracy": judged.accuracy.get(title)}
            for title, entry in measured.items()
        },
        "failed": [{"file": paths[title], "reason": reason} for title, reason in faults.items()],
        "notes": list(judged.notes),
    }


def _write(folder: pathlib.Path, result: Mapping[str, Any]) -> None:
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / JSON).write_text(text + "\n", encoding="utf-8")
    edge_page.write(folder / HTML, result)
