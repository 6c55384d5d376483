"""How much accuracy do models keep when devices and clinics do to pictures what they do?

Corrupts the test split of the data, or all cases where there is none, with every corruption of
`medkeras.edge.corruptions`, asks every model about the same pictures, and prints a Markdown table: accuracy and macro
AUROC with 95% intervals, and how each further model differs from the first. A model is a published folder or a TFLite
file that `--mode=export` wrote.

    python benchmarks/robustness.py --model=saved_models/NAME/1 --model=NAME_int8.tflite --data=npz:FILE
    python benchmarks/robustness.py ... [--limit=200] [--severities=1,3,5] [--figure=FILE.png] [--json=FILE.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medkeras import config, errors
from medkeras.data import cases, pipeline, prepare, schemes, store
from medkeras.edge import corruptions, lite, metadata
from medkeras.evaluation import figures, predictions, robustness, robustness_figures
from medkeras.tasks import classification
from medkeras.workflows import fitting, opening

AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, and what it says of itself.

    Attributes:
        answer: From pictures `[B, H, W, C]` to outputs by name.
        task: What the outputs mean.
        canvas: What the pictures look like.
        value_range: Lowest and highest value that they have.
        described: What the card of a published folder says besides.
    """

    answer: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    task: classification.Classification
    canvas: store.Canvas
    value_range: tuple[float, float]
    described: opening.Described | None = None


def main() -> None:
    options = parsed()
    models = {title(path): opened(pathlib.Path(path)) for path in options.model}
    refuse_unlike(models)
    severities = [int(severity) for severity in options.severities.split(",")]
    members, images = pictures(next(iter(models.values())), options)
    start = time.perf_counter()
    found = robustness.measure(ask(models, members, images, severities, options.seed), seed=options.seed)
    print(f"{found.cases} cases of {found.patients} patients, {time.perf_counter() - start:.0f} s")
    print(robustness.table(found))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
    if options.figure:
        file = pathlib.Path(options.figure)
        file.write_bytes(figures.render(robustness_figures.draw(found), file.suffix[1:]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, action="append", help="a folder or a .tflite file; may be repeated")
    parser.add_argument("--data", required=True, help="as of main.py")
    parser.add_argument("--limit", type=int, default=0, help="so many cases, drawn by the seed; 0: all")
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", help="a .png or .svg file")
    parser.add_argument("--json", help="a file for all the numbers")
    return parser.parse_args()


def title(path: str) -> str:
    """Returns what a model is called: the file, or `NAME/VERSION`."""
    file = pathlib.Path(path)
    return file.name if file.is_file() else "/".join(opening.locate(file).resolve().parts[-2:])


def opened(path: pathlib.Path) -> Model:
    if not path.is_file():
        model = opening.open_model(path)
        low, high = model.card.input["value_range"]
        return Model(model.served.predict, model.task, model.canvas, (low, high), model)
    runner, facts = lite.Runner(path), told(path)
    low, high = facts["value_range"]
    description = {"name": "classification", "classes": facts["classes"], "multilabel": facts["multilabel"]}
    return Model(
        answer=lambda images: runner.run(images.astype(runner.dtype)),
        task=classification.from_description(description),
        canvas=store.Canvas(runner.size, runner.channels, runner.dtype, facts.get("resize", "pad")),
        value_range=(low, high),
    )


def told(path: pathlib.Path) -> Mapping[str, Any]:
    """Returns what a TFLite file says of itself, or the card beside it."""
    card = path.with_name(f"{path.name}.card.json")
    facts = metadata.read(path.read_bytes()) if not card.is_file() else json.loads(card.read_text(encoding="utf-8"))
    missing = {"classes", "multilabel", "value_range"} - set(facts)
    if missing:
        raise errors.ModelError(f"A file says what it takes and answers. Received: no {', '.join(sorted(missing))}")
    return facts


def refuse_unlike(models: Mapping[str, Model]) -> None:
    kinds = {name: (model.canvas.shape, model.task.classes, model.value_range) for name, model in models.items()}
    if len(set(kinds.values())) > 1:
        raise errors.ModelError(f"Models are asked about the same pictures. Received: {kinds}")


def pictures(model: Model, options: argparse.Namespace) -> tuple[Sequence[cases.Case], np.ndarray]:
    """Returns the cases, and their pictures `[N, H, W, C]` on the model's canvas."""
    settings = dataclasses.replace(config.Config().data, source=options.data, cache="memory")
    given = model.described.viewing(settings) if model.described else settings
    trained = model.described.card.training["settings"] if model.described else {}
    case_set = schemes.read(given, seed=trained.get("seed", options.seed), key=None)
    test = case_set.of_split("test")
    if not test:
        print("The data hold no test split: these are all cases, and those that trained a model may be among them.")
        test = case_set.cases
    if 0 < options.limit < len(test):
        drawn = np.random.default_rng(options.seed).permutation(len(test))[: options.limit]
        test = tuple(test[row] for row in np.sort(drawn).tolist())
    chosen = case_set.replace_cases(dataclasses.replace(case, split="test") for case in test)
    chosen = dataclasses.replace(chosen, classes=model.task.classes)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare.prepare(chosen, given, canvas=model.canvas, folder=pathlib.Path(folder), track=plainly)
        if model.described:
            fitting.refuse_other_data(model.described, options.data, data)
        kept = data.stores["test"]
        batches = pipeline.some(kept, np.arange(len(kept.cases)), batch_size=AT_ONCE).as_numpy_iterator()
        return kept.cases, np.concatenate([batch["image"][batch["weight"] > 0] for batch in batches])


def plainly(items: Any, total: int, description: str) -> Any:
    """Returns the items: a benchmark's output is a table, and no progress bar."""
    return items


def ask(
    models: Mapping[str, Model],
    members: Sequence[cases.Case],
    images: np.ndarray,
    severities: Sequence[int],
    seed: int,
) -> dict[str, dict[robustness.Condition, predictions.Predictions]]:
    """Returns every model's answers by condition."""
    names = corruptions.names(images.shape[-1])
    conditions = [robustness.CLEAN, *((name, severity) for name in names for severity in severities)]
    answers: dict[str, dict] = {name: {} for name in models}
    for condition in conditions:
        shown = images
        if condition != robustness.CLEAN:
            value_range = next(iter(models.values())).value_range
            shown = corruptions.corrupt(images, *condition, seed=seed, value_range=value_range)
        for name, model in models.items():
            parts = [model.answer(shown[at : at + AT_ONCE])["probabilities"] for at in range(0, len(shown), AT_ONCE)]
            answers[name][condition] = model.task.predictions(members, {"probabilities": np.concatenate(parts)})
    return answers


if __name__ == "__main__":
    main()
