"""What is decided when the sidecar does not answer in time: small amounts pass on rules alone, larger ones are held."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from node.ledger.history import Int64s
from node.ledger.statuses import FraudDecision


def decision_without_score(amount_minor: int, allow_max_minor: int) -> FraudDecision:
    return FraudDecision.ALLOW_UNSCORED if amount_minor <= allow_max_minor else FraudDecision.HOLD_UNSCORED


def decisions_without_score(amounts_minor: Int64s, allow_max_minor: int) -> npt.NDArray[np.uint8]:
    """The same of many, (n,)."""
    allow, hold = int(FraudDecision.ALLOW_UNSCORED), int(FraudDecision.HOLD_UNSCORED)
    return np.where(amounts_minor <= allow_max_minor, allow, hold).astype(np.uint8)
