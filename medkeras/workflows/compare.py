"""`--mode=compare`: baselines, networks and saved models side by side, on one split and by one seed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from medkeras import config, errors
from medkeras.baselines import classifiers
from medkeras.data import cases, prepare, schemes, split
from medkeras.evaluation import classification, comparison, comparison_page
from medkeras.models import table
from medkeras.tasks import classification as tasks
from medkeras.workflows import building, contenders, failing, finished, gate, terminal

JSON, HTML = "comparison.json", "comparison.html"
TESTED = ("accuracy", "auroc_macro", "balanced_accuracy")
RESAMPLES_A_PAIR = 200
"""A bootstrap's p cannot be below 2 in its resamples: enough of them that Holm's correction can leave it below 5%."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """What a comparison leaves behind.

    Attributes:
        folder: `comparison.json`, `comparison.html`, the predictions of each, and in `models/` the trained networks.
        result: What `comparison.json` holds.
    """

    folder: pathlib.Path
    result: Mapping[str, Any]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        return tuple(comparison_page.sentences(self.result))


def compare(
    settings: config.Config,
    *,
    models: Sequence[str | os.PathLike[str]] = (),
    output: str | os.PathLike[str] = "comparison",
    workdir: str | os.PathLike[str] = "runs",
    key: str | os.PathLike[str] | None = None,
) -> Compared:
    """Trains what `compare.…` names on the training split and tests it, and saved models, on the test split.

    A contender that the folder holds finished, from the same data and settings, is not computed again.

    Args:
        settings: All settings; `data.source` names the data.
        models: Folders of saved models that compete too.
        output: Folder of the results.
        workdir: Folder of the runs of the networks.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The settings or the data cannot be used, fewer than two would compete, or a saved model has seen
            test cases or tells other classes apart.
    """
    asked = _asked(settings, models)
    building.begin(settings, output, workdir)
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    case_set = schemes.load(settings.data, seed=settings.seed, key=key)
    data, leakage = gate.prepare_checked(case_set, settings.data, folder=pathlib.Path(workdir))
    gate.report(leakage, folder)
    split.write_csv(data.case_set, folder / "split.csv")
    task = tasks.for_training(data.case_set, settings.train)
    bench = contenders.Bench(settings, data, task, folder, pathlib.Path(workdir), key)
    with failing.naming_files(data):
        competing = _competing(bench, asked, models)
        answered = _answered(bench, competing)
    result = _result(bench, competing, answered, leakage)
    _write(folder, result)
    return Compared(folder, result)


def _asked(settings: config.Config, saved: Sequence[str | os.PathLike[str]]) -> dict[str, list[str]]:
    """Returns the names that the settings ask for, by kind; raises `ConfigError` before anything slow begins."""
    chosen = settings.compare
    asked = {
        contenders.TRADITIONAL: _names(chosen.traditional),
        contenders.EMBEDDING: _names(chosen.embeddings),
        contenders.NETWORK: _names(chosen.networks),
    }
    classifiers.check(asked[contenders.TRADITIONAL] + asked[contenders.EMBEDDING])
    for name in asked[contenders.NETWORK]:
        if name not in (building.AUTO, *table.MODELS):
            raise errors.ConfigError(errors.unknown("model", name, (building.AUTO, *table.MODELS)))
    count = sum(map(len, asked.values())) + len(saved)
    if count < 2:
        raise errors.ConfigError(
            "A comparison is between two or more of compare.traditional, compare.embeddings, compare.networks and "
            f"--model. Received: {count}"
        )
    return asked


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _competing(
    bench: contenders.Bench, asked: Mapping[str, Sequence[str]], saved: Sequence[str | os.PathLike[str]]
) -> list[contenders.Contender]:
    """Returns who competes, networks last; the saved ones are looked at before anything learns."""
    judged = contenders.saved(bench, saved)
    everyone = [
        *judged,
        *contenders.traditional(bench, asked[contenders.TRADITIONAL]),
        *contenders.embeddings(bench, asked[contenders.EMBEDDING]),
        *contenders.networks(bench, asked[contenders.NETWORK]),
    ]
    taken: set[str] = set()
    named = []
    for each in everyone:
        free = (each.name if n == 1 else f"{each.name}-{n}" for n in itertools.count(1))
        name = next(name for name in free if name not in taken)
        taken.add(name)
        named.append(dataclasses.replace(each, name=name))
    return named


def _answered(bench: contenders.Bench, competing: Sequence[contenders.Contender]) -> dict[str, finished.Answered]:
    settings = {name: value for name, value in bench.settings.flat().items() if not name.startswith("compare.")}
    shelf = finished.Shelf(bench.output, {"fingerprint": bench.data.fingerprint, "settings": settings})
    found = {}
    for number, each in enumerate(competing, start=1):
        known = shelf.get(each.name, each.identity)
        state = " (finished before)" if known else ""
        terminal.say(f"{number} of {len(competing)}: {each.title}{state}")
        found[each.name] = known or each.compete()
        if not known:
            shelf.put(each.name, each.identity, found[each.name])
    return found


def _result(
    bench: contenders.Bench,
    competing: Sequence[contenders.Contender],
    answered: Mapping[str, finished.Answered],
    leakage: gate.Leakage,
) -> dict[str, Any]:
    chosen, seed, data = bench.settings.evaluation, bench.settings.seed, bench.data
    tables = {name: each.table for name, each in answered.items()}
    judged = {
        name: classification.evaluate(
            table, resamples=chosen.resamples, seed=seed, interval=chosen.interval, prevalence=chosen.prevalence
        )
        for name, table in tables.items()
    }
    first = next(iter(judged.values()))
    return {
        **{name: first[name] for name in ("task", "n", "n_patients", "classes")},
        "patients_known": data.case_set.patients_known,
        "models": {
            each.name: {
                **judged[each.name]["metrics"],
                "kind": each.kind,
                "title": each.title,
                **answered[each.name].facts,
                "predictions": f"{finished.PREDICTIONS}/{each.name}.csv",
            }
            for each in competing
        },
        "tests": _tests(tables, resamples=chosen.resamples, seed=seed),
        "batch_size": contenders.BATCH,
        "data": {"source": bench.settings.data.source, **_data(data)},
        "notes": [*data.case_set.notes, *leakage.sentences, *(each.note for each in competing if each.note)],
        "interval": first["interval"],
        "settings": bench.settings.flat(),
    }


def _data(data: prepare.Prepared) -> dict[str, Any]:
    members = data.case_set.cases
    return {
        "fingerprint": data.fingerprint,
        "counts": cases.counts(members),
        "patients": cases.patient_counts(members),
    }


def _tests(tables: Mapping[str, Any], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Returns the tests of all pairs, each metric a family of its own for Holm's correction."""
    pairs = len(tables) * (len(tables) - 1) // 2
    enough = max(resamples, RESAMPLES_A_PAIR * pairs)
    families = [comparison.compare(tables, metrics=(name,), resamples=enough, seed=seed) for name in TESTED]
    return list(itertools.chain.from_iterable(families))


def _write(folder: pathlib.Path, result: Mapping[str, Any]) -> None:
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / JSON).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    comparison_page.write(folder / HTML, result)
