"""What each mode of the front door does: flags in, one public function, what the terminal shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import flags

from medkeras import config, errors
from medkeras.edge import forms
from medkeras.export import versions
from medkeras.serving import options
from medkeras.workflows import front


@dataclasses.dataclass(frozen=True)
class Door:
    """What a mode is given.

    Attributes:
        flags: The command line.
        settings: Returns the settings that the command line asks for.
        public: Returns a public function of medkeras by its name.
    """

    flags: flags.FlagValues
    settings: Callable[[], config.Config]
    public: Callable[[str], Callable[..., Any]]


EVALUATED = (
    *("data.on_error", "data.max_errors", "data.cache", "data.leakage", "data.labels", "data.units", "data.metadata"),
    "evaluation.",
)
PREDICTED = ("data.units",)
CONVERTED = ("edge.", "data.on_error", "data.max_errors", "data.cache", "evaluation.resamples")
BENCHMARKED = ("data.on_error", "data.max_errors", "data.cache", "data.leakage", "data.labels", "data.units")
QUANTIZE = forms.QUANTIZE
# Name to type and help: TensorFlow Serving's own flags, and ours.
SERVER_FLAGS = {
    field.name: (type(field.default), field.metadata["help"]) for field in dataclasses.fields(options.Options)
}
HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro")


def train(door: Door) -> dict[str, Any]:
    """Trains and publishes a model."""
    chosen = door.settings()
    places = {"output": door.flags.output or "saved_models", "workdir": door.flags.workdir or "runs"}
    published = door.public("train")(chosen, **places, key=door.flags.key)
    _show_metrics(published.metrics)
    front.show(f"\nmodel   {published.folder}\nreport  {published.folder / 'report.html'}\nrun     {published.run}")
    return {"model": str(published.folder), "run": str(published.run), "metrics": published.metrics["metrics"]}


def evaluate(door: Door) -> dict[str, Any]:
    """Evaluates a published model on data, or a table of predictions."""
    if door.flags.predictions:
        return _evaluate_predictions(door)
    front.required(door.flags, "data")
    model, chosen = front.required(door.flags, "model"), door.settings()
    _refuse_settings(door, EVALUATED)
    evaluated = door.public("evaluate")(model, chosen, output=door.flags.output, key=door.flags.key)
    _show_metrics(evaluated.metrics)
    front.show(f"\nreport  {evaluated.folder / 'report.html'}")
    return {"output": str(evaluated.folder), "metrics": evaluated.metrics["metrics"]}


def _evaluate_predictions(door: Door) -> dict[str, Any]:
    for name in ("data", "model"):
        if door.flags[name].value:
            raise errors.ConfigError(f"--predictions stands alone: the table says all there is. Received: --{name} too")
    output = front.required(door.flags, "output")
    evaluated = door.public("evaluate_predictions")(door.flags.predictions, door.settings(), output=output)
    _show_metrics(evaluated.metrics)
    front.show(f"\nreport  {evaluated.folder / 'report.html'}")
    return {"output": str(evaluated.folder), "metrics": evaluated.metrics["metrics"]}


def predict(door: Door) -> dict[str, Any]:
    """Answers for files."""
    _refuse_settings(door, PREDICTED)
    predicted = door.public("predict")(
        front.required(door.flags, "model"), door.flags.input, door.settings(), heatmaps=door.flags.heatmaps
    )
    if door.flags.output:
        with open(door.flags.output, "w", encoding="utf-8") as file:
            file.write(predicted.to_csv())
    else:
        front.show(predicted.to_csv().rstrip("\n"))
    # One line a file, however many frames it has.
    for path, error in dict.fromkeys((each.path.partition("#")[0], each.error) for each in predicted.unreadable):
        front.complain(f"{errors.printable(path)}: {error}")
    answers = {"predicted": len(predicted.answers) - len(predicted.unreadable), "unreadable": len(predicted.unreadable)}
    if door.flags.output:
        front.show(f"answers {door.flags.output}: {answers['predicted']}, unreadable: {answers['unreadable']}")
    return answers | {"exit_code": errors.UserError.exit_code if predicted.unreadable else 0}


def export(door: Door) -> dict[str, Any]:
    """Exports a published model again, or for a device."""
    if door.flags.format:
        return _convert(door)
    for name in ("quantize", "bundle", "force", "data", "set", "key"):
        if door.flags[name].value:
            raise errors.ConfigError(
                f"--{name} is of files for devices (--format). Received: --{name} without --format"
            )
    folder = door.public("export_model")(
        front.required(door.flags, "model"), output=door.flags.output or "saved_models"
    )
    front.show(f"model   {folder}")
    return {"model": str(folder)}


def _convert(door: Door) -> dict[str, Any]:
    _refuse_settings(door, CONVERTED)
    done = door.public("convert")(
        front.required(door.flags, "model"),
        output=front.required(door.flags, "output"),
        format=door.flags.format,
        quantize=door.flags.quantize or "none",
        settings=door.settings(),
        data=door.flags.data or "",
        bundle=door.flags.bundle,
        force=door.flags.force,
        key=door.flags.key,
    )
    front.show(done.table)
    if done.path is None:
        front.complain("The file loses more than is allowed and was not written; --force writes it all the same")
    else:
        front.show(
            f"\n{'bundle' if door.flags.bundle else 'file  '}  {done.path}, {done.card['size_bytes'] / 1e6:.1f} MB"
        )
    return {"output": done.path and str(done.path), "gate": done.card["gate"], "exit_code": int(done.path is None)}


def benchmark(door: Door) -> dict[str, Any]:
    """Measures models and files for devices beside each other."""
    if door.flags.set and not door.flags.data:
        raise errors.ConfigError(
            f"Of a benchmark without --data nothing can be set. Received: --set {door.flags.set[0]}"
        )
    _refuse_settings(door, BENCHMARKED)
    settings = door.settings() if door.flags.data else None
    output = front.required(door.flags, "output")
    done = door.public("benchmark")(
        door.flags.model, settings, output=output, seconds=door.flags.seconds or 10.0, key=door.flags.key
    )
    front.show("\n".join((*done.sentences, f"\nreport  {done.folder / 'benchmark.html'}")))
    for sentence in done.failed:
        front.complain(sentence)
    exit_code = errors.UserError.exit_code if done.failed else 0
    return {
        "output": str(done.folder),
        "models": done.result["models"],
        "failed": done.result["failed"],
        "exit_code": exit_code,
    }


def deploy(door: Door) -> dict[str, Any]:
    """Writes what runs published models in TensorFlow Serving."""
    done = door.public("deploy")(door.flags.model, output=front.required(door.flags, "output"))
    for name, labels in done.labels.items():
        front.show(f"{name}  " + ", ".join(f"{label} {number}" for label, number in labels.items()))
    front.show(f"memory  {done.memory} MiB\nbegin   {done.folder / 'README.md'}")
    return {"output": str(done.folder), "labels": done.labels, "memory": done.memory}


def serve(door: Door) -> dict[str, Any]:
    """Answers over REST, gRPC and a page until it is told to stop."""
    chosen = options.from_flags({name: door.flags[name].value for name in SERVER_FLAGS})
    door.public("serve")(door.flags.model, chosen, tell=front.complain)
    return {}


def audit(door: Door) -> dict[str, Any]:
    """Looks at a data set."""
    front.required(door.flags, "data")
    audited = door.public("audit_data")(
        door.settings(), output=door.flags.output or versions.unused("audit"), key=door.flags.key
    )
    front.show("\n".join((*audited.sentences, f"\nreport  {audited.folder / 'audit.html'}")))
    exit_code = int(door.flags.strict and bool(audited.invalidating))
    return {"output": str(audited.folder), "invalidating": list(audited.invalidating), "exit_code": exit_code}


def compare(door: Door) -> dict[str, Any]:
    """Compares baselines, networks and published models on one split."""
    places = {"output": front.required(door.flags, "output"), "workdir": door.flags.workdir or "runs"}
    compared = door.public("compare")(door.settings(), models=door.flags.model, **places, key=door.flags.key)
    front.show("\n".join((*compared.sentences, f"\nreport  {compared.folder / 'comparison.html'}")))
    return {"output": str(compared.folder), "models": compared.result["models"], "tests": compared.result["tests"]}


def crossval(door: Door) -> dict[str, Any]:
    """Trains and tests a network on each part of the patients in turn."""
    places = {"output": front.required(door.flags, "output"), "workdir": door.flags.workdir or "runs"}
    done = door.public("crossval")(door.settings(), **places, key=door.flags.key)
    models = {
        name: str(place) if place else None for name, place in (("ensemble", done.ensemble), ("final", done.final))
    }
    listed = [f"model   {place}" for place in models.values() if place]
    front.show("\n".join((*done.sentences, "", *listed, f"report  {done.folder / 'crossval.html'}")))
    return {"output": str(done.folder), "pooled": done.result["pooled"]["metrics"], **models}


def deidentify(door: Door) -> dict[str, Any]:
    """Writes files without their patients."""
    done = door.public("deidentify")(
        door.flags.input, output=front.required(door.flags, "output"), key=door.flags.key, options=door.flags.option
    )
    front.show("\n".join((*done.sentences, f"\nreport  {done.folder / 'deidentify.json'}")))
    exit_code = errors.UserError.exit_code if done.held_back else 0
    return {"written": done.written, "held_back": done.held_back, "exit_code": exit_code}


def _show_metrics(metrics: Mapping[str, Any]) -> None:
    count = metrics["n_patients"]
    patients = f" of {count} patient{'s' if count > 1 else ''}" if count < metrics["n"] else ""
    front.show(f"\n{metrics['n']} test cases{patients}, 95% intervals")
    for name in HEADLINE:
        entry = metrics["metrics"][name]
        known = {key: "n/a" if value is None else f"{value:.3f}" for key, value in entry.items()}
        interval = "no interval" if entry["low"] is None else f"({known['low']} to {known['high']})"
        flat = entry["low"] is not None and entry["low"] == entry["high"]
        front.show(f"  {name:<18} {known['value']}  {interval}{'  every resample alike: says nothing' if flat else ''}")
    for sentence in (*metrics["undefined"], *metrics.get("conformal", {}).get("warnings", ())):
        front.show(f"Note: {sentence}")


def _refuse_settings(door: Door, counting: Sequence[str]) -> None:
    """Refuses a setting that the mode would not look at: the model's own counts."""
    for assignment in door.flags.set:
        name = assignment.partition("=")[0].strip()
        if name in config.fields() and not name.startswith(tuple(counting)):
            raise errors.ConfigError(
                f"--mode={door.flags.mode} takes the model's own {name}; of the settings count "
                f"{', '.join(sorted(counting))}. Received: --set {assignment}"
            )


MODES: Mapping[str, Callable[[Door], dict[str, Any]]] = MappingProxyType(
    {
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "benchmark": benchmark,
        "deploy": deploy,
        "serve": serve,
        "audit": audit,
        "compare": compare,
        "crossval": crossval,
        "deidentify": deidentify,
    }
)
