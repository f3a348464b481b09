"""How good a model is, in the terms of the field: AUPRC, recall at an alert rate, and money; never AUROC alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AtAlertRate:
    alert_rate: float  # share of payments that raise an alert
    threshold: float
    precision: float
    recall: float
    value_recall: float  # share of the stolen money


def average_precision(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """Area under the precision-recall curve, as the mean precision over the frauds; ties count as one step."""
    positives = int(np.sum(labels))
    if not positives:
        raise ValueError("no fraud in the data: AUPRC is not defined")
    order = np.argsort(-scores, kind="stable")
    sorted_scores, hits = scores[order], np.cumsum(labels[order])
    last_of_tie = np.append(sorted_scores[1:] != sorted_scores[:-1], True)
    found = hits[last_of_tie].astype(np.float64)
    alerts = np.arange(1, len(labels) + 1, dtype=np.float64)[last_of_tie]
    gained = np.diff(found, prepend=0.0)
    return float(np.sum(gained * found / alerts) / positives)


def at_alert_rate(
    labels: npt.NDArray[Any], scores: npt.NDArray[Any], amounts: npt.NDArray[Any], alert_rate: float
) -> AtAlertRate:
    """The highest-scored share of all payments raise an alert."""
    alerts = max(1, int(len(labels) * alert_rate))
    order = np.argsort(-scores, kind="stable")[:alerts]
    caught = labels[order].astype(bool)
    stolen = float(np.sum(amounts[labels.astype(bool)]))
    return AtAlertRate(
        alert_rate=alert_rate,
        threshold=float(scores[order[-1]]),
        precision=float(np.mean(caught)),
        recall=float(np.sum(caught) / max(1, np.sum(labels))),
        value_recall=float(np.sum(amounts[order][caught])) / stolen if stolen else 0.0,
    )


def threshold_for(honest_scores: npt.NDArray[Any], share: float) -> float:
    """The score that only `share` of the honest payments reach."""
    return float(np.quantile(honest_scores, 1.0 - share))
