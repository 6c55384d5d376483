"""One page on which models stand side by side: a single HTML file, without scripts and without references."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medkeras.evaluation import comparison_figures, markup

Result = Mapping[str, Any]

LEVEL = 0.05
HEADLINE = {"accuracy": "accuracy", "auroc_macro": "AUROC"}
"""The metrics that the words at the top speak of."""

_TESTED = {**HEADLINE, "balanced_accuracy": "balanced accuracy"}
_COLUMNS = {
    "accuracy": "Accuracy",
    "auroc_macro": "AUROC",
    "balanced_accuracy": "Balanced<br>accuracy",
    "f1_macro": "F1",
    "expected_calibration_error": "Calibration<br>error",
}
_UNNAMED = (
    "The data name no patients, so each image counts as a patient of its own: where several images are of one patient, "
    "the true intervals are wider, and differences less sure."
)
_CHOSEN_HERE = (
    "Which one is best was found on these very test cases, so the best one’s value is a little too good; the tests "
    "between pairs are not touched by that."
)
_KIB = 1024.0
_NOTHING = 5e-4


def write(path: str | os.PathLike[str], result: Result) -> None:
    """Writes the page in UTF-8.

    Args:
        path: The file.
        result: What `comparison.json` holds.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(render(result))


def render(result: Result) -> str:
    """Returns the page as HTML."""
    sections = (_headline, _notes, _table, _forests, _costs, _tests, _data, _settings, _method)
    title = f"Comparison on {result['data']['source']}"
    body = "\n".join(section(result) for section in sections)
    return markup.page(title, body, footer=markup.NOT_A_DEVICE)


def sentences(result: Result) -> list[str]:
    """Returns what was found: by each metric of `HEADLINE` the best model, and whom it is better than beyond chance."""
    return [sentence for metric, name in HEADLINE.items() for sentence in _found(result, metric, name)]


def _found(result: Result, metric: str, name: str) -> Iterator[str]:
    models = result["models"]
    best = comparison_figures.ranked(models, metric)[0]
    entry = models[best][metric]
    if entry["value"] is None:
        yield f"On {_cases(result)} no model has a defined {name}."
        return
    yield (
        f"On {_cases(result)} the best of {len(models)} by {name} is {models[best]['title']}: "
        f"{markup.number(entry['value'])}{_within(entry)}."
    )
    better, level, untested = _against(result, metric, best)
    if better:
        yield f"It is significantly better than {_listed(better)}."
    if level:
        yield f"It is not significantly better than {_listed(level)}."
    if untested:
        yield f"It could not be tested against {_listed(untested)}."


def _against(result: Result, metric: str, best: str) -> tuple[list[str], list[str], list[str]]:
    """Returns whom the best is better than beyond chance, whom not, and whom it was not tested against."""
    better, level, untested = [], [], []
    for row in _of_best(result, metric, best):
        title = result["models"][row["b"]]["title"]
        p = row["p_holm"]
        if p is None:
            untested.append(title)
        elif p < LEVEL:
            better.append(title)
        else:
            level.append(f"{title} (p = {_chance(p)})")
    return better, level, untested


def _of_best(result: Result, metric: str, best: str) -> list[dict[str, Any]]:
    """Returns the tests of one metric that the best takes part in, it being `a`."""
    rows = [row for row in result["tests"] if row["metric"] == metric and best in (row["a"], row["b"])]
    order = comparison_figures.ranked(result["models"], metric)
    return sorted((row if row["a"] == best else _turned(row) for row in rows), key=lambda row: order.index(row["b"]))


def _turned(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the same test with a and b in each other's place."""
    low, high, difference = (row["high"], row["low"], row["difference"])
    turned = {"low": low, "high": high, "difference": difference, "statistic": row["statistic"]}
    negative = {name: None if value is None else -value for name, value in turned.items()}
    return {**row, "a": row["b"], "b": row["a"], **negative}


def _headline(result: Result) -> str:
    models = result["models"]
    cards = []
    for metric, name in _TESTED.items():
        best = comparison_figures.ranked(models, metric)[0]
        entry = models[best][metric]
        cards.append(
            f'<div class="card"><div class="name">Best {name}</div>'
            f'<div class="value">{markup.number(entry["value"])}</div><div class="muted">{markup.limits(entry)}</div>'
            f'{markup.bar(entry)}<div class="muted">{markup.text(models[best]["title"])}</div></div>'
        )
    words = "".join(
        f'<p class="lead">{markup.text(" ".join(_found(result, metric, name)))}</p>'
        for metric, name in HEADLINE.items()
    )
    return (
        f'<p class="eyebrow">Comparison of {len(models)} models</p><h1>{markup.text(result["data"]["source"])}</h1>'
        f'{words}<div class="headline">{"".join(cards)}</div>'
    )


def _notes(result: Result) -> str:
    notes = [note for note in result["notes"] if not note.startswith("The data name no patients")]
    unnamed = [] if result["patients_known"] else [_UNNAMED]
    items = "".join(f"<li>{markup.text(note)}</li>" for note in (*notes, *unnamed, _CHOSEN_HERE))
    return f'<div class="note" role="note"><b>Before you read the numbers</b><ul>{items}</ul></div>'


def _table(result: Result) -> str:
    models = result["models"]
    rows = [
        [
            f"{number}. {markup.text(models[name]['title'])}",
            *(_with_limits(models[name][metric]) for metric in _COLUMNS),
            _seconds(models[name]["train_seconds"]),
            f"{models[name]['predict_ms_per_case']:.3g}",
            _size(models[name]["size_bytes"]),
        ]
        for number, name in enumerate(comparison_figures.ranked(models, "accuracy"), start=1)
    ]
    header = ("Model", *_COLUMNS.values(), "Time to<br>learn", "ms<br>a case", "Size")
    return (
        '<h2>Side by side</h2><p class="muted">95% intervals below the values; a lower calibration error is better. '
        f"Times on this machine; an answer in batches of {result['batch_size']}, features included. The time of a "
        "network to learn is its whole training, export and test included.</p>"
        f'<div class="card">{markup.table(header, rows, numeric=range(1, len(header)))}</div>'
    )


def _forests(result: Result) -> str:
    drawn = "".join(
        markup.drawing(
            comparison_figures.forest(result["models"], metric, _titled(name)),
            title=_titled(name),
            caption="Points: values. Lines: 95% intervals. The band is the interval of the best.",
        )
        for metric, name in HEADLINE.items()
    )
    return (
        '<h2>How far they are apart</h2><p class="muted">Intervals that overlap do not show that models are equal: '
        f"they were tested on the same cases, and the tests below count case by case.</p>"
        f'<div class="stack">{drawn}</div>'
    )


def _costs(result: Result) -> str:
    drawn = markup.drawing(
        comparison_figures.cost(result["models"], "accuracy", "Accuracy"),
        title="Accuracy and its price",
        caption="Numbers: rank by accuracy, as in the table. Up and to the left is better. Lines: 95% intervals.",
    )
    return f'<h2>What it costs</h2><div class="stack">{drawn}</div>'


def _tests(result: Result) -> str:
    header = ("Difference", "Test", "First less second", "95% interval", "p", "p (Holm)")
    parts = []
    for metric, name in _TESTED.items():
        best = comparison_figures.ranked(result["models"], metric)[0]
        rows = [_test(result, row) for row in _of_best(result, metric, best)]
        parts.append(
            f'<div class="card"><h3>The best by {name} against each other one</h3>'
            f"{markup.table(header, rows, numeric=(2, 3, 4, 5))}</div>"
        )
    everything = [_test(result, row, f"{_titled(_TESTED[row['metric']])}: ") for row in result["tests"]]
    table = markup.table(header, everything, numeric=(2, 3, 4, 5))
    parts.append(markup.folded(f"All {len(everything)} tests", table))
    return (
        '<h2>Is it more than luck?</h2><p class="muted">Paired tests on the same cases. p (Holm): corrected for all '
        f"pairs of models, each metric by itself; below {LEVEL:g} is called significant. That a difference is not "
        f'significant does not show that there is none.</p><div class="stack">{"".join(parts)}</div>'
    )


def _test(result: Result, row: Mapping[str, Any], prefix: str = "") -> list[str]:
    a, b = (markup.text(result["models"][row[side]]["title"]) for side in ("a", "b"))
    strong = row["p_holm"] is not None and row["p_holm"] < LEVEL
    p, corrected = (markup.text(_chance(row[name])) for name in ("p", "p_holm"))
    method = markup.text(row["method"]) + (f"<small>{markup.text(row['note'])}</small>" if row["note"] else "")
    return [
        f"{prefix}{a} and {b}",
        method,
        _signed(row["difference"]),
        _reach(row),
        p,
        f"<b>{corrected}</b>" if strong else corrected,
    ]


def _data(result: Result) -> str:
    counts, patients = result["data"]["counts"], result["data"]["patients"]
    rows = [[markup.text(name), *(f"{each.get(name, 0):,}" for each in counts.values())] for name in result["classes"]]
    if result["patients_known"]:
        rows.append(["Patients", *(f"{patients.get(split, 0):,}" for split in counts)])
    header = ("Class", *map(markup.text, counts))
    return f'<h2>The data</h2><div class="card">{markup.table(header, rows, numeric=range(1, len(header)))}</div>'


def _settings(result: Result) -> str:
    return f'<h2>Settings of the run</h2><div class="card">{markup.facts(result["settings"])}</div>'


def _method(result: Result) -> str:
    interval = result["interval"]
    return (
        '<h2>How the numbers were made</h2><div class="card"><p>All models answered for the same test cases, and '
        "nothing was chosen by them. Classifiers were tuned by cross-validation within the training split, by patient; "
        "networks chose their best epoch, and their calibration, on the validation split. Every interval takes the "
        f"{markup.text(interval['unit'])} as its unit. {markup.text(interval['method'])}. Resamples: "
        f"{interval['resamples']:,}, seed {interval['seed']}. Accuracy: McNemar’s exact test. AUROC: DeLong’s test; "
        "where a patient has several images both in their form for patients. Balanced accuracy: paired bootstrap of "
        f"patients.</p><p>{markup.NOT_A_DEVICE}</p></div>"
    )


def _cases(result: Result) -> str:
    patients = f" of {result['n_patients']:,} patients" if result["patients_known"] else ""
    return f"{result['n']:,} test images{patients}"


def _within(entry: Mapping[str, float | None]) -> str:
    return "" if entry["low"] is None else f" (95% interval {markup.limits(entry)})"


def _listed(names: Sequence[str]) -> str:
    """Returns names as a person lists them."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _titled(name: str) -> str:
    return name if name.isupper() else name.capitalize()


def _chance(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _signed(value: float | None) -> str:
    """Returns a difference with its sign, which a difference of nothing has not."""
    if value is None:
        return "–"
    return "0.000" if abs(value) < _NOTHING else f"{value:+.3f}".replace("-", "−")


def _reach(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{_signed(row['low'])} to {_signed(row['high'])}"


def _with_limits(entry: Mapping[str, float | None]) -> str:
    return f"{markup.number(entry['value'])}<small>{markup.limits(entry) or '&nbsp;'}</small>"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _size(size: float) -> str:
    return f"{size / _KIB:.0f} KiB" if size < _KIB**2 else f"{size / _KIB**2:.1f} MiB"
