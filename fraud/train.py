"""`kibubu fraud train`: simulate, train on the earlier days, choose thresholds on the next, report on the last.

The split is by time, as life is: the model never sees a day later than the ones that it is judged on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostClassifier, Pool

from fraud.evaluate import at_alert_rate, average_precision, threshold_for
from fraud.model import CARD_FILE, CARD_TEXT, MODEL_FILE, SHIPPED, save, sha256_of
from fraud.simulate import DAY_NS, MULE, START_NS, TAKEN_OVER, History, simulate
from node.ledger import features

CUSTOMERS, DAYS, SEED = 20_000, 60, 7
TREES, DEPTH, LEARNING_RATE = 240, 6, 0.06
THREADS = 2  # a part of the result: another number of threads may add floats in another order
WARM_UP, TRAINED, CHOSEN = 0.15, 0.65, 0.75  # shares of the days: windows fill, training, thresholds; then the report
HOLD_SHARE, REFUSE_SHARE = 0.0005, 0.00005  # of honest payments, on the days where thresholds are chosen
ALERT_RATES = (0.001, 0.005)

Card = dict[str, Any]


def train(customers: int, days: int, seed: int, output: Path) -> Card:
    """Writes model.cbm, card.json and CARD.md into `output` and returns the card. Raises ValueError for a tiny town."""
    history = simulate(customers, days, seed)
    day = (history.times_ns - START_NS) / DAY_NS / days
    fraud = (history.labels > 0).astype(np.int8)
    earlier, middle, later = (day >= WARM_UP) & (day < TRAINED), (day >= TRAINED) & (day < CHOSEN), day >= CHOSEN
    for name, part in (("training", earlier), ("threshold", middle), ("report", later)):
        if not fraud[part].any():
            raise ValueError(f"the {name} days hold no fraud; simulate more customers or days")
    classifier = CatBoostClassifier(
        iterations=TREES, depth=DEPTH, learning_rate=LEARNING_RATE, random_seed=seed, thread_count=THREADS,
        loss_function="Logloss", allow_writing_files=False, verbose=False,
    )  # fmt: skip
    names = list(features.FEATURE_NAMES)
    classifier.fit(Pool(history.features[earlier], fraud[earlier], feature_names=names))
    scores = classifier.predict_proba(history.features, thread_count=THREADS)[:, 1]
    hold = threshold_for(scores[middle & (fraud == 0)], HOLD_SHARE)
    refuse = max(hold, threshold_for(scores[middle & (fraud == 0)], REFUSE_SHARE))
    output.mkdir(parents=True, exist_ok=True)
    save(classifier, output / MODEL_FILE)
    card = _card(history, fraud, scores, later, hold, refuse)
    card["data"] |= {"customers": customers, "days": days, "seed": seed, "payments": len(fraud)}
    card["data"]["fraud_share_in_training"] = float(fraud[earlier].mean())
    card["model_sha256"] = sha256_of(output / MODEL_FILE)
    (output / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (output / CARD_TEXT).write_text(_card_text(card), encoding="utf-8")
    return card


def _card(history: History, fraud: Any, scores: Any, later: Any, hold: float, refuse: float) -> Card:
    labels, amounts, late_scores = fraud[later], history.amounts_minor[later], scores[later]
    kinds = history.labels[later]
    held, refused = late_scores >= hold, late_scores >= refuse
    honest = labels == 0
    return {
        "feature_schema": features.FEATURE_SCHEMA,
        "feature_names": list(features.FEATURE_NAMES),
        "hold_threshold": round(hold, 6),
        "refuse_threshold": round(refuse, 6),
        "data": {"source": "simulated by fraud/simulate.py"},
        "report": {
            "payments": int(later.sum()),
            "frauds": int(labels.sum()),
            "fraud_share": float(labels.mean()),
            "auprc": average_precision(labels, late_scores),
            "at_alert_rates": [asdict(at_alert_rate(labels, late_scores, amounts, rate)) for rate in ALERT_RATES],
            "honest_held_share": float(held[honest].mean()),
            "honest_refused_share": float(refused[honest].mean()),
            "recall_at_hold": float(held[~honest].mean()),
            "recall_at_refuse": float(refused[~honest].mean()),
            "recall_at_hold_take_over": float(held[kinds == TAKEN_OVER].mean()) if (kinds == TAKEN_OVER).any() else 0.0,
            "recall_at_hold_mule": float(held[kinds == MULE].mean()) if (kinds == MULE).any() else 0.0,
        },
        "training": {"trees": TREES, "depth": DEPTH, "learning_rate": LEARNING_RATE, "threads": THREADS},
    }


def _card_text(card: Card) -> str:
    template = (Path(__file__).parent / "card.md.template").read_text(encoding="utf-8")
    low, high = card["report"]["at_alert_rates"]
    return template.format(
        name=card["model_sha256"][:8], feature_count=len(features.FEATURE_NAMES), low=low, high=high, **card
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    card = train(arguments.customers, arguments.days, arguments.seed, arguments.output)
    print(json.dumps(card["report"], indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
