"""Does it matter how the same cases are stored?

Writes one phantom as PNG (8 bits, with a table), DICOM (12 bits) and NIfTI (float32), trains the same network with the
same settings from each, and prints accuracy on the test split, its interval, and how fast cases were found and read.
The intensity window is the same, in each format's own values: what differs is rounding, and so the course of a
training.

    python benchmarks/formats.py [--patients=240] [--slices=5] [--size=96] [--epochs=20] [--seeds=0,1,2]
        [--layouts=csv,dicom,nifti]
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import time

from medkeras import config
from medkeras.data import phantom, prepare, schemes
from medkeras.data.phantom import writers
from medkeras.workflows import train

LAYOUTS = {"csv": "PNG", "dicom": "DICOM", "nifti": "NIfTI"}
PLACES = {"csv": "csv/cases.csv", "dicom": "dicom", "nifti": "nifti"}
WINDOWS = {"csv": "0:255", "dicom": f"0:{255 * writers.DICOM_SCALE}", "nifti": "0:255"}


def measure(root: str, layout: str, options: argparse.Namespace, seed: int) -> tuple[float, str]:
    source = f"{layout}:{root}/{PLACES[layout]}"
    settings = config.Config().override({
        "data.source": source, "model.name": "resnet_small", "model.weights": "none", "seed": seed,
        "preprocessing.window": WINDOWS[layout], "train.epochs": options.epochs, "train.patience": options.epochs,
    })  # fmt: skip
    begin = time.perf_counter()
    case_set = schemes.load(settings.data, seed=seed)
    found = time.perf_counter()
    data = prepare.prepare(case_set, settings.data)
    read = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        published = train.train(settings, output=pathlib.Path(folder, "models"), workdir=pathlib.Path(folder, "runs"))
    accuracy, auroc = (published.metrics["metrics"][name] for name in ("accuracy", "auroc_macro"))
    return accuracy["value"], (
        f"accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})  "
        f"AUROC {auroc['value']:.3f}  {len(data.case_set.cases)} cases, {data.canvas.dtype}, "
        f"values {data.value_range[0]:g} to {data.value_range[1]:g}, found in {found - begin:.1f} s, "
        f"read in {read - found:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    options = parser.parse_args()
    drawn = list(phantom.slices(patients=options.patients, slices_per_patient=options.slices, image_size=options.size))
    with tempfile.TemporaryDirectory() as root:
        for layout in options.layouts.split(","):
            phantom.write(drawn, pathlib.Path(root, layout), layout=layout)
            scores = []
            for seed in options.seeds.split(","):
                score, line = measure(root, layout, options, int(seed))
                scores.append(score)
                print(f"{LAYOUTS[layout]:<6} seed {seed}  {line}", flush=True)
            print(f"{LAYOUTS[layout]:<6} mean accuracy {statistics.mean(scores):.3f}", flush=True)


if __name__ == "__main__":
    main()
