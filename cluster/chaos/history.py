"""What was sent and what was answered, as it happens: the only thing that traffic and validation share.

All clients live in one process, so one monotonic clock times everything. What was not answered stays open for ever: it
may take effect at any later time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from kibubu.ledger.v1 import ledger_pb2

from cluster.chaos.checker import NEVER_NS, OPERATION, READ, Outcome
from cluster.chaos.checker.records import CONTENT, RESULT, Records
from kibubu_client.records import DUPLICATE

OPERATIONS_MAX = 20_000_000  # some 2.6 GB: more than a day of ordinary chaos


class HistoryFullError(Exception):
    """The run is too long to be checked as one history."""


class History:
    """Traffic appends from its event loop; the run reads counts from other threads."""

    def __init__(self) -> None:
        self._batches: list[Records] = []
        self._reads: list[tuple[int, ...]] = []
        self._lock = threading.Lock()
        self.count = 0

    def begin(self, batch: Records) -> Records:
        """Notes an attempt before it is sent; the rows are to be given back with its answer."""
        rows = operations_of(batch)
        rows["invoked_ns"] = time.monotonic_ns()
        rows["outcome"], rows["completed_ns"] = Outcome.UNKNOWN, NEVER_NS
        with self._lock:
            if self.count + len(rows) > OPERATIONS_MAX:
                raise HistoryFullError(f"a history has at most {OPERATIONS_MAX:,} operations")
            self._batches.append(rows)
            self.count += len(rows)
        return rows

    def acknowledged(self, rows: Records, replies: Records) -> None:
        for name in RESULT:
            rows[name] = replies[name]
        rows["term"], rows["repeated"] = replies["term"], replies["flags"] & DUPLICATE
        rows["completed_ns"] = time.monotonic_ns()
        rows["outcome"] = Outcome.ACKNOWLEDGED

    def surely_not(self, rows: Records) -> None:
        rows["completed_ns"] = time.monotonic_ns()
        rows["outcome"] = Outcome.NOT_APPLIED

    def read(self, invoked_ns: int, answer: ledger_pb2.LookupAccountsResponse) -> None:
        completed_ns = time.monotonic_ns()
        for account in answer.accounts:
            self._reads.append(
                (
                    account.account_number,
                    answer.as_of_position,
                    account.balance_minor,
                    account.available_minor,
                    account.last_position,
                    answer.term,
                    invoked_ns,
                    completed_ns,
                )
            )

    def operations(self) -> Records:
        with self._lock:
            return np.concatenate(self._batches) if self._batches else np.zeros(0, OPERATION)

    def reads(self) -> Records:
        return np.array(self._reads, READ)


def operations_of(batch: Records) -> Records:
    """Attempts to make these packed transfers, not yet answered."""
    rows = np.zeros(len(batch), OPERATION)
    for name in ("id_hi", "id_lo", *CONTENT):
        rows[name] = batch[name]
    return rows


def numbers_of(records: Records) -> list[int]:
    """The ids as 128-bit numbers."""
    columns: Sequence[Any] = (records["id_hi"].tolist(), records["id_lo"].tolist())
    return [high << 64 | low for high, low in zip(*columns, strict=True)]
