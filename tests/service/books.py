"""A leader with all its books over real gRPC and mutual TLS, on a log that a test writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from kibubu.bulk.v1 import bulk_pb2_grpc
from kibubu.feed.v1 import feed_pb2_grpc
from kibubu.ledger.v1 import ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from prometheus_client import CollectorRegistry

from kibubu_client import Client, TlsFiles
from node.consensus.contract import LogEntry
from node.payments.tariffs import load_tariffs
from node.service.admission import Admission
from node.service.applied import AppliedSignal
from node.service.auth import RoleChecks, server_options
from node.service.bulk_book import BulkBook
from node.service.bulk_servicer import BulkServicer
from node.service.feed_events import FeedReader
from node.service.feed_servicer import FeedServicer
from node.service.guard import Guard
from node.service.ledger_servicer import LedgerServicer
from node.service.metrics import NodeMetrics
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payments_servicer import PaymentsServicer
from node.service.reads import ReadBarrier
from node.service.tls import load_server_credentials
from node.service.transfer_desk import ScoringPolicy, TransferDesk
from node.storage.ledger_store import EntryResult
from node.warm_up import warm_up
from tests.consensus.certs import Authority
from tests.service.one_node import PIN, PIN_KEY, START_NS, OneNode


class Telling(OneNode):
    """Says when something was applied, as the engine does."""

    signal: AppliedSignal | None = None

    def write(self, data: bytes) -> EntryResult:
        result = self.store.apply([LogEntry(self.store.applied_position + 1, 1, data)])[0]
        if self.signal is not None:
            self.signal.notify()
        return result


class Books:
    def __init__(self, folder: Path, authority: Authority) -> None:
        self.node = node = Telling(folder)
        self.people = node.people()
        self.now_ns = START_NS
        self.authority = authority
        metrics = NodeMetrics(CollectorRegistry())
        self.book = PaymentBook(node.store, load_tariffs(), PIN_KEY, lambda: self.now_ns)
        admission = Admission(node, metrics, leader_address=lambda: "", time_ns=lambda: self.now_ns)
        self.desk = PaymentDesk(
            self.book, admission, None, metrics, unscored_allow_max_minor=10**9, time_ns=lambda: self.now_ns
        )
        transfers = TransferDesk(node.store, admission, None, metrics, ScoringPolicy())
        guard, barrier = Guard(node, metrics, lambda: ""), ReadBarrier(node, lambda: "")
        node.signal = AppliedSignal(lambda: node.store.applied_position)
        self.feed = FeedServicer(node.store, FeedReader(node.store, self.book), node.signal, node, guard)
        self.server = grpc.aio.server(options=server_options())
        checked: Any = RoleChecks(self.server)
        feed_pb2_grpc.add_FeedServiceServicer_to_server(self.feed, checked)
        payments_pb2_grpc.add_PaymentsServiceServicer_to_server(
            PaymentsServicer(self.book, self.desk, barrier, guard, admission, PIN_KEY), checked
        )
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(
            LedgerServicer(node.store, admission, barrier, guard, PIN_KEY, transfers), checked
        )
        bulk_pb2_grpc.add_BulkServiceServicer_to_server(
            BulkServicer(BulkBook(node.store, self.book), self.book, self.desk, admission, barrier, guard), checked
        )
        own = authority.issue("node", "n1")
        credentials = load_server_credentials(own.ca, own.cert, own.key)
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"

    def client(self, role: str = "operator", *, also: str = "") -> Client:
        tls = self.authority.issue(role, "x")
        addresses = [self.address, *([also] if also else [])]
        return Client(addresses, TlsFiles(tls.ca, tls.cert, tls.key), deadline_s=5)

    @asynccontextmanager
    async def stub(self, kind: Any, name: str, role: str = "operator") -> AsyncIterator[Any]:
        tls = self.authority.issue(role, name)
        credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
        options = (("grpc.ssl_target_name_override", "kibubu"),)
        async with grpc.aio.secure_channel(self.address, credentials, options=options) as channel:
            yield kind(channel)

    async def pay(self, number: int, **changes: Any) -> payments_pb2.Outcome:
        fields = {
            "kind": payments_pb2.PAYMENT_KIND_SEND_MONEY, "payer_msisdn": "254712000001", "payee": "0712000002",
            "amount_minor": 50_000, "currency": "KES",
        }  # fmt: skip
        return await self.decide(number, payments_pb2.Payment(**(fields | changes)))

    async def decide(self, number: int, payment: payments_pb2.Payment, *, secret: str = "") -> payments_pb2.Outcome:
        draft = self.book.draft(number, payment, secret)
        assert not isinstance(draft, int), draft
        return await self.desk.decide(draft, PIN)


_compiled = cache(warm_up)  # so that no payment of a test waits for a compiler until its outcome is unknown


@asynccontextmanager
async def open_books(folder: Path) -> AsyncIterator[Books]:
    _compiled()
    made = Books(folder / "ledger", Authority(folder))
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.stop(None)
        made.node.store.close()
