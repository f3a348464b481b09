"""Cash in and out at agents, float between them, merchants that pay out, bills with a shared charge."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import AccountFlag, AccountKind, Column
from node.ledger.statuses import PaymentStatus
from tests.service.leader import Leader, available_minor
from tests.service.one_node import PIN, OneNode

IN, OUT, FLOAT, PAYOUT, BILL = (
    payments_pb2.PAYMENT_KIND_CASH_IN,
    payments_pb2.PAYMENT_KIND_CASH_OUT,
    payments_pb2.PAYMENT_KIND_AGENT_FLOAT,
    payments_pb2.PAYMENT_KIND_MERCHANT_PAYOUT,
    payments_pb2.PAYMENT_KIND_PAY_BILL,
)
AGENT_PIN = "8642"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    node = OneNode(tmp_path)
    yield node
    node.store.close()


@pytest.fixture
def people(node: OneNode) -> dict[str, int]:
    return node.people() | node.agents(AGENT_PIN)


@pytest.fixture
async def leader(node: OneNode, people: dict[str, int]) -> Leader:
    return Leader(node)


def balances(node: OneNode, people: dict[str, int], *names: str) -> list[int]:
    return [available_minor(node, people[name]) for name in names]


async def cash_in(leader: Leader, number: int, **changes: Any) -> payments_pb2.Outcome:
    fields = {"kind": IN, "payer_msisdn": "", "payer": "20001", "amount_minor": 300_000, "pin": AGENT_PIN}
    return await leader.pay(number, **(fields | {"payee": "0712000001"} | changes))


async def test_cash_in_moves_float_and_pays_the_agent(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    told = await cash_in(leader, 1)
    assert (told.status_name, told.fee_minor, told.commission_minor) == ("ok", 0, 1_200)
    assert balances(node, people, "wanjiku", "agent", "commissions") == [1_300_000, 4_701_200, -1_200]
    assert (told.payer_balance_minor, told.payer_available_minor) == (4_701_200, 4_701_200)
    again = await cash_in(leader, 1)
    assert again.duplicate
    again.duplicate = False
    assert again == told
    assert (await cash_in(leader, 1, amount_minor=400_000)).status_name == "payment_id_used_for_another_payment"


async def test_an_agent_is_also_known_by_the_own_phone(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    assert (await cash_in(leader, 1, payer="", payer_msisdn="0711000001")).status_name == "ok"
    found = leader.book.lookup(1).payment
    assert (found.payer, found.payer_msisdn, found.payee) == ("20001", "254711000001", "254712000001")


async def test_an_agent_without_the_float_is_told_so_before_the_pin(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    ask = {"kind": IN, "payer_msisdn": "", "payer": "20001", "payee": "0712000001", "amount_minor": 5_000_001}
    quote = leader.quote(**ask)
    assert (quote.status_name, quote.gsma_code) == ("agent_has_not_enough_float", "insufficientFunds")
    told = await cash_in(leader, 1, amount_minor=5_000_001)
    assert told.status_name == "agent_has_not_enough_float"
    assert balances(node, people, "wanjiku", "agent") == [1_000_000, 5_000_000]


async def test_float_that_goes_in_the_same_moment_is_the_same_answer(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    """Judged as enough by the leader, and gone when the entry is applied."""
    node.immediate = False
    waiting = asyncio.ensure_future(cash_in(leader, 1, amount_minor=4_000_000))
    while not node.waiting:
        await asyncio.sleep(0)
    node.fund(people["issuance"], 4_000_000, people["agent"])
    node.apply_next()
    told = await waiting
    assert (told.status_name, told.transfer_status_name) == ("agent_has_not_enough_float", "debits_exceed_credits")
    assert balances(node, people, "wanjiku", "commissions") == [1_000_000, 0]


async def test_cash_out_takes_a_fee_and_pays_the_agent(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    told = await leader.pay(1, kind=OUT, payee="20001", amount_minor=300_000)
    assert (told.status_name, told.fee_minor, told.excise_minor, told.commission_minor) == ("ok", 5_200, 678, 2_000)
    assert told.payee_name == "Agent One"
    assert balances(node, people, "wanjiku", "agent", "fees", "excise", "commissions") == [
        694_800, 5_302_000, 4_522, 678, -2_000,
    ]  # fmt: skip
    assert told.payer_available_minor == 694_800
    node.store.checkpoint(wait=True)
    again = await leader.pay(1, kind=OUT, payee="20001", amount_minor=300_000)
    assert (again.commission_minor, again.payer_available_minor, again.duplicate) == (2_000, 694_800, True)


async def test_a_quote_names_agent_fee_and_commission(leader: Leader) -> None:
    quote = leader.quote(kind=OUT, payee="20001", amount_minor=300_000)
    assert (quote.status_name, quote.payee_name, quote.fee_minor, quote.commission_minor) == (
        "ok", "Agent One", 5_200, 2_000,
    )  # fmt: skip


async def test_float_between_agents_is_free(node: OneNode, people: dict[str, int], leader: Leader) -> None:
    told = await leader.pay(
        1, kind=FLOAT, payer_msisdn="", payer="20001", payee="20002", amount_minor=1_000_000, pin=AGENT_PIN
    )
    assert (told.status_name, told.fee_minor, told.commission_minor) == ("ok", 0, 0)
    assert balances(node, people, "agent", "agent2") == [4_000_000, 6_000_000]


@pytest.mark.parametrize("payer", [{"payer": "123456"}, {"payer": "888880"}, {"payer_msisdn": "0711000009"}])
async def test_a_merchant_pays_out(
    node: OneNode, people: dict[str, int], leader: Leader, payer: dict[str, str]
) -> None:
    for number in ("till", "paybill"):
        node.set_pin(people[number], AGENT_PIN)
        node.fund(people[number], 500_000, people["issuance"])
    ask = {"kind": PAYOUT, "payer_msisdn": "", "payee": "0712000001", "amount_minor": 200_000, "pin": AGENT_PIN}
    told = await leader.pay(1, **(ask | payer))
    assert (told.status_name, told.payer_balance_minor) == ("ok", 300_000)
    assert balances(node, people, "wanjiku") == [1_200_000]


REFUSALS: list[tuple[PaymentStatus, dict[str, Any]]] = [
    (PaymentStatus.PAYER_IS_NO_AGENT, {"kind": IN, "payee": "0712000002"}),
    (PaymentStatus.PAYER_IS_NO_AGENT, {"kind": FLOAT, "payee": "20002"}),
    (PaymentStatus.PAYER_IS_NO_MERCHANT, {"kind": PAYOUT, "payee": "0712000002"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"kind": IN, "payer": "99999"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"kind": PAYOUT, "payer": "20001"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"kind": IN, "payer": "x" * 1_000}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"kind": OUT, "payee": "99999"}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"kind": OUT, "payee": "0712000002"}),
    (PaymentStatus.AMOUNT_OUTSIDE_TARIFF, {"kind": OUT, "payee": "20001", "amount_minor": 4_999}),
    (PaymentStatus.PAYER_IS_PAYEE, {"kind": FLOAT, "payer": "20001", "payee": "20001"}),
    (PaymentStatus.PIN_WRONG, {"kind": OUT, "payee": "20001", "pin": "1357"}),
    (PaymentStatus.INSUFFICIENT_FUNDS, {"kind": OUT, "payee": "20001", "amount_minor": 999_000}),
]


@pytest.mark.parametrize(("status", "changes"), REFUSALS)
async def test_a_refusal_moves_nothing_and_names_the_gsma_code(
    node: OneNode, people: dict[str, int], leader: Leader, status: PaymentStatus, changes: dict[str, Any]
) -> None:
    told = await leader.pay(1, **changes)
    assert told.status_name == status.name.lower()
    assert told.gsma_code
    assert balances(node, people, "wanjiku", "otieno", "agent", "agent2") == [1_000_000, 1_000_000] + [5_000_000] * 2


async def test_without_an_account_for_commissions_nothing_is_promised(tmp_path: Path) -> None:
    node = OneNode(tmp_path / "bare")
    try:
        issuance = node.people()["issuance"]
        agent = node.account("agent", "20001", kind=AccountKind.AGENT, pin=PIN)
        node.fund(agent, 5_000_000, issuance)
        told = await cash_in(Leader(node), 1, pin=PIN)
        assert (told.status_name, told.gsma_category) == ("operator_account_missing", "internal")
        assert available_minor(node, agent) == 5_000_000
    finally:
        node.store.close()


async def test_the_agents_wrong_pins_lock_the_agent_alone(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    for number, left in ((1, 2), (2, 1), (3, 0)):
        assert (await cash_in(leader, number, pin="1357")).pin_tries_left == left
    assert (await cash_in(leader, 4)).status_name == "pin_locked"
    assert int(node.store.columns[people["agent"], Column.FLAGS]) & AccountFlag.PIN_LOCKED
    assert not int(node.store.columns[people["wanjiku"], Column.PIN_TRIES])


async def test_a_shared_bill_takes_the_business_share_out_of_the_amount(
    node: OneNode, people: dict[str, int], leader: Leader
) -> None:
    told = await leader.pay(1, kind=BILL, payee="888880", reference="ACC 9", amount_minor=120_000)
    assert (told.status_name, told.fee_minor, told.payee_fee_minor) == ("ok", 1_000, 500)
    assert balances(node, people, "wanjiku", "paybill", "fees", "excise") == [879_000, 119_500, 1_305, 195]
    again = await leader.pay(1, kind=BILL, payee="888880", reference="ACC 9", amount_minor=120_000)
    assert (again.payee_fee_minor, again.payer_balance_minor) == (500, 879_000)
