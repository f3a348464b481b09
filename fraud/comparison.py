"""`kibubu fraud evaluate`: the model and its rivals on the same later days, by every measure that the field uses.

Prevalence is a statement, not a given: simulated data holds far more fraud than life. So everything that depends on it
is also given for one in a thousand, ten thousand and a hundred thousand: frauds weigh less, and the probabilities are
shifted by the prior as an operator would shift them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.evaluate import at_alert_rate, average_precision, calibration_error, fit_platt, platt, victims_saved
from fraud.fitting import Budget, probabilities
from fraud.rivals import RIVALS
from fraud.simulate import History, Typology
from fraud.train import ALERT_RATES, HONEST_ROWS_MAX, Split, learn

PREVALENCES = (1e-3, 1e-4, 1e-5)
ALERTS_FOR_TYPOLOGIES = 0.005
Floats = npt.NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compared:
    labels: npt.NDArray[np.int8]  # of the later days
    scores: dict[str, Floats]  # by model, of the later days; calibrated
    measures: dict[str, dict[str, Any]]  # by model
    typologies: dict[str, dict[str, float]]  # by kind of fraud: rows, recall, recall when it was never learned


def compare(history: History, seed: int, budget: Budget, say: Say, *, leave_one_out: bool = True) -> Compared:
    """Raises DataError when a part of the time holds no fraud."""
    split = Split(history)
    scores: dict[str, Floats] = {}
    for name, train in RIVALS.items():
        chosen = _sample(history, split.earlier, seed)
        score = train(history.features[chosen], history.fraud[chosen], seed)
        scores[name] = _calibrated(score(history.features), history, split, log_odds=name != "rules alone")
        say(f"{name}: trained")
    fitted = learn(history, split.earlier, seed, budget, say)
    scores["CatBoost"] = _calibrated(probabilities(fitted.classifier, history.features), history, split)
    later = split.later
    measures = {name: _measures(history, values, later) for name, values in scores.items()}
    typologies = _typologies(history, scores["CatBoost"], later)
    if leave_one_out:
        _leave_one_out(history, split, seed, budget, typologies, say)
    on_later_days = {name: values[later] for name, values in scores.items()}
    return Compared(history.fraud[later], on_later_days, measures, typologies)


def _sample(history: History, where: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.int64]:
    honest = int((where & (history.fraud == 0)).sum())
    drawn = np.random.default_rng(seed).random(len(where)) < HONEST_ROWS_MAX / max(1, honest)
    return np.flatnonzero(where & (drawn | (history.fraud == 1)))


def _calibrated(values: Floats, history: History, split: Split, *, log_odds: bool = True) -> Floats:
    p = np.clip(values, 1e-12, 1 - 1e-12)
    raw = np.log(p) - np.log1p(-p) if log_odds else values
    slope, shift = fit_platt(raw[split.middle], history.fraud[split.middle])
    return platt(raw, slope, shift)


def _measures(history: History, scores: Floats, later: npt.NDArray[np.bool_]) -> dict[str, Any]:
    labels, amounts, p = history.fraud[later], history.amounts_minor[later], scores[later]
    held = p >= np.quantile(p, 1 - ALERTS_FOR_TYPOLOGIES)
    return {
        "auprc": average_precision(labels, p),
        "alerts": [asdict(at_alert_rate(labels, p, amounts, rate)) for rate in ALERT_RATES],
        "by_expected_loss": asdict(at_alert_rate(labels, p * amounts, amounts, ALERT_RATES[0])),
        "calibration_error": calibration_error(labels, p),
        "victims": victims_saved(history.cases[later], labels, held),
        "at_prevalence": [at_prevalence(labels, p, prevalence) for prevalence in PREVALENCES],
    }


def at_prevalence(labels: npt.NDArray[Any], p: Floats, prevalence: float) -> dict[str, float]:
    """AUPRC and calibration error if one payment in 1 / prevalence were fraud, all else alike."""
    share = float(labels.mean())
    weight = prevalence * (1 - share) / (share * (1 - prevalence))
    weights = np.where(labels == 1, weight, 1.0)
    odds = p / np.maximum(1 - p, 1e-12) * weight
    shifted = odds / (1 + odds)
    order = np.argsort(shifted, kind="stable")
    gap = 0.0
    for part in np.array_split(order, 20):
        gap += abs(float(np.sum(weights[part] * (shifted[part] - labels[part]))))
    return {
        "prevalence": prevalence,
        "auprc": average_precision(labels, p, weights),
        "calibration_error": gap / float(weights.sum()),
    }


def _typologies(history: History, scores: Floats, later: npt.NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    threshold = np.quantile(scores[later], 1 - ALERTS_FOR_TYPOLOGIES)
    found: dict[str, dict[str, float]] = {}
    for kind in Typology:
        rows = later & (history.typology == kind)
        if kind and rows.any():
            found[kind.name.lower()] = {"rows": int(rows.sum()), "recall": float((scores[rows] >= threshold).mean())}
    return found


def _leave_one_out(
    history: History, split: Split, seed: int, budget: Budget, typologies: dict[str, dict[str, float]], say: Say
) -> None:
    """What is found of a kind of fraud that nobody has seen before."""
    for name, row in typologies.items():
        kind = Typology[name.upper()]
        fitted = learn(history, split.earlier & (history.typology != kind), seed, budget, lambda _: None)
        scores = probabilities(fitted.classifier, history.features)
        threshold = np.quantile(scores[split.later], 1 - ALERTS_FOR_TYPOLOGIES)
        rows = split.later & (history.typology == kind)
        row["recall_unseen"] = float((scores[rows] >= threshold).mean())
        say(f"without {name.replace('_', ' ')}: recall {row['recall_unseen']:.3f} against {row['recall']:.3f}")
