"""The learning curve of a cross-validation: networks that learnt from fewer patients answer for the same folds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medkeras import errors
from medkeras.evaluation import classification, learning_curve, predictions
from medkeras.workflows import folding

SHOWN = ("accuracy", "auroc_macro")

Pool = Callable[[Sequence[folding.Answered]], predictions.Predictions]


def shares(text: str) -> tuple[float, ...]:
    """Returns the shares below 1 that a setting names, rising; the whole is what the folds have answered already.

    Raises:
        ConfigError: One is no number above 0 and at most 1.
    """
    try:
        found = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        found = [0.0]
    if any(not 0 < share <= 1 for share in found):
        raise errors.ConfigError(f"crossval.sizes are shares above 0, at most 1. Received: {text!r}")
    return tuple(share for share in found if share < 1)


def measure(
    bench: folding.Bench, answered: Sequence[folding.Answered], shares: Sequence[float], *, pool: Pool
) -> dict[str, Any]:
    """Trains each fold of the first repeat again on each share of its patients.

    A smaller share is part of a larger one, validation is carved from it as from the whole, and all answer for the
    same folds.

    Returns:
        `points`: `share`, `n` (training cases, the mean of the folds), `accuracy` and `auroc_macro` out of fold; and
        `fit`, what `learning_curve.fit` makes of the accuracies.
    """
    full = [each for each in answered if each.part.repeat == 1]
    points = []
    for share in shares:
        smaller = [folding.smaller(each.part, share, bench.settings) for each in full]
        points.append(_point([folding.answer(part, bench) for part in smaller], bench, pool=pool))
    points.append(_point(full, bench, pool=pool))
    fitted = learning_curve.fit([{"n": point["n"], **point["accuracy"]} for point in points], seed=bench.settings.seed)
    return {"points": points, "fit": fitted}


def _point(answered: Sequence[folding.Answered], bench: folding.Bench, *, pool: Pool) -> dict[str, Any]:
    chosen = bench.settings.evaluation
    metrics: Mapping[str, Any] = classification.evaluate(
        pool(answered), resamples=chosen.resamples, seed=bench.settings.seed, interval=chosen.interval
    )["metrics"]
    return {
        "share": answered[0].part.share,
        "n": statistics.fmean(each.facts["trained_on"] for each in answered),
        "n_patients": statistics.fmean(each.facts["patients"]["train"] for each in answered),
        **{name: dict(metrics[name]) for name in SHOWN},
    }
