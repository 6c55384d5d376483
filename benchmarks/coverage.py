"""How often does a 95% interval hold the truth, when images come in patients?

Simulates many small studies whose truth is known: as many ill as healthy patients, several images each, alike within
a patient. Of every study the intervals are computed as medkeras does, and as if every image were a patient of its own;
the table is the share of intervals that held the truth, which should be 95%.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --patients=200 --images=3 --studies=500
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras.evaluation import classification, predictions

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


def evaluated(table: predictions.Predictions, **settings: Any) -> dict[str, Any]:
    """Returns every overall metric of a table, and those of the class `ill`."""
    found = classification.evaluate(table, **settings)
    return found["metrics"] | {f"{name} of ill": found["per_class"]["ill"][name] for name in ("recall", "specificity")}


def covered(
    tables: list[predictions.Predictions], truth: Mapping[str, float], **settings: Any
) -> dict[str, tuple[float, float]]:
    """Returns the share of the tables' intervals that hold the truth, and their mean width, by metric."""
    every = [evaluated(table, seed=i, **settings) for i, table in enumerate(tables)]
    found = {}
    for name, value in truth.items():
        limits = np.array([(entry[name]["low"], entry[name]["high"]) for entry in every])
        found[name] = (
            float(np.mean((limits[:, 0] <= value) & (value <= limits[:, 1]))),
            float(np.mean(limits[:, 1] - limits[:, 0])),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=80)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    whole = evaluated(study(LARGE, options.images, options.studies), resamples=1)
    names = [
        *("accuracy", "recall of ill", "specificity of ill", "balanced_accuracy", "f1_macro", "auroc_macro"),
        *("average_precision_macro", "cohen_kappa", "matthews_corrcoef", "brier_score_loss", "log_loss"),
    ]
    truth = {name: whole[name]["value"] for name in names}
    tables = [study(options.patients, options.images, i) for i in range(options.studies)]
    columns = {
        "patients, percentile": covered(tables, truth, resamples=options.resamples),
        "patients, BCa": covered(tables, truth, resamples=options.resamples, interval="bca"),
        "images, percentile": covered([alone(t) for t in tables], truth, resamples=options.resamples),
    }
    print(f"{options.studies} studies of {options.patients} patients with {options.images} images each")
    print(f"{'':<26} {'truth':>6}  " + "  ".join(f"{name:>24}" for name in columns))
    for name, value in truth.items():
        cells = (f"{100 * column[name][0]:8.1f}%  width {column[name][1]:.3f}" for column in columns.values())
        print(f"{name:<26} {value:6.3f}  " + "  ".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
