"""Vouchers whose number has got an account go there by themselves: the leader looks after each change of profiles."""

from __future__ import annotations

import asyncio
import logging

from node.consensus.contract import Consensus
from node.ledger.statuses import TransferCode
from node.service.errors import ServiceError
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.storage.ledger_store import LedgerStore

_log = logging.getLogger("kibubu.service")
POLL_S = 1.0
LOOKED_AT_ONCE_MAX = 200  # vouchers that are read from disk in one look; the next look goes on
NUMBERS_REMEMBERED_MAX = 100_000


class VoucherPayer:
    def __init__(self, consensus: Consensus, store: LedgerStore, book: PaymentBook, desk: PaymentDesk) -> None:
        self._consensus = consensus
        self._store = store
        self._book = book
        self._desk = desk
        self._numbers: dict[int, tuple[int, int, str]] = {}  # reference -> (voucher id, ledger, number)
        self._looked_at = (-1, -1)  # versions of profiles and position of the last complete look

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(POLL_S)

    async def look(self) -> int:
        """Pay what can be paid; how many were."""
        if not self._consensus.status().ready:
            self._looked_at = (-1, -1)  # the next time it leads it looks at everything
            return 0
        at = (self._store.profiles_version, self._store.applied_position)
        if at[0] == self._looked_at[0]:
            return 0
        references = self._store.waiting_references((TransferCode.VOUCHER,))
        unknown = [reference for reference in references if reference not in self._numbers]
        for reference in unknown[:LOOKED_AT_ONCE_MAX]:
            self._remember(reference)
        paid = 0
        for reference in references:
            if reference in self._numbers:
                paid += await self._pay(reference)
        if len(unknown) <= LOOKED_AT_ONCE_MAX:
            self._looked_at = at
        return paid

    def _remember(self, reference: int) -> None:
        if len(self._numbers) >= NUMBERS_REMEMBERED_MAX:
            self._numbers.clear()
        record = self._store.transfer_at(reference).record
        number = bytes(record["narrative"]).rstrip(b"\0").decode("ascii", "replace")
        voucher_id = int(record["group_id_hi"]) << 64 | int(record["group_id_lo"])
        self._numbers[reference] = voucher_id, int(record["ledger"]), number

    async def _pay(self, reference: int) -> int:
        voucher_id, ledger, number = self._numbers[reference]
        account = self._book.parties.account(ledger, "msisdn", number)
        voucher = self._book.past.payment(voucher_id) if account else None
        if voucher is None:
            return 0
        try:
            outcome = await self._desk.decide(self._book.vouchers.to_account(voucher, account), "")
        except ServiceError as error:
            _log.warning("a voucher waits on: %s", type(error).__name__)
            self._looked_at = (-1, -1)
            return 0
        return int(not outcome.gsma_code)
