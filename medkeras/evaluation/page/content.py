"""What a report is made from, and the words that several of its sections share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.evaluation import predictions as tables

Entry = Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A case that was called wrongly.

    Attributes:
        case_id: The case.
        label: What it is.
        prediction: What it was called.
        probability: Stated probability of what it was called, 0…1.
        image: uint8 `[H, W, 1 or 3]`.
        heatmap: float `[h, w]` in 0…1 of any size, or None.
    """

    case_id: str
    label: str
    prediction: str
    probability: float
    image: np.ndarray
    heatmap: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that a report shows. Texts are plain: they are escaped where they are shown.

    Attributes:
        title: The heading.
        metrics: What `metrics.json` holds: what `classification.evaluate` returned, and what else is known.
        predictions: The table it was computed from.
        history: One mapping an epoch: `epoch`, `loss`, `val_loss`, `accuracy`, `val_accuracy`, `learning_rate`.
        mistakes: The worst first; at most 24 are shown.
        data_counts: Cases by split and class.
        patient_counts: Patients by split.
        settings: The settings of the run, `section.field` to value.
        model_facts: Name to value, such as parameters, input and training time.
        notes: Sentences the reader must see first.
        data_check: What was found to stand in two splits, a sentence each; None: nobody looked.
        limits: Sentences on what the model must not be used for; the first one stands at the top.
        card: What `card.json` holds; empty where no model is known.
    """

    title: str
    metrics: Mapping[str, Any]
    predictions: tables.Predictions
    history: Sequence[Mapping[str, Any]] = ()
    mistakes: Sequence[Mistake] = ()
    data_counts: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    patient_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    data_check: Sequence[str] | None = None
    limits: Sequence[str] = ()
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def target(self) -> np.ndarray:
        """int8 `[N, K]`: the truth."""
        return np.asarray(self.predictions.target)

    @property
    def correct(self) -> np.ndarray:
        """bool `[N]`: whether everything that was called is right."""
        return (self.predictions.decisions == self.target).all(axis=1)

    @property
    def names_patients(self) -> bool:
        """Whether the data name patients."""
        return self.predictions.patient_id != self.predictions.case_id

    @property
    def fitted(self) -> Mapping[str, Any]:
        """What was fitted on validation, as the card says; empty where it is not known."""
        return self.card.get("fitted") or {}


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        identity: What a link on the page names it by.
        title: Its heading, plain text.
        body: HTML.
    """

    identity: str
    title: str
    body: str


def percent(share: float | None) -> str:
    """Returns a share as a percentage with one decimal, or a dash."""
    return "–" if share is None else f"{100 * share:.1f}%"


def span(entry: Entry) -> str:
    """Returns a share and its interval in words.

    >>> span({"value": 0.9, "low": 0.85, "high": 0.95})
    '90.0% (95% interval 85.0% to 95.0%)'
    """
    if entry["low"] is None:
        return percent(entry["value"])
    return f"{percent(entry['value'])} (95% interval {percent(entry['low'])} to {percent(entry['high'])})"


def brief(entry: Entry) -> str:
    """Returns a share and its interval, where it has been said what an interval is.

    >>> brief({"value": 0.9, "low": 0.85, "high": 0.95})
    '90.0% (85.0% to 95.0%)'
    """
    return span(entry).replace("(95% interval ", "(")


def tested(report: Report) -> str:
    """Returns how many images of how many patients were tested; of patients it speaks where the data name them."""
    patients = f" of {report.metrics['n_patients']:,} patients" if report.names_patients else ""
    return f"{report.metrics['n']:,} images{patients}"


def source(report: Report) -> str:
    """Returns the name of what was evaluated, or an empty text where it is not known."""
    found = report.metrics.get("source") or {}
    return str(found.get("data") or found.get("predictions") or report.model_facts.get("Evaluated on") or "")


def rule(name: str) -> str:
    """Returns the rule of an operating point in words.

    >>> rule("sensitivity:0.9")
    'the largest specificity with a sensitivity of at least 0.9'
    """
    kind, _, number = name.partition(":")
    if kind == "cost":
        miss, _, alarm = number.partition("/")
        return f"the least cost, where a miss costs {miss} and a false alarm {alarm}"
    other = {"sensitivity": "specificity", "specificity": "sensitivity"}
    if kind in other:
        return f"the largest {other[kind]} with a {kind} of at least {number}"
    return "the largest sum of sensitivity and specificity" if kind == "youden" else name
