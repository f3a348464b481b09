"""Pending transfers whose time is up end by the log's clock: the leader proposes an entry that has only a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from node.consensus.contract import Consensus, ProposalOutcome
from node.ledger.entry import encode_entry

POLL_S = 0.1


class Expiry:
    """`next_expiry_ns` 0 = nothing waits. One entry is under way at a time; a lost one is proposed again."""

    def __init__(
        self, consensus: Consensus, next_expiry_ns: Callable[[], int], time_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._consensus = consensus
        self._next_expiry_ns = next_expiry_ns
        self._time_ns = time_ns
        self._under_way = False

    async def run(self) -> None:
        while True:
            self.propose_if_due()
            await asyncio.sleep(POLL_S)

    def propose_if_due(self) -> bool:
        due_ns, now_ns = self._next_expiry_ns(), self._time_ns()
        if not due_ns or due_ns > now_ns or self._under_way or not self._consensus.status().ready:
            return False
        self._under_way = True
        self._consensus.propose(encode_entry(now_ns), self._finished)
        return True

    def _finished(self, _: ProposalOutcome) -> None:
        self._under_way = False
