"""How often does a 95% interval hold the truth, when images come in patients?

Simulates many small studies whose truth is known: as many ill as healthy patients, several images each, alike within
a patient. Of every study the intervals are computed as medkeras does, and as if every image were a patient of its own;
the table is the share of intervals that held the truth, which should be 95%.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --patients=200 --images=3 --studies=500
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras.evaluation import clustered, intervals, predictions, resampled, scores

NAMES = (
    *("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "average_precision_macro"),
    *("cohen_kappa", "matthews_corrcoef", "brier_score_loss", "log_loss"),
)
ALIKE = 0.7
LARGE = 40_000


def study(patients: int, images: int, seed: int) -> predictions.Predictions:
    """Returns the predictions of one study: two classes, `ALIKE` of the scores' variance is the patients'."""
    rng = np.random.default_rng((1, seed))
    ill = np.repeat(np.arange(patients) % 2, images)
    patient = np.repeat(np.arange(patients), images)
    common = np.sqrt(ALIKE) * rng.normal(size=patients)[patient]
    score = common + np.sqrt(1 - ALIKE) * rng.normal(size=len(patient)) + 1.4 * ill - 0.7
    probability = 1 / (1 + np.exp(-1.4 * score))
    return predictions.Predictions(
        case_id=tuple(f"case{i}" for i in range(len(patient))),
        patient_id=tuple(f"patient{i}" for i in patient),
        path=("",) * len(patient),
        split=("test",) * len(patient),
        classes=("healthy", "ill"),
        target=np.eye(2, dtype=np.int8)[ill],
        probabilities=np.stack([1 - probability, probability], axis=1),
    )


def alone(table: predictions.Predictions) -> predictions.Predictions:
    """Returns the table with every image a patient of its own."""
    return predictions.Predictions(
        table.case_id, table.case_id, table.path, table.split, table.classes, table.target, table.probabilities
    )


def limits_of(table: predictions.Predictions, *, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Returns the limits of every metric, by the kind of interval; proportions have Wilson's in both."""
    patients, strata = table.patients, clustered.strata(table)
    statistics = resampled.Resampled(table, patients, names=NAMES)
    drawn = intervals.resample(statistics, strata, resamples=resamples, seed=seed, width=statistics.width)
    left_out, of_group = intervals.jackknife(statistics, strata, width=statistics.width)
    value = {name: x[..., 0] for name, x in statistics(np.ones((1, len(strata)), np.int32)).items()}
    target = np.asarray(table.target)[:, 1]
    hits, ill = target == table.decisions[:, 1], target > 0
    wilson = {
        name: intervals.proportion(hits, counted, patients)
        for name, counted in (("accuracy", hits | True), ("sensitivity", ill), ("specificity", ~ill))
    }
    return {
        "percentile": {name: intervals.percentile(drawn[name]) for name in NAMES} | wilson,
        "bca": {name: intervals.bca(drawn[name], value[name], left_out[name], of_group) for name in NAMES} | wilson,
    }


def covered(found: Sequence[Mapping[str, Any]], truth: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Returns the share of intervals that hold the truth, and their mean width, by metric."""
    answer = {}
    for name, value in truth.items():
        low, high = np.array([limits[name] for limits in found], np.float64).T
        answer[name] = float(np.mean((low <= value) & (value <= high))), float(np.mean(high - low))
    return answer


def true_values(images: int, seed: int) -> dict[str, float]:
    """Returns every metric of a study so large that chance is out of it."""
    table = study(LARGE, images, seed)
    found = resampled.Resampled(table, table.patients)(np.ones((1, LARGE), np.int32))
    sensitivity, specificity = (found[scores.of_class(name)][1, 0] for name in ("recall", "specificity"))
    return {name: float(found[name][0]) for name in NAMES} | {"sensitivity": sensitivity, "specificity": specificity}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=80)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    truth = true_values(options.images, options.studies)
    clusters: list[dict[str, Any]] = []
    singles: list[dict[str, Any]] = []
    for seed in range(options.studies):
        table = study(options.patients, options.images, seed)
        clusters.append(limits_of(table, resamples=options.resamples, seed=seed))
        singles.append(limits_of(alone(table), resamples=options.resamples, seed=seed))
    columns = {
        "patients, percentile": covered([found["percentile"] for found in clusters], truth),
        "patients, BCa": covered([found["bca"] for found in clusters], truth),
        "images, percentile": covered([found["percentile"] for found in singles], truth),
    }
    print(f"{options.studies} studies of {options.patients} patients with {options.images} images each")
    print(f"{'':<26} {'truth':>6}  " + "  ".join(f"{name:>24}" for name in columns))
    for name, value in truth.items():
        cells = (f"{100 * column[name][0]:8.1f}%  width {column[name][1]:.3f}" for column in columns.values())
        print(f"{name:<26} {value:6.3f}  " + "  ".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
