"""Predictions of an exported model, and pictures of its worst mistakes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from medkeras import errors
from medkeras.data import cases, guard, headers, store
from medkeras.data.readers import dicom
from medkeras.evaluation import predictions, report
from medkeras.export import saved_model
from medkeras.workflows import passing

MISTAKES = 8


def predict_split(
    served: saved_model.Served, images: store.Store, task: Any, *, batch_size: int
) -> predictions.Predictions:
    """Returns the exported model's predictions for every case of a store, in order."""
    outputs = passing.run(served.predict, images, batch_size=batch_size, description="Asking the exported model")
    return task.predictions(images.cases, {name: outputs[name] for name in task.outputs})


def worst_mistakes(
    served: saved_model.Served, images: store.Store, table: predictions.Predictions
) -> list[report.Mistake]:
    """Returns the wrong predictions that the model was surest of, with what it looked at.

    The store holds the table's cases, found by their names, and may hold others.
    """
    chosen = _surest_errors(table).tolist()
    if not chosen:
        return []
    places = {case.case_id: place for place, case in enumerate(images.cases)}
    found = [places[table.case_id[row]] for row in chosen]
    (batch,) = images.attach(tf.data.Dataset.from_tensors({"index": np.array(found)}))
    heatmaps = served.explain(batch["image"])["heatmap"]
    members = [images.cases[place] for place in found]
    return [
        _mistake(table, case, row, displayable(image, case), heatmap[..., 0])
        for row, case, image, heatmap in zip(chosen, members, batch["image"].numpy(), heatmaps, strict=True)
    ]


def displayable(image: np.ndarray, case: cases.Case) -> np.ndarray:
    """Returns uint8 `[H, W, C]` to look at.

    DICOM goes through its first window, 8-bit values stay as they are, others are stretched from lowest to highest.
    """
    if _is_dicom(case):
        facts = guard.inspect("dicom", case.path)
        return dicom.voi(image[..., : facts["channels"]], facts)
    if image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    scaled = (image.astype(np.float32) - low) / (high - low) if high > low else np.zeros(image.shape)
    return np.rint(scaled * 255).astype(np.uint8)


def _is_dicom(case: cases.Case) -> bool:
    try:
        return os.path.isfile(case.path) and headers.identify(case.path) == "DICOM"
    except errors.BadInputError:
        return False


def _surest_errors(table: predictions.Predictions) -> np.ndarray:
    target, probabilities = np.asarray(table.target), table.probabilities
    if table.multilabel:
        miss = np.where(target > 0, 1 - probabilities, probabilities).max(1)
        wrong = ((probabilities >= 0.5) != (target > 0)).any(1)
    else:
        miss = probabilities.max(1)
        wrong = probabilities.argmax(1) != target.argmax(1)
    rows = np.flatnonzero(wrong)
    return rows[np.argsort(-miss[rows], kind="stable")][:MISTAKES]


def _mistake(
    table: predictions.Predictions, case: cases.Case, row: int, picture: np.ndarray, heatmap: np.ndarray
) -> report.Mistake:
    probabilities = table.probabilities[row]
    likeliest = int(probabilities.argmax())
    return report.Mistake(
        case_id=case.case_id,
        label=" | ".join(case.labels) or case.label or "none",
        prediction=_called(table, row) or "none",
        probability=float(probabilities[likeliest]),
        image=picture,
        heatmap=heatmap,
    )


def _called(table: predictions.Predictions, row: int) -> str:
    """Returns every class that was called: of several labels, the likeliest one need not be the wrong one."""
    return " | ".join(name for name, called in zip(table.classes, table.decisions[row], strict=True) if called)
