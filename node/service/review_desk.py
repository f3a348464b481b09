"""Decides held payments: an analyst's opinion goes into the ledger first, and once as many different analysts agree as
the amount demands, the money moves or stays. Everything is asked again safely: opinions replace a known version only,
and the verdict's transfers have ids that follow from the payment's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.ledger.records import Records
from node.ledger.statuses import CommandStatus
from node.payments.plan import pack_chain_verdict, pack_verdict
from node.service.admission import Admission
from node.service.errors import InvalidRequestError, NotAppliedError
from node.service.fraud_thresholds import Thresholds
from node.service.review_opinions import (
    KIND as OPINIONS,
)
from node.service.review_opinions import (
    RELEASE,
    Opinion,
    TooManyOpinionsError,
    agreeing,
    command_for,
    key_of,
    opinions_in,
)
from node.storage.held_chains import HeldChain
from node.storage.ledger_store import LedgerStore, StoredPayment

RACES_MAX = 5  # others who spoke between reading and writing; then the caller asks again


@dataclass(frozen=True, slots=True)
class Decided:
    missing: int  # analysts who must still agree; 0 = `reply` says what became of the verdict
    reply: Records | None


class ReviewDesk:
    def __init__(self, store: LedgerStore, admission: Admission, thresholds: Callable[[], Thresholds]) -> None:
        self._store = store
        self._admission = admission
        self._thresholds = thresholds

    async def decide(
        self, stored: StoredPayment | HeldChain, payment_id: int, opinion: Opinion, *, waits: bool
    ) -> Decided:
        """`waits`: nothing has ended the payment yet. One that has ended gets no further opinion; its first verdict is
        told. Raises InvalidRequestError and what admission raises."""
        if waits:
            needed = self._thresholds().analysts_needed(_amount_minor(stored))
            opinions = await self._record(payment_id, opinion)
            missing = needed - agreeing(opinions, opinion.verdict)
            if missing > 0:
                return Decided(missing, None)
        analyst, release = opinion.analyst.encode(), opinion.verdict == RELEASE
        transfers = verdict_of(stored, payment_id, analyst, release=release)
        applied = await self._admission.submit(transfers=transfers)
        return Decided(0, applied.replies[0])

    async def _record(self, payment_id: int, opinion: Opinion) -> list[Opinion]:
        for _ in range(RACES_MAX):
            before = self._store.document(OPINIONS, key_of(payment_id))
            try:
                command = command_for(payment_id, before, opinion)
            except TooManyOpinionsError as error:
                raise InvalidRequestError(f"analyst: {error}") from error
            if command is None:
                return opinions_in(before)
            applied = await self._admission.submit(commands=[command])
            status = applied.commands[0].status
            if status in (CommandStatus.OK, CommandStatus.EXISTS):
                return opinions_in(self._store.document(OPINIONS, key_of(payment_id)))
            if status != CommandStatus.DOCUMENT_VERSION_DIFFERS:
                raise InvalidRequestError(f"comment: {CommandStatus(status).name.lower()}")
        raise NotAppliedError("others decide about this payment at the same moment; ask again")


def verdict_of(stored: StoredPayment | HeldChain, payment_id: int, analyst: bytes, *, release: bool) -> bytes:
    """The packed transfers that end it."""
    if isinstance(stored, HeldChain):
        return pack_chain_verdict(stored.ids, analyst, release=release)
    leg = stored.transfers[0]
    first_id = int(leg["id_hi"]) << 64 | int(leg["id_lo"])
    return pack_verdict(payment_id, len(stored.legs), analyst, release=release, first_id=first_id)


def _amount_minor(stored: StoredPayment | HeldChain) -> int:
    return stored.total_minor if isinstance(stored, HeldChain) else int(stored.record["amount_minor"])
