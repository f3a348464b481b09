"""Batches of packed transfers, built column by column for the load generators."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from kibubu_client.records import TRANSFER, Records

_MILLISECONDS_SHIFT = 16  # high word of a ULID: 48 bits of milliseconds, then 16 of its 80 other bits


class IdSource:
    """Unique, time-ordered ids of one generator: clock, its mark, then a counter that never repeats."""

    def __init__(self) -> None:
        self._mark = secrets.randbits(16)
        self._low = secrets.randbits(31) << 32  # room for four thousand million ids behind it
        self._lock = threading.Lock()

    def take(self, count: int) -> tuple[int, npt.NDArray[np.uint64]]:
        """(high word, low words) of the next `count` ids."""
        with self._lock:
            low = self._low
            self._low += count
        high = (time.time_ns() // 1_000_000) << _MILLISECONDS_SHIFT | self._mark
        return high, np.arange(low, low + count, dtype=np.uint64)


def fresh_batch(
    template: Records, ids: IdSource, debit: npt.NDArray[np.uint64], credit: npt.NDArray[np.uint64]
) -> Records:
    """A copy of the template with new ids and these accounts."""
    batch = template.copy()
    high, low = ids.take(len(batch))
    batch["id_hi"] = high
    batch["id_lo"] = low
    batch["debit_account"] = debit
    batch["credit_account"] = credit
    return batch


def template(count: int, *, amount_minor: int, ledger: int, code: int) -> Records:
    records = np.zeros(count, dtype=TRANSFER)
    records["amount_minor"] = amount_minor
    records["ledger"] = ledger
    records["code"] = code
    return records


def id_bytes(record: Any) -> bytes:
    """The id of one record as the friendly calls want it: 16 bytes, big-endian."""
    return (int(record["id_hi"]) << 64 | int(record["id_lo"])).to_bytes(16, "big")
