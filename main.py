"""The front door: `python main.py --mode=train`; `--help` lists the flags.

Exit code 0: done; 1: our fault; 2: a mistake in the command, the data or the model, told in one sentence.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import app, flags, logging

import medkeras
import pipelines
from medkeras import config, errors

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
    published = public("train")(chosen, **places, key=FLAGS.key)
    show_metrics(published.metrics)
    print(f"\nmodel   {published.folder}\nreport  {published.folder / 'report.html'}\nrun     {published.run}")
    return {"model": str(published.folder), "run": str(published.run), "metrics": published.metrics["metrics"]}


def evaluate() -> dict[str, Any]:
    required("data")
    model, chosen = required("model"), settings()
    evaluated = public("evaluate")(model, chosen, output=FLAGS.output, key=FLAGS.key)
    show_metrics(evaluated.metrics)
    print(f"\nreport  {evaluated.folder / 'report.html'}")
    return {"output": str(evaluated.folder), "metrics": evaluated.metrics["metrics"]}


def predict() -> dict[str, Any]:
    predicted = public("predict")(required("model"), FLAGS.input, heatmaps=FLAGS.heatmaps)
    if FLAGS.output:
        with open(FLAGS.output, "w", encoding="utf-8") as file:
            file.write(predicted.to_csv())
    else:
        print(predicted.to_csv(), end="")
    for answer in predicted.unreadable:
        complain(f"{errors.printable(answer.path)}: {answer.error}")
    answers = {"predicted": len(predicted.answers) - len(predicted.unreadable), "unreadable": len(predicted.unreadable)}
    return answers | {"exit_code": errors.UserError.exit_code if predicted.unreadable else 0}


def export() -> dict[str, Any]:
    folder = public("export_model")(required("model"), output=FLAGS.output or "saved_models")
    print(f"model   {folder}")
    return {"model": str(folder)}


def audit() -> dict[str, Any]:
    required("data")
    audited = public("audit")(settings(), output=FLAGS.output or "audit", key=FLAGS.key)
    for sentence in audited.sentences:
        print(sentence)
    print(f"\nreport  {audited.folder / 'audit.html'}")
    exit_code = int(FLAGS.strict and audited.invalidating)
    return {"output": str(audited.folder), "invalidating": list(audited.invalidating), "exit_code": exit_code}


def deidentify() -> dict[str, Any]:
    done = public("deidentify")(FLAGS.input, output=required("output"), key=FLAGS.key, options=FLAGS.option)
    print(f"{done.written} files written, {done.held_back} held back\nreport  {done.folder / 'deidentify.json'}")
    exit_code = errors.UserError.exit_code if done.held_back else 0
    return {"written": done.written, "held_back": done.held_back, "exit_code": exit_code}


MODES: Mapping[str, Callable[[], dict[str, Any]]] = MappingProxyType(
    {
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "audit": audit,
        "deidentify": deidentify,
    }
)


def public(name: str) -> Callable[..., Any]:
    """Returns a public function of medkeras, keeping off the terminal what native libraries say while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        return getattr(medkeras, name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


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


def refuse_unused_flags() -> None:
    """Refuses a flag that the mode would not look at: its help begins with the modes that do."""
    for flag in FLAGS.get_key_flags_for_module(sys.argv[0]):
        modes = set(flag.help.partition(":")[0].split(", "))
        if modes <= set(MODES) and FLAGS.mode not in modes and flag.value not in (None, []):
            owners = " and ".join(sorted(modes))
            raise errors.ConfigError(f"--{flag.name} belongs to {owners}. Received: --mode={FLAGS.mode}")


def required(flag: str) -> str:
    value = FLAGS[flag].value
    if not value:
        raise errors.ConfigError(f"--mode={FLAGS.mode} needs --{flag}. Received: none")
    return value


def show_metrics(metrics: Mapping[str, Any]) -> None:
    print(f"\n{metrics['n']} test cases of {metrics['n_patients']} patients, 95% intervals")
    for name in HEADLINE:
        entry = metrics["metrics"][name]
        known = {key: "n/a" if value is None else f"{value:.3f}" for key, value in entry.items()}
        print(f"  {name:<18} {known['value']}  ({known['low']} to {known['high']})")


def complain(sentence: str) -> None:
    print(f"medkeras: {sentence}", file=sys.stderr)


def parse(arguments: Sequence[str]) -> list[str]:
    if {"--help", "-help", "-h"} & set(arguments):
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit(0)
    try:
        rest = FLAGS(arguments)
    except flags.Error as error:
        complain(str(error).splitlines()[0])
        sys.exit(errors.UserError.exit_code)
    if rest[1:]:
        complain(f"Every argument is a flag, --name=value. Received: {rest[1]!r}")
        sys.exit(errors.UserError.exit_code)
    return rest


def main(_: Sequence[str]) -> int:
    logging.set_verbosity(logging.ERROR)
    try:
        if FLAGS.mode not in MODES:
            raise errors.ConfigError(errors.unknown("mode", FLAGS.mode or "", MODES))
        refuse_unused_flags()
        result = MODES[FLAGS.mode]()
    except errors.UserError as error:
        complain(str(error))
        return error.exit_code
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        complain(f"{errors.printable(error.filename)}: {reason}" if error.filename else reason)
        return errors.UserError.exit_code
    except KeyboardInterrupt:
        complain("Interrupted; no half-written version was left behind.")
        return 130
    if FLAGS.json:
        print(json.dumps({"mode": FLAGS.mode, **result}))
    return result.get("exit_code", 0)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # As Ctrl-C: what a scheduler or a container sends first also leaves nothing half-written.
    signal.signal(signal.SIGTERM, interrupt)
    app.run(main, flags_parser=parse)
