"""Requests to pay over gRPC: asked once, paid once, declined or expired; what waits for a customer, and how much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from node.service.guard import Guard
from node.service.pay_requests import EXPIRE_S_DEFAULT, OPEN_REQUESTS_MAX
from node.service.pay_requests_servicer import PayRequestsServicer
from node.service.reads import ReadBarrier
from tests.service.leader import Leader, available_minor
from tests.service.one_node import START_NS, OneNode

PAY = payments_pb2.PAYMENT_KIND_PAY_REQUEST
WANJIKU, OTIENO = "254712000001", "254712000002"


def raw(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Shop:
    def __init__(self, node: OneNode) -> None:
        self.node = node
        self.people = node.people() | node.agents()
        self.lead(Leader(node))
        self.stub: Any = None

    def lead(self, leader: Leader) -> None:
        self.leader = leader
        guard, barrier = Guard(self.node, leader.metrics, lambda: ""), ReadBarrier(self.node, lambda: "")
        self.servicer = PayRequestsServicer(self.node.store, leader.book, leader.admission, barrier, guard)

    async def ask(self, number: int, **changes: Any) -> payments_pb2.RequestPaymentResponse:
        fields = {
            "pay_request_id": raw(number), "merchant": "123456", "payer_msisdn": "0712000001", "amount_minor": 40_000,
            "currency": "KES", "reference": "table 4",
        }  # fmt: skip
        return await self.stub.RequestPayment(payments_pb2.RequestPaymentRequest(**(fields | changes)), timeout=10)

    async def pay(self, number: int, request: int, **changes: Any) -> payments_pb2.Outcome:
        fields = {"kind": PAY, "payee": "", "amount_minor": 0, "original_payment_id": raw(request)}
        return await self.leader.pay(number, **(fields | changes))

    async def decline(self, request: int, msisdn: str = WANJIKU) -> payments_pb2.RequestPaymentResponse:
        asked = payments_pb2.DeclinePayRequestRequest(pay_request_id=raw(request), payer_msisdn=msisdn)
        return await self.stub.DeclinePayRequest(asked, timeout=10)

    async def state(self, request: int) -> int:
        asked = payments_pb2.GetPayRequestRequest(pay_request_id=raw(request))
        return (await self.stub.GetPayRequest(asked, timeout=10)).state

    async def waiting(self, msisdn: str = WANJIKU) -> payments_pb2.ListWaitingResponse:
        asked = payments_pb2.ListWaitingRequest(msisdn=msisdn, currency="KES")
        return await self.stub.ListWaiting(asked, timeout=10)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    node = OneNode(tmp_path)
    shop = Shop(node)
    server = grpc.aio.server()
    payments_pb2_grpc.add_PayRequestsServiceServicer_to_server(shop.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        shop.stub = payments_pb2_grpc.PayRequestsServiceStub(channel)
        yield shop
    await server.stop(None)
    node.store.close()


async def test_a_merchant_asks_and_the_customer_pays_once(shop: Shop) -> None:
    asked = await shop.ask(1)
    assert (asked.status_name, asked.duplicate, asked.state) == ("ok", False, payments_pb2.PAY_REQUEST_STATE_OPEN)
    assert asked.request.expire_time_ns == START_NS + EXPIRE_S_DEFAULT * 10**9
    again = await shop.ask(1)
    assert (again.status_name, again.duplicate, again.request) == ("ok", True, asked.request)
    assert (await shop.ask(1, amount_minor=50_000)).status_name == "payment_id_used_for_another_payment"
    (waiting,) = (await shop.waiting()).requests
    assert (waiting.pay_request_id, waiting.merchant_name, waiting.amount_minor) == (raw(1), "123456", 40_000)
    paid = await shop.pay(2, 1)
    assert (paid.status_name, paid.amount_minor, paid.payer_balance_minor) == ("ok", 40_000, 960_000)
    assert available_minor(shop.node, shop.people["till"]) == 40_000
    assert (await shop.pay(2, 1)).duplicate
    assert (await shop.pay(3, 1)).status_name == "request_already_paid"
    assert await shop.state(1) == payments_pb2.PAY_REQUEST_STATE_PAID
    assert not (await shop.waiting()).requests
    assert (await shop.decline(1)).status_name == "request_already_paid"
    assert (await shop.ask(1)).state == payments_pb2.PAY_REQUEST_STATE_PAID
    assert shop.leader.book.lookup(2).payment.reference == "table 4"


async def test_a_biller_asks_by_its_own_tariff(shop: Shop) -> None:
    await shop.ask(1, merchant="888880", amount_minor=120_000, reference="ACC 9")
    quote = shop.leader.quote(kind=PAY, payee="", amount_minor=0, original_payment_id=raw(1))
    assert (quote.status_name, quote.payee_name) == ("ok", "888880")
    assert (quote.amount_minor, quote.fee_minor) == (120_000, 1_000)
    assert (await shop.pay(2, 1)).payee_fee_minor == 500
    assert (await shop.pay(2, 1)).payee_fee_minor == 500
    assert available_minor(shop.node, shop.people["paybill"]) == 119_500


async def test_declined_and_expired_are_not_paid(shop: Shop) -> None:
    await shop.ask(1)
    await shop.ask(2, expire_s=60)
    assert (await shop.decline(1)).state == payments_pb2.PAY_REQUEST_STATE_DECLINED
    assert (await shop.decline(1)).status_name == "ok"
    assert (await shop.pay(3, 1)).status_name == "request_was_declined"
    shop.leader.now_ns += 60 * 10**9
    assert (await shop.pay(4, 2)).status_name == "request_expired"
    assert [await shop.state(n) for n in (1, 2)] == [
        payments_pb2.PAY_REQUEST_STATE_DECLINED, payments_pb2.PAY_REQUEST_STATE_EXPIRED,
    ]  # fmt: skip
    assert not (await shop.waiting()).requests
    assert available_minor(shop.node, shop.people["wanjiku"]) == 1_000_000


async def test_a_wrong_pin_pays_nothing_and_leaves_it_open(shop: Shop) -> None:
    await shop.ask(1)
    assert (await shop.pay(2, 1, pin="1357")).pin_tries_left == 2
    assert (await shop.pay(3, 1)).status_name == "ok"


async def test_nobody_else_sees_or_pays_it(shop: Shop) -> None:
    await shop.ask(1)
    assert (await shop.pay(2, 1, payer_msisdn=OTIENO)).status_name == "request_not_found"
    assert (await shop.decline(1, OTIENO)).status_name == "request_not_found"
    assert not (await shop.waiting(OTIENO)).requests
    assert (await shop.pay(3, 9)).status_name == "request_not_found"
    assert (await shop.pay(4, 1, amount_minor=39_999)).status_name == "payment_differs_from_request"
    assert (await shop.pay(5, 1, currency="UGX")).status_name == "currency_differs"


async def test_two_leaders_take_one_payment(shop: Shop) -> None:
    await shop.ask(1)
    shop.node.immediate = False
    first = asyncio.ensure_future(shop.pay(2, 1))
    while len(shop.node.waiting) < 1:
        await asyncio.sleep(0)
    other = Leader(shop.node)
    fields: dict[str, Any] = {"kind": PAY, "payee": "", "amount_minor": 0, "original_payment_id": raw(1)}
    second = asyncio.ensure_future(other.pay(3, **fields))
    while len(shop.node.waiting) < 2:
        await asyncio.sleep(0)
    shop.node.apply_next()
    shop.node.apply_next()
    assert ((await first).status_name, (await second).status_name) == ("ok", "request_already_paid")
    assert available_minor(shop.node, shop.people["till"]) == 40_000


async def test_a_customer_has_so_many_open_and_no_more(shop: Shop) -> None:
    for number in range(1, OPEN_REQUESTS_MAX + 1):
        assert (await shop.ask(number)).status_name == "ok"
    with pytest.raises(grpc.aio.AioRpcError, match="open requests") as caught:
        await shop.ask(99)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [one.pay_request_id for one in (await shop.waiting()).requests] == [raw(n) for n in range(1, 11)]
    await shop.decline(3)
    assert (await shop.ask(99)).status_name == "ok"
    assert [one.pay_request_id for one in (await shop.waiting()).requests][-1] == raw(99)


async def test_what_is_reserved_of_ones_money_waits_too(shop: Shop) -> None:
    await shop.leader.pay(1)
    await shop.leader.pay(
        2, kind=payments_pb2.PAYMENT_KIND_REVERSAL, payee="", amount_minor=0, original_payment_id=raw(1)
    )
    (one,) = (await shop.waiting(OTIENO)).reversals
    assert (one.payment_id, one.original_payment_id, one.amount_minor, one.payer_name) == (
        raw(2), raw(1), 50_000, "Wanjiku",
    )  # fmt: skip
    assert not (await shop.waiting(WANJIKU)).reversals
    assert not (await shop.waiting("rubbish")).requests


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        ("payer_not_found", {"payer_msisdn": "254712999999"}),
        ("payer_not_found", {"payer_msisdn": "rubbish"}),
        ("payee_not_found", {"merchant": "99"}),
        ("payee_not_found", {"merchant": ""}),
        ("currency_differs", {"currency": "XXX"}),
        ("amount_must_be_positive", {"amount_minor": 0}),
        ("reference_malformed", {"reference": "x" * 21}),
        ("reference_malformed", {"reference": "a\nb"}),
        ("payment_id_must_not_be_zero", {"pay_request_id": bytes(16)}),
    ],
)
async def test_what_cannot_be_asked_is_not_written(shop: Shop, status: str, changes: dict[str, Any]) -> None:
    before = shop.node.store.applied_position
    told = await shop.ask(1, **changes)
    assert told.status_name == status
    assert told.gsma_code
    assert shop.node.store.applied_position == before


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pay_request_id": b"1"}, "pay_request_id: must be 16 bytes"),
        ({"expire_s": 59}, "expire_s: 60 to 604800"),
        ({"expire_s": 604_801}, "expire_s: 60 to 604800"),
    ],
)
async def test_bad_input_names_the_field(shop: Shop, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=complaint) as caught:
        await shop.ask(1, **changes)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_phone_names_a_request_by_its_number(shop: Shop) -> None:
    shop.node.add_handle(shop.people["till"], "msisdn", "254712000201")
    first = await shop.ask(1, merchant="", merchant_msisdn="0712000201")
    second = await shop.ask(2, amount_minor=1_000)
    assert (first.request.merchant, first.request.number, second.request.number) == ("123456", 1, 2)
    assert (await shop.ask(1, merchant="", merchant_msisdn="0712000201")).request.number == 1
    assert [(one.number, one.amount_minor) for one in (await shop.waiting()).requests] == [(1, 40_000), (2, 1_000)]
    by_number = {"original_payment_id": b"", "pay_request_number": 2}
    assert shop.leader.quote(kind=PAY, payee="", amount_minor=0, **by_number).amount_minor == 1_000
    paid = await shop.pay(3, 0, **by_number)
    assert (paid.status_name, paid.amount_minor) == ("ok", 1_000)
    assert (await shop.pay(3, 0, **by_number)).duplicate  # also when it is on no list any more
    assert (await shop.pay(4, 0, **by_number)).status_name == "request_already_paid"
    for number in (0, 3, 99):
        nothing = {"original_payment_id": b"", "pay_request_number": number}
        assert (await shop.pay(5, 0, **nothing)).status_name == "request_not_found"
        assert (await shop.pay(6, 0, **(by_number | {"payer_msisdn": OTIENO}))).status_name == "request_not_found"
    declined = payments_pb2.DeclinePayRequestRequest(payer_msisdn=WANJIKU, number=1, currency="KES")
    assert (await shop.stub.DeclinePayRequest(declined, timeout=10)).status_name == "ok"
    assert await shop.state(1) == payments_pb2.PAY_REQUEST_STATE_DECLINED
    assert (await shop.ask(9, merchant="", merchant_msisdn=OTIENO)).status_name == "payee_not_found"
