"""The front door: `python main.py --mode=train`; `--help` lists the flags.

Exit code 0: done; 1: our fault; 2: a mistake in the command, the data or the model, told in one sentence.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import app, flags

import medkeras
import pipelines
from medkeras import config, errors
from medkeras.workflows import front

FLAGS = flags.FLAGS
flags.DEFINE_string("mode", None, "train, evaluate, predict, export, audit or deidentify")
flags.DEFINE_string("recipe", None, "train: settings of pipelines/NAME.py to start from")
flags.DEFINE_string(
    "data", None, "train, evaluate, audit: phantom, or folder:DIR, csv:FILE, npz:FILE, tfds:NAME, dicom:DIR, nifti:DIR"
)
flags.DEFINE_string("model", None, "evaluate, predict, export: a folder of saved_models")
flags.DEFINE_multi_string("input", [], "predict, deidentify: a file or a folder of files; may be repeated")
flags.DEFINE_string("output", None, "where results go: a folder; predict: a CSV file")
flags.DEFINE_string("workdir", None, "train: folder of the runs; runs by default")
flags.DEFINE_string("heatmaps", None, "predict: folder for pictures of the evidence")
flags.DEFINE_bool("strict", False, "audit: exit code 1 when something would invalidate a test result")
flags.DEFINE_string(
    "key", None, "train, evaluate, audit, deidentify: file of the secret that patient identifiers are hashed with"
)
flags.DEFINE_multi_string(
    "option", [], "deidentify: an option of DICOM PS3.15 Annex E, retain_… or clean_…; may be repeated"
)
flags.DEFINE_multi_string(
    "set", [], "train, evaluate, audit: section.field=value, replaces one setting; may be repeated"
)
flags.DEFINE_bool("json", False, "end standard output with one JSON object")

HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro")


def train() -> dict[str, Any]:
    chosen = settings()
    places = {"output": FLAGS.output or "saved_models", "workdir": FLAGS.workdir or "runs"}
    published = front.load(medkeras, "train")(chosen, **places, key=FLAGS.key)
    show_metrics(published.metrics)
    print(f"\nmodel   {published.folder}\nreport  {published.folder / 'report.html'}\nrun     {published.run}")
    return {"model": str(published.folder), "run": str(published.run), "metrics": published.metrics["metrics"]}


def evaluate() -> dict[str, Any]:
    front.required(FLAGS, "data")
    model, chosen = front.required(FLAGS, "model"), settings()
    evaluated = front.load(medkeras, "evaluate")(model, chosen, output=FLAGS.output, key=FLAGS.key)
    show_metrics(evaluated.metrics)
    print(f"\nreport  {evaluated.folder / 'report.html'}")
    return {"output": str(evaluated.folder), "metrics": evaluated.metrics["metrics"]}


def predict() -> dict[str, Any]:
    predicted = front.load(medkeras, "predict")(front.required(FLAGS, "model"), FLAGS.input, heatmaps=FLAGS.heatmaps)
    if FLAGS.output:
        with open(FLAGS.output, "w", encoding="utf-8") as file:
            file.write(predicted.to_csv())
    else:
        print(predicted.to_csv(), end="")
    for answer in predicted.unreadable:
        front.complain(f"{errors.printable(answer.path)}: {answer.error}")
    answers = {"predicted": len(predicted.answers) - len(predicted.unreadable), "unreadable": len(predicted.unreadable)}
    return answers | {"exit_code": errors.UserError.exit_code if predicted.unreadable else 0}


def export() -> dict[str, Any]:
    folder = front.load(medkeras, "export_model")(front.required(FLAGS, "model"), output=FLAGS.output or "saved_models")
    print(f"model   {folder}")
    return {"model": str(folder)}


def audit() -> dict[str, Any]:
    front.required(FLAGS, "data")
    audited = front.load(medkeras, "audit_data")(settings(), output=FLAGS.output or "audit", key=FLAGS.key)
    print("\n".join((*audited.sentences, f"\nreport  {audited.folder / 'audit.html'}")))
    exit_code = int(FLAGS.strict and bool(audited.invalidating))
    return {"output": str(audited.folder), "invalidating": list(audited.invalidating), "exit_code": exit_code}


def deidentify() -> dict[str, Any]:
    done = front.load(medkeras, "deidentify")(
        FLAGS.input, output=front.required(FLAGS, "output"), key=FLAGS.key, options=FLAGS.option
    )
    print("\n".join((*done.sentences, f"\nreport  {done.folder / 'deidentify.json'}")))
    exit_code = errors.UserError.exit_code if done.held_back else 0
    return {"written": done.written, "held_back": done.held_back, "exit_code": exit_code}


MODES: Mapping[str, front.Mode] = MappingProxyType(
    {
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "audit": audit,
        "deidentify": deidentify,
    }
)


def settings() -> config.Config:
    """Returns the recipe's settings, with --data and --set laid over them; without a recipe, the defaults.

    With neither recipe nor data it is the phantom's recipe.
    """
    chosen = recipe(FLAGS.recipe or "phantom") if FLAGS.recipe or not FLAGS.data else config.Config()
    if FLAGS.data is not None:
        chosen = chosen.override({"data.source": FLAGS.data})
    return chosen.override(FLAGS.set)


def recipe(name: str) -> config.Config:
    known = [module.name for module in pkgutil.iter_modules(pipelines.__path__)]
    if name not in known:
        raise errors.ConfigError(errors.unknown("recipe", name, known))
    return importlib.import_module(f"pipelines.{name}").get_config()


def show_metrics(metrics: Mapping[str, Any]) -> None:
    print(f"\n{metrics['n']} test cases of {metrics['n_patients']} patients, 95% intervals")
    for name in HEADLINE:
        entry = metrics["metrics"][name]
        known = {key: "n/a" if value is None else f"{value:.3f}" for key, value in entry.items()}
        print(f"  {name:<18} {known['value']}  ({known['low']} to {known['high']})")


def parse(arguments: Sequence[str]) -> list[str]:
    return front.parse(FLAGS, arguments)


def main(_: Sequence[str]) -> int:
    return front.answer(FLAGS, MODES)


if __name__ == "__main__":
    front.interrupt_when_told()
    app.run(main, flags_parser=parse)
