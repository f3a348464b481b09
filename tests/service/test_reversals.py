"""Money taken back: by the payer, by the receiver, by two operators; never more than there was, whoever races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.payments.v1 import payments_pb2
from kibubu.review.v1 import review_pb2, review_pb2_grpc

from node.ledger.entry import encode_entry
from node.ledger.statuses import PaymentStatus
from node.payments.tariffs import load_tariffs
from node.service.fraud_thresholds import thresholds_in_force
from node.service.guard import Guard
from node.service.payment_past import REVERSALS_OF_A_PAYMENT_MAX
from node.service.payment_reversals import RESERVED_S, WINDOW_S
from node.service.reads import ReadBarrier
from node.service.review_book import ReviewBook
from node.service.review_desk import ReviewDesk
from node.service.review_labels import LabelBook
from node.service.review_servicer import ReviewServicer
from tests.service.leader import Leader, available_minor
from tests.service.one_node import PIN, START_NS, OneNode

REVERSAL, REFUND = payments_pb2.PAYMENT_KIND_REVERSAL, payments_pb2.PAYMENT_KIND_REFUND
RELEASE, REFUSE = review_pb2.VERDICT_RELEASE, review_pb2.VERDICT_REFUSE
SECOND_NS = 1_000_000_000
WANJIKU, OTIENO, ACHIENG = "254712000001", "254712000002", "254712000003"


def raw(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Office:
    """A leader, its people, and an operator's stub."""

    def __init__(self, node: OneNode) -> None:
        self.node = node
        self.people = node.people() | node.agents()
        self.leader = Leader(node)
        guard, barrier = Guard(node, self.leader.metrics, lambda: ""), ReadBarrier(node, lambda: "")
        thresholds = thresholds_in_force(node.store)
        held = ReviewBook(node.store, load_tariffs(), thresholds)
        self.servicer = ReviewServicer(
            held, self.leader.admission, barrier, guard, self.leader.book, self.leader.desk,
            ReviewDesk(node.store, self.leader.admission, thresholds), LabelBook(node.store, held),
        )  # fmt: skip
        self.stub: Any = None

    def has(self, *names: str) -> list[int]:
        return [available_minor(self.node, self.people[name]) for name in names]

    async def send(self, number: int, amount_minor: int = 100_000) -> None:
        assert (await self.leader.pay(number, amount_minor=amount_minor)).status_name == "ok"

    async def take_back(self, number: int, original: int, who: str, amount_minor: int = 0, **changes: Any) -> Any:
        fields = {"kind": REVERSAL, "payer_msisdn": who, "payee": "", "original_payment_id": raw(original)}
        return await self.leader.pay(number, **(fields | {"amount_minor": amount_minor} | changes))

    async def propose(self, number: int, original: int, amount_minor: int = 0, **changes: Any) -> Any:
        request = review_pb2.ProposeReversalRequest(
            payment_id=raw(number), original_payment_id=raw(original), amount_minor=amount_minor,
            **({"maker": "amina"} | changes),
        )  # fmt: skip
        return (await self.stub.ProposeReversal(request, timeout=10)).outcome

    async def decide(self, number: int, verdict: Any = RELEASE, approver: str = "baraka") -> Any:
        request = review_pb2.DecideReversalRequest(payment_id=raw(number), verdict=verdict, approver=approver)
        return await self.stub.DecideReversal(request, timeout=10)

    def later(self, seconds: int) -> None:
        self.leader.now_ns += seconds * SECOND_NS
        self.node.write(encode_entry(self.leader.now_ns))  # what the expiry of a leader proposes


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    node = OneNode(tmp_path)
    office = Office(node)
    server = grpc.aio.server()
    review_pb2_grpc.add_ReviewServiceServicer_to_server(office.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        office.stub = review_pb2_grpc.ReviewServiceStub(channel)
        yield office
    await server.stop(None)
    node.store.close()


# --- the payer --------------------------------------------------------------------------------------------------------


async def test_a_wrong_number_is_reserved_and_the_receiver_agrees(office: Office) -> None:
    await office.send(1)
    before = office.has("wanjiku")[0]
    asked = await office.take_back(2, 1, WANJIKU)
    assert (asked.status_name, asked.gsma_code, asked.amount_minor) == ("reversal_is_reserved", "", 100_000)
    assert (asked.payer_available_minor, office.has("wanjiku", "otieno")) == (before, [before, 1_000_000])
    agreed = await office.take_back(3, 2, OTIENO)
    assert (agreed.status_name, agreed.payer_available_minor) == ("ok", 1_000_000)
    assert office.has("wanjiku", "otieno") == [before + 100_000, 1_000_000]
    found = office.leader.book.lookup(2)
    assert (found.end, found.payment.original_payment_id) == (payments_pb2.PAYMENT_END_POSTED, raw(1))
    assert (await office.take_back(4, 2, OTIENO)).status_name == "original_is_not_reversible"


async def test_nobody_decides_and_the_money_is_free_again(office: Office) -> None:
    await office.send(1)
    await office.take_back(2, 1, WANJIKU)
    office.later(RESERVED_S + 1)
    assert office.has("otieno") == [1_100_000]
    assert office.leader.book.lookup(2).end == payments_pb2.PAYMENT_END_EXPIRED
    assert (await office.take_back(3, 2, OTIENO)).status_name == "original_is_not_reversible"


@pytest.mark.parametrize(
    ("seconds", "status"), [(WINDOW_S - 5, "reversal_is_reserved"), (WINDOW_S + 5, "reversal_window_is_over")]
)
async def test_the_payer_has_a_day(office: Office, seconds: int, status: str) -> None:
    await office.send(1)
    office.later(seconds)
    assert (await office.take_back(2, 1, WANJIKU)).status_name == status


async def test_what_is_gone_cannot_be_reserved(office: Office) -> None:
    await office.send(1)
    await office.leader.pay(2, payer_msisdn=OTIENO, payee=ACHIENG, amount_minor=1_070_000)
    told = await office.take_back(3, 1, WANJIKU)
    assert (told.status_name, told.gsma_code) == ("receiver_has_not_the_money", "insufficientFunds")
    assert (await office.take_back(4, 1, WANJIKU, 10_000)).status_name == "reversal_is_reserved"  # a part is


async def test_the_payers_wrong_pins_count_against_the_payer(office: Office) -> None:
    await office.send(1)
    for number, left in ((2, 2), (3, 1), (4, 0)):
        assert (await office.take_back(number, 1, WANJIKU, pin="1357")).pin_tries_left == left
    assert (await office.take_back(5, 1, WANJIKU)).status_name == "pin_locked"
    assert (await office.take_back(6, 1, OTIENO)).status_name == "ok"


# --- the receiver and the merchant ------------------------------------------------------------------------------------


async def test_the_receiver_gives_back_at_once_in_parts_and_no_more_than_there_was(office: Office) -> None:
    await office.send(1)
    start = office.has("wanjiku")[0]
    for number, amount_minor, status in (
        (2, 30_000, "ok"), (3, 80_000, "reversals_exceed_original"), (4, 70_000, "ok"),
        (5, 1, "reversals_exceed_original"), (6, 0, "reversals_exceed_original"),
    ):  # fmt: skip
        assert (await office.take_back(number, 1, OTIENO, amount_minor)).status_name == status
    assert office.has("wanjiku", "otieno") == [start + 100_000, 1_000_000]


async def test_a_merchant_refunds_with_the_shops_pin(office: Office) -> None:
    office.node.set_pin(office.people["till"], "8642")
    paid = await office.leader.pay(1, kind=payments_pb2.PAYMENT_KIND_PAY_TILL, payee="123456", amount_minor=40_000)
    assert paid.status_name == "ok"
    ask: dict[str, Any] = {"kind": REFUND, "payer": "123456"}
    assert (await office.take_back(2, 1, "", 10_000, pin="1357", **ask)).status_name == "pin_wrong"
    told = await office.take_back(3, 1, "", 10_000, pin="8642", **ask)
    assert (told.status_name, told.payer_balance_minor) == ("ok", 30_000)
    again = await office.take_back(3, 1, "", 10_000, pin="8642", **ask)
    assert (again.duplicate, again.payer_balance_minor) == (True, 30_000)
    assert office.has("wanjiku", "till") == [970_000, 30_000]
    # The customer of a shop asks the shop.
    assert (await office.take_back(4, 1, WANJIKU)).status_name == "original_is_not_reversible"


async def test_the_business_share_of_a_bill_stays_with_the_operator(office: Office) -> None:
    office.node.set_pin(office.people["paybill"], PIN)
    office.node.fund(office.people["paybill"], 500, office.people["issuance"])
    bill = {"kind": payments_pb2.PAYMENT_KIND_PAY_BILL, "payee": "888880", "reference": "ACC 9"}
    await office.leader.pay(1, amount_minor=120_000, **bill)
    assert (await office.take_back(2, 1, "", kind=REFUND, payer="888880")).status_name == "ok"
    assert office.has("wanjiku", "paybill", "fees", "excise") == [999_000, 0, 1_305, 195]


REFUSALS: list[tuple[PaymentStatus, dict[str, Any]]] = [
    (PaymentStatus.ORIGINAL_NOT_FOUND, {"original_payment_id": raw(77)}),
    (PaymentStatus.ORIGINAL_NOT_FOUND, {"original_payment_id": b""}),
    (PaymentStatus.ORIGINAL_NOT_FOUND, {"original_payment_id": b"x" * 17}),
    (PaymentStatus.PAYER_IS_NO_PARTY_OF_THE_ORIGINAL, {"payer_msisdn": ACHIENG}),
    (PaymentStatus.PAYER_IS_NO_PARTY_OF_THE_ORIGINAL, {"kind": REFUND}),
    (PaymentStatus.PAYER_NOT_FOUND, {"payer_msisdn": "rubbish"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"payer": "99999"}),
    (PaymentStatus.CURRENCY_DIFFERS, {"currency": "UGX"}),
    (PaymentStatus.AMOUNT_MUST_BE_POSITIVE, {"amount_minor": -1}),
    (PaymentStatus.REVERSALS_EXCEED_ORIGINAL, {"amount_minor": 100_001}),
    (PaymentStatus.REVERSALS_EXCEED_ORIGINAL, {"amount_minor": (1 << 63) - 1}),
    (PaymentStatus.PIN_WRONG, {"pin": "1357"}),
    (PaymentStatus.PIN_MALFORMED, {"pin": ""}),
]


@pytest.mark.parametrize(("status", "changes"), REFUSALS)
async def test_a_refusal_moves_nothing(office: Office, status: PaymentStatus, changes: dict[str, Any]) -> None:
    await office.send(1)
    before = office.has("wanjiku", "otieno", "achieng")
    told = await office.take_back(2, 1, **({"who": WANJIKU} | changes))
    assert told.status_name == status.name.lower()
    assert told.gsma_code
    assert office.has("wanjiku", "otieno", "achieng") == before


async def test_only_money_that_moved_and_may_come_back_does(office: Office) -> None:
    await office.leader.pay(1, pin="1357")  # refused
    await office.leader.pay(2, kind=payments_pb2.PAYMENT_KIND_BUY_AIRTIME, payee="0712000003", amount_minor=5_000)
    await office.leader.pay(3, kind=payments_pb2.PAYMENT_KIND_CASH_OUT, payee="20001", amount_minor=50_000)
    for number, original in ((11, 1), (12, 2), (13, 3)):
        assert (await office.take_back(number, original, WANJIKU)).status_name == "original_is_not_reversible"
        assert (await office.propose(number + 10, original)).status_name == "original_is_not_reversible"


async def test_so_many_and_no_more(office: Office) -> None:
    await office.send(1)
    for number in range(REVERSALS_OF_A_PAYMENT_MAX):
        assert (await office.take_back(100 + number, 1, OTIENO, 10)).status_name == "ok"
    assert (await office.take_back(200, 1, OTIENO, 10)).status_name == "reversals_exceed_original"


# --- operators --------------------------------------------------------------------------------------------------------


async def test_two_operators_take_it_back_with_the_fee(office: Office) -> None:
    await office.send(1)
    told = await office.propose(2, 1, return_fee=True)
    assert (told.status_name, told.payer_balance_minor, told.payer_available_minor) == ("reversal_is_reserved", 0, 0)
    assert office.has("otieno", "fees", "excise") == [1_000_000, 0, 0]
    waiting = await office.stub.ListReversals(review_pb2.ListReversalsRequest(), timeout=10)
    (one,) = waiting.reversals
    assert (waiting.waiting_total, one.maker, one.amount_minor, one.currency) == (1, "amina", 100_000, "KES")
    assert (one.original_payment_id, one.receiver.name, one.payer.name) == (raw(1), "Otieno", "Wanjiku")
    with pytest.raises(grpc.aio.AioRpcError, match="approver: must not be who proposed"):
        await office.decide(2, approver="amina")
    first = await office.decide(2)
    assert (first.status_name, first.state, first.duplicate) == ("ok", review_pb2.REVIEW_STATE_RELEASED, False)
    assert (await office.decide(2)).duplicate
    other = await office.decide(2, REFUSE)
    assert (other.status_name, other.state) == ("id_used_for_another_transfer", review_pb2.REVIEW_STATE_RELEASED)
    assert office.has("wanjiku", "otieno", "fees", "excise") == [1_000_000, 1_000_000, 0, 0]
    assert not (await office.stub.ListReversals(review_pb2.ListReversalsRequest(), timeout=10)).reversals
    assert (await office.propose(2, 1, return_fee=True)).duplicate
    assert (await office.propose(2, 1)).status_name == "payment_id_used_for_another_payment"


async def test_a_refused_proposal_leaves_everything_and_may_come_again(office: Office) -> None:
    await office.send(1)
    before = office.has("wanjiku", "otieno")
    await office.propose(2, 1)
    assert (await office.decide(2, REFUSE)).state == review_pb2.REVIEW_STATE_REFUSED
    assert office.has("wanjiku", "otieno") == before
    assert (await office.propose(3, 1, 40_000)).status_name == "reversal_is_reserved"
    assert (await office.propose(4, 1, 60_001)).status_name == "reversals_exceed_original"
    assert (await office.propose(5, 1, 60_000, return_fee=True)).status_name == "reversals_exceed_original"


@pytest.mark.parametrize(
    ("call", "changes", "complaint"),
    [
        ("propose", {"maker": ""}, "maker: must be 1 to 20 printable bytes"),
        ("propose", {"maker": "x" * 21}, "maker: must be 1 to 20 printable bytes"),
        ("propose", {"payment_id": b""}, "payment_id: must be 16 bytes"),
        ("propose", {"payment_id": bytes(16)}, "payment_id: must not be zero"),
        ("propose", {"original_payment_id": b"1"}, "original_payment_id: must be 16 bytes"),
        ("decide", {"approver": "\n"}, "approver: must be 1 to 20 printable bytes"),
        ("decide", {"verdict": 0}, "verdict: must be release or refuse"),
        ("decide", {"payment_id": raw(99)}, "payment_id: no reversal that reserved money has this id"),
    ],
)
async def test_bad_input_names_the_field(office: Office, call: str, changes: dict[str, Any], complaint: str) -> None:
    await office.send(1)
    await office.take_back(2, 1, WANJIKU)
    fields: dict[str, Any] = {"payment_id": raw(3), "original_payment_id": raw(1), "maker": "amina"}
    request: Any = review_pb2.ProposeReversalRequest(**(fields | changes)) if call == "propose" else None
    if request is None:
        fields = {"payment_id": raw(2), "verdict": RELEASE, "approver": "baraka"}
        request = review_pb2.DecideReversalRequest(**(fields | changes))
    method = office.stub.ProposeReversal if call == "propose" else office.stub.DecideReversal
    with pytest.raises(grpc.aio.AioRpcError, match=complaint) as caught:
        await method(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# --- races ------------------------------------------------------------------------------------------------------------


async def test_a_reversal_and_the_receivers_cash_out_in_one_moment(office: Office) -> None:
    """Whoever comes first in the log has the money; the other one is told why not, and no shilling is made."""
    await office.send(1, 900_000)
    total = sum(office.has("wanjiku", "otieno", "agent", "fees", "excise", "commissions"))
    out = {"kind": payments_pb2.PAYMENT_KIND_CASH_OUT, "payer_msisdn": OTIENO, "payee": "20001"}
    cashed, asked = await asyncio.gather(
        office.leader.pay(2, amount_minor=1_500_000, **out), office.take_back(3, 1, WANJIKU)
    )
    assert (cashed.status_name, asked.status_name) == ("ok", "receiver_has_not_the_money")
    assert asked.transfer_status_name == "debits_exceed_credits"  # the ledger said so, the leader had seen enough
    assert sum(office.has("wanjiku", "otieno", "agent", "fees", "excise", "commissions")) == total
    asked, cashed = await asyncio.gather(
        office.take_back(4, 1, WANJIKU, 300_000), office.leader.pay(5, amount_minor=350_000, **out)
    )
    assert (asked.status_name, cashed.status_name) == ("reversal_is_reserved", "insufficient_funds")


async def test_two_leaders_reverse_the_same_payment(office: Office) -> None:
    """The second had not seen the first: the ledger refuses the number that is taken."""
    await office.send(1)
    other = Office.__new__(Office)
    other.node, other.people, other.leader = office.node, office.people, Leader(office.node)
    office.node.immediate = False
    first = asyncio.ensure_future(office.take_back(2, 1, OTIENO, 90_000))
    second = asyncio.ensure_future(other.take_back(3, 1, OTIENO, 80_000))
    while len(office.node.waiting) < 2:
        await asyncio.sleep(0)
    office.node.apply_next()
    office.node.apply_next()
    assert ((await first).status_name, (await second).status_name) == ("ok", "another_reversal_came_between")
    assert office.has("otieno") == [1_010_000]
    again = asyncio.ensure_future(office.take_back(3, 1, OTIENO, 80_000))
    assert (await again).status_name == "another_reversal_came_between"


async def test_an_unknown_outcome_is_found_under_its_id(office: Office) -> None:
    await office.send(1)
    office.node.immediate = False
    asked = asyncio.ensure_future(office.take_back(2, 1, WANJIKU))
    while not office.node.waiting:
        await asyncio.sleep(0)
    office.node.lose_next(but_apply=True)
    with pytest.raises(Exception, match="ask again"):
        await asked
    office.node.immediate = True
    again = await office.take_back(2, 1, WANJIKU)
    assert (again.status_name, again.duplicate, again.payer_available_minor) == (
        "reversal_is_reserved", True, office.has("wanjiku")[0],
    )  # fmt: skip
    assert office.leader.now_ns == START_NS
