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


def average_precision(
    labels: npt.NDArray[Any], scores: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None
) -> float:
    """Area under the precision-recall curve, as the mean precision over the frauds; ties count as one step."""
    weights = np.ones(len(labels)) if weights is None else weights
    positives = float(np.sum(labels * weights))
    if not positives:
        raise ValueError("no fraud in the data: AUPRC is not defined")
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    last_of_tie = np.append(sorted_scores[1:] != sorted_scores[:-1], True)
    found = np.cumsum((labels * weights)[order])[last_of_tie]
    alerts = np.cumsum(weights[order])[last_of_tie]
    return float(np.sum(np.diff(found, prepend=0.0) * found / alerts) / positives)


def recall_at_false_positives(labels: npt.NDArray[Any], scores: npt.NDArray[Any], share: float) -> float:
    """Share of the frauds above the score that at most `share` of the honest rows reach."""
    honest = np.sort(scores[labels == 0])[::-1]
    allowed = int(len(honest) * share)
    threshold = honest[allowed] if allowed < len(honest) else -np.inf
    return float(np.mean(scores[labels == 1] > threshold))


def calibration_error(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], bins: int = 20) -> float:
    """Expected calibration error over bins of equal weight: |mean probability - share of fraud|, weighted by rows."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(float(np.mean(probabilities[part]) - np.mean(labels[part]))) * len(part) for part in parts]
    return sum(gaps) / len(labels)


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
