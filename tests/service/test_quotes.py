"""Questions of many people in one call, over real gRPC: each gets its own answer, and they share one quorum round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kibubu.payments.v1 import payments_pb2

from kibubu_client import InvalidRequestError
from node.service.limits import PAYMENTS_IN_CALL_MAX
from tests.service.books import Books, open_books


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        yield made


def asked(payee: str = "0712000002", amount_minor: int = 50_000) -> payments_pb2.Payment:
    return payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_SEND_MONEY,
        payer_msisdn="254712000001",
        payee=payee,
        amount_minor=amount_minor,
        currency="KES",
    )


async def test_each_quote_is_that_of_its_own_payment(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    read_index = books.node.read_index
    monkeypatch.setattr(books.node, "read_index", lambda callback: (rounds.append(1), read_index(callback)))
    wanted = [asked(), asked("0712000003"), asked("0700000009"), asked(amount_minor=500_000), asked(amount_minor=0)]
    async with books.client("edge") as client:
        quotes = await asyncio.gather(*(client.quote(payment) for payment in wanted))
    assert len(rounds) == 1
    assert quotes == [books.book.quote(payment) for payment in wanted]
    assert [quote.payee_name for quote in quotes[:2]] == ["Otieno", "Achieng"]
    assert len({quote.status_name for quote in quotes}) >= 3


async def test_one_question_too_many_is_refused(books: Books) -> None:
    async with books.client("edge") as client:
        for method, request in (
            ("QuotePayments", payments_pb2.QuotePaymentsRequest(payments=[asked()] * (PAYMENTS_IN_CALL_MAX + 1))),
            (
                "GetLanguages",
                payments_pb2.GetLanguagesRequest(
                    customers=[payments_pb2.GetLanguageRequest()] * (PAYMENTS_IN_CALL_MAX + 1)
                ),
            ),
        ):
            with pytest.raises(InvalidRequestError, match=f"at most {PAYMENTS_IN_CALL_MAX} in one call"):
                await client._payment(method, request)
