"""Payments at the leader: every refusal, PIN tries under a crowd, one outcome for an id, and what is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import AccountFlag
from node.ledger.statuses import FraudDecision, PaymentStatus
from node.service.errors import NotAppliedError, QueueFullError, UnknownOutcomeError
from node.service.limits import WAITING_PER_ACCOUNT_MAX
from tests.service.leader import Leader, available_minor
from tests.service.one_node import PIN, OneNode

FROZEN = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.FROZEN


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    node = OneNode(tmp_path)
    yield node
    node.store.close()


@pytest.fixture
def people(node: OneNode) -> dict[str, int]:
    return node.people()


@pytest.fixture
async def leader(node: OneNode) -> Leader:
    return Leader(node)


async def test_a_payment_pays_payee_fee_and_duty(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    outcome = await leader.pay(1)
    assert (outcome.status_name, outcome.fee_minor, outcome.excise_minor) == ("ok", 700, 91)
    assert outcome.payer_balance_minor == 949_300
    assert [available_minor(node, people[n]) for n in ("wanjiku", "otieno", "fees", "excise")] == [
        949_300, 1_050_000, 609, 91,
    ]  # fmt: skip
    assert node.proposed == 1


REFUSALS: list[tuple[PaymentStatus, dict[str, Any]]] = [
    (PaymentStatus.KIND_UNKNOWN, {"kind": 0}),
    (PaymentStatus.AMOUNT_MUST_BE_POSITIVE, {"amount_minor": 0}),
    (PaymentStatus.AMOUNT_MUST_BE_POSITIVE, {"amount_minor": -1}),
    (PaymentStatus.AMOUNT_OUTSIDE_TARIFF, {"amount_minor": 99}),
    (PaymentStatus.AMOUNT_OUTSIDE_TARIFF, {"amount_minor": 25_000_001}),
    (PaymentStatus.AMOUNT_OUTSIDE_TARIFF, {"amount_minor": (1 << 63) - 1}),
    (PaymentStatus.REFERENCE_MALFORMED, {"kind": payments_pb2.PAYMENT_KIND_PAY_BILL, "payee": "888880"}),
    (PaymentStatus.REFERENCE_MALFORMED, {"reference": "x" * 21}),
    (PaymentStatus.REFERENCE_MALFORMED, {"reference": "a\nb"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"payer_msisdn": "254712999999"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"payer_msisdn": "rubbish"}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"payee": "254712999999"}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"payee": "\N{PILE OF POO}"}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"kind": payments_pb2.PAYMENT_KIND_PAY_TILL, "payee": "1"}),
    (PaymentStatus.PAYER_IS_PAYEE, {"payee": "254712000001"}),
    (PaymentStatus.CURRENCY_DIFFERS, {"currency": "UGX"}),
    (PaymentStatus.PIN_MALFORMED, {"pin": "24680"}),
    (PaymentStatus.PIN_MALFORMED, {"pin": ""}),
    (PaymentStatus.PIN_WRONG, {"pin": "1357"}),
    (PaymentStatus.INSUFFICIENT_FUNDS, {"amount_minor": 1_000_000}),
]


@pytest.mark.parametrize(("status", "changes"), REFUSALS)
async def test_a_refusal_moves_nothing(
    node: OneNode, people: dict[str, int], leader: Leader, status: PaymentStatus, changes: dict[str, Any]
) -> None:
    outcome = await leader.pay(1, **changes)
    assert outcome.status_name == status.name.lower()
    assert [available_minor(node, people[n]) for n in ("wanjiku", "otieno", "till")] == [1_000_000, 1_000_000, 0]


@pytest.mark.parametrize(
    ("who", "flags", "status"),
    [
        ("wanjiku", FROZEN, PaymentStatus.PAYER_FROZEN),
        ("otieno", FROZEN, PaymentStatus.PAYEE_FROZEN),
        ("wanjiku", AccountFlag.PIN_LOCKED, PaymentStatus.PIN_LOCKED),
    ],
)
async def test_flags_refuse(
    node: OneNode, people: dict[str, int], leader: Leader, who: str, flags: AccountFlag, status: PaymentStatus
) -> None:
    node.set_flags(people[who], flags)
    assert (await leader.pay(1)).status_name == status.name.lower()


async def test_closed_accounts_and_a_missing_pin_refuse(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    node.account("msisdn", "254712000009", name="No PIN")
    assert (await leader.pay(1, payer_msisdn="254712000009")).status_name == "pin_not_set"
    empty = node.account("msisdn", "254712000008", pin=PIN)
    node.set_flags(empty, AccountFlag.CLOSED)
    assert (await leader.pay(2, payer_msisdn="254712000008")).status_name == "payer_closed"
    assert (await leader.pay(3, payee="254712000008")).status_name == "payee_closed"


async def test_before_the_tariff_is_in_force_nothing_is_sold(people: dict[str, int], leader: Leader) -> None:
    leader.now_ns = 1_600_000_000_000_000_000
    assert (await leader.pay(1)).status_name == "tariff_missing"


async def test_a_crowd_of_wrong_pins_is_three_tries(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    waiting = [asyncio.ensure_future(leader.pay(n, pin=f"{1000 + n}")) for n in range(1, WAITING_PER_ACCOUNT_MAX + 2)]
    names = [outcome.status_name for outcome in await asyncio.gather(*waiting)]
    assert names.count("pin_wrong") == 2
    assert names.count("pin_wrong_and_now_locked") == 1
    assert names.count("pin_locked") == len(waiting) - 3
    assert (await leader.pay(500)).status_name == "pin_locked"


async def test_more_waiting_than_allowed_is_refused_at_once(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    node.immediate = False
    waiting = [asyncio.ensure_future(leader.pay(n)) for n in range(1, WAITING_PER_ACCOUNT_MAX + 2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await leader.pay(500)
    for future in waiting:
        while not node.waiting:
            await asyncio.sleep(0)
        node.apply_next()
        assert (await future).status_name == "ok"


async def test_a_right_pin_forgives_the_wrong_ones(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    for number, pin, left in ((1, "1111", 2), (2, "1112", 1), (3, PIN, 3), (4, "1113", 2)):
        assert (await leader.pay(number, pin=pin, amount_minor=10_000)).pin_tries_left == left


async def test_no_verdict_is_told_before_the_log_has_it(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    node.immediate = False
    guess = asyncio.ensure_future(leader.pay(1, pin="1357"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not guess.done()
    node.lose_next(but_apply=False)
    with pytest.raises(UnknownOutcomeError):
        await guess
    node.is_leader = False
    with pytest.raises(NotAppliedError):  # a node that cannot commit tells nobody whether the PIN was right
        await leader.pay(2, pin="1357")


async def test_unknown_is_asked_again_with_the_same_id(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    node.immediate = False
    first = asyncio.ensure_future(leader.pay(1))
    while not node.waiting:
        await asyncio.sleep(0)
    node.lose_next(but_apply=True)
    with pytest.raises(UnknownOutcomeError):
        await first
    again = await leader.pay(1)
    assert (again.status_name, again.duplicate, again.payer_balance_minor) == ("ok", True, 949_300)
    assert available_minor(node, people["otieno"]) == 1_050_000


async def test_the_same_id_at_the_same_time_is_worked_on_once(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    first, second, other = await asyncio.gather(leader.pay(1), leader.pay(1), leader.pay(1, amount_minor=60_000))
    assert (first.status_name, first.duplicate) == ("ok", False)
    assert (second.status_name, second.duplicate, second.position) == ("ok", True, first.position)
    assert other.status_name == "payment_id_used_for_another_payment"
    assert available_minor(node, people["otieno"]) == 1_050_000


@pytest.mark.parametrize("pin", [PIN, "1357"])
async def test_an_id_keeps_its_first_outcome(node: OneNode, people: dict[str, int], leader: Leader, pin: str) -> None:
    first = await leader.pay(1, pin=pin)
    node.store.checkpoint(wait=True)
    again = await leader.pay(1, pin=PIN)
    assert (again.status, again.position, again.duplicate) == (first.status, first.position, True)


async def test_a_balance_check_counts_its_tries_too(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    def draft(number: int) -> Any:
        return leader.book.balance_draft(number, "0712000001", "KES")

    assert (await leader.desk.decide(draft(1), PIN)).status_name == "ok"
    assert (await leader.desk.decide(draft(2), "1357")).pin_tries_left == 2
    assert (await leader.desk.decide(draft(2), "1357")).pin_tries_left == 2  # the same step is the same try
    assert leader.book.balance_draft(3, "0712000099", "KES") is PaymentStatus.PAYER_NOT_FOUND
    assert leader.book.balance_draft(0, "0712000001", "KES") is PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO
    assert leader.book.balance_draft(3, "0712000001", "XXX") is PaymentStatus.CURRENCY_DIFFERS


async def test_a_held_payment_reserves_and_ends_by_itself(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    draft = leader.book.draft(
        9,
        payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn="254712000001", payee="254712000002",
            amount_minor=50_000, currency="KES",
        ),
    )  # fmt: skip
    assert not isinstance(draft, PaymentStatus)
    draft.hold, draft.decision = True, FraudDecision.HOLD
    outcome = await leader.desk.decide(draft, PIN)
    assert outcome.status_name == "held_for_review"
    assert (outcome.payer_balance_minor, outcome.payer_available_minor) == (1_000_000, 949_300)
    assert available_minor(node, people["otieno"]) == 1_000_000
    assert node.store.next_expiry_ns == node.store.last_timestamp_ns + 24 * 3_600 * 10**9


async def test_airtime_and_bills_keep_what_they_are_for(people: dict[str, int], leader: Leader) -> None:
    airtime = await leader.pay(1, kind=payments_pb2.PAYMENT_KIND_BUY_AIRTIME, payee="0712000003", amount_minor=5_000)
    assert (airtime.status_name, airtime.payee_name) == ("ok", "254712000003")
    bill = {"kind": payments_pb2.PAYMENT_KIND_PAY_BILL, "payee": "888880", "reference": "ACC 9"}
    assert (await leader.pay(2, **bill)).fee_minor == 500
    assert leader.book.lookup(1).payment.payee == "254712000003"
    assert leader.book.lookup(2).payment.reference == "ACC 9"
    assert not leader.book.lookup(3).found


async def test_a_quote_says_what_a_payment_would(people: dict[str, int], leader: Leader) -> None:
    quote = leader.book.quote(
        payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn="254712000001", payee="254712000002",
            amount_minor=50_000, currency="KES",
        )
    )  # fmt: skip
    assert (quote.status_name, quote.payee_name, quote.fee_minor, quote.tariff_version) == (
        "ok", "Otieno", 700, 20230729,
    )  # fmt: skip
