"""Applied batches as events of the change feed. An event's offset follows from its batch alone, so it is the same on
every node: payments first, then transfers, then the reservations that ended there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from kibubu.feed.v1 import feed_pb2
from kibubu.payments.v1 import payments_pb2

from node.ledger.currencies import BY_NUMBER
from node.ledger.history import AppliedBatch
from node.ledger.records import OutcomeFlag, TransferFlag, reference_of
from node.ledger.statuses import PaymentStatus
from node.payments.kinds import KINDS
from node.service.codec import stored_message
from node.service.limits import EXPORT_PAGE_BYTES_MAX, FEED_EVENTS_IN_PAGE_MAX
from node.service.payment_book import PaymentBook
from node.storage.batch_codec import OpenBatch, open_batch
from node.storage.ledger_store import LedgerStore, StoredPayment, StoredTransfer
from node.storage.replies import stored_payment, stored_transfer

_NOT_APPLIED = 0xFFFF | int(OutcomeFlag.DUPLICATE) << 16  # in an outcome's first word: a status, or said before
_ENDS = int(TransferFlag.POST | TransferFlag.VOID)


@dataclass(slots=True)
class Page:
    """What fits one message, and where the next begins."""

    position: int
    offset: int
    events: list[feed_pb2.Event] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.events) >= FEED_EVENTS_IN_PAGE_MAX


@dataclass(frozen=True, slots=True)
class _Ended:
    """A reservation that was posted, voided, or whose time was up (offset of the transfer -1)."""

    pending: int  # its reference
    offset: int
    state: feed_pb2.PaymentState.ValueType


class FeedReader:
    """Holds nothing between pages; `read` runs in any thread."""

    def __init__(self, store: LedgerStore, book: PaymentBook) -> None:
        self._store = store
        self._book = book

    def read(self, position: int, offset: int, last: int, *, payments: bool, transfers: bool) -> Page:
        """From event `offset` of `position` up to the end of `last`, as far as a page goes."""
        page = Page(position, offset)
        for batch in self._store.export(position, last, EXPORT_PAGE_BYTES_MAX):
            if batch.entry:
                opened = open_batch(batch)
                if payments:
                    self._add(page, self._payments(opened, page.offset))
                if transfers and not page.is_full:
                    self._add(page, self._transfers(opened, page.offset))
                if payments and not page.is_full:
                    self._add(page, self._endings(opened, page.offset))
            if page.is_full:
                break  # the batch may hold more; if not, the next page goes on behind it
            page.position, page.offset = batch.position + 1, 0
        return page

    @staticmethod
    def _add(page: Page, events: Iterator[feed_pb2.Event]) -> None:
        for event in events:
            page.events.append(event)
            page.offset = event.offset + 1
            if page.is_full:
                return

    def _payments(self, opened: OpenBatch, first: int) -> Iterator[feed_pb2.Event]:
        batch = opened.batch
        for offset in range(first, len(opened.entry.payments)):
            stored = stored_payment(opened, offset)
            number = int(stored.record["id_hi"]) << 64 | int(stored.record["id_lo"])
            event = self._payment(stored)
            if self._store.payment_reference(number) != reference_of(batch.position, offset):
                event.outcome.duplicate = True
            event.state = _state_of(event.outcome, stored)
            event.payer_available_minor = event.outcome.payer_available_minor
            self._add_payee_balances(event, stored)
            yield _event(batch, offset, payment=event)

    @staticmethod
    def _add_payee_balances(event: feed_pb2.PaymentEvent, stored: StoredPayment) -> None:
        """After the last leg that the payee is a party of: it may have paid a part of the charge."""
        for leg in reversed(range(len(stored.legs))):
            for side in ("debit", "credit"):
                if int(stored.transfers[f"{side}_account"][leg]) == event.payee_account:
                    event.payee_balance_minor = int(stored.legs[f"{side}_balance_minor"][leg])
                    event.payee_available_minor = int(stored.legs[f"{side}_available_minor"][leg])
                    return

    def _transfers(self, opened: OpenBatch, first: int) -> Iterator[feed_pb2.Event]:
        base = len(opened.entry.payments)
        for offset in range(max(first - base, 0), len(opened.batch.outcomes)):
            stored = stored_transfer(opened, offset)
            if not int(stored.outcome["flags"]) & OutcomeFlag.DUPLICATE:
                stored = self._store.filled(stored)
            yield _event(opened.batch, base + offset, transfer=stored_message(stored))

    def _endings(self, opened: OpenBatch, first: int) -> Iterator[feed_pb2.Event]:
        """Of what was only reserved, once for each payment: by its first leg."""
        base = len(opened.entry.payments) + len(opened.batch.outcomes)
        for number, ended in enumerate(_ended_in(opened)):
            if base + number < first:
                continue
            pending = self._store.transfer_at(ended.pending)
            stored = self._held_payment(pending)
            if stored is None:
                continue
            event = self._payment(stored)
            event.state = ended.state
            if ended.offset >= 0:
                self._add_balances(event, opened, ended)
            yield _event(opened.batch, base + number, payment=event)

    def _held_payment(self, pending: StoredTransfer) -> StoredPayment | None:
        """Whose first leg this is; None = another leg, or no payment's."""
        record = pending.record
        number = int(record["group_id_hi"]) << 64 | int(record["group_id_lo"])
        stored = self._store.lookup_payment(number) if number else None
        if stored is None or stored.position != pending.position:
            return None
        return stored if int(stored.record["first_transfer"]) == pending.offset else None

    def _add_balances(self, event: feed_pb2.PaymentEvent, opened: OpenBatch, ended: _Ended) -> None:
        """After the last leg, of the chain that ended it, that each is a party of."""
        transfers, at = opened.entry.transfers, ended.offset
        while at < len(transfers):
            leg = self._store.filled(stored_transfer(opened, at))
            for side in ("debit", "credit"):
                account, available = int(leg.record[f"{side}_account"]), int(leg.outcome[f"{side}_available_minor"])
                if account == event.payer_account:
                    event.payer_available_minor = available
                if account == event.payee_account:
                    event.payee_balance_minor = int(leg.outcome[f"{side}_balance_minor"])
                    event.payee_available_minor = available
            if not int(transfers["flags"][at]) & TransferFlag.LINKED:
                return
            at += 1

    def _payment(self, stored: StoredPayment) -> feed_pb2.PaymentEvent:
        found = self._book.described(stored)
        payer, payee = int(stored.record["payer_account"]), int(stored.record["payee_account"])
        terms = KINDS.get(int(stored.record["kind"]))
        if terms is not None and terms.ends_abroad and len(stored.transfers):
            payee = int(
                stored.transfers["credit_account"][-1]
            )  # the record names the account where it left the country
            found.outcome.payee_name = self._book.name_of(payee)
        got = stored.transfers[stored.transfers["credit_account"] == payee]
        return feed_pb2.PaymentEvent(
            payment=found.payment,
            outcome=found.outcome,
            payer_account=payer,
            payee_account=payee,
            payer_name=self._book.name_of(payer),
            payer_language=self._book.language_of(payer),
            payee_msisdn=self._book.parties.handle_of(payee, "msisdn"),
            payee_language=self._book.language_of(payee),
            payee_amount_minor=int(got["amount_minor"].sum()),
            payee_currency=BY_NUMBER[int(got["ledger"][0])].letters if len(got) else "",
        )


def _state_of(outcome: payments_pb2.Outcome, stored: StoredPayment) -> feed_pb2.PaymentState.ValueType:
    if outcome.status == PaymentStatus.OK:
        only_ends = len(stored.transfers) > 0 and bool(np.all(stored.transfers["flags"] & _ENDS))
        return feed_pb2.PAYMENT_STATE_DECIDED if only_ends else feed_pb2.PAYMENT_STATE_DONE
    return feed_pb2.PAYMENT_STATE_REFUSED if outcome.gsma_code else feed_pb2.PAYMENT_STATE_HELD


def _ended_in(opened: OpenBatch) -> Iterator[_Ended]:
    flags, outcomes = opened.entry.transfers["flags"], opened.batch.outcomes
    for offset in np.flatnonzero((flags & _ENDS != 0) & (outcomes[:, 0] & _NOT_APPLIED == 0)).tolist():
        posted = int(flags[offset]) & TransferFlag.POST
        state = feed_pb2.PAYMENT_STATE_RELEASED if posted else feed_pb2.PAYMENT_STATE_CANCELLED
        yield _Ended(int(outcomes[offset, 7]), offset, state)
    for reference in opened.batch.expired:
        yield _Ended(reference, -1, feed_pb2.PAYMENT_STATE_EXPIRED)


def _event(
    batch: AppliedBatch, offset: int, *, payment: feed_pb2.PaymentEvent | None = None, transfer: object = None
) -> feed_pb2.Event:
    return feed_pb2.Event(
        position=batch.position,
        offset=offset,
        timestamp_ns=batch.timestamp_ns,
        payment=payment,
        transfer=transfer,  # type: ignore[arg-type]
    )
