"""What does a model lose when it becomes a file for a device, on test cases that nobody looked at before?

Converts a published model to each form, whatever the gate says of it, asks the SavedModel and the files about the test
split of the data, and prints a Markdown table: size, the largest difference of a probability, equal decisions, accuracy
and macro AUROC of both, and the gate's verdict on validation.

    PYTHONPATH=. python benchmarks/edge.py --model=saved_models/NAME/1 --data=SPEC [--forms=none,int8]
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import robustness

from medkeras.edge import forms, lite
from medkeras.evaluation import equivalence
from medkeras.workflows import convert, opening


def main() -> None:
    """Reads the flags and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of a version")
    parser.add_argument("--data", required=True, help="as of main.py")
    parser.add_argument("--forms", default=",".join(forms.QUANTIZE))
    parser.add_argument("--limit", type=int, default=0, help="so many cases, drawn by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    opened = opening.open_model(asked.model)
    members, images = robustness.pictures(robustness.opened(pathlib.Path(asked.model)), asked)
    before = answers(opened.served.predict, images, robustness.AT_ONCE)
    whole = 0
    with tempfile.TemporaryDirectory() as place:
        for form in asked.forms.split(","):
            file = pathlib.Path(place, f"{form}.tflite")
            done = convert.convert(opened.folder, output=file, quantize=form, data=asked.data, force=True)
            runner = lite.Runner(file)
            after = answers(lambda some: runner.run(some.astype(runner.dtype)), images, robustness.AT_ONCE)  # noqa: B023
            size = file.stat().st_size
            whole = whole or size
            verdict = equivalence.judge(
                opened.task.predictions(members, before), opened.task.predictions(members, after),
                fitted=opened.card.fitted, seed=asked.seed,
            )  # fmt: skip
            largest = float(np.abs(before["probabilities"] - after["probabilities"]).max())
            print(row(form, size / whole, size, largest, verdict.to_json(), done.card["gate"]), flush=True)


def answers(answer: Any, images: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """Returns the outputs for all images."""
    parts = [answer(images[start : start + step]) for start in range(0, len(images), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def row(form: str, share: float, size: int, largest: float, test: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """Returns a line of the table."""
    cells = [form, f"{size / 1e6:.2f} MB ({share:.3f})", f"{largest:.1e}", f"{test['agreement']['value']:.4f}"]
    for name in ("accuracy", "auroc"):
        metric = test["metrics"][name]
        gap = metric["difference"]
        cells.append(
            f"{metric['before']['value']:.4f} → {metric['after']['value']:.4f} "
            f"({gap['value']:+.4f}; {gap['low']:+.4f} to {gap['high']:+.4f})"
        )
    cells.append(f"{'accepted' if gate['accepted'] else 'refused'}: {gate['quantization']['kept']}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
