"""`--mode=evaluate --predictions=FILE`: a table of predictions becomes a report, whoever made it."""

from __future__ import annotations

import itertools
import json
import os
import pathlib

import numpy as np

from medkeras import config, errors
from medkeras.data import split
from medkeras.evaluation import classification, markup, operating, predictions, report
from medkeras.workflows import evaluate, publishing

LIMITS = (
    markup.NOT_A_DEVICE,
    "What is said here follows from a table of predictions: medkeras saw neither the images nor the model.",
)


def evaluate_predictions(
    table: str | os.PathLike[str], settings: config.Config, *, output: str | os.PathLike[str]
) -> evaluate.Evaluated:
    """Evaluates a table of predictions and writes `metrics.json` and `report.html`.

    The table is a `predictions.csv`, or one that another program wrote: `case_id`, optional `patient_id`, `y_true` and
    `prob_CLASS` for every class. Where it has a column `split`, the rows of `test` are judged, and operating points are
    chosen on the rows of `validation`; without validation rows there are none.

    Args:
        table: The file.
        settings: `seed` and those of `evaluation` count.
        output: Folder of the results.

    Raises:
        DataError: The table cannot be read, or says nothing that could be judged.
    """
    rule = settings.evaluation.operating_point
    operating.check_rule(rule)
    whole = predictions.read_csv(table)
    _require_text(whole, errors.printable(table))
    test, validation = _split(whole, errors.printable(table))
    points = operating.choose(validation, rule) if validation is not None else ()
    chosen = settings.evaluation
    metrics = classification.evaluate(
        test,
        resamples=chosen.resamples,
        seed=settings.seed,
        interval=chosen.interval,
        prevalence=chosen.prevalence,
        operating_points=points,
    )
    metrics["source"] = {"predictions": pathlib.Path(table).name}
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / publishing.METRICS).write_text(text + "\n", encoding="utf-8")
    title = pathlib.Path(table).name
    report.write_report(folder / publishing.REPORT, report.Report(title, metrics, test, limits=LIMITS))
    return evaluate.Evaluated(folder, metrics)


def _require_text(table: predictions.Predictions, name: str) -> None:
    """Refuses bytes that are not UTF-8 in a name of a class or a group, which the results show; a path may hold any."""
    groups = itertools.chain(table.metadata, *table.metadata.values())
    for text in itertools.chain(table.classes, groups):
        if errors.printable(text) != text:
            raise errors.DataError(
                f"{name}: names of classes and groups are UTF-8 text. Received: {errors.printable(text)!r}"
            )


def _split(table: predictions.Predictions, name: str) -> tuple[predictions.Predictions, predictions.Predictions | None]:
    """Returns the rows to judge, and those that thresholds are chosen on."""
    splits = np.array([_split_name(text, name) for text in table.split])
    if not any(table.split):
        return table, None
    if not (splits == "test").any():
        raise errors.DataError(f"{name}: a table with splits has rows of the test split. Received: none")
    validation = table.take(splits == "validation") if (splits == "validation").any() else None
    return table.take(splits == "test"), validation


def _split_name(text: str, name: str) -> str:
    """Returns `train`, `validation`, `test`, or empty where the table does not say."""
    found = split.split_name(text) if text else ""
    if found is None:
        raise errors.DataError(f"{name}: a split is train, validation or test. Received: {text!r}")
    return found
