"""`kibubu fraud train`: learn from the earlier days, calibrate on the next, report on the last.

The split is by time, as life is: the model never sees a day later than the ones that it is judged on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud import drift
from fraud.evaluate import at_alert_rate, average_precision, calibration_error, fit_platt, platt, victims_saved
from fraud.fitting import Budget, Fitted, fit
from fraud.leaks import AUPRC_MAX, leaky_features
from fraud.model import CARD_FILE, CARD_TEXT, METRICS_FILE, MODEL_FILE, save, sha256_of
from fraud.paysim.errors import DataError, LeakError
from fraud.simulate import History, Typology
from fraud.trees import trees_of
from node.ledger import features
from node.ledger.fraud_costs import Costs, decisions, hold_probability
from node.ledger.statuses import FraudDecision

CUSTOMERS, DAYS, SEED = 40_000, 60, 7
BUDGET = Budget(trees_max=700, seeds=1, settings=((6, 0.11, 6.0, 0.7),))
WARM_UP, TRAINED, CALIBRATED = (
    0.1,
    0.65,
    0.75,
)  # shares of the time: windows fill, training, calibration; then the report
HONEST_ROWS_MAX = 300_000
ALERT_RATES = (0.001, 0.005)
GOLDEN_ROWS = 24
NEVER_FALLS = ("payee_is_new", "drained_share_1h", "new_payees_1d")  # risk, as these rise

Card = dict[str, Any]
Say = Callable[[str], None]


class Split:
    """Masks of a history by time."""

    def __init__(self, history: History) -> None:
        first, last = int(history.times_ns[0]), int(history.times_ns[-1])
        share = (history.times_ns - first) / max(1, last - first)
        self.earlier = (share >= WARM_UP) & (share < TRAINED)
        self.middle = (share >= TRAINED) & (share < CALIBRATED)
        self.later = share >= CALIBRATED
        for name, part in (("training", self.earlier), ("calibration", self.middle), ("report", self.later)):
            if not history.fraud[part].any():
                raise DataError(f"the {name} days hold no fraud; more customers or days are needed")


def train(
    history: History,
    source: dict[str, Any],
    seed: int,
    output: Path,
    budget: Budget,
    say: Say,
    *,
    allow_leaky: bool = False,
) -> Card:
    """Writes model.cbm, card.json, metrics.json and CARD.md into `output`, returns the card. Raises DataError and
    LeakError; then nothing was written."""
    split = Split(history)
    leaks = leaky_features(history.features[split.earlier], history.fraud[split.earlier], features.FEATURE_NAMES)
    if leaks and not allow_leaky:
        named = ", ".join(f"{name} ({auprc:.4f})" for name, auprc in leaks)
        raise LeakError(f"one feature alone passes AUPRC {AUPRC_MAX}: {named}; --allow-leaky trains anyway")
    fitted = learn(history, split.earlier, seed, budget, say)
    raw = trees_of(fitted.classifier).raw(history.features)
    slope, shift = fit_platt(raw[split.middle], history.fraud[split.middle])
    probabilities = platt(raw, slope, shift)
    output.mkdir(parents=True, exist_ok=True)
    save(fitted.classifier, output / MODEL_FILE)
    card: Card = {
        "feature_schema": features.FEATURE_SCHEMA,
        "feature_names": list(features.FEATURE_NAMES),
        "platt": [slope, shift],
        "costs": asdict(Costs()),
        "data": source
        | {
            "payments": len(raw),
            "fraud_share_in_training": float(history.fraud[split.earlier].mean()),
            "leaky_features": dict(leaks),
        },
        "training": {
            "seed": seed,
            "trees": fitted.trees,
            "depth": fitted.depth,
            "learning_rate": fitted.learning_rate,
            "l2": fitted.l2,
            "features_a_tree": fitted.share,
            "settings_tried": fitted.tried,
            "monotone": list(NEVER_FALLS),
        },
        "report": report(history, probabilities, split.later, Costs()),
        "golden": _golden(history, raw),
        "drift": _drift(history, probabilities, split.earlier),
        "model_sha256": sha256_of(output / MODEL_FILE),
    }
    (output / CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (output / METRICS_FILE).write_text(json.dumps(card["report"], indent=2) + "\n", encoding="utf-8")
    (output / CARD_TEXT).write_text(card_text(card), encoding="utf-8")
    return card


def learn(history: History, where: npt.NDArray[np.bool_], seed: int, budget: Budget, say: Say) -> Fitted:
    """From the rows of a mask; honest ones beyond a number are sampled, and weigh more."""
    fraud = history.fraud
    honest = int((where & (fraud == 0)).sum())
    share = min(1.0, HONEST_ROWS_MAX / max(1, honest))
    drawn = np.random.default_rng(seed).random(len(fraud)) < share
    chosen = np.flatnonzero(where & (drawn | (fraud == 1)))
    labels = fraud[chosen]
    weights = np.where(labels == 1, 1.0, 1.0 / share)
    monotone = [1 if name in NEVER_FALLS else 0 for name in features.FEATURE_NAMES]
    times = history.times_ns[chosen]
    return fit(
        history.features[chosen], labels, weights, times, features.FEATURE_NAMES, seed, budget, say, monotone=monotone
    )


def report(
    history: History, probabilities: npt.NDArray[np.float64], later: npt.NDArray[np.bool_], costs: Costs
) -> Card:
    labels, amounts, scores = history.fraud[later], history.amounts_minor[later], probabilities[later]
    typology = history.typology[later]
    decided = decisions(scores, amounts, costs)
    held, refused = decided != FraudDecision.ALLOW, decided == FraudDecision.REFUSE
    honest = labels == 0
    return {
        "payments": int(later.sum()),
        "frauds": int(labels.sum()),
        "fraud_share": float(labels.mean()),
        "auprc": average_precision(labels, scores),
        "at_alert_rates": [asdict(at_alert_rate(labels, scores, amounts, rate)) for rate in ALERT_RATES],
        "calibration_error": calibration_error(labels, scores),
        "honest_held_share": float(held[honest].mean()),
        "honest_refused_share": float(refused[honest].mean()),
        "recall_at_hold": float(held[~honest].mean()),
        "value_saved_share": float(amounts[held & ~honest].sum() / amounts[~honest].sum()),
        "victims": victims_saved(history.cases[later], labels, held),
        "recall_by_typology": {
            kind.name.lower(): float(held[typology == kind].mean())
            for kind in Typology
            if kind and (typology == kind).any()
        },
    }


def last_line(report_: Card) -> str:
    low, high = report_["at_alert_rates"]
    return (
        f"AUPRC {report_['auprc']:.4f} at prevalence {report_['fraud_share']:.6f} ({report_['frauds']:,} of "
        f"{report_['payments']:,}), recall {low['recall']:.4f} at 0.1 % and {high['recall']:.4f} at 0.5 % alerts"
    )


def _golden(history: History, raw: npt.NDArray[np.float64]) -> Card:
    """Rows from all over the score's range, and what the model says of each."""
    order = np.argsort(raw, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, GOLDEN_ROWS).astype(np.int64)]
    return {"rows": [row.tolist() for row in history.features[chosen]], "raw": raw[chosen].tolist()}


def _drift(history: History, probabilities: npt.NDArray[np.float64], earlier: npt.NDArray[np.bool_]) -> Card:
    columns = np.column_stack([history.features[earlier], probabilities[earlier].astype(np.float32)])
    return drift.reference(columns, [*features.FEATURE_NAMES, "score"])


def card_text(card: Card) -> str:
    template = (Path(__file__).parent / "card.md.template").read_text(encoding="utf-8")
    low, high = card["report"]["at_alert_rates"]
    costs = Costs(**card["costs"])
    data = card["data"]
    made = (
        f"Simulated (`fraud/simulate`): {data['customers']:,} customers, {data['days']} days, {data['payments']:,} "
        f"payments; made again, to the byte on the same kind of machine, by `kibubu fraud train "
        f"--customers {data['customers']} --days {data['days']} --seed {data['seed']}`."
        if "customers" in data
        else f"From {data['source']}: {data['payments']:,} payments."
    )
    leaky = ", ".join(data["leaky_features"])
    warning = f"\n**The data leaks: {leaky} alone tells fraud apart. Do not use this model.**\n" if leaky else ""
    typologies = "\n".join(
        f"| {name.replace('_', ' ')} | {recall:.3f} |" for name, recall in card["report"]["recall_by_typology"].items()
    )
    holds = "\n".join(
        f"| {amount:,} | {hold_probability(amount * 100, costs):.3f} |" for amount in (100, 1_000, 10_000, 100_000)
    )
    return template.format(
        name=card["model_sha256"][:8], feature_count=len(features.FEATURE_NAMES), low=low, high=high, made=made,
        warning=warning, typologies=typologies, holds=holds, **card,
    )  # fmt: skip
