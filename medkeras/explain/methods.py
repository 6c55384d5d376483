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
