"""Ways to quantise a model, from the plainest to the dearest, each judged on cases that it was not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from medkeras import config, errors
from medkeras.edge import aware, forms, sensitive
from medkeras.evaluation import equivalence, predictions
from medkeras.preprocessing import canvas as canvas_layers
from medkeras.workflows import device_cases, formats, opening, passing, terminal

RANKED = 16
"""Pictures by which layers are ranked."""
KEPT_SHARE = 0.1
"""Share of the layers that stay in float32, those that lose most."""
KEPT_LEAST = 2
"""A tensor that int8 cannot hold is held against the layer that gives it and the one that takes it."""
LEARNING_RATE = 1e-5
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One conversion and what became of the answers.

    Attributes:
        method: How it was made, in words.
        content: The file.
        operators: Its operators and how often each stands in it.
        kept_float: Layers that were left in float32.
        verdict: Of the gate.
    """

    method: str
    content: bytes
    operators: Mapping[str, int]
    kept_float: tuple[str, ...]
    verdict: equivalence.Verdict

    @property
    def loss(self) -> float:
        """The larger of what accuracy and AUROC lost; below 0 where both gained."""
        gaps = [self.verdict.metrics.get(name, {}).get("difference", {}).get("value") for name in ("accuracy", "auroc")]
        return max((-gap for gap in gaps if gap is not None), default=float("inf"))

    def to_json(self) -> dict[str, Any]:
        """Returns what the card says of it."""
        return {
            "method": self.method,
            "accepted": self.verdict.accepted,
            "loss": self.loss if np.isfinite(self.loss) else None,
            "agreement": self.verdict.agreement.get("value"),
            "kept_float": list(self.kept_float),
            "size_bytes": len(self.content),
        }


class Bench:
    """A model, its cases and what a device wants, on which attempts are made.

    Args:
        opened: The model as it was published.
        network: Its `model.keras`.
        cases: What the conversion goes by.
        form: What the device wants.
        settings: Share of cases, margin and epochs.
        format: Of the file.
        facts: What the file says of itself.
    """

    def __init__(
        self,
        opened: opening.Opened,
        network: keras.Model,
        cases: device_cases.DeviceCases,
        form: forms.Form,
        settings: config.Config,
        *,
        format: formats.Format,
        facts: Mapping[str, Any],
    ) -> None:
        self._opened = opened
        self._network = network
        self._cases = cases
        self._form = form
        self._settings = settings
        self._format = format
        self._facts = facts
        self._seed = opened.card.training["settings"]["seed"]
        self._representative = cases.training.drawn(settings.edge.calibration, self._seed).astype(form.dtype)
        self._before = self._table(opened.served.predict)

    @property
    def calibrated_on(self) -> int:
        """How many training cases ranges were measured on."""
        return len(self._representative)

    def attempts(self) -> Iterator[Attempt]:
        """Yields one attempt after the other, each made only when it is asked for."""
        yield self.judged(f"{self._form.quantize} after training", self._network)
        if self._form.quantize != "int8":
            return
        ranked = sensitive.rank(self._network, self._on_canvas(self._representative[:RANKED]))
        worst = tuple(name for name, _ in ranked[: max(KEPT_LEAST, round(KEPT_SHARE * len(ranked)))])
        yield self.judged("int8 but for the layers that lose most", self._network, kept_float=worst)
        if self._settings.edge.finetune_epochs:
            tuned = self._finetuned()
            yield self.judged("int8 after fine-tuning in simulated int8", tuned)
            yield self.judged("the same but for the layers that lose most", tuned, kept_float=worst)

    def judged(self, method: str, network: keras.Model, *, kept_float: tuple[str, ...] = ()) -> Attempt:
        """Converts a network and judges the file's answers beside the SavedModel's."""
        opened = self._opened
        converted = self._format.convert(
            network,
            opened.task.outputs,
            opened.canvas,
            self._form,
            facts=self._facts,
            representative=self._representative,
            kept_float=kept_float,
        )
        return Attempt(
            method, converted.content, converted.operators, converted.kept_float,
            self.verdict(self._format.runner(converted.content)),
        )  # fmt: skip

    def verdict(self, runner: formats.Runner) -> equivalence.Verdict:
        """Judges whatever answers for arrays of pictures."""
        asked = {
            "fitted": self._opened.card.fitted,
            "seed": self._seed,
            "margin": self._settings.edge.margin,
            "resamples": self._settings.evaluation.resamples,
        }
        outputs = self._outputs(lambda images: runner.run(images.numpy().astype(self._form.dtype)))
        try:
            after = self._opened.task.predictions(self._cases.judging.members, outputs)
        except errors.DataError:
            return equivalence.judge_probabilities(self._before, outputs["probabilities"], **asked)
        return equivalence.judge(self._before, after, **asked)

    def _table(self, answer: passing.Answer) -> predictions.Predictions:
        return self._opened.task.predictions(self._cases.judging.members, self._outputs(answer))

    def _outputs(self, answer: passing.Answer) -> dict[str, np.ndarray]:
        judging = self._cases.judging
        found = passing.run(
            answer, judging.images, batch_size=BATCH, description="Asking for answers", positions=judging.positions
        )
        return {name: found[name] for name in self._opened.task.outputs}

    def _finetuned(self) -> keras.Model:
        batches = self._cases.training.epochs(self._opened.task, batch_size=BATCH, seed=self._seed)

        def on_canvas() -> Iterator[Mapping[str, Any]]:
            return ({**batch, "image": self._on_canvas(batch["image"])} for batch in batches())

        return aware.finetune(
            self._network,
            on_canvas,
            representative=self._on_canvas(self._representative),
            epochs=self._settings.edge.finetune_epochs,
            learning_rate=LEARNING_RATE,
            seed=self._seed,
            say=terminal.say,
        )

    def _on_canvas(self, images: Any) -> np.ndarray:
        canvas = self._opened.canvas
        layer = canvas_layers.Canvas(canvas.size, mode=canvas.mode, round_values=canvas.dtype != "float32")
        return np.asarray(layer(np.asarray(images, np.float32)))
