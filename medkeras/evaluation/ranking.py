"""Areas under curves on many resamples at once: every class is sorted once, every resample is a running sum."""

from __future__ import annotations

import dataclasses

import numpy as np

from medkeras.evaluation import rates

# A running sum this long, its positives and their products stay in a core's cache.
_CELLS_AT_ONCE = 1 << 17


@dataclasses.dataclass(frozen=True)
class Ranking:
    """One class' cases from the highest score down, in groups of equal scores.

    Attributes:
        patient: int `[N]`, whose case each is.
        positives: int `[M]`, where among the N the M positives are.
        start, end: int `[G]`, where each group that has a positive starts among the N, and ends (exclusive).
        positive_start, positive_end: int `[G]`, the same among the M.
    """

    patient: np.ndarray
    positives: np.ndarray
    start: np.ndarray
    end: np.ndarray
    positive_start: np.ndarray
    positive_end: np.ndarray

    @classmethod
    def of(cls, positive: np.ndarray, score: np.ndarray, patients: np.ndarray) -> Ranking:
        """Ranks scores `[N]` of cases, of which bool `[N]` are positive and that belong to patients int `[N]`."""
        order = np.argsort(-score, kind="stable")
        falling = -score[order]
        positives = np.flatnonzero(positive[order])
        values = np.unique(falling[positives])
        start, end = (np.searchsorted(falling, values, side=side) for side in ("left", "right"))
        ends = np.searchsorted(positives, start), np.searchsorted(positives, end)
        return cls(patients[order], positives, start, end, *ends)

    def areas(self, drawn: np.ndarray, *, precision: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Returns AUROC and average precision, each float64 `[R]`, NaN where undefined.

        AUROC: the share of pairs in which the positive scores higher, half for equals. Average precision:
        the mean, over the positives, of the precision when all that score at least as high are called.

        Args:
            drawn: `[R, P]`, how often each patient counts.
            precision: Whether the average precision is wanted; else it is NaN.
        """
        rows = max(1, _CELLS_AT_ONCE // max(1, len(self.patient)))
        parts = [self._some(drawn[start : start + rows], precision) for start in range(0, len(drawn), rows)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _some(self, drawn: np.ndarray, precision: bool) -> tuple[np.ndarray, np.ndarray]:
        ranked = drawn.take(self.patient, axis=1)
        everyone, positives = _running(ranked), _running(ranked.take(self.positives, axis=1))
        n_positive = positives[:, -1].astype(np.float64)
        n_negative = everyone[:, -1] - n_positive
        above, called = self._around(positives)
        hits = (called - above).astype(np.float64)
        passed = everyone.take(self.start, axis=1)
        all_called = everyone.take(self.end, axis=1)
        passed += all_called
        passed -= above
        passed -= called
        won = n_positive * n_negative - np.einsum("rg,rg->r", hits, passed) / 2
        auroc = rates.ratio(won, n_positive * n_negative)
        if not precision:
            return auroc, np.full(len(drawn), np.nan)
        # Where nobody is called nobody is hit, and the quotient does not count.
        hits *= called
        hits /= np.maximum(all_called, 1, out=all_called)
        return auroc, rates.ratio(hits.sum(axis=1), n_positive)

    def _around(self, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many positives score above each group, and with it, each `[R, G]`, from their running sum."""
        if len(self.start) == len(self.positives):
            return positives[:, :-1], positives[:, 1:]
        return positives.take(self.positive_start, axis=1), positives.take(self.positive_end, axis=1)


def _running(counts: np.ndarray) -> np.ndarray:
    """Returns `[R, N + 1]`: the sum of the first 0, 1, … N columns."""
    sums = np.zeros((len(counts), counts.shape[1] + 1), counts.dtype)
    np.cumsum(counts, axis=1, dtype=counts.dtype, out=sums[:, 1:])
    return sums
