"""ConfigService over real gRPC and mutual TLS: what an operator puts is read back, and what is wrong is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.config.v1 import config_pb2, config_pb2_grpc
from prometheus_client import CollectorRegistry

from node.ledger.currencies import CURRENCIES
from node.payments.tariffs import SAMPLE_FOLDER, load_tariffs
from node.service.admission import Admission
from node.service.auth import RoleChecks, server_options
from node.service.config_servicer import ConfigServicer
from node.service.guard import Guard
from node.service.metrics import NodeMetrics
from node.service.reads import ReadBarrier
from node.service.tariff_book import TariffBook
from node.service.tls import load_server_credentials
from tests.consensus.certs import Authority
from tests.service.one_node import START_NS, OneNode

SAMPLE = (SAMPLE_FOLDER / "kenya-2023-07-29.toml").read_bytes()
KEY = "KES/2023-07-29"


class Served:
    def __init__(self, folder: Path) -> None:
        self.channels: list[grpc.aio.Channel] = []
        self.node = OneNode(folder / "ledger")
        self.authority = Authority(folder)
        tls, metrics = self.authority.issue("node", "n1"), NodeMetrics(CollectorRegistry())
        guard = Guard(self.node, metrics, lambda: "")
        admission = Admission(self.node, metrics, leader_address=lambda: "")
        self.book = TariffBook(self.node.store, load_tariffs())
        servicer = ConfigServicer(
            self.node.store, admission, ReadBarrier(self.node, lambda: ""), guard, self.book, lambda: START_NS
        )
        self.server = grpc.aio.server(options=server_options())
        config_pb2_grpc.add_ConfigServiceServicer_to_server(servicer, RoleChecks(self.server))
        self.port = self.server.add_secure_port("127.0.0.1:0", load_server_credentials(tls.ca, tls.cert, tls.key))

    def stub(self, role: str) -> Any:
        tls = self.authority.issue(role, "x")
        credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
        options = (("grpc.ssl_target_name_override", "kibubu"),)
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)
        self.channels.append(channel)
        return config_pb2_grpc.ConfigServiceStub(channel)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.server.start()
    yield made
    for channel in made.channels:
        await channel.close()
    await made.server.stop(None)
    made.node.store.close()


def put(request_id: int, **fields: Any) -> config_pb2.PutDocumentRequest:
    fields = {"kind": "tariff", "body": SAMPLE, "author": "Amina"} | fields
    return config_pb2.PutDocumentRequest(request_id=request_id.to_bytes(16, "big"), **fields)


async def test_put_get_and_list(served: Served) -> None:
    stub = served.stub("operator")
    first = await stub.PutDocument(put(1))
    assert (first.status_name, first.version, first.key) == ("ok", 1, KEY)
    assert (await stub.PutDocument(put(1))).status_name == "exists"
    assert (await stub.PutDocument(put(2, body=SAMPLE + b"\n", key=KEY))).version == 2
    late = await stub.PutDocument(put(3, replaces_version=1))
    assert (late.status_name, late.version) == ("document_version_differs", 2)
    now = (await stub.GetDocument(config_pb2.GetDocumentRequest(kind="tariff", key=KEY))).document
    assert (now.version, now.body, now.author, now.body_bytes) == (2, SAMPLE + b"\n", "Amina", len(SAMPLE) + 1)
    before = await stub.GetDocument(config_pb2.GetDocumentRequest(kind="tariff", key=KEY, version=1, stale_ok=True))
    assert (before.document.body, before.document.position) == (SAMPLE, first.position)
    for missing in ({"version": 3}, {"key": "none"}, {"kind": "none"}):
        request = config_pb2.GetDocumentRequest(**({"kind": "tariff", "key": KEY} | missing))  # type: ignore[arg-type]
        assert not (await stub.GetDocument(request)).found
    listed = await stub.ListDocuments(config_pb2.ListDocumentsRequest(kind="tariff"))
    assert [(one.key, one.version, one.body) for one in listed.documents] == [(KEY, 2, b"")]
    assert listed.next_page_token == ""


async def test_lists_are_paged(served: Served) -> None:
    stub = served.stub("operator")
    for number, currency in enumerate(("KES", "TZS", "UGX"), 1):
        body = SAMPLE.replace(b'"KES"', f'"{currency}"'.encode())
        body = body.replace(b"ledger = 404", b"ledger = %d" % CURRENCIES[currency].number)
        await stub.PutDocument(put(number, body=body))
    for number in range(4, 7):
        await stub.PutDocument(put(number, body=SAMPLE + b"\n" * number))

    async def pages(**fields: Any) -> list[list[str]]:
        found, token = [], ""
        while not found or token:
            request = config_pb2.ListDocumentsRequest(kind="tariff", page_size=2, page_token=token, **fields)
            response = await stub.ListDocuments(request)
            found.append([f"{one.key[:3]}{one.version}" for one in response.documents])
            token = response.next_page_token
        return found

    assert await pages() == [["KES4", "TZS1"], ["UGX1"]]
    assert await pages(key=KEY) == [["KES4", "KES3"], ["KES2", "KES1"], []]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"request_id": b"short"}, "request_id: must be 16 bytes, is 5"),
        ({"author": ""}, "author: 1 to 64 bytes"),
        ({"author": "é" * 33}, "author: 1 to 64 bytes"),
        ({"kind": "tarif"}, "kind: must be one of .*, is 'tarif'"),
        ({"body": bytes(65_537)}, "body: at most 65536 bytes, is 65537"),
        ({"body": b"currency ="}, "Invalid value"),
        ({"body": b"\xff"}, "utf-8"),
        ({"body": SAMPLE.replace(b"[101, 500, 7]", b"[102, 500, 7]")}, r"send_money.bands\[1\]: must begin at 101"),
        ({"key": "KES"}, "key: a tariff is filed under its currency and date, KES/2023-07-29, not KES"),
    ],
)
async def test_bad_documents_are_refused_and_nothing_is_written(
    served: Served, fields: dict[str, Any], reason: str
) -> None:
    request = put(1)
    for name, value in fields.items():
        setattr(request, name, value)
    with pytest.raises(grpc.aio.AioRpcError, match=reason) as refused:
        await served.stub("operator").PutDocument(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert served.node.proposed == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"page_size": 1_001}, "page_size"),
        ({"page_token": "a b"}, "page_token"),
        ({"page_token": "x", "key": "k"}, "page_token"),
    ],
)
async def test_bad_lists_are_refused(served: Served, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=reason):
        await served.stub("operator").ListDocuments(config_pb2.ListDocumentsRequest(kind="tariff", **fields))


# Tariffs

NEXT = SAMPLE.replace(b"2023-07-29", b"2027-01-01").replace(b"[101, 500, 7]", b"[101, 500, 8]")
IN_2027_NS = 1_798_800_000_000_000_000


def quote(**fields: Any) -> config_pb2.QuoteTariffRequest:
    return config_pb2.QuoteTariffRequest(**({"kind": "send_money", "currency": "KES", "amount_minor": 50_000} | fields))


async def test_a_tariff_that_was_put_prices_from_its_own_day_on(served: Served) -> None:
    stub = served.stub("operator")
    before = await stub.GetTariff(config_pb2.GetTariffRequest(currency="KES"))
    assert (before.source, before.tariff_version) == ("file of this installation", 20230729)
    await stub.PutDocument(put(1, body=NEXT))
    # From the first document on, the documents of a currency are all that counts in it.
    assert not (await stub.QuoteTariff(quote())).found
    await stub.PutDocument(put(2))
    now, then = await stub.QuoteTariff(quote()), await stub.QuoteTariff(quote(time_ns=IN_2027_NS))
    assert [(one.payer_fee_minor, one.payer_excise_minor, one.tariff_version) for one in (now, then)] == [
        (700, 91, 20230729), (800, 104, 20270101),
    ]  # fmt: skip
    await stub.PutDocument(put(3, body=SAMPLE.replace(b"[101, 500, 7]", b"[101, 500, 9]")))  # a correction of it
    assert (await stub.QuoteTariff(quote())).payer_fee_minor == 900
    shown = await stub.GetTariff(config_pb2.GetTariffRequest(currency="KES"))
    assert shown.source == f"document {KEY}, version 2 by Amina"
    send = next(table for table in shown.tables if table.kind == "send_money" and not table.is_commission)
    assert [(band.upto_minor, band.payer_fee_minor) for band in send.bands[:2]] == [(10_000, 0), (50_000, 900)]
    assert {table.kind for table in shown.tables if table.is_commission} >= {"cash_in", "cash_out"}


async def test_a_quote_says_who_bears_what(served: Served) -> None:
    stub = served.stub("operator")
    bill = await stub.QuoteTariff(quote(kind="pay_bill", amount_minor=200_000))
    assert (bill.payer_fee_minor, bill.payee_fee_minor) == (1_300, 700)
    assert (await stub.QuoteTariff(quote(kind="cash_out", amount_minor=200_000))).commission_minor == 1_500
    assert not (await stub.QuoteTariff(quote(amount_minor=25_000_001))).found
    assert not (await stub.QuoteTariff(quote(currency="UGX"))).found


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "gift"}, "kind: must be one of send_money"),
        ({"currency": "XYZ"}, "currency"),
        ({"time_ns": -1}, "time_ns"),
    ],
)
async def test_bad_quotes_are_refused(served: Served, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=reason):
        await served.stub("operator").QuoteTariff(quote(**fields))


TIERS = b"""[[tier]]
number = 1
name = "one"
currency = "KES"
utc_offset_minutes = 180
day = 1500
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", r"tier: there must be \[\[tier\]\] tables"),
        (TIERS.replace(b"number = 1", b"number = 64"), r"tier\[0\].number: must be a whole number from 1 to 63, is 64"),
        (TIERS + TIERS, r"tier\[1\].number: 1 is there twice"),
        (TIERS.replace(b"KES", b"XYZ"), r"tier\[0\].currency: must be one of"),
        (TIERS.replace(b"180", b"841"), r"tier\[0\].utc_offset_minutes: must be a whole number from -720 to 840"),
        (TIERS.replace(b"1500", b"0"), r"tier\[0\].day: must be more than 0, is 0; leave it out for no limit"),
        (TIERS.replace(b"1500", b"1.5"), r"tier\[0\].day: must be whole KES or a text"),
        (
            TIERS.replace(b"1500", b"43980465111.04".join((b'"', b'"'))),
            r"tier\[0\].day: at most 4398046511103 minor units",
        ),
        (TIERS + b"hour = 1", r"tier\[0\].hour: unknown; there are"),
        (
            TIERS + b"payment_minimum = 2\npayment_maximum = 1",
            r"tier\[0\].payment_minimum: is more than payment_maximum",
        ),
        (TIERS.replace(b'"one"', b'""'), r"tier\[0\].name: must be a text of 1 to 40 characters"),
        (TIERS.replace(b"number = 1", b"number = 2"), "tier: 1 is missing; accounts may have it"),
        (TIERS.replace(b"KES", b"UGX"), "tier: 1 must keep its currency"),
    ],
)
async def test_bad_tiers_are_refused_by_name(served: Served, body: bytes, reason: str) -> None:
    stub = served.stub("operator")
    assert (await stub.PutDocument(put(1, kind="tiers", body=TIERS))).status_name == "ok"
    proposed = served.node.proposed
    with pytest.raises(grpc.aio.AioRpcError, match=reason):
        await stub.PutDocument(put(2, kind="tiers", body=body))
    with pytest.raises(grpc.aio.AioRpcError, match="key: all tiers are in one document"):
        await stub.PutDocument(put(3, kind="tiers", body=TIERS, key="KES"))
    assert served.node.proposed == proposed


async def test_only_operators_may_ask(served: Served) -> None:
    for role in ("edge", "node"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.stub(role).PutDocument(put(1))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
