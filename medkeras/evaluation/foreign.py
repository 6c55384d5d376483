"""Reads tables of predictions that medkeras did not write: `case_id`, `y_true`, `prob_CLASS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.evaluation import cells

PROBABILITY, TRUTH, METADATA = "prob_", "y_true", "meta:"
_ALONE = "prob"


def is_foreign(header: Sequence[str]) -> bool:
    """Returns whether a table's columns are named as other programs name them."""
    return any(column in (TRUTH, _ALONE) or column.startswith((PROBABILITY, f"{TRUTH}_")) for column in header)


def parse(column: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Returns the arguments of `Predictions`.

    Args:
        column: The cells of each column: `case_id`; `y_true` with a class name or its position among the
            `prob_CLASS` columns, or a `y_true_CLASS` of 0 and 1 for every class (multi-label); `prob_CLASS` for
            every class, or `prob` alone for the class 1 of a `y_true` of 0 and 1; optional `patient_id`, `path`,
            `split` and `meta:NAME`. Others are not read.

    Raises:
        DataError: A column is missing, or a cell breaks a rule.
    """
    if "case_id" not in column:
        raise errors.DataError(f"predictions have one column 'case_id'. Received: {', '.join(column)}")
    case_id = column["case_id"]
    if not all(case_id):
        raise errors.DataError(f"Column 'case_id' is filled in every line. Received: {case_id.count('')} empty")
    multilabel = TRUTH not in column and any(name.startswith(f"{TRUTH}_") for name in column)
    classes, probabilities = _probabilities(column, multilabel)
    target = _labels(column, classes) if multilabel else _label(column, classes)
    patients = column.get("patient_id", case_id)
    return {
        "case_id": case_id,
        "patient_id": patients if cells.is_filled("patient_id", patients) else case_id,
        "path": column.get("path", ("",) * len(case_id)),
        "split": column.get("split", ("",) * len(case_id)),
        "classes": classes,
        "target": target,
        "probabilities": probabilities,
        "multilabel": multilabel,
        "metadata": {
            name.removeprefix(METADATA): values for name, values in column.items() if name.startswith(METADATA)
        },
    }


def _probabilities(column: Mapping[str, tuple[str, ...]], multilabel: bool) -> tuple[tuple[str, ...], np.ndarray]:
    names = tuple(name.removeprefix(PROBABILITY) for name in column if name.startswith(PROBABILITY))
    if _ALONE in column and not names:
        of_one = cells.numbers(_ALONE, column[_ALONE])
        return ("0", "1"), np.stack([1 - of_one, of_one], axis=1)
    if len(names) < (1 if multilabel else 2):
        raise errors.DataError(
            f"predictions have a column '{PROBABILITY}CLASS' for every class, two or more, or '{_ALONE}' alone for "
            f"the class 1 of 0 and 1. Received: {', '.join(column)}"
        )
    of_each = [cells.numbers(PROBABILITY + name, column[PROBABILITY + name]) for name in names]
    return names, np.stack(of_each, axis=1)


def _label(column: Mapping[str, tuple[str, ...]], classes: Sequence[str]) -> np.ndarray | None:
    truth = column.get(TRUTH, ())
    if not cells.is_filled(TRUTH, truth):
        return None
    if not set(truth) <= set(classes):
        positions = [_position(cell, len(classes)) for cell in truth]
        truth = tuple(classes[k] if k is not None else cell for k, cell in zip(positions, truth, strict=True))
    return cells.hot(TRUTH, [(name,) for name in truth], classes)


def _labels(column: Mapping[str, tuple[str, ...]], classes: Sequence[str]) -> np.ndarray:
    wanted = [f"{TRUTH}_{name}" for name in classes]
    given = [name for name in column if name.startswith(f"{TRUTH}_")]
    if sorted(wanted) != sorted(given):
        raise errors.DataError(
            f"predictions have a column '{TRUTH}_CLASS' for every '{PROBABILITY}CLASS'. Received: {', '.join(column)}"
        )
    return np.stack([cells.flags(name, column[name]) for name in wanted], axis=1).astype(np.int8)


def _position(cell: str, count: int) -> int | None:
    """Returns the class that a whole number from zero stands for, None where the cell is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return int(value) if value in range(count) else None
