"""A trained model becomes a version: exported, evaluated as exported, and described."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from medkeras import config
from medkeras.data import cases, prepare, split
from medkeras.evaluation import predictions, report
from medkeras.export import card, saved_model
from medkeras.workflows import predicting, seen, strangers

KERAS_FILE = "model.keras"
METRICS, PREDICTIONS, REPORT = "metrics.json", "predictions.csv", "report.html"
UNITS = types.MappingProxyType({"": "the values that the image file stores", "HU": "Hounsfield units (HU)"})


def export(model: keras.Model, folder: pathlib.Path, *, task: Any, data: prepare.Prepared, method: str) -> None:
    """Writes the SavedModel and `model.keras`, without the optimizer's variables."""
    network = keras.Model(model.input, model.output, name=model.name)
    saved_model.write(network, folder, task=task, canvas=data.canvas, method=method)
    network.save(folder / KERAS_FILE)


@dataclasses.dataclass(frozen=True)
class Judging:
    """How predictions are made and judged.

    Attributes:
        seed: Root of the bootstrap's random numbers.
        batch_size: Images at once.
        settings: Intervals, prevalence, foreign images.
        fitted: What the card says was fitted on validation; empty for a model that was published long ago.
        source: What is judged: `model`, `version` and `data`.
    """

    seed: int
    batch_size: int
    settings: config.EvaluationConfig
    fitted: Mapping[str, Any]
    source: Mapping[str, Any]


def evaluate(
    served: saved_model.Served,
    data: prepare.Prepared,
    *,
    task: Any,
    judging: Judging,
    folder: pathlib.Path,
    overlap: seen.Overlap | None = None,
    explanations: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], predictions.Predictions]:
    """Runs the exported model over the test split and writes `predictions.csv` and `metrics.json`.

    `overlap` and `explanations`, what `explaining.measure` returned, stand in `metrics.json` where they are known.
    """
    images = data.stores["test"]
    table = predicting.predict_split(served, images, task, batch_size=judging.batch_size)
    table.write_csv(folder / PREDICTIONS)
    metrics = task.evaluate(table, seed=judging.seed, settings=judging.settings, fitted=judging.fitted)
    metrics["source"] = dict(judging.source)
    if explanations is not None:
        metrics["explanations"] = dict(explanations)
    if table.familiarity is not None:
        metrics["input_gate"] = strangers.measure(served, images, table, judging.fitted, judging.settings.foreign)
    if overlap is not None:
        metrics["overlap"] = dataclasses.asdict(overlap)
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    return metrics, table


def write_report(
    folder: pathlib.Path,
    *,
    served: saved_model.Served,
    data: prepare.Prepared,
    table: predictions.Predictions,
    metrics: Mapping[str, Any],
    model_card: card.Card,
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Writes `report.html`."""
    report.write_report(
        folder / REPORT,
        report.Report(
            title=f"{model_card.name}, version {model_card.version}",
            metrics=metrics,
            predictions=table,
            history=history,
            mistakes=predicting.worst_mistakes(served, data.stores["test"], table),
            data_counts=cases.counts(data.case_set.cases),
            patient_counts=cases.patient_counts(data.case_set.cases),
            settings=model_card.training["settings"],
            model_facts={"Evaluated on": metrics["source"]["data"], **model_facts(model_card)},
            # The report says by itself, and at more length, what it means that no patients are known.
            notes=[
                *(note for note in data.case_set.notes if note != split.NO_PATIENTS),
                *model_card.fitted.get("abstain", {}).get("notes", ()),
            ],
            data_check=_data_check(metrics, model_card),
            limits=model_card.limits,
            card=dataclasses.asdict(model_card),
        ),
    )


def _data_check(metrics: Mapping[str, Any], model_card: card.Card) -> list[str] | None:
    warning = seen.Overlap(**metrics["overlap"]).warning if "overlap" in metrics else ""
    if not warning and not model_card.leakage:
        return None
    return [warning] * bool(warning) + list(model_card.leakage.get("sentences", ()))


def model_facts(model_card: card.Card) -> dict[str, str]:
    """Returns what a reader wants to know of the model at a glance."""
    given, network = model_card.input, model_card.model
    low, high = given["value_range"]
    return {
        "Network": f"{network['name']}, {network['parameters']:,} parameters",
        "Weights": network["weights"],
        "Input": f"{given['height']} × {given['width']} × {given['channels']}, {given['dtype']}, {low:g} to {high:g}",
        "Resize": given["resize"],
        "Trained on": f"{model_card.training['source']} (fingerprint {model_card.training['fingerprint'][:12]})",
        "Seed": str(model_card.training["settings"]["seed"]),
    }


def describe(
    *,
    name: str,
    version: int,
    task: Any,
    data: prepare.Prepared,
    network: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> card.Card:
    """Returns the card of a model, still without metrics and files."""
    canvas = data.canvas
    return card.Card(
        name=name,
        version=version,
        task=task.description(),
        input={
            "height": canvas.size[0],
            "width": canvas.size[1],
            "channels": canvas.channels,
            "dtype": canvas.dtype,
            "resize": canvas.mode,
            "value_range": list(data.value_range),
            "units": UNITS[data.units],
            "stored": list(data.dtypes),
        },
        model=network,
        training={
            "source": settings["data.source"],
            "fingerprint": data.fingerprint,
            "counts": cases.counts(data.case_set.cases),
            "notes": list(data.case_set.notes),
            "settings": settings,
        },
    )
