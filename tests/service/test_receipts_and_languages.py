"""Receipts that lead back to their payments, and a customer's language, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kibubu.payments.v1 import payments_pb2

from kibubu_client import InvalidRequestError, id_bytes, new_id
from node.payments.receipts import POSITIONS, receipt_of
from node.storage.ledger_store import LedgerStore, StoreConfig
from tests.service.books import Books, open_books

pytestmark = pytest.mark.timeout(300)  # the first payment of a machine waits for the compiler


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        yield made


async def test_each_receipt_leads_to_its_payment(books: Books) -> None:
    payers = ("254712000001", "254712000002", "254712000003")
    outcomes = await asyncio.gather(
        *(books.pay(n + 1, payer_msisdn=payers[n % 3], payee="123456", kind=2, amount_minor=1_000) for n in range(9))
    )
    assert len({outcome.position for outcome in outcomes}) < 9  # some share an entry
    books.now_ns += 3 * 86_400 * 10**9
    later = await books.pay(50)
    books.node.store.checkpoint(wait=True)
    async with books.client("edge") as client:
        for number, outcome in (*enumerate(outcomes, 1), (50, later)):
            found = await client.lookup_receipt(outcome.receipt.lower())
            assert found.found
            assert found.payment.payment_id == id_bytes(number)
            assert found.outcome.receipt == outcome.receipt
            again = await client.lookup_payment(id_bytes(number))
            assert again.outcome.receipt == outcome.receipt
    assert len({outcome.receipt for outcome in (*outcomes, later)}) == 10


async def test_what_is_nobody_s_receipt(books: Books) -> None:
    outcome = await books.pay(1)
    refused = await books.pay(2, amount_minor=20_000_000)
    assert (refused.status_name, refused.receipt) == ("insufficient_funds", "")
    of_other_day = receipt_of(outcome.position, 0, outcome.timestamp_ns - 9 * 86_400 * 10**9, 404)
    of_no_position = receipt_of(outcome.position + 5, 0, outcome.timestamp_ns, 404)
    of_the_refused = receipt_of(refused.position, 0, refused.timestamp_ns, 404)
    of_an_account = receipt_of(1, 0, outcome.timestamp_ns, 404)
    async with books.client() as client:
        for text in (of_other_day, of_no_position, of_the_refused, of_an_account):
            assert not (await client.lookup_receipt(text)).found
        for request in (
            payments_pb2.LookupPaymentRequest(),
            payments_pb2.LookupPaymentRequest(payment_id=id_bytes(1), receipt=outcome.receipt),
            payments_pb2.LookupPaymentRequest(receipt="SG632NMUA"),
        ):
            with pytest.raises(InvalidRequestError, match="receipt"):
                await client._payment("LookupPayment", request)


async def test_a_receipt_is_found_beyond_the_first_round_of_positions(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few positions in a round, many are tried; the day says which."""
    for module in ("node.payments.receipts", "node.service.payment_book"):
        monkeypatch.setattr(f"{module}.POSITIONS", 3)
    assert POSITIONS > 3
    receipts = {}
    for day in range(8):
        books.now_ns += 3 * 86_400 * 10**9
        receipts[day] = (await books.pay(day + 1)).receipt
    async with books.client() as client:
        for day, receipt in receipts.items():
            assert (await client.lookup_receipt(receipt)).payment.payment_id == id_bytes(day + 1)


async def test_a_language_is_chosen_and_survives(books: Books, tmp_path: Path) -> None:
    async with books.client("edge") as client:
        assert await client.language("254712000001", "KES", deadline_s=5) == ""
        request = payments_pb2.SetLanguageRequest(
            request_id=id_bytes(new_id()), msisdn="0712000001", currency="KES", language="sw"
        )
        for _ in range(2):  # a retry is the same choice
            assert (await client.set_language(request)).status_name == "ok"
        assert await client.language("254712000001", "KES", deadline_s=5) == "sw"
        for msisdn, language, status in (
            ("0799999999", "sw", "payer_not_found"),
            ("0712000001", "Kiswahili", "language_malformed"),
        ):
            other = payments_pb2.SetLanguageRequest(
                request_id=id_bytes(new_id()), msisdn=msisdn, currency="KES", language=language
            )
            assert (await client.set_language(other)).status_name == status
        assert await client.language("254799999999", "KES", deadline_s=5) == ""
    number = books.people["wanjiku"]
    books.node.command(set_name={"account_number": number, "name": "Wanjiku wa Kamau"})
    books.node.command(add_handle={"account_number": number, "handle": {"key": "walletid", "value": "W1"}})
    profile = books.node.store.profile(number)
    assert profile is not None
    assert (profile.language, profile.name, len(profile.handles)) == ("sw", "Wanjiku wa Kamau", 2)
    assert books.node.store.verify().ok
    books.node.store.close()
    books.node.store = LedgerStore(tmp_path / "ledger", StoreConfig("test", "n1", map_bytes=1 << 28))
    assert books.node.store.profile(number) == profile
    assert books.node.store.verify().ok
