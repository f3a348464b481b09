"""A leader's payment service over one node's ledger, without gRPC."""

from __future__ import annotations

from typing import Any

from kibubu.payments.v1 import payments_pb2
from prometheus_client import CollectorRegistry

from node.ledger.columns import Column
from node.ledger.statuses import PaymentStatus
from node.payments.tariffs import load_tariffs
from node.service.admission import Admission
from node.service.metrics import NodeMetrics
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payment_outcomes import refusal
from tests.service.one_node import PIN, PIN_KEY, START_NS, OneNode

SENT = {
    "kind": payments_pb2.PAYMENT_KIND_SEND_MONEY, "payer_msisdn": "254712000001", "payee": "0712000002",
    "amount_minor": 50_000, "currency": "KES",
}  # fmt: skip


class Leader:
    def __init__(self, node: OneNode, *, airtime_waits: bool = False) -> None:
        self.metrics = NodeMetrics(CollectorRegistry())
        self.now_ns = START_NS
        self.book = PaymentBook(node.store, load_tariffs(), PIN_KEY, lambda: self.now_ns, airtime_waits=airtime_waits)
        self.admission = Admission(node, self.metrics, leader_address=lambda: "", time_ns=lambda: self.now_ns)
        self.desk = PaymentDesk(
            self.book, self.admission, None, self.metrics, unscored_allow_max_minor=100_000,
            time_ns=lambda: self.now_ns,
        )  # fmt: skip

    async def pay(self, number: int, *, pin: str = PIN, secret: str = "", **changes: Any) -> payments_pb2.Outcome:
        """A payment of SENT with `changes`."""
        draft = self.book.draft(number, payments_pb2.Payment(**(SENT | changes)), secret)
        return refusal(draft) if isinstance(draft, PaymentStatus) else await self.desk.decide(draft, pin)

    def quote(self, **changes: Any) -> payments_pb2.QuotePaymentResponse:
        return self.book.quote(payments_pb2.Payment(**(SENT | changes)))


def available_minor(node: OneNode, number: int) -> int:
    row = node.store.columns[number]
    return int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED] - row[Column.DEBITS_PENDING])
