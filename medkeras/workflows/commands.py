"""What each mode of the front door does: flags in, one public function, what the terminal shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from absl import flags

from medkeras import config, errors
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


HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro")


def train(door: Door) -> dict[str, Any]:
    chosen = door.settings()
    places = {"output": door.flags.output or "saved_models", "workdir": door.flags.workdir or "runs"}
    published = door.public("train")(chosen, **places, key=door.flags.key)
    _show_metrics(published.metrics)
    front.show(f"\nmodel   {published.folder}\nreport  {published.folder / 'report.html'}\nrun     {published.run}")
    return {"model": str(published.folder), "run": str(published.run), "metrics": published.metrics["metrics"]}


def evaluate(door: Door) -> dict[str, Any]:
    front.required(door.flags, "data")
    model, chosen = front.required(door.flags, "model"), door.settings()
    evaluated = door.public("evaluate")(model, chosen, output=door.flags.output, key=door.flags.key)
    _show_metrics(evaluated.metrics)
    front.show(f"\nreport  {evaluated.folder / 'report.html'}")
    return {"output": str(evaluated.folder), "metrics": evaluated.metrics["metrics"]}


def predict(door: Door) -> dict[str, Any]:
    predicted = door.public("predict")(
        front.required(door.flags, "model"), door.flags.input, door.settings(), heatmaps=door.flags.heatmaps
    )
    if door.flags.output:
        with open(door.flags.output, "w", encoding="utf-8") as file:
            file.write(predicted.to_csv())
    else:
        front.show(predicted.to_csv().rstrip("\n"))
    for answer in predicted.unreadable:
        front.complain(f"{errors.printable(answer.path)}: {answer.error}")
    answers = {"predicted": len(predicted.answers) - len(predicted.unreadable), "unreadable": len(predicted.unreadable)}
    return answers | {"exit_code": errors.UserError.exit_code if predicted.unreadable else 0}


def export(door: Door) -> dict[str, Any]:
    folder = door.public("export_model")(
        front.required(door.flags, "model"), output=door.flags.output or "saved_models"
    )
    front.show(f"model   {folder}")
    return {"model": str(folder)}


def audit(door: Door) -> dict[str, Any]:
    front.required(door.flags, "data")
    audited = door.public("audit_data")(door.settings(), output=door.flags.output or "audit", key=door.flags.key)
    front.show("\n".join((*audited.sentences, f"\nreport  {audited.folder / 'audit.html'}")))
    exit_code = int(door.flags.strict and bool(audited.invalidating))
    return {"output": str(audited.folder), "invalidating": list(audited.invalidating), "exit_code": exit_code}


def deidentify(door: Door) -> dict[str, Any]:
    done = door.public("deidentify")(
        door.flags.input, output=front.required(door.flags, "output"), key=door.flags.key, options=door.flags.option
    )
    front.show("\n".join((*done.sentences, f"\nreport  {done.folder / 'deidentify.json'}")))
    exit_code = errors.UserError.exit_code if done.held_back else 0
    return {"written": done.written, "held_back": done.held_back, "exit_code": exit_code}


def _show_metrics(metrics: Mapping[str, Any]) -> None:
    front.show(f"\n{metrics['n']} test cases of {metrics['n_patients']} patients, 95% intervals")
    for name in HEADLINE:
        entry = metrics["metrics"][name]
        known = {key: "n/a" if value is None else f"{value:.3f}" for key, value in entry.items()}
        front.show(f"  {name:<18} {known['value']}  ({known['low']} to {known['high']})")


MODES: Mapping[str, Callable[[Door], dict[str, Any]]] = MappingProxyType(
    {
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "export": export,
        "audit": audit,
        "deidentify": deidentify,
    }
)
