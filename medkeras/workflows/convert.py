"""`--mode=export --format=tflite`: a published model as a file for a device, judged before it is written."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras import config, errors, version
from medkeras.data import store
from medkeras.edge import bundle as bundles
from medkeras.edge import forms, kernels, lite
from medkeras.evaluation import equivalence
from medkeras.export import versions
from medkeras.workflows import attempts, device_cases, export, formats, opening, publishing, terminal

CARD_SUFFIX = ".card.json"
BUNDLED = 10
"""Test cases in a bundle."""
BLENDED = 4
"""Training pictures of one class that each of them is the mean of: it shows no patient."""
MOST_DRAWN = 100
"""Means that are looked at for them."""
TOLERANCES = {"none": 1e-4, "float16": 2e-3, "dynamic": 0.05, "int8": 0.05, "int16x8": 0.01}
"""How far a device's answers may lie from this machine's: other processors round int8 sums otherwise."""
_BLENDS = f"Each picture in `cases/` is the mean of {BLENDED} training pictures of one class: it shows no patient."


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion leaves behind.

    Attributes:
        path: The file or the bundle; None: it was refused and nothing was written.
        card: What its card says, or would say.
        table: The gate's figures for a terminal.
    """

    path: pathlib.Path | None
    card: Mapping[str, Any]
    table: str


def convert(
    model: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    format: str = "tflite",
    quantize: str = "none",
    settings: config.Config | None = None,
    data: str = "",
    bundle: bool = False,
    force: bool = False,
    key: str | os.PathLike[str] | None = None,
) -> Converted:
    """Converts a model, lets the file answer for cases it was not trained on, and writes it if nothing is lost.

    int8 is tried in order: after training; with the layers that lose most in float32; fine-tuned in simulated int8; and
    both. The first that the gate accepts without having lost half of `edge.margin` is kept, else the best accepted.

    Args:
        model: Folder of a version, or of a model: then its newest version.
        output: The file to write, its card `OUTPUT.card.json` beside it; with `bundle` a new folder, or a `.zip`.
        format: A name of `formats.FORMATS`.
        quantize: A name of `forms.QUANTIZE`.
        settings: `edge.*`, and how data are read.
        data: Where the model's own data are now, `SCHEME:PLACE`; empty: where they were at its training.
        bundle: Whether what a device needs to run the file and to prove that it computes the same goes along.
        force: Whether a refused file is written all the same; its card says so.
        key: File of the secret that patients' identifiers are hashed with; None: the user's own.

    Raises:
        UserError: The model, its data or the settings cannot be used, or the output exists.
    """
    chosen = settings or config.Config()
    made = _format(format, quantize, bundle=bundle)
    final = _free(pathlib.Path(output).absolute(), bundle=bundle)
    opened = opening.open_model(model)
    network = export.load_keras(opened.folder / publishing.KERAS_FILE)
    form = _form(opened.canvas, chosen.edge, quantize)
    with tempfile.TemporaryDirectory(prefix="medkeras-") as folder:
        canvas = dataclasses.replace(opened.canvas, size=form.size)
        found = device_cases.read(opened, chosen, source=data, canvas=canvas, folder=pathlib.Path(folder), key=key)
        for note in found.notes:
            terminal.say(f"Note: {note}")
        facts = _facts(opened, form)
        bench = attempts.Bench(opened, network, found, form, chosen, format=made, facts=facts)
        tried, kept = _best(bench, chosen.edge.margin / 2)
        card = {"format": format, **facts} | _card(opened, form, kept, tried, bench, notes=found.notes, forced=force)
        table = equivalence.table(kept.verdict)
        if not (kept.verdict.accepted or force):
            return Converted(None, card, table)
        content = made.described(kept.content, facts)
        card = card | {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        if bundle:
            images = _blends(found.training, content, form, opened.card.training["settings"]["seed"])
            _write_bundle(final, opened.card.name, content, card, images)
        else:
            _write_file(final, content, card)
    return Converted(final, card, table)


def _free(path: pathlib.Path, *, bundle: bool) -> pathlib.Path:
    """Returns the output after it was made sure, before the hours of a fine-tuning, that nothing is overwritten."""
    paths = (path,) if bundle else (path, path.with_name(path.name + CARD_SUFFIX))
    for each in paths:
        if each.exists():
            raise errors.ModelError(
                f"A converted model is a new file: nothing is overwritten. "
                f"Received: {errors.printable(each)}, which exists"
            )
    versions.require_writable(path.parent)
    return path


def _format(name: str, quantize: str, *, bundle: bool) -> formats.Format:
    if name not in formats.FORMATS:
        raise errors.ConfigError(errors.unknown("format", name, formats.FORMATS))
    found = formats.FORMATS[name]
    if quantize not in found.quantize:
        raise errors.ConfigError(errors.unknown(f"form of files in {name}", quantize, found.quantize))
    if bundle and not found.bundles:
        raise errors.ConfigError(f"A bundle is made of a tflite file. Received: {name}")
    return found


def _form(canvas: store.Canvas, edge: config.EdgeConfig, quantize: str) -> forms.Form:
    dtype = canvas.dtype if edge.dtype == "auto" else edge.dtype
    if dtype not in (canvas.dtype, "float32"):
        raise errors.ConfigError(
            f"A device gives the values that the model was trained on, as {canvas.dtype} or float32. "
            f"Received: edge.dtype={dtype}"
        )
    size = (edge.size, edge.size) if edge.size else canvas.size
    return forms.Form(size=size, channels=canvas.channels, quantize=quantize, dtype=dtype, batch=edge.batch)


def _best(bench: attempts.Bench, enough: float) -> tuple[list[attempts.Attempt], attempts.Attempt]:
    """Returns the attempts that were made and the one to keep."""
    tried: list[attempts.Attempt] = []
    for attempt in bench.attempts():
        tried.append(attempt)
        verdict = "accepted" if attempt.verdict.accepted else "refused"
        terminal.say(
            f"{attempt.method}: {verdict}, {attempt.verdict.agreement.get('value', 0):.1%} of the decisions are equal, "
            f"{len(attempt.content) / 1e6:.1f} MB"
        )
        if attempt.verdict.accepted and attempt.loss <= enough:
            return tried, attempt
    return tried, min(tried, key=lambda attempt: (not attempt.verdict.accepted, attempt.loss))


def _facts(opened: opening.Opened, form: forms.Form) -> dict[str, Any]:
    """Returns what the file itself says of the model."""
    card = opened.card
    return {
        "name": card.name,
        "version": card.version,
        "classes": list(opened.task.classes),
        "multilabel": opened.task.multilabel,
        **dataclasses.asdict(form),
        "size": list(form.size),
        "value_range": list(card.input["value_range"]),
        "units": card.input["units"],
        "resize": opened.canvas.mode,
        "fingerprint": card.training["fingerprint"],
        "medkeras": version.VERSION,
        "limits": list(card.limits),
    }


def _card(
    opened: opening.Opened,
    form: forms.Form,
    kept: attempts.Attempt,
    tried: list[attempts.Attempt],
    bench: attempts.Bench,
    *,
    notes: tuple[str, ...],
    forced: bool,
) -> dict[str, Any]:
    """Returns what the card of a file says beside the facts."""
    verdict = kept.verdict.to_json()
    return {
        "gate": {
            **verdict,
            "forced": forced and not kept.verdict.accepted,
            "notes": list(notes),
            "quantization": {
                "tried": [attempt.to_json() for attempt in tried],
                "kept": kept.method,
                "kept_float": list(kept.kept_float),
                "calibration_cases": bench.calibrated_on if form.quantize in lite.MEASURED else 0,
            },
            "size_bytes": len(kept.content),
            "operators": dict(kept.operators),
        },
        "fitted": opened.card.fitted,
        "libraries": opened.card.libraries,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _blends(training: device_cases.Pool, content: bytes, form: forms.Form, seed: int) -> np.ndarray:
    """Returns test cases `[N, H, W, C]`, each the mean of training pictures, on which LiteRT agrees with itself.

    Raises:
        ModelError: There are not enough.
    """
    random = np.random.default_rng(seed)
    members = training.by_class()
    kept: list[np.ndarray] = []
    for _ in range(MOST_DRAWN // BUNDLED):
        drawn = [members[number % len(members)] for number in range(BUNDLED)]
        rows = [random.choice(rows, size=min(BLENDED, len(rows)), replace=False) for rows in drawn]
        means = np.stack([training.arrays(row).astype(np.float64).mean(axis=0) for row in rows])
        images = (means if form.dtype == "float32" else np.rint(means)).astype(form.dtype)
        kept.extend(images[kernels.disagreement(content, images) <= TOLERANCES[form.quantize] / 5])
        if len(kept) >= BUNDLED:
            return np.stack(kept[:BUNDLED])
    raise errors.ModelError(
        f"A bundle has {BUNDLED} test cases on which LiteRT's own implementations agree within "
        f"{TOLERANCES[form.quantize] / 5:g}. Received: {len(kept)} of {MOST_DRAWN} means of training pictures"
    )


def _write_file(path: pathlib.Path, content: bytes, card: Mapping[str, Any]) -> None:
    """Writes the file and its card, the card first: no file stands there without one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _appear(path.with_name(path.name + CARD_SUFFIX), _json(card))
    _appear(path, content)


def _appear(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(f"tmp-{path.name}-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise errors.ModelError(
            f"A converted model is written whole or not at all. Received: {errors.printable(path)} ({error.strerror})"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_bundle(path: pathlib.Path, name: str, content: bytes, card: Mapping[str, Any], images: np.ndarray) -> None:
    answers = lite.Runner(content).run(images)
    zipped = path.suffix == ".zip"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="tmp-") as place:
        made = pathlib.Path(place, path.stem if zipped else path.name)
        bundles.write(
            made, name=name, content=content, facts={**card, "cases": _BLENDS}, images=images, answers=answers,
            tolerance=TOLERANCES[card["quantize"]],
        )  # fmt: skip
        (bundles.zip(made) if zipped else made).replace(path)


def _json(card: Mapping[str, Any]) -> bytes:
    return (json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
