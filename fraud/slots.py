"""Which models are loaded: the champion decides, a challenger scores in its shadow, and the one before waits for a
roll-back. Changing a slot is one assignment between two batches: a batch is scored by one model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fraud.drift import Drift
from fraud.model import Model, ModelError, Scored, load_model
from node.ledger.fraud_costs import Costs
from node.ledger.statuses import FraudDecision

_log = logging.getLogger("kibubu.fraud")


class Slots:
    def __init__(self, champion: Model) -> None:
        self.champion = champion
        self.challenger: Model | None = None
        self.previous: Model | None = None
        self.drift = Drift(champion.card["drift"])

    def promote(self, folder: Path) -> Model:
        """Into use. Raises ModelError, and then nothing has changed."""
        model = load_model(folder)
        model.calibrate()
        self._use(model)
        return model

    def challenge(self, folder: Path) -> Model:
        """Into the shadow. Raises ModelError, and then nothing has changed."""
        model = load_model(folder)
        model.calibrate()
        self.challenger = model
        return model

    def roll_back(self) -> Model:
        """Raises ModelError when no other model was in use before."""
        if self.previous is None:
            raise ModelError("there is no model to roll back to")
        self._use(self.previous)
        return self.champion

    def _use(self, model: Model) -> None:
        self.champion, self.previous = model, self.champion
        self.drift = Drift(model.card["drift"])
        if self.challenger is not None and self.challenger.sha256 == model.sha256:
            self.challenger = None

    def score(self, rows: npt.NDArray[np.float32], costs: Costs | None = None) -> tuple[Scored, Scored | None]:
        """What counts, and what the challenger would have said; a challenger that fails is dropped."""
        scored = self.champion.score(rows, costs)
        self.drift.note(rows, scored.probabilities)
        if self.challenger is None:
            return scored, None
        try:
            return scored, self.challenger.score(rows, costs)
        except Exception:  # whatever it is, nobody's payment waits for a shadow
            _log.exception("challenger %s failed and is dropped", self.challenger.sha256[:8])
            self.challenger = None
            return scored, None


def disagreements(scored: Scored, shadow: Scored) -> dict[str, int]:
    """How often the challenger would have decided otherwise: more strictly, or less."""
    champion_alerts = scored.decisions != FraudDecision.ALLOW
    shadow_alerts = shadow.decisions != FraudDecision.ALLOW
    return {
        "agrees": int(np.count_nonzero(champion_alerts == shadow_alerts)),
        "stricter": int(np.count_nonzero(shadow_alerts & ~champion_alerts)),
        "milder": int(np.count_nonzero(champion_alerts & ~shadow_alerts)),
    }
