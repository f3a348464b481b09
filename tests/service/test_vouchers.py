"""Vouchers: paid out once, to the right secret or to the number's own account, or back with the fee."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kibubu.payments.v1 import payments_pb2

from node.ledger.entry import encode_entry
from node.ledger.statuses import PaymentStatus
from node.service.errors import QueueFullError
from node.service.payment_vouchers import SECRET_TRIES_MAX, VOUCHER_S, secret_of
from node.service.voucher_payer import VoucherPayer
from tests.service.leader import Leader, available_minor
from tests.service.one_node import PIN, PIN_KEY, OneNode

SEND, REDEEM, REVERSAL = (
    payments_pb2.PAYMENT_KIND_SEND_TO_UNREGISTERED,
    payments_pb2.PAYMENT_KIND_REDEEM_VOUCHER,
    payments_pb2.PAYMENT_KIND_REVERSAL,
)
STRANGER = "254712000077"
EVERYBODY = ("wanjiku", "agent", "fees", "excise", "commissions", "vouchers")


def raw(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Office:
    def __init__(self, node: OneNode) -> None:
        self.node = node
        self.people = node.people() | node.agents()
        self.leader = Leader(node)

    def has(self, *names: str) -> list[int]:
        return [available_minor(self.node, self.people[name]) for name in names]

    async def send(self, number: int, **changes: Any) -> payments_pb2.Outcome:
        fields = {"kind": SEND, "payee": "0712000077", "amount_minor": 300_000}
        return await self.leader.pay(number, **(fields | changes))

    async def redeem(self, number: int, voucher: int, secret: str, **changes: Any) -> payments_pb2.Outcome:
        fields = {"kind": REDEEM, "payer_msisdn": "", "payer": "20001", "payee": "", "amount_minor": 0}
        fields |= {"original_payment_id": raw(voucher), "secret": secret}
        return await self.leader.pay(number, **(fields | changes))

    def later(self, seconds: int) -> None:
        self.leader.now_ns += seconds * 1_000_000_000
        self.node.write(encode_entry(self.leader.now_ns))


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    node = OneNode(tmp_path)
    yield Office(node)
    node.store.close()


async def test_an_agent_pays_it_out_once_against_the_secret(office: Office) -> None:
    sent = await office.send(1)
    assert (sent.status_name, sent.fee_minor, sent.gsma_code) == ("voucher_waits", 5_300, "")
    assert (sent.payer_balance_minor, sent.payer_available_minor, sent.payee_name) == (1_000_000, 694_700, STRANGER)
    assert (len(sent.voucher_secret), len(sent.receipt)) == (6, 10)
    assert sent.expire_time_ns == sent.timestamp_ns + VOUCHER_S * 10**9
    assert (await office.send(1)).voucher_secret == sent.voucher_secret
    told = await office.redeem(2, 1, sent.voucher_secret)
    assert (told.status_name, told.amount_minor, told.commission_minor) == ("ok", 300_000, 2_000)
    assert told.payer_available_minor == 5_302_000
    assert office.has(*EVERYBODY) == [694_700, 5_302_000, 4_609, 691, -2_000, 0]
    again = await office.redeem(2, 1, sent.voucher_secret)
    assert (again.status_name, again.duplicate, again.payer_available_minor) == ("ok", True, 5_302_000)
    assert (await office.redeem(3, 1, sent.voucher_secret)).status_name == "voucher_already_redeemed"
    found = office.leader.book.lookup(1)
    assert (found.end, found.outcome.voucher_secret) == (payments_pb2.PAYMENT_END_POSTED, "")
    assert office.leader.book.lookup(2).payment.original_payment_id == raw(1)


async def test_after_a_week_everything_goes_back(office: Office) -> None:
    sent = await office.send(1)
    office.later(VOUCHER_S + 1)
    assert office.has(*EVERYBODY) == [1_000_000, 5_000_000, 0, 0, 0, 0]
    assert (await office.redeem(2, 1, sent.voucher_secret)).status_name == "voucher_expired"


async def test_wrong_secrets_are_counted_wherever_the_leader_is(office: Office) -> None:
    sent = await office.send(1)
    wrong = "000000" if sent.voucher_secret != "000000" else "111111"
    for number in range(SECRET_TRIES_MAX):
        leader = office.leader = Leader(office.node)  # another one each time
        told = await office.redeem(10 + number, 1, wrong)
        assert (told.status_name, told.gsma_category) == ("voucher_secret_wrong", "authorisation")
        assert (await office.redeem(10 + number, 1, sent.voucher_secret)).duplicate  # an id keeps its outcome
        office.node.store.checkpoint(wait=True)
        assert leader is office.leader
    assert (await office.redeem(20, 1, sent.voucher_secret)).status_name == "voucher_locked"
    assert office.has("agent", "vouchers") == [5_000_000, 0]
    office.later(VOUCHER_S + 1)
    assert office.has("wanjiku") == [1_000_000]


async def test_a_wrong_pin_tells_nothing_about_the_secret(office: Office) -> None:
    sent = await office.send(1)
    wrong = await office.redeem(2, 1, "x", pin="1357")
    right = await office.redeem(3, 1, sent.voucher_secret, pin="1357")
    assert wrong.status_name == right.status_name == "pin_wrong"
    assert (await office.redeem(4, 1, sent.voucher_secret)).status_name == "ok"


async def test_two_at_once_are_compared_one_after_the_other(office: Office) -> None:
    sent = await office.send(1)
    office.node.immediate = False
    first = asyncio.ensure_future(office.redeem(2, 1, "000001"))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError, match="another payment of the same thing"):
        await office.redeem(3, 1, sent.voucher_secret, payer="20002")
    while not office.node.waiting:
        await asyncio.sleep(0)
    office.node.apply_next()
    assert (await first).status_name == "voucher_secret_wrong"
    office.node.immediate = True
    assert (await office.redeem(3, 1, sent.voucher_secret, payer="20002")).status_name == "ok"


async def test_two_leaders_redeem_and_one_pays(office: Office) -> None:
    sent = await office.send(1)
    office.node.immediate = False
    first = asyncio.ensure_future(office.redeem(2, 1, sent.voucher_secret))
    while len(office.node.waiting) < 1:
        await asyncio.sleep(0)
    office.leader = Leader(office.node)
    second = asyncio.ensure_future(office.redeem(3, 1, sent.voucher_secret, payer="20002"))
    while len(office.node.waiting) < 2:
        await asyncio.sleep(0)
    office.node.apply_next()
    office.node.apply_next()
    assert ((await first).status_name, (await second).status_name) == ("ok", "voucher_already_redeemed")
    assert office.has("agent", "agent2", "vouchers") == [5_302_000, 5_000_000, 0]


async def test_the_sender_takes_it_back_with_the_fee(office: Office) -> None:
    sent = await office.send(1)
    back = await office.leader.pay(2, kind=REVERSAL, payee="", amount_minor=0, original_payment_id=raw(1))
    assert (back.status_name, back.payer_available_minor) == ("ok", 1_000_000)
    assert (await office.redeem(3, 1, sent.voucher_secret)).status_name == "voucher_expired"
    again = await office.leader.pay(4, kind=REVERSAL, payee="", amount_minor=0, original_payment_id=raw(1))
    assert again.status_name == "original_is_not_reversible"


async def test_it_goes_to_the_number_as_soon_as_it_registers(office: Office) -> None:
    await office.send(1)
    await office.send(2, payee="0712000078")
    payer = VoucherPayer(office.node, office.node.store, office.leader.book, office.leader.desk)
    assert await payer.look() == 0
    account = office.node.account("msisdn", STRANGER, pin=PIN)
    office.node.is_leader = False
    assert await payer.look() == 0
    office.node.is_leader = True
    assert await payer.look() == 1
    assert available_minor(office.node, account) == 300_000
    assert await payer.look() == 0
    another = VoucherPayer(office.node, office.node.store, office.leader.book, office.leader.desk)
    assert await another.look() == 0  # a new leader finds nothing left
    assert office.has("vouchers", "fees") == [0, 4_609]


REFUSALS: list[tuple[PaymentStatus, dict[str, Any]]] = [
    (PaymentStatus.VOUCHER_NOT_FOUND, {"original_payment_id": raw(9)}),
    (PaymentStatus.VOUCHER_NOT_FOUND, {"original_payment_id": b"short"}),
    (PaymentStatus.VOUCHER_NOT_FOUND, {"original_payment_id": raw(8)}),  # a payment, and no voucher
    (PaymentStatus.PAYER_IS_NO_AGENT, {"payer": "", "payer_msisdn": "254712000002"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"payer": "99999"}),
    (PaymentStatus.PAYMENT_DIFFERS_FROM_REQUEST, {"amount_minor": 299_999}),
    (PaymentStatus.CURRENCY_DIFFERS, {"currency": "UGX"}),
    (PaymentStatus.VOUCHER_SECRET_WRONG, {"secret": ""}),
    (PaymentStatus.VOUCHER_SECRET_WRONG, {"secret": "\N{PILE OF POO}" * 100}),
]


@pytest.mark.parametrize(("status", "changes"), REFUSALS)
async def test_a_refused_redemption_moves_nothing(
    office: Office, status: PaymentStatus, changes: dict[str, Any]
) -> None:
    await office.leader.pay(8, amount_minor=10_000)
    sent = await office.send(1)
    before = office.has(*EVERYBODY)
    told = await office.redeem(2, 1, **({"secret": sent.voucher_secret} | changes))
    assert told.status_name == status.name.lower()
    assert told.gsma_code
    assert office.has(*EVERYBODY) == before


async def test_who_has_an_account_gets_money_and_no_voucher(office: Office) -> None:
    told = await office.send(1, payee="0712000002")
    assert (told.status_name, told.voucher_secret) == ("payee_is_registered", "")
    assert (await office.send(2, payee="rubbish")).status_name == "payee_not_found"


async def test_without_an_account_for_vouchers_none_is_sold(tmp_path: Path) -> None:
    node = OneNode(tmp_path / "bare")
    try:
        node.people()
        told = await Leader(node).pay(1, kind=SEND, payee="0712000077")
        assert told.status_name == "operator_account_missing"
    finally:
        node.store.close()


def test_secrets_follow_from_id_and_key() -> None:
    secrets = {secret_of(PIN_KEY, number) for number in range(1, 200)}
    assert len(secrets) > 190
    assert all(len(secret) == 6 and secret.isdecimal() for secret in secrets)
    assert secret_of(PIN_KEY, 1) == secret_of(PIN_KEY, 1) != secret_of(b"z" * 32, 1)
