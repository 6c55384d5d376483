"""Which share of each pixel is which tissue."""

from __future__ import annotations

import numpy as np

TISSUES = (
    "air",
    "muscle",
    "fat",
    "bone",
    "marrow",
    "csf",
    "grey",
    "white",
    "nuclei",
    "dura",
    "vessel",
    "eye",
    "gland",
    "calcium",
    "scar",
    "spot",
    "oedema",
    "necrosis",
    "core",
)


class TissueMap:
    """Shares of the tissues, painted one over the other.

    Attributes:
        shares: float32 `[T, H, W]`, 0..1, of sum 1 at every pixel, in the order of `TISSUES`.
    """

    def __init__(self, size: int) -> None:
        self.shares = np.zeros((len(TISSUES), size, size), np.float32)
        self.shares[0] = 1.0

    def paint(self, tissue: str, coverage: np.ndarray) -> None:
        """Covers what is there with a tissue; `coverage` is its share 0..1, `[H, W]`."""
        rows = np.flatnonzero(coverage.any(axis=1))
        if not rows.size:
            return
        part = slice(rows[0], rows[-1] + 1)
        self.shares[:, part] *= 1.0 - coverage[part]
        self.shares[TISSUES.index(tissue), part] += coverage[part]

    def share(self, tissue: str) -> np.ndarray:
        """Returns the share of one tissue, `[H, W]`."""
        return self.shares[TISSUES.index(tissue)]
