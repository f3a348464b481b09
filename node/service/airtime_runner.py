"""Purchases of airtime that wait for their provider: the leader asks, and posts or voids what each has reserved.

Nothing but the pending transfers says what waits, so a leader that takes over goes on where the last one was. The
provider may then be asked once more for what it has done already, and answers the same, by the payment's id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from node.consensus.contract import Consensus
from node.ledger.records import TransferFlag
from node.ledger.statuses import PaymentStatus, TransferCode
from node.service.admission import Admission
from node.service.airtime import AirtimeProvider, Purchase, TopUp
from node.service.errors import ServiceError
from node.service.payment_book import PaymentBook
from node.service.payment_past import id_of
from node.service.payment_reversals import pack_end
from node.storage.ledger_store import LedgerStore, StoredPayment

_log = logging.getLogger("kibubu.service")
POLL_S = 0.2
CALLS_AT_ONCE_MAX = 16
ANSWER_S = 5.0  # then it is unknown
PAUSE_S_MIN, PAUSE_S_MAX = 1.0, 60.0  # between two times that the same purchase is asked for
_END = {TopUp.DONE: TransferFlag.POST, TopUp.REFUSED: TransferFlag.VOID}


@dataclass(slots=True)
class _Waiting:
    stored: StoredPayment | None  # None = not ours: an analyst decides, or somebody reserved it by hand
    due_at: float = 0.0
    pause_s: float = PAUSE_S_MIN


class AirtimeRunner:
    def __init__(
        self,
        consensus: Consensus,
        store: LedgerStore,
        book: PaymentBook,
        admission: Admission,
        provider: AirtimeProvider,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consensus = consensus
        self._store = store
        self._book = book
        self._admission = admission
        self._provider = provider
        self._monotonic = monotonic
        self._waiting: dict[int, _Waiting] = {}  # by the reference of the first leg

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(POLL_S)

    async def look(self) -> int:
        """Ask for what is due; how many ended."""
        if not self._consensus.status().ready:
            self._waiting.clear()
            return 0
        references = self._store.waiting_references((TransferCode.AIRTIME,))
        still = set(references)
        self._waiting = {reference: one for reference, one in self._waiting.items() if reference in still}
        due: list[tuple[_Waiting, StoredPayment]] = []
        for reference in references:
            one = self._waiting.get(reference)
            if one is None and len(due) < CALLS_AT_ONCE_MAX:
                one = self._waiting[reference] = self._found(reference)
            if one is not None and one.stored is not None and self._monotonic() >= one.due_at:
                due.append((one, one.stored))
        return sum(await asyncio.gather(*(self._settle(one, stored) for one, stored in due[:CALLS_AT_ONCE_MAX])))

    def _found(self, reference: int) -> _Waiting:
        record = self._store.transfer_at(reference).record
        stored = self._book.past.payment(int(record["group_id_hi"]) << 64 | int(record["group_id_lo"]))
        is_ours = stored is not None and int(stored.record["status"]) == PaymentStatus.PROVIDER_HAS_NOT_ANSWERED
        return _Waiting(stored if is_ours else None)

    async def _settle(self, one: _Waiting, stored: StoredPayment) -> int:
        answer = await self._ask(stored)
        end = _END.get(answer)
        if end is None:
            one.due_at = self._monotonic() + one.pause_s
            one.pause_s = min(2 * one.pause_s, PAUSE_S_MAX)
            return 0
        try:
            narrative = b"provider:" + answer.name.lower().encode()
            packed = pack_end(stored, narrative, end, TransferCode.PROVIDER_END)
            applied = await self._admission.submit(transfers=packed)
        except ServiceError as error:
            _log.warning("a purchase of airtime waits on: %s", type(error).__name__)
            return 0
        if int(applied.replies["status"][0]):
            _log.error("airtime: payment %032x was %s, and its reservation had ended", id_of(stored), answer.name)
            one.stored = None
        return 1

    async def _ask(self, stored: StoredPayment) -> TopUp:
        request = self._book.described(stored).payment
        purchase = Purchase(request.payment_id, request.payee, request.amount_minor, request.currency)
        try:
            return await asyncio.wait_for(self._provider.top_up(purchase), ANSWER_S)
        except Exception as error:
            _log.warning("the airtime provider did not answer: %s", type(error).__name__)
            return TopUp.UNKNOWN
