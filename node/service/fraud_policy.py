"""What is decided when the sidecar does not answer in time: small amounts pass on rules alone, larger ones are held."""

from __future__ import annotations

from node.ledger.statuses import FraudDecision


def decision_without_score(amount_minor: int, allow_max_minor: int) -> FraudDecision:
    return FraudDecision.ALLOW_UNSCORED if amount_minor <= allow_max_minor else FraudDecision.HOLD_UNSCORED
