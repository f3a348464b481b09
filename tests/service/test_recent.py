"""The last payments of an account as a phone is shown them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kibubu.payments.v1 import payments_pb2

from kibubu_client import id_bytes
from tests.service.books import Books, open_books
from tests.service.one_node import PIN

PAYER = "254712000001"


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        yield made


async def asked(books: Books, number: int, recent_max: int, pin: str = PIN) -> payments_pb2.CheckBalanceResponse:
    request = payments_pb2.CheckBalanceRequest(
        request_id=id_bytes(number), msisdn=PAYER, currency="KES", pin=pin, recent_max=recent_max
    )
    async with books.client("edge") as client:
        return await client.check_balance(request)


async def test_each_payment_is_one_line_with_its_fee_newest_first(books: Books) -> None:
    sent = await books.pay(1)
    books.now_ns += 10**9
    paid = await books.pay(2, kind=2, payee="123456", amount_minor=20_000)
    books.now_ns += 10**9
    back = await books.pay(3, payer_msisdn="254712000002", payee=PAYER, amount_minor=1_000)
    assert {outcome.status_name for outcome in (sent, paid, back)} == {"ok"}
    assert sent.fee_minor > sent.excise_minor > 0  # three legs
    answer = await asked(books, 10, 3)
    lines = [(one.amount_minor, one.timestamp_ns) for one in answer.recent]
    assert lines == [
        (1_000, back.timestamp_ns),
        (-20_000 - paid.fee_minor, paid.timestamp_ns),
        (-50_000 - sent.fee_minor, sent.timestamp_ns),
    ]
    assert [one.other_name for one in answer.recent[1:]] == [paid.payee_name, sent.payee_name]
    assert [one.amount_minor for one in (await asked(books, 11, 1)).recent] == [1_000]
    assert len((await asked(books, 12, 1_000)).recent) == 4  # and the opening balance
    assert not (await asked(books, 13, 0)).recent


async def test_a_wrong_pin_is_shown_nothing(books: Books) -> None:
    await books.pay(1)
    answer = await asked(books, 10, 5, pin="0000")
    assert answer.status_name == "pin_wrong"
    assert not answer.recent


async def test_what_is_only_reserved_is_no_payment_yet(books: Books) -> None:
    await books.pay(1)
    before = (await asked(books, 10, 5)).recent
    held = books.book.draft(
        2, payments_pb2.Payment(kind=1, payer_msisdn=PAYER, payee="0712000002", amount_minor=9_000, currency="KES")
    )
    assert not isinstance(held, int)
    held.hold = True
    assert (await books.desk.decide(held, PIN)).status_name == "held_for_review"
    assert (await asked(books, 11, 5)).recent == before
