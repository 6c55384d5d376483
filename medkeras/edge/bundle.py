"""A folder with which a device answers by a TFLite file, and proves that it computes what this machine computed."""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from medkeras import errors
from medkeras.edge import bundle_readme

SUMS = "SHA256SUMS"
# What the format of zip knows as its first moment: an archive says nothing of when it was made.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_REGULAR_FILE = 0o100000 << 16
_UNIX = 3


def write(
    folder: pathlib.Path,
    *,
    name: str,
    content: bytes,
    facts: Mapping[str, Any],
    images: np.ndarray,
    answers: Mapping[str, np.ndarray],
    tolerance: float,
) -> None:
    """Writes the bundle of a model; `SHA256SUMS`, without which `run.py` does nothing, comes last.

    Args:
        folder: Where to; it must be new or empty.
        name: Of the model.
        content: The TFLite file.
        facts: What `model.json` says, ready for JSON. Needed are `classes`, `multilabel`, `dtype` (uint8, uint16 or
            float32), `size` (height and width) and `channels`; `batch` is 1 where it is not said (0: any number), and
            the sentences of `limits` go into the README, as does `cases`, which says what the test cases show.
        images: Test cases `[N, H, W, C]`, as the file takes them.
        answers: What the file itself answers for them on this machine, by name of output: `probabilities` `[N, K]`
            and others, float32 or bool, `[N]` or `[N, K]`.
        tolerance: The largest difference that the self-test lets pass.

    Raises:
        ModelError: The folder holds something, or facts, cases and answers do not fit together.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise errors.ModelError(f"A bundle is written into a new folder. Received: {errors.printable(folder)!r}")
    _check(facts, images, answers)
    files = {_case(number): _array(image) for number, image in enumerate(images)} | {
        "model.tflite": content,
        "model.json": _json(dict(facts)),
        "labels.txt": "".join(f"{label}\n" for label in facts["classes"]).encode(),
        "run.py": bundle_readme.template("run.py").encode(),
        "README.md": bundle_readme.render(name, facts, answers, tolerance).encode(),
        "cases/expected.json": _json({"tolerance": tolerance, "cases": _expected(len(images), answers)}),
    }
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    lines = (f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in sorted(files.items()))
    (folder / SUMS).write_bytes("".join(lines).encode())


def zip(folder: pathlib.Path) -> pathlib.Path:
    """Writes `FOLDER.zip` beside a bundle: the same bytes for the same files, whenever and wherever it is made."""
    path = folder.with_name(f"{folder.name}.zip")
    # Stored, not deflated: implementations of zlib differ in what they make of the same bytes.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).as_posix()):
            if file.is_file():
                entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", _MOMENT)
                entry.create_system, entry.external_attr = _UNIX, _REGULAR_FILE | _MODE
                archive.writestr(entry, file.read_bytes())
    return path


def _check(facts: Mapping[str, Any], images: np.ndarray, answers: Mapping[str, np.ndarray]) -> None:
    shape, dtype = (*facts["size"], facts["channels"]), np.dtype(facts["dtype"])
    if len(images) == 0 or images.shape[1:] != shape or images.dtype != dtype:
        raise errors.ModelError(
            f"A bundle's cases are what its file takes, {dtype} {list(shape)}, one at least. "
            f"Received: {images.dtype} {list(images.shape)}"
        )
    classes = facts["classes"]
    if any("\n" in label or "\r" in label for label in classes):
        raise errors.ModelError(f"A class of a bundle is one line of labels.txt. Received: {list(classes)}")
    if answers["probabilities"].shape != (len(images), len(classes)):
        raise errors.ModelError(
            f"A bundle's answers hold a probability for each of {len(images)} cases and {len(classes)} classes. "
            f"Received: {list(answers['probabilities'].shape)}"
        )
    for name, values in answers.items():
        if len(values) != len(images) or not np.isfinite(values).all():
            raise errors.ModelError(
                f"A bundle's answers are finite, one a case. Received: {name} for {len(values)} of {len(images)} cases"
            )


def _case(number: int) -> str:
    return f"cases/{number:02d}.npy"


def _array(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(image), allow_pickle=False)
    return file.getvalue()


def _expected(count: int, answers: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"file": _case(number), "answer": {name: values[number].tolist() for name, values in answers.items()}}
        for number in range(count)
    ]


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
