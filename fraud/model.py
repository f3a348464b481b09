"""A trained model and its card on disk: what the sidecar loads, and refuses when the two do not fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from catboost import CatBoostClassifier, Pool

from node.ledger import features
from node.ledger.statuses import FraudDecision

MODEL_FILE, CARD_FILE, CARD_TEXT, METRICS_FILE = "model.cbm", "card.json", "CARD.md", "metrics.json"
SHIPPED = Path(__file__).parent / "model"
REASONS = 3


class ModelError(Exception):
    """The model folder cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Scored:
    probabilities: npt.NDArray[np.float32]
    reasons: npt.NDArray[np.uint8]  # (n, 3), feature number + 1, strongest first, 0 = none
    decisions: npt.NDArray[np.uint8]  # FraudDecision


class Model:
    def __init__(self, classifier: Any, card: dict[str, Any], sha256: str) -> None:
        self._classifier = classifier
        self.card = card
        self.sha256 = sha256
        self.version = int(sha256[:8], 16)
        self.hold_threshold = float(card["hold_threshold"])
        self.refuse_threshold = float(card["refuse_threshold"])

    def score(self, rows: npt.NDArray[np.float32]) -> Scored:
        """rows: float32 (n, FEATURE_COUNT), finite. Reasons only where somebody will ask: SHAP is slow."""
        predicted = self._classifier.predict(rows, prediction_type="Probability", thread_count=1)
        probabilities = predicted[:, 1].astype(np.float32)
        decisions = np.full(len(rows), FraudDecision.ALLOW, dtype=np.uint8)
        decisions[probabilities >= self.hold_threshold] = FraudDecision.HOLD
        decisions[probabilities >= self.refuse_threshold] = FraudDecision.REFUSE
        reasons = np.zeros((len(rows), REASONS), dtype=np.uint8)
        alerted = np.flatnonzero(probabilities >= self.hold_threshold)
        if len(alerted):
            reasons[alerted] = self._reasons(rows[alerted])
        return Scored(probabilities, reasons, decisions)

    def _reasons(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        shap = self._classifier.get_feature_importance(
            Pool(rows), type="ShapValues", shap_calc_type="Approximate", thread_count=1
        )[:, :-1]
        strongest = np.argsort(-shap, axis=1)[:, :REASONS]
        raises = np.take_along_axis(shap, strongest, axis=1) > 0
        return np.where(raises, strongest + 1, 0).astype(np.uint8)


def save(classifier: Any, path: Path) -> None:
    """The same training gives the same bytes: what CatBoost notes about the moment is replaced by a constant."""
    metadata = classifier.get_metadata()
    metadata["model_guid"], metadata["train_finish_time"] = "0-0-0-0", ""
    classifier.save_model(str(path))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_model(folder: Path) -> Model:
    """Raises ModelError: a missing file, a card of another model, or other features than this code computes."""
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        sha256 = sha256_of(folder / MODEL_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: {error}") from error
    for key in ("model_sha256", "feature_schema", "hold_threshold", "refuse_threshold"):
        if key not in card:
            raise ModelError(f"{CARD_FILE}: {key}: missing")
    if card["model_sha256"] != sha256:
        raise ModelError(f"{CARD_FILE}: model_sha256: the card is of another model than {MODEL_FILE}")
    if int(card["feature_schema"]) != features.FEATURE_SCHEMA:
        raise ModelError(f"{CARD_FILE}: feature_schema: trained on other features; train again")
    if not 0 < card["hold_threshold"] <= card["refuse_threshold"] <= 1:
        raise ModelError(f"{CARD_FILE}: hold_threshold and refuse_threshold: must be 0 < hold <= refuse <= 1")
    classifier = CatBoostClassifier()
    try:
        classifier.load_model(str(folder / MODEL_FILE))
    except Exception as error:  # catboost raises its own C++ exceptions
        raise ModelError(f"{MODEL_FILE}: {error}") from error
    return Model(classifier, card, sha256)
