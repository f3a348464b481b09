"""What to do with a payment, given how likely it is fraud: whichever costs least on average.

Pure, and never part of apply. A payment that goes through loses its amount when it is fraud; one that is held costs an
analyst's minutes and an honest customer's patience; one that is refused costs that customer's trust.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger.statuses import FraudDecision


@dataclass(frozen=True, slots=True)
class Costs:
    """In minor units, and shares of the amount."""

    loss_share: float = 0.9  # of a stolen amount that is never seen again
    wrong_hold_minor: float = 20_000.0
    wrong_refusal_minor: float = 80_000.0
    hold_leaks_share: float = 0.05  # of the frauds that an analyst lets go
    alert_from: float = 0.05  # below this probability nothing is held, however large


class CostsError(ValueError):
    """The message names the cost and the rule."""


def costs_from(table: Any) -> Costs:
    """Raises CostsError."""
    defaults = asdict(Costs())
    if not isinstance(table, dict):
        raise CostsError("costs: must be a table")
    unknown = set(table) - set(defaults)
    if unknown:
        raise CostsError(f"costs.{min(unknown)}: unknown; there are {', '.join(defaults)}")
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise CostsError(f"costs.{name}: must be a number from 0, is {value!r}")
        if name in ("loss_share", "hold_leaks_share", "alert_from") and value > 1:
            raise CostsError(f"costs.{name}: must be at most 1, is {value!r}")
    return Costs(**(defaults | table))


def decisions(
    probabilities: npt.NDArray[np.floating[Any]], amounts_minor: npt.NDArray[Any], costs: Costs
) -> npt.NDArray[np.uint8]:
    """FraudDecision a row: ALLOW, HOLD or REFUSE."""
    p = probabilities.astype(np.float64)
    lost = p * costs.loss_share * amounts_minor
    held = lost * costs.hold_leaks_share + (1.0 - p) * costs.wrong_hold_minor
    refused = (1.0 - p) * costs.wrong_refusal_minor
    decided = np.full(len(p), FraudDecision.ALLOW, dtype=np.uint8)
    alerts = (p >= costs.alert_from) & (np.minimum(held, refused) < lost)
    decided[alerts] = np.where(refused < held, FraudDecision.REFUSE, FraudDecision.HOLD)[alerts]
    return decided


def hold_probability(amount_minor: float, costs: Costs) -> float:
    """The probability from which a payment of this amount is held: for people who read cards and settings."""
    saved = costs.loss_share * (1.0 - costs.hold_leaks_share) * amount_minor
    return max(costs.alert_from, costs.wrong_hold_minor / (costs.wrong_hold_minor + saved))
