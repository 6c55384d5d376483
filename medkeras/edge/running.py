"""A TFLite file run by LiteRT."""

from __future__ import annotations

import os
import pathlib

import numpy as np
from ai_edge_litert import interpreter as litert

from medkeras import errors


class Runner:
    """A file that `lite.convert` made, ready to answer.

    Args:
        content: The file, or its path.
        threads: Threads that LiteRT computes with.

    Raises:
        ModelError: It is not a TFLite file, not of one signature, or has an operator that is not built in.
    """

    def __init__(self, content: bytes | str | os.PathLike[str], *, threads: int = 2) -> None:
        data = content if isinstance(content, bytes) else pathlib.Path(content).read_bytes()
        try:
            self._interpreter = litert.Interpreter(model_content=data, num_threads=threads)
            self._run = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise errors.ModelError(f"A TFLite file of one signature is needed. Received: {error}") from None
        self._name, self._image = next(iter(self._run.get_input_details().items()))

    @property
    def dtype(self) -> str:
        """Of the pixels: `uint8`, `uint16` or `float32`."""
        return np.dtype(self._image["dtype"]).name

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        _, height, width, _ = self._image["shape_signature"].tolist()
        return height, width

    @property
    def channels(self) -> int:
        """Of the pictures: 1 or 3."""
        return int(self._image["shape_signature"][3])

    @property
    def batch(self) -> int:
        """Pictures in one call; 0: any number."""
        return max(0, int(self._image["shape_signature"][0]))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it answers."""
        return tuple(self._run.get_output_details())

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns float32 and bool outputs by name for any number of images `[B, H, W, C]` of the file's dtype.

        Where the file takes a fixed number at a time, the last images are followed by copies of the last one.
        """
        if not len(images):
            blank = self.run(np.zeros((1, *self.size, self.channels), self.dtype))
            return {name: value[:0] for name, value in blank.items()}
        step = self.batch or len(images)
        answers = [self._answer(images[start : start + step], step) for start in range(0, len(images), step)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in self.outputs}

    def call(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for inputs that fit the file as they are."""
        return self._run(**inputs)

    def _answer(self, images: np.ndarray, step: int) -> dict[str, np.ndarray]:
        full = np.pad(images, [(0, step - len(images)), (0, 0), (0, 0), (0, 0)], mode="edge")
        answer = self.call(**{self._name: full})
        return {name: value[: len(images)] for name, value in answer.items()}
