"""From tissues to a magnitude image: contrast, texture, coil shading, blur and Rician noise."""

from __future__ import annotations

import types

import numpy as np
from scipy import ndimage

from medkeras.data.phantom import anatomy, fields, patient, tissues

SIGNAL = types.MappingProxyType(
    {
        "air": (4, 4, 4),
        "muscle": (78, 52, 70),
        "fat": (205, 165, 150),
        "bone": (16, 14, 16),
        "marrow": (120, 95, 85),
        "csf": (30, 225, 24),
        "grey": (76, 130, 130),
        "white": (122, 90, 100),
        "nuclei": (98, 108, 116),
        "dura": (112, 40, 70),
        "vessel": (205, 26, 48),
        "eye": (34, 225, 30),
        "gland": (165, 110, 120),
        "calcium": (46, 30, 34),
        "scar": (36, 210, 34),
        "spot": (92, 165, 172),
        "oedema": (66, 178, 188),
        "necrosis": (52, 205, 110),
        "core": (225, 158, 172),
    }
)
"""Signal of each tissue, 0..255, in the weightings T1 after contrast, T2 and FLAIR."""


def contrast(who: patient.Patient) -> np.ndarray:
    """Returns the signal of every tissue in a patient's scan, float32 `[T]`; subtle tumours stay near white matter."""
    column = patient.WEIGHTINGS.index(who.scan.weighting)
    signal = np.array([SIGNAL[name][column] for name in tissues.TISSUES], np.float64)
    signal *= 1.0 + who.scan.contrast_jitter[: len(signal)]
    white = signal[tissues.TISSUES.index("white")]
    for name in ("core", "necrosis"):
        place = tissues.TISSUES.index(name)
        signal[place] = white + (signal[place] - white) * who.lesion.conspicuity
    return signal.astype(np.float32)


def acquire(who: patient.Patient, here: anatomy.Frame, head: tissues.TissueMap, rng: np.random.Generator) -> np.ndarray:
    """Returns the magnitude image of a slice, float32 `[H, W]`, 0..255."""
    scan = who.scan
    signal = np.tensordot(contrast(who), head.shares, axes=1)
    signal *= 1.0 + 0.03 * fields.smooth(who.anatomy.texture, here.level, here.size)
    blurred = ndimage.gaussian_filter(signal, scan.blur / here.pixel, mode="nearest", truncate=3.0)
    shaded = blurred * scan.gain * np.exp(scan.bias_strength * fields.smooth(scan.bias, here.level, here.size))
    return np.clip(rician(shaded, scan.noise, rng), 0.0, 255.0)


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the magnitude of a signal with complex Gaussian noise, float32 `[H, W]`.

    Where there is no signal, the mean is `sigma * sqrt(pi / 2)`.

    Reference:
        Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", Magnetic Resonance in Medicine 34 (1995).
    """
    real, imaginary = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(sigma)
    return fields.norm(signal + real, imaginary)
