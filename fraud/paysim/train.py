"""`kibubu fraud train --format paysim`: learn from the first 70 % of a file's time, report on the rest.

The file is read twice, never held: once to check every line, once to learn and then to judge. Honest rows beyond a
number are sampled for learning (and weigh more); every later row is judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.evaluate import average_precision, calibration_error, recall_at_false_positives
from fraud.fitting import Budget, Fitted, fit, probabilities
from fraud.leaks import AUPRC_MAX, leaky_features
from fraud.model import CARD_FILE, CARD_TEXT, METRICS_FILE, MODEL_FILE, save, sha256_of
from fraud.paysim.errors import DataError, LeakError
from fraud.paysim.history import FEATURE_NAMES, LABEL_DATES, History, Labels
from fraud.paysim.reading import TYPES, Block, Summary, blocks, summarise

TRAINED = LABEL_DATES[-1]  # share of the time
STEPS_MIN = 10
HONEST_ROWS_MAX = 250_000  # that are learned from
FALSE_POSITIVE_SHARES = (0.001, 0.01)

Card = dict[str, Any]
Floats = npt.NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Learned:
    """Rows of the types in which fraud occurs, of the training time."""

    rows: Floats
    labels: npt.NDArray[np.int8]
    steps: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]


def train(path: Path, output: Path, seed: int, budget: Budget, say: Say, *, allow_leaky: bool = False) -> Card:
    """Writes model.cbm, card.json, metrics.json and CARD.md into `output`. Raises DataError, LeakError; then nothing
    was written."""
    summary = summarise(path)
    border = _border(path, summary)
    say(
        f"{summary.rows:,} rows ({summary.failed_rows:,} failed ones dropped), steps {summary.first_step} to "
        f"{summary.last_step}; fraud in {', '.join(TYPES[number - 1] for number in summary.fraud_types)}"
    )
    stream = _featured(path, summary)
    learned, first_later = _learn(path, stream, summary, border)
    leaks = leaky_features(learned.rows, learned.labels, FEATURE_NAMES)
    if leaks and not allow_leaky:
        named = ", ".join(f"{name} ({auprc:.4f})" for name, auprc in leaks)
        raise LeakError(
            f"{path}: one feature alone passes AUPRC {AUPRC_MAX}: {named}. A model of it learns how it was made, "
            "not fraud; --allow-leaky trains anyway, and the card will say so"
        )
    fitted = fit(
        learned.rows, learned.labels, learned.weights, learned.steps, FEATURE_NAMES, seed,
        budget.for_rows(len(learned.labels)), say,
    )  # fmt: skip
    scores, labels = _judge(fitted.classifier, first_later, stream)
    if not labels.any():
        raise DataError(f"{path}: no fraud after step {border - 1}: nothing to evaluate on")
    report = _report(labels, scores, border)
    return _write(output, summary, learned, fitted, report, leaks, seed)


def last_line(report: Card) -> str:
    low, high = report["recall_at_false_positives"].values()
    return (
        f"AUPRC {report['auprc']:.4f} at prevalence {report['prevalence']:.6f} ({report['frauds']:,} of "
        f"{report['rows']:,}), recall {low:.4f} at 0.1 % and {high:.4f} at 1 % false positives"
    )


def _border(path: Path, summary: Summary) -> int:
    """The first step that is not trained on."""
    span = summary.last_step - summary.first_step + 1
    if span < STEPS_MIN:
        raise DataError(f"{path}: step: {span} different steps of time at most, at least {STEPS_MIN} are needed")
    if not summary.fraud_types:
        raise DataError(f"{path}: isFraud: no row is fraud: nothing to learn")
    return summary.first_step + int(np.ceil(span * TRAINED))


def _featured(path: Path, summary: Summary) -> Iterator[tuple[Block, Floats]]:
    """Every row goes into the history; those of types with fraud come out."""
    frauds = sum(summary.frauds_by_type.values())
    history, types = History(Labels.of(summary.first_step, summary.last_step, frauds)), summary.fraud_types
    for block in blocks(path):
        rows = history.read(block)
        wanted = np.flatnonzero(np.isin(block.type, types))
        yield block.take(wanted), rows[wanted]


def _learn(
    path: Path, stream: Iterator[tuple[Block, Floats]], summary: Summary, border: int
) -> tuple[Learned, tuple[Block, Floats] | None]:
    """The training rows, and what of the block at the border belongs to the later time."""
    honest = sum(summary.rows_by_type[TYPES[number - 1]] for number in summary.fraud_types)
    share = min(1.0, HONEST_ROWS_MAX / (honest * TRAINED))
    parts: list[tuple[Floats, Any, Any]] = []
    later: tuple[Block, Floats] | None = None
    for block, rows in stream:
        middle = int(np.searchsorted(block.step, border))
        kept = np.flatnonzero((block.fraud[:middle] == 1) | (block.draw[:middle] <= np.uint64(share * (2**64 - 2**11))))
        parts.append((rows[kept], block.fraud[kept].astype(np.int8), block.step[kept]))
        if middle < len(block):
            later = (block.take(slice(middle, None)), rows[middle:])
            break
    rows, labels, steps = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not labels.any():
        raise DataError(f"{path}: no fraud before step {border}: nothing to learn")
    return Learned(rows, labels, steps, np.where(labels == 1, 1.0, 1.0 / share)), later


def _judge(
    classifier: Any, first: tuple[Block, Floats] | None, stream: Iterator[tuple[Block, Floats]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    scores, labels = [np.empty(0)], [np.empty(0, np.int8)]
    for block, rows in chain([first] if first else [], stream):
        if len(block):
            scores.append(probabilities(classifier, rows))
            labels.append(block.fraud.astype(np.int8))
    return np.concatenate(scores), np.concatenate(labels)


def _report(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64], border: int) -> Card:
    return {
        "first_step": border,
        "rows": len(labels),
        "frauds": int(labels.sum()),
        "prevalence": float(labels.mean()),
        "auprc": average_precision(labels, scores),
        "recall_at_false_positives": {
            str(share): recall_at_false_positives(labels, scores, share) for share in FALSE_POSITIVE_SHARES
        },
        "calibration_error": calibration_error(labels, scores),
    }


def _write(
    output: Path, summary: Summary, learned: Learned, fitted: Fitted, report: Card, leaks: list[tuple[str, float]],
    seed: int,
) -> Card:  # fmt: skip
    importance = fitted.classifier.get_feature_importance()
    strongest = np.argsort(-np.asarray(importance))[:12]
    output.mkdir(parents=True, exist_ok=True)
    save(fitted.classifier, output / MODEL_FILE)
    card: Card = {
        "format": "paysim",
        "feature_names": list(FEATURE_NAMES),
        "data": {
            "rows": summary.rows,
            "failed_rows_dropped": summary.failed_rows,
            "steps": [summary.first_step, summary.last_step],
            "fraud_types": [TYPES[number - 1] for number in summary.fraud_types],
            "training_rows": len(learned.labels),
            "training_frauds": int(learned.labels.sum()),
            "leaky_features": dict(leaks),
        },
        "training": {
            "seed": seed,
            "trees": fitted.trees,
            "depth": fitted.depth,
            "learning_rate": fitted.learning_rate,
            "slice_auprc": fitted.slice_auprc,
        },
        "strongest_features": {FEATURE_NAMES[k]: round(float(importance[k]), 3) for k in strongest},
        "report": report,
        "model_sha256": sha256_of(output / MODEL_FILE),
    }
    (output / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (output / METRICS_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (output / CARD_TEXT).write_text(_card_text(card), encoding="utf-8")
    return card


def _card_text(card: Card) -> str:
    data, report, training = card["data"], card["report"], card["training"]
    leaky = ", ".join(f"`{name}` ({auprc:.3f})" for name, auprc in data["leaky_features"].items())
    warning = f"\n**The data leaks: one feature alone passes AUPRC {AUPRC_MAX}: {leaky}. Do not use this model.**\n"
    lines = [
        f"# Fraud model {card['model_sha256'][:8]} (PaySim format)",
        warning if leaky else "",
        f"Trained on the first {TRAINED:.0%} of the time: {data['training_rows']:,} rows with "
        f"{data['training_frauds']:,} frauds of the types {', '.join(data['fraud_types'])}; {training['trees']} trees "
        f"of depth {training['depth']} for each seed.",
        "New balances, flags and failed rows were dropped, and the order of rows within a step was forgotten.",
        "",
        f"On the later time: {last_line(report)}; calibration error {report['calibration_error']:.6f}.",
        "",
        "| strongest features | importance |",
        "|---|---|",
        *(f"| {name} | {value:.1f} |" for name, value in card["strongest_features"].items()),
        "",
        "It cannot be served: a node does not compute PaySim's features. It shows what the method finds in such data.",
    ]
    return "\n".join(lines) + "\n"
