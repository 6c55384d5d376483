"""What do copies in training do to a test score?

Takes the predictions of a published model on its test split, and an audit of its data, and prints the accuracy over all
test images, over those without an identical picture in training, and over those without any copy there; and over the
images that have one.

    python main.py --mode=audit --data=folder:DIR --output=audit
    python benchmarks/leakage.py --model=saved_models/NAME/VERSION --audit=audit/audit.json
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats

from medkeras.evaluation import predictions


def test_cases_with_copies(found: Mapping[str, Any]) -> set[str]:
    """Returns the test cases of the groups that also hold a case of training."""
    return {
        case_id
        for group in found["members"]
        if {"train", "test"} <= set(group["splits"])
        for case_id, split in zip(group["case_ids"], group["splits"], strict=True)
        if split == "test"
    }


def describe(name: str, right: np.ndarray) -> str:
    low, high = scipy.stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return f"{name:<44} {len(right):5}  {right.mean():.3f} ({low:.3f}-{high:.3f})  {int((~right).sum())} wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--audit", required=True)
    options = parser.parse_args()
    table = predictions.read_csv(pathlib.Path(options.model, "predictions.csv"))
    audit = json.loads(pathlib.Path(options.audit).read_text(encoding="utf-8"))
    exact = test_cases_with_copies(audit["exact_duplicates"])
    near = test_cases_with_copies(audit["near_duplicates"]) | exact
    right = (table.decisions == table.target).all(axis=1)
    in_exact, in_near = (np.array([case in ids for case in table.case_id]) for ids in (exact, near))
    print(f"{'test images':<44} {'n':>5}  accuracy (95% Wilson)")
    for name, chosen in (
        ("all", np.ones(len(right), bool)),
        ("without an identical picture in training", ~in_exact),
        ("without any copy in training", ~in_near),
        ("with a copy in training", in_near),
    ):
        print(describe(name, right[chosen]))


if __name__ == "__main__":
    main()
