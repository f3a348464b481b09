"""Money abroad: as quoted, in one chain over two ledgers, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import AccountFlag
from node.ledger.statuses import PaymentStatus
from node.service.document_kinds import KINDS
from tests.service.leader import Leader, available_minor
from tests.service.one_node import OneNode

ABROAD = payments_pb2.PAYMENT_KIND_REMITTANCE
NAKATO = "256772000001"
ASK: dict[str, Any] = {"kind": ABROAD, "payee": "+256772000001", "amount_minor": 100_000, "payee_currency": "UGX"}
EVERYBODY = ("wanjiku", "fees", "excise", "liquidity", "liquidity_ugx", "nakato")


class Bureau:
    def __init__(self, node: OneNode) -> None:
        self.node = node
        self.people = node.people() | node.abroad()
        self.leader = Leader(node)

    def has(self, *names: str) -> list[int]:
        return [available_minor(self.node, self.people[name]) for name in names or EVERYBODY]

    def quote(self, **changes: Any) -> payments_pb2.QuotePaymentResponse:
        return self.leader.quote(**(ASK | changes))

    async def pay(self, number: int, quote: bytes, **changes: Any) -> payments_pb2.Outcome:
        return await self.leader.pay(number, **(ASK | {"quote": quote} | changes))


@pytest.fixture
async def bureau(tmp_path: Path) -> AsyncIterator[Bureau]:
    node = OneNode(tmp_path)
    yield Bureau(node)
    node.store.close()


async def test_it_arrives_as_quoted(bureau: Bureau) -> None:
    quote = bureau.quote()
    assert (quote.status_name, quote.payee_name, quote.fee_minor) == ("ok", "Nakato", 1_300)
    assert (quote.payee_amount_minor, quote.payee_currency) == (28_450, "UGX")
    assert quote.expire_time_ns == bureau.leader.now_ns + 300 * 10**9
    bureau.node.put_rate("KES/UGX", "1.00")  # what was promised is kept
    told = await bureau.pay(1, quote.quote)
    assert (told.status_name, told.payee_amount_minor, told.payee_currency) == ("ok", 28_450, "UGX")
    assert (told.payer_balance_minor, told.payer_available_minor) == (898_700, 898_700)
    assert bureau.has() == [898_700, 1_130, 170, 100_000, 71_550, 28_450]
    again = await bureau.pay(1, quote.quote)
    assert (again.duplicate, again.payee_amount_minor, again.payee_currency, again.payer_balance_minor) == (
        True, 28_450, "UGX", 898_700,
    )  # fmt: skip
    found = bureau.leader.book.lookup(1).payment
    assert (found.payee, found.payee_currency, found.currency) == (NAKATO, "UGX", "KES")


async def test_a_free_band_tells_the_payers_balance_all_the_same(bureau: Bureau) -> None:
    quote = bureau.quote(amount_minor=10_000)
    assert quote.fee_minor == 0
    assert (await bureau.pay(1, quote.quote, amount_minor=10_000)).payer_balance_minor == 990_000


async def test_a_stale_quote_is_refused(bureau: Bureau) -> None:
    quote = bureau.quote()
    bureau.leader.now_ns += 300 * 10**9
    told = await bureau.pay(1, quote.quote)
    assert (told.status_name, told.gsma_code) == ("quote_has_expired", "quoteHasExpired")
    assert bureau.has("wanjiku", "nakato") == [1_000_000, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 100_001},
        {"payer_msisdn": "254712000002"},
        {"payee": "256772000002"},
        {"quote": b""},
        {"quote": b"x" * 200},
    ],
)
async def test_a_quote_is_good_for_what_it_names_alone(bureau: Bureau, changes: dict[str, Any]) -> None:
    bureau.node.account("msisdn", "256772000002", ledger=800)
    quote = bureau.quote()
    told = await bureau.pay(1, **({"quote": quote.quote} | changes))
    assert told.status_name == "quote_malformed"
    assert bureau.has("wanjiku", "otieno", "nakato") == [1_000_000, 1_000_000, 0]


async def test_another_fee_than_was_promised_is_asked_about_anew(bureau: Bureau) -> None:
    quote = bureau.quote()
    draft = bureau.leader.book.draft(1, payments_pb2.Payment(
        **(ASK | {"quote": quote.quote, "payer_msisdn": "254712000001", "currency": "KES"})
    ))  # fmt: skip
    assert not isinstance(draft, PaymentStatus)
    assert draft.special is not None
    draft.special.fee_minor -= 1  # as if the tariff had changed at midnight
    assert (await bureau.leader.desk.decide(draft, "2468")).status_name == "quote_has_expired"


async def test_liquidity_that_goes_meanwhile_moves_nothing_anywhere(bureau: Bureau) -> None:
    quote = bureau.quote()
    bureau.node.immediate = False
    waiting = asyncio.ensure_future(bureau.pay(1, quote.quote))
    while not bureau.node.waiting:
        await asyncio.sleep(0)
    bureau.node.fund(bureau.people["nakato"], 90_000, bureau.people["liquidity_ugx"], ledger=800)
    bureau.node.apply_next()
    told = await waiting
    assert (told.status_name, told.transfer_status_name) == ("rate_missing", "debits_exceed_credits")
    assert bureau.has() == [1_000_000, 0, 0, 0, 10_000, 90_000]
    assert bureau.quote().status_name == "rate_missing"


REFUSALS: list[tuple[PaymentStatus, dict[str, Any]]] = [
    (PaymentStatus.CURRENCY_DIFFERS, {"payee_currency": "XXX"}),
    (PaymentStatus.CURRENCY_DIFFERS, {"payee_currency": "KES"}),
    (PaymentStatus.CURRENCY_DIFFERS, {"currency": "UGX", "payee_currency": "KES"}),
    (PaymentStatus.RATE_MISSING, {"payee_currency": "TZS", "payee": "255754000001"}),
    (PaymentStatus.PAYER_NOT_FOUND, {"payer_msisdn": "254712999999"}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"payee": "256772999999"}),
    (PaymentStatus.PAYEE_NOT_FOUND, {"payee": "\N{PILE OF POO}"}),
    (PaymentStatus.AMOUNT_MUST_BE_POSITIVE, {"amount_minor": 0}),
    (PaymentStatus.AMOUNT_MUST_BE_POSITIVE, {"amount_minor": -5}),
    (PaymentStatus.AMOUNT_OUTSIDE_TARIFF, {"amount_minor": 25_000_001}),
    (PaymentStatus.REFERENCE_MALFORMED, {"reference": "x"}),
]


@pytest.mark.parametrize(("status", "changes"), REFUSALS)
async def test_what_cannot_be_sold_is_not_quoted(
    bureau: Bureau, status: PaymentStatus, changes: dict[str, Any]
) -> None:
    if "TZS" in changes.values():
        bureau.node.account("msisdn", "255754000001", ledger=834)
        bureau.node.account("system", "TZS/liquidity", ledger=834)
    quote = bureau.quote(**changes)
    assert quote.status_name == status.name.lower()
    assert (quote.quote, bool(quote.gsma_code)) == (b"", True)


async def test_a_receiver_whose_account_is_frozen_is_told_of_before_the_pin(bureau: Bureau) -> None:
    bureau.node.set_flags(bureau.people["nakato"], AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.FROZEN)
    assert bureau.quote().status_name == "payee_frozen"


async def test_too_little_to_be_anything_abroad(bureau: Bureau) -> None:
    bureau.node.put_rate("KES/UGX", "0.001")
    assert bureau.quote(amount_minor=10_000).status_name == "amount_too_small_to_convert"


def test_a_rate_document_is_held_to_its_rules() -> None:
    assert KINDS["rates"]("KES/UGX", b'rate = "28.45"') == "KES/UGX"
    for key, body in (("KES", b'rate = "1"'), ("KES/UGX", b"rate = 1"), ("KES/UGX", b"\xff"), ("KES/UGX", b"rate")):
        with pytest.raises(ValueError, match=r"."):
            KINDS["rates"](key, body)
