"""Who sells airtime. `instant`: the operator itself, a purchase is done when its money has moved. Any other provider is
asked afterwards, by the payment's id and as often as needed: the money is reserved meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class TopUp(IntEnum):
    DONE = 1
    REFUSED = 2
    UNKNOWN = 3  # no answer, or one that does not say: ask again with the same id


@dataclass(frozen=True, slots=True)
class Purchase:
    payment_id: bytes  # 16 bytes; the provider's idempotency key
    msisdn: str
    amount_minor: int
    currency: str


class AirtimeProvider(Protocol):
    async def top_up(self, purchase: Purchase) -> TopUp:
        """The same payment id is topped up once, however often it is asked for. Any exception counts as UNKNOWN."""
        ...


class SimulatedProvider:
    """For development. Numbers that end in 8 are refused; those that end in 9 get no answer the first two times, though
    they are topped up by then; all others are topped up at once."""

    def __init__(self) -> None:
        self.topped_up: dict[bytes, int] = {}  # payment id -> minor units
        self._asked: dict[bytes, int] = {}

    async def top_up(self, purchase: Purchase) -> TopUp:
        await asyncio.sleep(0)
        if purchase.msisdn.endswith("8"):
            return TopUp.REFUSED
        self.topped_up.setdefault(purchase.payment_id, purchase.amount_minor)
        asked = self._asked[purchase.payment_id] = self._asked.get(purchase.payment_id, 0) + 1
        return TopUp.UNKNOWN if purchase.msisdn.endswith("9") and asked <= 2 else TopUp.DONE


PROVIDERS: dict[str, type[SimulatedProvider] | None] = {"instant": None, "simulated": SimulatedProvider}
"""By the name that the configuration gives."""
