"""The front door: `python main.py --mode=train`; `--help` lists the flags.

Exit code 0: done; 1: our fault; 2: a mistake in the command, the data or the model, told in one sentence.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

import medkeras
import pipelines
from medkeras import config, errors
from medkeras.workflows import commands, front

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "mode",
    None,
    "train, evaluate, predict, export, benchmark, deploy, serve, audit, compare, crossval or deidentify",
)
flags.DEFINE_string("recipe", None, "train, compare, crossval: settings of pipelines/NAME.py to start from")
flags.DEFINE_string(
    "data",
    None,
    "train, evaluate, export, benchmark, audit, compare, crossval: phantom, or folder:DIR, csv:FILE, npz:FILE, "
    "tfds:NAME, dicom:DIR, nifti:DIR",
)
flags.DEFINE_multi_string(
    "model",
    [],
    "evaluate, predict, export, benchmark, deploy, serve, compare: a folder of saved_models, of benchmark a file for "
    "devices too; the last four take several",
)
flags.DEFINE_string("predictions", None, "evaluate: a CSV table of predictions, instead of --model and --data")
flags.DEFINE_multi_string("input", [], "predict, deidentify: a file or a folder of files; may be repeated")
flags.DEFINE_string("output", None, "where results go: a folder; predict: a CSV file; export for a device: a file")
flags.DEFINE_string("format", None, "export: tflite or onnx, a file for a device; by default a SavedModel")
flags.DEFINE_string("quantize", None, f"export: of a file for a device: {', '.join(commands.QUANTIZE)}")
flags.DEFINE_bool("bundle", False, "export: the file with what a device needs to run it, a folder or a .zip")
flags.DEFINE_bool("force", False, "export: write a file for a device that the gate refuses; its card says so")
flags.DEFINE_float(
    "seconds", None, "benchmark: for which each model is asked one picture at a time, with each number of threads", 0.1
)
flags.DEFINE_string("workdir", None, "train, compare, crossval: folder of the runs; runs by default")
flags.DEFINE_string("heatmaps", None, "predict: folder for pictures of the evidence")
flags.DEFINE_bool("strict", False, "audit: exit code 1 when something would invalidate a test result")
flags.DEFINE_string(
    "key",
    None,
    "train, evaluate, export, benchmark, audit, compare, crossval, deidentify: file of the secret that patients are "
    "hashed with",
)
flags.DEFINE_multi_string(
    "option", [], "deidentify: an option of DICOM PS3.15 Annex E, retain_… or clean_…; may be repeated"
)
flags.DEFINE_multi_string(
    "set",
    [],
    "train, evaluate, predict, export, benchmark, audit, compare, crossval: section.field=value, replaces one setting; "
    "may be repeated",
)
flags.DEFINE_bool("json", False, "end standard output with one JSON object")
_DEFINE: dict[type, Callable[..., Any]] = {int: flags.DEFINE_integer, bool: flags.DEFINE_bool, str: flags.DEFINE_string}
for _name, (_kind, _text) in commands.SERVER_FLAGS.items():
    _DEFINE[_kind](_name, None, f"serve: {_text}")


def settings() -> config.Config:
    """Returns the recipe's settings, with --data and --set laid over them; without a recipe, the defaults.

    With neither recipe nor data it is the phantom's recipe.
    """
    chosen = recipe(FLAGS.recipe or "phantom") if FLAGS.recipe or not FLAGS.data else config.Config()
    if FLAGS.data is not None:
        chosen = chosen.override({"data.source": FLAGS.data})
    chosen = chosen.override(FLAGS.set)
    if "$MEDKERAS_DATA" in chosen.data.source:
        raise errors.ConfigError(
            f"This recipe's data lie in the folder that the variable MEDKERAS_DATA names, or where --data says. "
            f"Received: neither for {chosen.data.source.rpartition('/')[2]!r}"
        )
    return chosen


def recipe(name: str) -> config.Config:
    known = [module.name for module in pkgutil.iter_modules(pipelines.__path__)]
    if name not in known:
        raise errors.ConfigError(errors.unknown("recipe", name, known))
    return importlib.import_module(f"pipelines.{name}").get_config()


def parse(arguments: Sequence[str]) -> list[str]:
    return front.parse(FLAGS, arguments)


def main(_: Sequence[str]) -> int:
    door = commands.Door(FLAGS, settings, functools.partial(front.load, medkeras))
    modes = {name: functools.partial(mode, door) for name, mode in commands.MODES.items()}
    return front.answer(FLAGS, modes)


if __name__ == "__main__":
    front.interrupt_when_told()
    app.run(main, flags_parser=parse)
