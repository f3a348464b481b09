"""Has the world moved away from what the model was trained on? PSI of the score and of each feature against training.

PSI = sum over ten ranges of (share now - share then) * ln(share now / share then); the ranges held a tenth each, as far
as ties allow, in training. Under 0.1 is quiet, over 0.25 is another world (a convention of the field, no theorem).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.compiled import njit

RANGES = 10
WINDOW_ROWS = 20_000  # PSI is of the last one to two windows
ROWS_MIN = 1_000  # of fewer rows nothing is said
SAMPLED_ROWS_MAX = 1_024  # of one call: counting all of a large batch costs as much as scoring it
NEVER_S = 1e9  # how the features say that something never happened

Floats = npt.NDArray[Any]


def reference(columns: Floats, names: list[str]) -> dict[str, dict[str, list[float]]]:
    """Edges and shares of each column (n, names) as a card keeps them."""
    return {name: _reference_of(columns[:, k]) for k, name in enumerate(names)}


def _reference_of(values: Floats) -> dict[str, list[float]]:
    edges = np.unique(np.quantile(values, np.arange(1, RANGES) / RANGES).astype(np.float32))
    counts = np.bincount(np.searchsorted(edges, values.astype(np.float32), side="left"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "shares": (counts / len(values)).tolist()}


class Drift:
    """Counts what is scored; asked now and then how far it lies from training."""

    def __init__(self, card_reference: dict[str, dict[str, list[float]]]) -> None:
        self.names = list(card_reference)
        self._edges = np.full((len(self.names), RANGES), np.inf, dtype=np.float32)
        self._shares = np.zeros((len(self.names), RANGES), dtype=np.float64)
        for k, name in enumerate(self.names):
            edges, shares = card_reference[name]["edges"], card_reference[name]["shares"]
            self._edges[k, : len(edges)] = edges
            self._shares[k, : len(shares)] = shares
        self._counts = np.zeros((2, len(self.names), RANGES), dtype=np.int64)  # the window before, and the present one
        self._missing = np.zeros((2, len(self.names)), dtype=np.int64)
        self._rows = [0, 0]

    def note(self, rows: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]) -> None:
        """rows (n, names - 1): the features; the score is the last name. Of a large batch, a sample of the rows."""
        step = -(-len(rows) // SAMPLED_ROWS_MAX)
        rows, probabilities = rows[::step], probabilities[::step]
        if self._rows[1] >= WINDOW_ROWS:
            self._counts[0], self._missing[0], self._rows[0] = self._counts[1], self._missing[1], self._rows[1]
            self._counts[1], self._missing[1], self._rows[1] = 0, 0, 0
        _count(rows, probabilities, self._edges, self._counts[1], self._missing[1])
        self._rows[1] += len(rows)

    def psi(self) -> dict[str, float]:
        """By name; empty while too little was seen."""
        total = sum(self._rows)
        if total < ROWS_MIN:
            return {}
        now = np.maximum(self._counts.sum(axis=0) / total, 1e-4)
        then = np.maximum(self._shares, 1e-4)
        return dict(zip(self.names, ((now - then) * np.log(now / then)).sum(axis=1).tolist(), strict=True))

    def missing_shares(self) -> dict[str, float]:
        """Share of rows in which a feature says "never" (or, where it may, is no number)."""
        total = sum(self._rows)
        if total < ROWS_MIN:
            return {}
        return dict(zip(self.names, (self._missing.sum(axis=0) / total).tolist(), strict=True))


@njit
def _count(rows: Any, probabilities: Any, edges: Any, counts: Any, missing: Any) -> None:
    last = edges.shape[0] - 1
    for i in range(rows.shape[0]):
        for k in range(last + 1):
            value = rows[i, k] if k < last else probabilities[i]
            at = 0
            while at < edges.shape[1] - 1 and value > edges[k, at]:
                at += 1
            counts[k, at] += 1
            if value != value or value >= NEVER_S:
                missing[k] += 1
