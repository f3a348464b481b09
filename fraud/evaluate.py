"""How good a model is, in the terms of the field: AUPRC, recall at an alert rate, and money; never AUROC alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

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


def fit_platt(raw: Floats, labels: npt.NDArray[Any]) -> tuple[float, float]:
    """Slope and shift of the log-odds that fit the labels best (Platt 1999), by Newton's method with halved steps."""
    columns = np.stack([raw, np.ones(len(raw))], axis=1)
    at = np.array([1.0, 0.0])
    loss = _log_loss(columns @ at, labels)
    for _ in range(50):
        p = expit(columns @ at)
        hessian = (columns * (p * (1 - p))[:, None]).T @ columns + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, columns.T @ (labels - p))
        while _log_loss(columns @ (at + step), labels) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        at = at + step
        loss = _log_loss(columns @ at, labels)
        if np.abs(step).max() < 1e-9:
            break
    return (float(at[0]), float(at[1])) if at[0] > 0 else (1.0, 0.0)  # what turns the order around is no calibration


def _log_loss(log_odds: Floats, labels: npt.NDArray[Any]) -> float:
    return float(np.sum(np.logaddexp(0.0, log_odds) - labels * log_odds))


def platt(raw: Floats, slope: float, shift: float) -> Floats:
    return np.asarray(expit(slope * raw + shift), dtype=np.float64)


def victims_saved(cases: npt.NDArray[Any], labels: npt.NDArray[Any], held: npt.NDArray[Any]) -> dict[str, float]:
    """Of the incidents that begin here: share whose first payment was stopped, and share stopped before the second."""
    firsts: dict[int, list[bool]] = {}
    for row in np.flatnonzero(labels).tolist():
        firsts.setdefault(int(cases[row]), []).append(bool(held[row]))
    firsts.pop(0, None)
    if not firsts:
        return {"incidents": 0, "at_first": 0.0, "before_second": 0.0}
    at_first = float(np.mean([stops[0] for stops in firsts.values()]))
    return {
        "incidents": len(firsts),
        "at_first": at_first,
        "before_second": float(np.mean([any(stops[:2]) for stops in firsts.values()])),
    }
