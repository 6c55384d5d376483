"""A 95% interval holds the truth 95 times in 100, when patients are what is resampled (`benchmarks/coverage.py`)."""

import numpy as np

from medkeras.evaluation import clustered, intervals, resampled
from medkeras.evaluation import predictions as tables

NAMES = ("auroc_macro", "brier_score_loss")
STUDIES, PATIENTS, IMAGES = 150, 50, 6


def study(patients, seed, *, alone=False):
    rng = np.random.default_rng((5, seed))
    patient = np.repeat(np.arange(patients), IMAGES)
    ill = patient % 2
    score = rng.normal(size=patients)[patient] + 0.5 * rng.normal(size=len(patient)) + 1.5 * ill - 0.75
    probability = 1 / (1 + np.exp(-score))
    names = tuple(f"case{i:06d}" for i in range(len(patient)))
    return tables.Predictions(
        case_id=names,
        patient_id=names if alone else tuple(f"patient{i:06d}" for i in patient),
        path=names,
        split=names,
        classes=("healthy", "ill"),
        target=np.eye(2, dtype=np.int8)[ill],
        probabilities=np.stack([1 - probability, probability], axis=1),
    )


def limits(table, seed):
    patients, strata = table.patients, clustered.strata(table)
    statistics = resampled.Resampled(table, patients, names=NAMES)
    drawn = intervals.resample(statistics, strata, resamples=200, seed=seed)
    return {name: intervals.percentile(drawn[name]) for name in NAMES}


def coverage(truth, *, alone):
    every = [limits(study(PATIENTS, seed, alone=alone), seed) for seed in range(STUDIES)]
    return {name: np.mean([found[name][0] <= truth[name] <= found[name][1] for found in every]) for name in NAMES}


def test_patients_cover_and_images_do_not():
    large = study(4000, STUDIES)
    everyone = np.ones((1, 4000), np.int32)
    truth = {name: x[0] for name, x in resampled.Resampled(large, large.patients, names=NAMES)(everyone).items()}
    for name, share in coverage(truth, alone=False).items():
        assert 0.88 <= share <= 0.99, name
    for name, share in coverage(truth, alone=True).items():
        assert share < 0.75, name
