"""One page on what models cost on a machine: a single HTML file, without scripts and without references."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from medkeras.evaluation import edge_figures, markup

Result = Mapping[str, Any]

UNSTEADY = 1.25
"""A model whose slowest round took so many times its fastest was not measured on a quiet machine."""

_KIB = 1024.0
_MANY = 4
_FEW = 100
_STYLE = """
.per td, .per th { padding-right: 14px; }
@media screen and (max-width: 480px) { .stack figure { overflow-x: auto; }
  .stack figure svg { max-width: none; zoom: 0.7; margin: 10px 0 0; } }
"""


def write(path: str | os.PathLike[str], result: Result) -> None:
    """Writes the page in UTF-8.

    Args:
        path: The file.
        result: What `benchmark.json` holds.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(render(result))


def render(result: Result) -> str:
    """Returns the page as HTML."""
    sections = (_headline, _notes, _table, _pictures, _throughput, _starts, _machine, _method)
    body = "\n".join(section(result) for section in sections)
    title = f"Benchmark on {result['machine']['processor']}"
    return markup.page(title, body, footer=markup.NOT_A_DEVICE, style=_STYLE)


def sentences(result: Result) -> list[str]:
    """Returns what was found, in words: who is fastest, and who is most accurate."""
    return [*_speed(result), *_accuracy(result)]


def notes(result: Result) -> list[str]:
    """Returns what a reader must know before the numbers."""
    shaken = [
        f"{name} ({entry['spread']:.1f}×)" for name, entry in result["models"].items() if entry["spread"] > UNSTEADY
    ]
    unsteady = (
        "The machine was not steady: the median latency of the slowest round was more than "
        f"{UNSTEADY:g} times that of the fastest for {', '.join(shaken)}. The models took turns, so that all of them "
        "met the same disturbances; on a quiet machine the times are shorter."
    )
    few = [name for name, entry in result["models"].items() if entry["latency_ms"]["calls"] < _FEW]
    seldom = f"Of fewer than {_FEW} calls the p99 is the slowest one, or nearly: {', '.join(few)}."
    failed = [f"Not measured: {each['reason']}" for each in result["failed"]]
    return [*failed, *([unsteady] if shaken else []), *([seldom] if few else []), *result["notes"]]


def _speed(result: Result) -> Iterator[str]:
    models = result["models"]
    order = edge_figures.fastest(models)
    best = models[order[0]]
    latency = best["latency_ms"]
    who = f"{order[0]} on {_runtime(best)}"
    yield (
        f"{f'The fastest of {len(models)} is {who}, which' if len(models) > 1 else who} answers for one picture in "
        f"{edge_figures.milliseconds(latency['median'])}, the median of {latency['calls']:,} calls, and in "
        f"{edge_figures.milliseconds(latency['p95'])} or less in 95 of 100."
    )
    compared = [
        name for name in order[1:] if len(order) <= _MANY or name == order[1] or models[name]["runtime"] == "tensorflow"
    ]
    others = [f"{_times(models[name], best)} times as fast as {name}" for name in compared]
    if others:
        yield f"It is {_listed(others)}."


def _accuracy(result: Result) -> Iterator[str]:
    judged = _judged(result)
    if judged:
        best = max(judged, key=lambda name: judged[name]["accuracy"]["value"])
        accuracy = judged[best]["accuracy"]
        who = f"The most accurate of {len(judged)} is {best}" if len(judged) > 1 else f"The accuracy of {best} is known"
        yield (
            f"{who}: {markup.number(accuracy['value'])} (95% interval {markup.limits(accuracy)}) on {accuracy['n']:,} "
            "test images."
        )


def _headline(result: Result) -> str:
    models, machine = result["models"], result["machine"]
    count = len(models)
    words = "".join(f'<p class="lead">{markup.text(each)}</p>' for each in (*_speed(result), *_accuracy(result)))
    return (
        f'<p class="eyebrow">Benchmark of {count} model{"s" * (count > 1)}, {result["threads"][-1]} '
        f"thread{'s' * (result['threads'][-1] > 1)}</p><h1>{markup.text(machine['processor'])}</h1>{words}"
        f'<div class="headline">{"".join(_cards(models))}</div>'
    )


def _cards(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    kinds: tuple[tuple[str, Callable[[Mapping[str, Any]], float], Callable[[float], str]], ...] = (
        ("Fastest", lambda entry: entry["latency_ms"]["median"], edge_figures.milliseconds),
        ("Quickest start", lambda entry: entry["start_ms"], edge_figures.milliseconds),
        ("Least memory", lambda entry: entry["peak_mib"], lambda value: size(value * _KIB**2)),
        ("Smallest", lambda entry: entry["size_bytes"], size),
    )
    for title, value, shown in kinds:
        best = min(models, key=lambda name: value(models[name]))
        yield (
            f'<div class="card"><div class="name">{title}</div><div class="value">{shown(value(models[best]))}</div>'
            f'<div class="muted">{markup.text(best)}</div></div>'
        )


def _notes(result: Result) -> str:
    return markup.note("Before you read the numbers", notes(result))


def _table(result: Result) -> str:
    models, judged = result["models"], _judged(result)
    header = [
        "Model",
        "Runtime",
        "Latency<br>median",
        "p95",
        "p99",
        "Pictures<br>a second",
        "Start-up",
        "Memory",
        "Size",
    ]
    if judged:
        header.insert(2, "Accuracy")
    rows = []
    for name in edge_figures.fastest(models):
        entry = models[name]
        latency = (edge_figures.milliseconds(entry["latency_ms"][key]) for key in ("median", "p95", "p99"))
        batch, most = _best_throughput(entry, result["threads"][-1])
        cells = [
            *latency,
            f"{_count(most)}<small>{f'batches of {batch}' if batch > 1 else 'one at a time'}</small>",
            edge_figures.milliseconds(entry["start_ms"]),
            size(entry["peak_mib"] * _KIB**2),
            size(entry["size_bytes"]),
        ]
        accuracy = [markup.with_limits(judged[name]["accuracy"]) if name in judged else "–"] if judged else []
        rows.append([markup.text(name), _runtime(entry), *accuracy, *cells])
    return (
        '<h2>Side by side</h2><p class="muted">The fastest first. Latency: one picture at a time, warm, with '
        f"{_threads(result['threads'][-1])}. Start-up: from a new process to the first answer, the runtime’s own start "
        "included. Memory: the most that was resident with one picture at a time, beyond the interpreter alone."
        f"{' 95% intervals below the accuracy.' if judged else ''}</p>"
        f'<div class="card">{markup.table(header, rows, numeric=range(2, len(header)), label="Models")}</div>'
    )


def _pictures(result: Result) -> str:
    judged = _judged(result)
    drawn = [
        markup.drawing(
            edge_figures.latency(result["models"]),
            title="Time for one picture",
            caption="Bars: the median, which the number says. Lines: up to 95 (long tick) and 99 (short tick) of 100.",
        )
    ]
    if judged:
        drawn.insert(
            0,
            markup.drawing(
                edge_figures.trade(judged),
                title="Accuracy and its price",
                caption="Up and to the left is better. Lines: 95% intervals of the accuracy.",
            ),
        )
    paired = (
        '<p class="muted">Intervals that overlap do not show that two files answer alike: they answered for the very '
        "same cases, and the gate of an export tests that case by case.</p>"
    )
    return f'<h2>What an answer costs</h2>{paired if judged else ""}<div class="stack">{"".join(drawn)}</div>'


def _throughput(result: Result) -> str:
    models, threads, batches = result["models"], result["threads"], result["batches"]
    columns = [(str(thread), str(batch)) for thread in threads for batch in batches]
    header = ["Model", *(f"{_threads(int(thread))}<br>batch {batch}" for thread, batch in columns)]
    rows = [
        [markup.text(name), *(_count(models[name]["throughput"][thread][batch]) for thread, batch in columns)]
        for name in edge_figures.fastest(models)
    ]
    table = markup.table(header, rows, numeric=range(1, len(header)), label="Pictures a second")
    return (
        '<h2>Pictures a second</h2><p class="muted">By the number of threads that compute and of pictures in one call. '
        "A file with a fixed batch is called again and again for a larger one.</p>"
        f'<div class="card per">{table}</div>'
    )


def _starts(result: Result) -> str:
    models = result["models"]
    names = ("import_ms", "load_ms", "first_ms", "start_ms")
    rows = [
        [markup.text(name), *(edge_figures.milliseconds(models[name][key]) for key in names)]
        for name in sorted(models, key=lambda name: models[name]["start_ms"])
    ]
    header = ("Model", "The runtime’s<br>own start", "The model<br>is loaded", "The first<br>answer", "Together")
    table = markup.table(header, rows, numeric=range(1, len(header)), label="Start-up")
    return (
        '<h2>From nothing to an answer</h2><p class="muted">Each in a process that was new; medians of '
        f'{next(iter(models.values()))["starts"]}.</p><div class="card">{table}</div>'
    )


def _machine(result: Result) -> str:
    machine = result["machine"]
    memory = {} if machine["memory_gib"] is None else {"Memory": f"{machine['memory_gib']:g} GiB"}
    facts = {
        "Processor": machine["processor"],
        "Architecture": machine["architecture"],
        "Processors": machine["processors"],
        "Instruction sets": ", ".join(machine["instructions"]) or "not known",
        **memory,
        "System": machine["system"],
        "Python": machine["python"],
        **machine["libraries"],
    }
    return f'<h2>The machine</h2><div class="card">{markup.facts(facts)}</div>'


def _method(result: Result) -> str:
    accuracy = "".join(
        f"<p>Accuracy: {markup.text(data['source'])}, {markup.text(data['cases'])}, answered for by the file itself, "
        "in a process like those that were timed. Wilson’s interval with the patient as its unit, for the number of "
        "independent cases that all are worth.</p>"
        for data in filter(None, [result["data"]])
    )
    return (
        '<h2>How the numbers were made</h2><div class="card"><p>Every model ran in a process of its own that held its '
        f"runtime and nothing else. With each number of threads the models took turns in {result['rounds']} rounds, "
        "another one first in each; while one computed, the others waited. What a turn begins with, to be warm again, "
        f"is not counted. One picture at a time was asked for {result['seconds']:g} seconds in all; other batches, in "
        "every second round, for a fifth of that each. The pictures were noise in the model’s own size: time does not "
        f"depend on what they show.</p>{accuracy}<p>{markup.NOT_A_DEVICE}</p></div>"
    )


def size(value: float) -> str:
    """Returns bytes as a person reads them.

    >>> size(870_000), size(13_467_592)
    ('850 KiB', '12.8 MiB')
    """
    if value < _KIB**2:
        return f"{value / _KIB:.0f} KiB"
    return f"{value / _KIB**2:.1f} MiB" if value < 100 * _KIB**2 else f"{value / _KIB**2:.0f} MiB"


def _judged(result: Result) -> dict[str, Mapping[str, Any]]:
    return {name: entry for name, entry in result["models"].items() if entry["accuracy"]}


def _best_throughput(entry: Mapping[str, Any], threads: int) -> tuple[int, float]:
    found = entry["throughput"][str(threads)]
    batch = max(found, key=lambda each: found[each])
    return int(batch), found[batch]


def _runtime(entry: Mapping[str, Any]) -> str:
    return edge_figures.RUNTIMES[entry["runtime"]]


def _times(slow: Mapping[str, Any], fast: Mapping[str, Any]) -> str:
    ratio = slow["latency_ms"]["median"] / fast["latency_ms"]["median"]
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
