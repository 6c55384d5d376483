"""Tables of predictions that every test of the evaluation may ask for."""

import dataclasses

import numpy as np
import pytest

from medkeras.evaluation import predictions as tables


@pytest.fixture(scope="session")
def make_table():
    """Builds a table of cases that share patients, with scores that follow the truth and have ties."""

    def build(n=200, k=3, *, multilabel=False, per_patient=2, seed=0, **changes):
        rng = np.random.default_rng(seed)
        patient = rng.integers(max(1, n // per_patient), size=n) if per_patient > 1 else np.arange(n)
        noise = 0.7 * rng.normal(size=(n, k))[patient] + rng.normal(size=(n, k))
        if multilabel:
            target = (rng.random((n, k)) < 0.3).astype(np.int8)
            probabilities = 1 / (1 + np.exp(-np.round(noise + 2 * target - 1, 1)))
        else:
            target = np.eye(k, dtype=np.int8)[rng.integers(k, size=n)[patient]]
            weights = np.exp(np.round(noise + 2 * target, 1))
            probabilities = weights / weights.sum(axis=1, keepdims=True)
        table = tables.Predictions(
            case_id=tuple(f"case{i}" for i in range(n)),
            patient_id=tuple(f"patient{i}" for i in patient),
            path=tuple(f"{i}.png" for i in range(n)),
            split=("test",) * n,
            classes=tuple("abcdefghijkl"[:k]),
            target=target,
            probabilities=np.round(probabilities, 2) if multilabel else probabilities,
            multilabel=multilabel,
        )
        return dataclasses.replace(table, **changes)

    return build


@pytest.fixture(scope="session")
def reordered():
    """Returns a table with its cases in another order, or taken several times under new names."""

    def build(table, order):
        return dataclasses.replace(
            table,
            case_id=tuple(f"case{i}" for i in range(len(order))),
            **{name: tuple(getattr(table, name)[i] for i in order) for name in ("patient_id", "path", "split")},
            target=table.target[order],
            probabilities=table.probabilities[order],
        )

    return build
