"""What the server's page asks: a file in, an answer in words, numbers and pictures out."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from medkeras import config, errors
from medkeras.data import headers
from medkeras.evaluation import markup
from medkeras.export import card, saved_model
from medkeras.serving import servable, status
from medkeras.workflows import fitting, opening, predicting, questions

HEADLINE = ("accuracy", "balanced_accuracy", "auroc_macro", "expected_calibration_error")
_GZIP = b"\x1f\x8b"


class Answers:
    """Answers for files by the models of a running server, the same ones that REST and gRPC ask.

    Args:
        registry: Where the models are.
    """

    def __init__(self, registry: servable.Registry) -> None:
        self._registry = registry

    def models(self) -> list[dict[str, Any]]:
        """Returns what the page says of each model that medkeras exported: card and headline metrics, no path."""
        return [facts for name in self._registry.names() if (facts := self._facts(name))]

    def answer(self, model: str, content: bytes, frame: int | None = None) -> dict[str, Any]:
        """Answers for one file, or one frame of it.

        Args:
            model: Name of the model.
            content: The file: PNG, JPEG, BMP, TIFF, GIF, WebP, PGM, PPM, DICOM or NIfTI.
            frame: Which of its frames or slices, from 0; None: the middle one.

        Returns:
            `model`, `version`, `frame`, `frames`, `image` and `heatmap` (PNG as data URLs, the latter transparent where
            nothing counted), `probabilities` (`name`, `value`), `called`, `prediction_set`, `refused`, `familiarity`
            and `sentences`.

        Raises:
            RefusalError: Why the file is not answered for.
            StatusError: The model is not there, or too busy.
        """
        with self._registry.lease(model) as lease:
            opened = _opened(lease)
            with _kept(content) as path:
                image, picture, chosen, count = _seen(opened, path, frame)
            feeds = {"image": image[np.newaxis].astype(np.float32)}
            outputs = lease.servable.run(saved_model.EXPLAIN, feeds, (*opened.task.outputs, "heatmap"))
        first = {name: value[0] for name, value in outputs.items()}
        if not np.isfinite(first["probabilities"]).all():
            raise errors.RefusalError("the model answered without a number")
        layer = markup.heat(first["heatmap"][..., 0], picture.shape[:2])
        return {
            "model": lease.name,
            "version": lease.version,
            "frame": chosen,
            "frames": count,
            "image": _png(picture if picture.shape[-1] == 3 else picture[..., 0]),
            "heatmap": _png(np.rint(255 * layer).astype(np.uint8)),
            **_told(opened, first),
        }

    def _facts(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(status.StatusError, errors.RefusalError), self._registry.lease(name) as lease:
            return {"name": name, "version": lease.version, **_public(_opened(lease).card)}
        return {}


def _opened(lease: servable.Lease) -> opening.Described:
    """Returns what the card says of a model; raises `RefusalError` where it is not one that medkeras exported."""
    if lease.folder is not None and saved_model.EXPLAIN in lease.servable.signatures:
        with contextlib.suppress(errors.ModelError):
            return _described(lease.folder)
    raise errors.RefusalError("the page answers for models that medkeras exported")


def _seen(opened: opening.Described, path: str, frame: int | None) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Returns the stored values of a frame, a picture of it, which frame it is, and how many there are."""
    try:
        asked = questions.expand([path], opened.viewing(config.DataConfig()))
        chosen = len(asked) // 2 if frame is None else min(max(frame, 0), len(asked) - 1)
        image = fitting.read(opened, asked[chosen])
        return image, predicting.displayable(image, asked[chosen].case), chosen, len(asked)
    except errors.BadInputError as error:
        raise errors.RefusalError(error.reason) from None
    except errors.DataError:
        raise errors.RefusalError("the file holds no image that this model can be asked about") from None


@functools.lru_cache(maxsize=32)
def _described(folder: pathlib.Path) -> opening.Described:
    return opening.describe(folder)


def _public(given: card.Card) -> dict[str, Any]:
    """Returns what of a card concerns whoever reads an answer; the place of the data is nobody's business."""
    return {
        "classes": list(given.task["classes"]),
        "multilabel": bool(given.task.get("multilabel")),
        "network": given.model["name"],
        "input": f"{given.input['height']} × {given.input['width']}, {given.input['channels']} channel(s), "
        f"{given.input['units']}",
        "created": given.created,
        "counts": given.training["counts"],
        "metrics": {name: given.metrics[name] for name in HEADLINE if name in given.metrics},
        "limits": list(given.limits),
    }


def _told(opened: opening.Described, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    classes, probabilities = opened.task.classes, outputs["probabilities"]
    chosen = probabilities >= 0.5 if opened.task.multilabel else np.arange(len(classes)) == probabilities.argmax()
    inside = outputs.get("prediction_set")
    return {
        "probabilities": [
            {"name": name, "value": float(value)} for name, value in zip(classes, probabilities, strict=True)
        ],
        "called": _names(classes, chosen),
        "prediction_set": None if inside is None else _names(classes, inside),
        "refused": bool(outputs.get("abstain", False)),
        "familiarity": float(outputs["familiarity"]) if "familiarity" in outputs else None,
        "sentences": list(_sentences(opened, outputs)),
    }


def _names(classes: tuple[str, ...], chosen: np.ndarray) -> list[str]:
    return [name for name, here in zip(classes, chosen, strict=True) if here]


def _sentences(opened: opening.Described, outputs: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields what the numbers mean, in words."""
    fitted = opened.card.fitted
    rules = fitted.get("abstain", {})
    if outputs.get("abstain", False):
        yield _refusal(rules, outputs)
    if "calibration" in fitted:
        yield (
            "The probabilities are calibrated: of validation cases that were given 0.90, about 90 in 100 were so. "
            "That holds for cases like those."
        )
    if "conformal" in fitted and "prediction_set" in outputs:
        promised = 1 - fitted["conformal"]["alpha"]
        yield f"Sets made in this way hold the truth for {promised:.0%} of cases like those of validation."


def _refusal(rules: Mapping[str, float], outputs: Mapping[str, np.ndarray]) -> str:
    familiarity = float(outputs.get("familiarity", 1.0))
    least = rules.get("familiarity", 0.0)
    if familiarity < least:
        return (
            f"The model declines to answer: the image is unlike those it was trained on "
            f"(familiarity {familiarity:.3f}; it answers from {least:g})."
        )
    return (
        f"The model declines to answer: it is not sure enough "
        f"(it answers from a probability of {rules.get('confidence', 0.0):.2f})."
    )


@contextlib.contextmanager
def _kept(content: bytes) -> Iterator[str]:
    """Keeps a file that came over the wire while it is read, for this user alone and under a name of our own."""
    with tempfile.TemporaryDirectory(prefix="medkeras-") as folder:
        path = os.path.join(folder, "image")
        pathlib.Path(path).write_bytes(content)
        try:
            nifti = headers.identify(path) == "NIfTI"
        except errors.BadInputError as error:
            raise errors.RefusalError(error.reason) from None
        if nifti:
            named = f"{path}.nii.gz" if content.startswith(_GZIP) else f"{path}.nii"
            os.rename(path, named)
            path = named
        yield path


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
