"""How long do 2,000 resamples of patients take, for 10 metrics of 100,000 predictions?

Times the intervals of `medkeras.evaluation` and, in the same run, a plain loop that draws patients and calls
scikit-learn on every resample; of the loop a few resamples are timed and the time is multiplied. The first resamples of
both are compared: the same draws give the same numbers.

    python benchmarks/intervals.py
    python benchmarks/intervals.py --n=10000 --resamples=1000
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from sklearn import metrics

from medkeras.evaluation import clustered, intervals, predictions, resampled, scores

NAMES = (
    *("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "auroc_macro"),
    *("average_precision_macro", "log_loss", "brier_score_loss", "matthews_corrcoef"),
)


def simulated(n: int, per_patient: int) -> predictions.Predictions:
    """Returns predictions of two classes, several images a patient, continuous scores."""
    rng = np.random.default_rng(0)
    patient = rng.permutation(np.arange(n) // per_patient)
    sick = rng.random(patient.max() + 1) < 0.3
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + rng.normal(size=len(sick))[patient] + 2 * sick[patient] - 1)))
    return predictions.Predictions(
        case_id=tuple(f"case{i}" for i in range(n)),
        patient_id=tuple(f"patient{i}" for i in patient),
        path=("",) * n,
        split=("test",) * n,
        classes=("well", "sick"),
        target=np.eye(2, dtype=np.int8)[sick[patient].astype(int)],
        probabilities=np.stack([1 - score, score], axis=1),
    )


def by_scikit_learn(truth: np.ndarray, score: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Returns the same ten metrics of one resample: ranks of the scores float32, losses of their exact shares."""
    named = p.argmax(axis=1)
    return {
        "accuracy": metrics.accuracy_score(truth, named),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, named),
        "precision_macro": metrics.precision_score(truth, named, average="macro"),
        "recall_macro": metrics.recall_score(truth, named, average="macro"),
        "f1_macro": metrics.f1_score(truth, named, average="macro"),
        "auroc_macro": metrics.roc_auc_score(truth, score[:, 1]),
        "average_precision_macro": float(
            np.mean([metrics.average_precision_score(truth == k, score[:, k]) for k in range(2)])
        ),
        "log_loss": metrics.log_loss(truth, p),
        "brier_score_loss": metrics.brier_score_loss(truth, p),
        "matthews_corrcoef": metrics.matthews_corrcoef(truth, named),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--per_patient", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--loop", type=int, default=10, help="resamples of the plain loop")
    options = parser.parse_args()
    table = simulated(options.n, options.per_patient)
    patients, strata = table.patients, clustered.strata(table)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    statistics = resampled.Resampled(table, patients, names=NAMES)
    found = intervals.resample(statistics, strata, resamples=options.resamples, seed=0, width=statistics.width)
    limits = {name: intervals.percentile(replicates) for name, replicates in found.items()}
    ours = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    truth, p = np.asarray(table.target).argmax(axis=1), scores.normalised(table.probabilities)
    start, furthest = time.perf_counter(), 0.0
    for r, counts in enumerate(intervals.draw_patients(strata, range(options.loop), 0)):
        cases = np.repeat(np.arange(len(table)), counts[patients])
        expected = by_scikit_learn(truth[cases], table.probabilities[cases], p[cases])
        furthest = max(furthest, *(abs(expected[name] - found[name][r]) for name in NAMES))
    loop = (time.perf_counter() - start) / options.loop * options.resamples

    for name, (low, high) in limits.items():
        print(f"{name:<26} {low:.4f} to {high:.4f}")
    print(f"{len(table):,} predictions, {patients.max() + 1:,} patients, {options.resamples:,} resamples, 10 metrics")
    print(f"medkeras        {ours:8.1f} s   memory grew by {grown:.0f} MB")
    print(f"scikit-learn    {loop:8.1f} s   ({options.loop} resamples timed)   {loop / ours:.0f} times as long")
    print(f"largest difference on the same draws: {furthest:.1e}")


if __name__ == "__main__":
    main()
