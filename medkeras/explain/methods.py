"""Every way to explain an answer, by the name of its setting."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping

import keras

from medkeras.explain import gradcam, integrated, network, occlusion

Method = Callable[[keras.Model, network.Score], network.Explainer]

METHODS: Mapping[str, Method] = types.MappingProxyType(
    {
        "gradcam": gradcam.gradcam,
        "gradcam++": gradcam.gradcam_plus_plus,
        "integrated_gradients": integrated.integrated_gradients,
        "occlusion": occlusion.occlusion,
    }
)
AUTO = "auto"
_FEW_CELLS = 7


def choose(name: str, model: keras.Model) -> str:
    """Returns the method's name; for `auto`, integrated gradients where Grad-CAM's map has under 7 cells a side.

    A heatmap of 3 by 3 cells cannot say where a lesion lies; `docs/explain.md` has the figures behind the rule.
    """
    if name != AUTO:
        return name
    sides = model.get_layer(network.FEATURES).output.shape[1:-1]
    return "integrated_gradients" if min(sides) < _FEW_CELLS else "gradcam"
