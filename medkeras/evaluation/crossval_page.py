"""The page of a cross-validation: a single HTML file, without scripts and without references."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from medkeras.evaluation import crossval_figures, markup

Result = Mapping[str, Any]

SHOWN = {
    "accuracy": "Accuracy",
    "auroc_macro": "AUROC",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "F1",
    "expected_calibration_error": "Calibration error",
}
"""The metrics of the page; `crossval.json` has all."""
SPREAD = (
    "The spread over folds is no standard error: folds share most of their training cases, so it says how much one "
    "fold differs from another, and not how sure the mean is. How sure the pooled value is, its interval says, which "
    "resamples patients."
)
POOLED = (
    "The pooled value puts the answers of all folds together, each from a network that had not seen the patient. A "
    "metric that ranks cases, such as AUROC, then also compares answers of different networks, and may lie somewhat "
    "below the mean of the folds."
)
_UNNAMED = (
    "The data name no patients, so each image counts as a patient of its own: where several images are of one patient, "
    "the figures are too good, for a fold may hold out a patient whom training knows."
)


def write(path: str | os.PathLike[str], result: Result) -> None:
    """Writes the page in UTF-8.

    Args:
        path: The file.
        result: What `crossval.json` holds.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(render(result))


def render(result: Result) -> str:
    """Returns the page as HTML."""
    sections = (_headline, _notes, _pictures, _spread, _folds, _curve, _models, _data)
    title = f"Cross-validation on {result['data']['source']}"
    body = "\n".join(section(result) for section in sections)
    return markup.page(title, body, footer=markup.NOT_A_DEVICE)


def sentences(result: Result) -> list[str]:
    """Returns what was found, in words."""
    return list(_found(result))


def _found(result: Result) -> Iterator[str]:
    repeats, folds = _repeats(result), max(row["fold"] for row in result["folds"])
    patients = f" of {result['n_patients']:,} patients" if result["patients_known"] else ""
    times = f", {repeats} times over" if repeats > 1 else ""
    yield f"{result['n']:,} images{patients}, each held out once in {folds} folds{times}."
    for name in ("accuracy", "auroc_macro"):
        entry, spread = result["pooled"]["metrics"][name], result["spread"][name]
        if entry["value"] is None:
            yield f"{SHOWN[name]} is not defined."
            continue
        limits = "" if entry["low"] is None else f" (95% interval {_number(entry['low'])} to {_number(entry['high'])})"
        yield f"{SHOWN[name]} out of fold: {_number(entry['value'])}{limits}; {_over_folds(spread)}."
    if result["learning_curve"]:
        yield result["learning_curve"]["fit"]["summary"]
    for name, metrics in (result["test"] or {}).items():
        entry = metrics["accuracy"]
        yield (
            f"On the test split, which no fold has seen, the {name} model's accuracy is {_number(entry['value'])} "
            f"({_number(entry['low'])} to {_number(entry['high'])})."
        )


def _over_folds(spread: Mapping[str, Any]) -> str:
    if spread["mean"] is None:
        return "no fold defines it"
    sd = "" if spread["sd"] is None else f", standard deviation {_number(spread['sd'])}"
    return f"mean of the folds {_number(spread['mean'])}{sd}"


def _headline(result: Result) -> str:
    cards = "".join(
        f'<div class="card"><div class="name">{SHOWN[name]}, out of fold</div>'
        f'<div class="value">{markup.number(entry["value"])}</div><div class="muted">{markup.limits(entry)}</div>'
        f"{markup.bar(entry)}</div>"
        for name, entry in ((name, result["pooled"]["metrics"][name]) for name in list(SHOWN)[:3])
    )
    words = "".join(f'<p class="lead">{markup.text(sentence)}</p>' for sentence in _found(result))
    return (
        f'<p class="eyebrow">Cross-validation, {len(result["folds"])} trainings</p>'
        f'<h1>{markup.text(result["data"]["source"])}</h1>{words}<div class="headline">{cards}</div>'
    )


def _notes(result: Result) -> str:
    # That no patients are known the page says by itself, and at more length.
    notes = [note for note in result["notes"] if not note.startswith("The data name no patients")]
    notes += [] if result["patients_known"] else [_UNNAMED]
    several = _repeats(result) > 1
    notes += [f"{_named(row, several)}: {sentence}" for row in result["folds"] for sentence in row["leakage"]]
    return markup.note("Before you read the numbers", (*notes, SPREAD, POOLED))


def _pictures(result: Result) -> str:
    # An error of 0.05 beside accuracies of 0.95 would leave no room for either.
    drawn = {name: label for name, label in SHOWN.items() if not name.endswith("error")}
    picture = crossval_figures.folds(result["folds"], result["pooled"]["metrics"], drawn)
    caption = (
        "A dot is one fold, the line the pooled value of all answers out of fold, the band its 95% interval, "
        "resampled by patient."
    )
    return f"<h2>Fold by fold</h2>{markup.drawing(picture, title='Folds and pooled value', caption=caption)}"


def _spread(result: Result) -> str:
    rows = [
        [
            label,
            markup.with_limits(result["pooled"]["metrics"][name]),
            *(markup.number(result["spread"][name][key]) for key in ("mean", "sd", "min", "max")),
        ]
        for name, label in SHOWN.items()
    ]
    header = ("Metric", "Pooled<br>out of fold", "Mean of<br>folds", "Standard<br>deviation", "Lowest", "Highest")
    return _card(markup.table(header, rows, numeric=range(1, 6), label="Pooled values and spread over folds"))


def _folds(result: Result) -> str:
    rows = [
        [
            _named(row, _repeats(result) > 1),
            f"{row['n']:,}",
            f"{row['n_patients']:,}",
            f"{row['trained_on']:,}",
            markup.text(row["network"]),
            " + ".join(str(epochs) for epochs in row["epochs"]),
            *(markup.with_limits(row["metrics"][name]) for name in list(SHOWN)[:3]),
        ]
        for row in result["folds"]
    ]
    header = ("Fold", "Held out", "Patients", "Learnt<br>from", "Network", "Epochs", *list(SHOWN.values())[:3])
    chosen = ""
    if len(result["networks"]) > 1:
        names = markup.text(", ".join(result["networks"]))
        chosen = (
            f"<p>Each fold trained {names}, and its own validation split, not the fold held out, chose one of them: "
            "the figures are of the choosing too.</p>"
        )
    table = markup.table(header, rows, numeric=(1, 2, 3, 5, 6, 7, 8), label="Folds")
    return f"<h2>The folds</h2>{chosen}{_card(table)}"


def _curve(result: Result) -> str:
    curve = result["learning_curve"]
    if not curve:
        return ""
    rows = [
        [f"{100 * point['share']:g}%", f"{point['n']:,.0f}", *(markup.with_limits(point[name]) for name in _CURVED)]
        for point in curve["points"]
    ]
    table = markup.table(
        ("Share of<br>patients", "Training<br>cases", "Accuracy", "AUROC"),
        rows,
        numeric=(1, 2, 3),
        label="Learning curve",
    )
    caption = "Out-of-fold accuracy and its 95% interval; the curve is the fitted law, dashed beyond what was measured."
    picture = markup.drawing(crossval_figures.curve(curve), title="Accuracy and training cases", caption=caption)
    return f"<h2>What more data would bring</h2><p>{markup.text(curve['fit']['summary'])}</p>{picture}{_card(table)}"


def _models(result: Result) -> str:
    rows = []
    for kind in ("ensemble", "final"):
        if result[kind]:
            tested = (result["test"] or {}).get(kind)
            cells = [markup.with_limits(tested[name]) if tested else "no test split" for name in _CURVED]
            rows.append([_KINDS[kind], markup.text(result[kind]), *cells])
    if not rows:
        return ""
    header = ("Model", "Folder", "Accuracy on<br>the test split", "AUROC on<br>the test split")
    table = markup.table(header, rows, numeric=(2, 3), label="Published models")
    return f"<h2>Published models</h2>{_card(table)}"


def _data(result: Result) -> str:
    data = result["data"]
    values = {
        "Source": data["source"],
        "Fingerprint": data["fingerprint"][:12],
        **{
            f"Cases, {'cross-validated' if name == 'train' else name}": ", ".join(
                f"{label} {count:,}" for label, count in sorted(counts.items())
            )
            for name, counts in data["counts"].items()
        },
        "Seed of trainings": result["seeds"]["training"],
        "Seeds of folds": ", ".join(map(str, result["seeds"]["folds"])),
        "Predictions out of fold": result["oof_predictions"],
    }
    settings = markup.folded("All settings", markup.facts(result["settings"]))
    return f"<h2>Data and seeds</h2>{_card(markup.facts(values), settings)}"


def _card(body: str, below: str = "") -> str:
    return f'<div class="stack"><div class="card">{body}</div>{below}</div>'


def _named(row: Mapping[str, Any], several: bool) -> str:
    return f"Repeat {row['repeat']}, fold {row['fold']}" if several else f"Fold {row['fold']}"


def _repeats(result: Result) -> int:
    return max(row["repeat"] for row in result["folds"])


def _number(value: float) -> str:
    return f"{value:.3f}"


_CURVED = ("accuracy", "auroc_macro")
_KINDS = {"ensemble": "Mean of the folds’ networks", "final": "Learnt from all cases"}
