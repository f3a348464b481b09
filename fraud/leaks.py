"""Data in which one feature alone gives fraud away: refused, for a model of it learns the artefact, not the crime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.evaluate import average_precision

AUPRC_MAX = 0.9
BINS = 512
TIES_MIN = 8  # a value met this often has a bin of its own


def leaky_features(
    rows: npt.NDArray[np.float32], labels: npt.NDArray[Any], names: Sequence[str]
) -> list[tuple[str, float]]:
    """(name, AUPRC) of each feature whose value alone passes AUPRC_MAX, the worst first.

    The best that any function of the one value could do: the share of fraud in each narrow range, learned on half of
    the rows and judged on the other half. rows: (n, features), labels: (n,) of 0 and 1.
    """
    found = [(name, single_feature_auprc(rows[:, k], labels)) for k, name in enumerate(names)]
    return sorted((pair for pair in found if pair[1] > AUPRC_MAX), key=lambda pair: -pair[1])


def single_feature_auprc(values: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> float:
    bins = _bins(values)
    learned = np.zeros(len(labels), dtype=bool)
    for label in (0, 1):  # every second row of each class in the order of its values: both halves see the whole range
        of_label = np.flatnonzero(labels == label)
        learned[of_label[np.argsort(values[of_label], kind="stable")][::2]] = True
    total = np.bincount(bins[learned], minlength=bins.max() + 1)
    frauds = np.bincount(bins[learned], weights=labels[learned], minlength=len(total))
    base = float(labels[learned].mean())
    share = (frauds + base) / (total + 1.0)
    judged = ~learned
    if not labels[judged].any():
        return 0.0
    return average_precision(labels[judged], share[bins[judged]])


def _bins(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A bin for each frequent value, and ranges of equal weight for the rest."""
    distinct, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    frequent = counts >= max(TIES_MIN, len(values) // (4 * BINS))
    ranges = np.cumsum(counts) * BINS // (len(values) + 1)
    new_bin = np.ones(len(distinct), dtype=bool)
    new_bin[1:] = frequent[1:] | frequent[:-1] | (ranges[1:] != ranges[:-1])
    return (np.cumsum(new_bin) - 1)[where]
