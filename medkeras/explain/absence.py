"""What an image looks like from which the evidence was taken away."""

from __future__ import annotations

import tensorflow as tf

from medkeras.explain import axes

BLUR = 1 / 12


def blurred(seen: tf.Tensor) -> tf.Tensor:
    """Returns images `[B, H, W, C]` smoothed by a Gaussian of `BLUR` of each side: brightness without detail."""
    return axes.along(seen, [axes.gaussian(side, BLUR * side) for side in seen.shape[1:-1]])
