"""What was scored, or is being scored, and is not applied yet: payments and raw transfers alike, as the next scores
must see it. Runs on the service's event loop alone."""

from __future__ import annotations

import itertools

import numpy as np

from node.ledger.overlay import FIELDS, Payments

_NONE: Payments = np.zeros((0, FIELDS), dtype=np.int64)


class InFlight:
    def __init__(self) -> None:
        self._parts: dict[int, Payments] = {}
        self._keys = itertools.count(1)

    def add(self, payments: Payments) -> int:
        """The key to remove it by, once it is applied or surely lost."""
        key = next(self._keys)
        self._parts[key] = payments
        return key

    def remove(self, key: int) -> None:
        del self._parts[key]

    def rows(self) -> Payments:
        """int64 (n, FIELDS), in the order of their scoring; a copy, or nothing."""
        return np.concatenate([*self._parts.values()]) if self._parts else _NONE
