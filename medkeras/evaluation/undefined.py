"""Why a number does not exist: of all that can be the cause, the one that is true of these cases."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from medkeras.evaluation import predictions as tables
from medkeras.evaluation import rates

_NONE, _ALL = "no case has this class", "every case has this class"
_UNCALLED, _ALL_CALLED = "no case was called this class", "every case was called this class"
_NO_ALARM, _NO_CLEAR = "no case was called this class wrongly", "no case was rightly not called this class"
_NEVER, _ALWAYS = "no case has this class and none was called it", "every case has this class and was called it"
_PREVALENCE = "the stated prevalence leaves nothing to divide by"
_CAUSES = {
    "precision": (_UNCALLED,),
    "recall": (_NONE,),
    "specificity": (_ALL,),
    "f1": (_NEVER,),
    "auroc": (_NONE, _ALL),
    "average_precision": (_NONE,),
    "balanced_accuracy": (_NONE, _ALL),
    "positive_predictive_value": (_UNCALLED, _NONE, _ALL, _PREVALENCE),
    "negative_predictive_value": (_ALL_CALLED, _NONE, _ALL, _PREVALENCE),
    "positive_likelihood_ratio": (_NONE, _ALL, _UNCALLED, _NO_ALARM),
    "negative_likelihood_ratio": (_NONE, _ALL, _ALL_CALLED, _NO_CLEAR),
    "cohen_kappa": (_NEVER, _ALWAYS),
    "matthews_corrcoef": (_NONE, _ALL, _UNCALLED, _ALL_CALLED),
}
_OF_ALL_LABELS = {
    _NONE: "no label is present",
    _ALL: "every label is present",
    _UNCALLED: "no label was called",
    _NEVER: "no label is present and none was called",
}


def sentences(table: tables.Predictions, by_class: Mapping[str, np.ndarray], values: Mapping[str, float]) -> list[str]:
    """Returns a sentence for each cause that leaves a metric without a finite number.

    Args:
        table: Labelled cases, K classes.
        by_class: `[K]` for each metric of the classes.
        values: The metrics of all classes.
    """
    counts = rates.Counts.of(np.asarray(table.target), table.decisions)
    facts, found = _facts(counts), []
    for name, causes in _CAUSES.items():
        lacking = ~np.isfinite(by_class[name])
        for cause in causes:
            meant = lacking & facts[cause]
            lacking &= ~meant
            if meant.any():
                found.append(f"{name} of {', '.join(itertools.compress(table.classes, meant))}: {cause}")
    nowhere = [name for name, value in values.items() if np.isnan(value)]
    return found + [f"{name}: {_of_all_classes(name, counts, table.multilabel)}" for name in nowhere]


def _facts(c: rates.Counts) -> dict[str, np.ndarray]:
    present, absent, called, passed = c.hits + c.misses, c.alarms + c.clears, c.hits + c.alarms, c.misses + c.clears
    return {
        _NONE: present == 0,
        _ALL: absent == 0,
        _UNCALLED: called == 0,
        _ALL_CALLED: passed == 0,
        _NO_ALARM: c.alarms == 0,
        _NO_CLEAR: c.clears == 0,
        _NEVER: present + called == 0,
        _ALWAYS: absent + passed == 0,
        _PREVALENCE: np.ones(np.shape(present), bool),
    }


def _of_all_classes(name: str, counts: rates.Counts, multilabel: bool) -> str:
    metric, _, average = name.rpartition("_")
    if average == "micro":
        facts = _facts(counts.sum(axis=0))
        return next(_OF_ALL_LABELS[cause] for cause in _CAUSES[metric] if facts[cause])
    if multilabel or average == "macro":
        return "undefined for every class"
    facts = _facts(counts)
    if facts[_ALWAYS].any():
        return "every case has the same class and was called it"
    return "every case has the same class" if facts[_ALL].any() else "every case was called the same class"
