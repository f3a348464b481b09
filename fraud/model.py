"""A trained model and its card on disk: what the sidecar loads, and refuses when the two do not fit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from catboost import CatBoostClassifier

from fraud.evaluate import platt
from fraud.trees import Trees, TreesError, trees_of
from node.ledger import features
from node.ledger.fraud_costs import Costs, CostsError, costs_from, decisions
from node.ledger.statuses import FraudDecision

MODEL_FILE, CARD_FILE, CARD_TEXT, METRICS_FILE = "model.cbm", "card.json", "CARD.md", "metrics.json"
SHIPPED = Path(__file__).parent / "model"
REASONS = 3
OWN_ROWS_MAX = 48  # up to here the compiled trees are quicker than CatBoost; `calibrate` measures it anew
CALIBRATION_ROWS = (8, 16, 32, 64, 128, 256, 512)
AMOUNT = features.FEATURE_NAMES.index("amount_minor")
_NEEDED = ("model_sha256", "feature_schema", "platt", "costs", "golden", "drift")

Floats = npt.NDArray[np.float32]


class ModelError(Exception):
    """The model folder cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Scored:
    probabilities: Floats
    reasons: npt.NDArray[np.uint8]  # (n, 3), feature number + 1, strongest first, 0 = none
    decisions: npt.NDArray[np.uint8]  # FraudDecision


class Model:
    def __init__(self, classifier: Any, trees: Trees, card: dict[str, Any], costs: Costs, sha256: str) -> None:
        self._classifier = classifier
        self._trees = trees
        self._slope, self._shift = (float(number) for number in card["platt"])
        self._own_rows_max = OWN_ROWS_MAX
        self.card = card
        self.costs = costs
        self.sha256 = sha256
        self.version = int(sha256[:8], 16)

    def raw(self, rows: Floats) -> npt.NDArray[np.float64]:
        """Log-odds before calibration; the same numbers whichever engine computes them."""
        if len(rows) <= self._own_rows_max:
            return self._trees.raw(rows)
        return self._raw_of_catboost(rows)

    def _raw_of_catboost(self, rows: Floats) -> npt.NDArray[np.float64]:
        """It takes columns without looking at each number: half the time, for a twentieth that the copy costs."""
        columns = np.asfortranarray(rows)
        raw = self._classifier.predict(columns, prediction_type="RawFormulaVal", thread_count=1)
        return np.asarray(raw, np.float64)

    def score(self, rows: Floats, costs: Costs | None = None) -> Scored:
        """rows: float32 (n, FEATURE_COUNT); costs: instead of the card's. Reasons are given for what is not allowed."""
        probabilities = self._calibrated(self.raw(rows)).astype(np.float32)
        decided = decisions(probabilities, rows[:, AMOUNT], costs or self.costs)
        reasons = np.zeros((len(rows), REASONS), dtype=np.uint8)
        alerted = np.flatnonzero(decided != FraudDecision.ALLOW)
        if len(alerted):
            reasons[alerted] = strongest(self._trees.contributions(rows[alerted]))
        return Scored(probabilities, reasons, decided)

    def _calibrated(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return platt(raw, self._slope, self._shift)

    def calibrate(self, perf_counter: Callable[[], float] = time.perf_counter) -> int:
        """Measure from how many rows on CatBoost is the quicker engine here; also warms both."""
        self._own_rows_max = 0
        for count in CALIBRATION_ROWS:
            rows = np.resize(np.array(self.card["golden"]["rows"], dtype=np.float32), (count, features.FEATURE_COUNT))
            own, its = (_best_s(engine, rows, perf_counter) for engine in (self._trees.raw, self._raw_of_catboost))
            if own > its:
                break
            self._own_rows_max = count
        return self._own_rows_max

    def check_golden(self) -> None:
        """Raises ModelError unless both engines say of the card's rows what they said when it was trained."""
        rows = np.array(self.card["golden"]["rows"], dtype=np.float32)
        expected = np.array(self.card["golden"]["raw"], dtype=np.float64)
        for name, raw in (("own trees", self._trees.raw(rows)), ("CatBoost", self._raw_of_catboost(rows))):
            if not np.allclose(raw, expected, rtol=0, atol=1e-9):
                raise ModelError(f"{CARD_FILE}: golden: {name} says otherwise than when the model was trained")


def _best_s(engine: Callable[[Floats], Any], rows: Floats, perf_counter: Callable[[], float]) -> float:
    best = float("inf")
    for _ in range(5):
        started_at = perf_counter()
        engine(rows)
        best = min(best, perf_counter() - started_at)
    return best


def strongest(contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """The features that raised the score most, as number + 1; 0 where fewer than three did."""
    order = np.argsort(-contributions, axis=1, kind="stable")[:, :REASONS]
    raises = np.take_along_axis(contributions, order, axis=1) > 0
    return np.where(raises, order + 1, 0).astype(np.uint8)


def save(classifier: Any, path: Path) -> None:
    """The same training gives the same bytes: what CatBoost notes about the moment is replaced by a constant."""
    metadata = classifier.get_metadata()
    metadata["model_guid"], metadata["train_finish_time"] = "0-0-0-0", ""
    classifier.save_model(str(path))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_model(folder: Path) -> Model:
    """Raises ModelError: a missing file, a card of another model, other features than this code computes, or golden
    rows that score otherwise."""
    card, sha256 = _card(folder)
    try:
        costs = costs_from(card["costs"])
    except CostsError as error:
        raise ModelError(f"{CARD_FILE}: {error}") from error
    classifier = CatBoostClassifier()
    try:
        classifier.load_model(str(folder / MODEL_FILE))
        trees = trees_of(classifier)
    except TreesError as error:
        raise ModelError(f"{MODEL_FILE}: {error}") from error
    except Exception as error:  # catboost raises its own C++ exceptions
        raise ModelError(f"{MODEL_FILE}: {error}") from error
    if trees.features_total != features.FEATURE_COUNT:
        raise ModelError(f"{MODEL_FILE}: has {trees.features_total} features, must have {features.FEATURE_COUNT}")
    model = Model(classifier, trees, card, costs, sha256)
    model.check_golden()
    return model


def _card(folder: Path) -> tuple[dict[str, Any], str]:
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        sha256 = sha256_of(folder / MODEL_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: {error}") from error
    if not isinstance(card, dict):
        raise ModelError(f"{CARD_FILE}: must be an object")
    if card.get("format") == "paysim":
        raise ModelError(f"{CARD_FILE}: format: a model of PaySim data; a node does not compute its features")
    for key in _NEEDED:
        if key not in card:
            raise ModelError(f"{CARD_FILE}: {key}: missing")
    if card["model_sha256"] != sha256:
        raise ModelError(f"{CARD_FILE}: model_sha256: the card is of another model than {MODEL_FILE}")
    if card["feature_schema"] != features.FEATURE_SCHEMA:
        raise ModelError(f"{CARD_FILE}: feature_schema: trained on other features; train again")
    if not _are_numbers(card["platt"], 2):
        raise ModelError(f"{CARD_FILE}: platt: must be two numbers, slope and shift")
    rows, raw = (card["golden"].get(key) for key in ("rows", "raw")) if isinstance(card["golden"], dict) else (0, 0)
    if not isinstance(rows, list) or not rows or not all(_are_numbers(row, features.FEATURE_COUNT) for row in rows):
        raise ModelError(f"{CARD_FILE}: golden.rows: must be rows of {features.FEATURE_COUNT} numbers")
    if not _are_numbers(raw, len(rows)):
        raise ModelError(f"{CARD_FILE}: golden.raw: must be one number a row")
    if list(card["drift"]) != [*features.FEATURE_NAMES, "score"]:
        raise ModelError(f"{CARD_FILE}: drift: must have every feature and the score")
    return card, sha256


def _are_numbers(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(isinstance(number, int | float) for number in value)
