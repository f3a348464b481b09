"""Statements by time, balances at a moment and the trial balance, against plain sums over all that was posted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kibubu.ledger.v1 import ledger_pb2

from kibubu_client import Client, InvalidRequestError
from node.ledger.columns import AccountKind
from node.ledger.entry import encode_entry
from node.payments.plan import pack_verdict
from tests.service.books import Books, open_books
from tests.service.one_node import START_NS
from tests.service.test_feed import held

pytestmark = pytest.mark.timeout(300)  # the first payment of a machine waits for the compiler

HOUR_NS = 3_600 * 10**9
OF_KIND = {AccountKind.CUSTOMER: ("wanjiku", "otieno", "achieng"), AccountKind.FEE_REVENUE: ("fees",)}


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    """Five payments, an hour apart, then a held one that is released, and one that is refused for lack of money."""
    async with open_books(tmp_path) as made:
        for number in range(1, 6):
            made.now_ns = START_NS + number * HOUR_NS
            payee = "0712000002" if number % 2 else "0712000003"
            assert (await made.pay(number, payee=payee, amount_minor=10_000 * number)).status_name == "ok"
        await held(made, 6)
        made.now_ns += HOUR_NS
        verdict = encode_entry(made.now_ns, transfers=pack_verdict(6, 3, b"amina", release=True))
        made.node.write(verdict)
        made.node.write(verdict)  # the same again: no new money
        await made.pay(7, amount_minor=20_000_000)
        made.node.store.checkpoint(wait=True)
        yield made


async def statement(client: Client, number: int, **span: int) -> list[ledger_pb2.StoredTransfer]:
    found, token = [], ""
    while True:
        page = await client.statement(
            ledger_pb2.GetStatementRequest(account_number=number, page_size=2, page_token=token, **span)
        )
        found += page.transfers
        token = page.next_page_token
        if not token:
            return found


async def balance_at(client: Client, number: int, time_ns: int) -> tuple[int, int]:
    """The balance, and in how many calls."""
    token, calls = "", 0
    while True:
        calls += 1
        answer = await client.balance_at(
            ledger_pb2.GetBalanceAtRequest(account_number=number, time_ns=time_ns, page_token=token)
        )
        token = answer.next_page_token
        if not token:
            return answer.balance_minor, calls


async def trial(client: Client, **span: int) -> dict[int, tuple[int, int, int, int]]:
    """Kind -> debits, credits, and those of the span."""
    rows: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    token = ""
    while True:
        answer = await client.trial_balance(ledger_pb2.GetTrialBalanceRequest(page_token=token, **span))
        for row in answer.rows:
            assert row.ledger == 404
            sums = (row.debits_minor, row.credits_minor, row.span_debits_minor, row.span_credits_minor)
            rows[row.kind] = [have + more for have, more in zip(rows[row.kind], sums, strict=True)]
        token = answer.next_page_token
        if not token:
            return {kind: (a, b, c, d) for kind, (a, b, c, d) in rows.items()}


async def test_a_statement_of_a_span(books: Books) -> None:
    wanjiku = books.people["wanjiku"]
    async with books.client() as client:
        everything = await statement(client, wanjiku)
        times = [stored.result.timestamp_ns for stored in everything]
        assert times == sorted(times, reverse=True)
        for first in range(7):
            for last in range(first + 1, 8):
                span = (START_NS + first * HOUR_NS, START_NS + last * HOUR_NS)
                found = await statement(client, wanjiku, from_time_ns=span[0], to_time_ns=span[1])
                assert found == [one for one in everything if span[0] <= one.result.timestamp_ns < span[1]]


async def test_a_long_way_back_is_walked_in_parts(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.statements.STATEMENT_WALK_MAX", 2)
    wanjiku = books.people["wanjiku"]
    async with books.client() as client:
        early = await statement(client, wanjiku, to_time_ns=START_NS + HOUR_NS)
        assert [stored.transfer.narrative for stored in early] == [""]  # what she began with
        balance_minor, calls = await balance_at(client, wanjiku, START_NS + HOUR_NS)
        assert balance_minor == 1_000_000
        assert calls > 3


async def test_balances_at_any_moment_are_what_was_posted_before(books: Books) -> None:
    async with books.client() as client:
        for name, number in books.people.items():
            everything = await statement(client, number)
            for hour in range(9):
                at_ns = START_NS + hour * HOUR_NS - 1
                posted = [one for one in everything if one.result.timestamp_ns < at_ns and not one.transfer.flags & 2]
                by_hand = sum(
                    one.transfer.amount_minor * (1 if one.transfer.credit_account == number else -1) for one in posted
                )
                assert (await balance_at(client, number, at_ns))[0] == by_hand, (name, hour)


async def test_the_trial_balance_of_any_span_balances(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.statements.TRIAL_BALANCE_PAGE_BYTES_MAX", 1)  # a page for each entry
    async with books.client() as client:
        for first, last in ((1, 2), (2, 5), (5, 8), (1, 0)):
            to_ns = START_NS + last * HOUR_NS if last else 0
            rows = await trial(client, from_time_ns=START_NS + first * HOUR_NS, to_time_ns=to_ns)
            assert sum(row[0] for row in rows.values()) == sum(row[1] for row in rows.values()) > 0
            assert sum(row[2] for row in rows.values()) == sum(row[3] for row in rows.values()) > 0
            at_ns = to_ns or START_NS + 100 * HOUR_NS
            for kind, names in OF_KIND.items():
                balances = [(await balance_at(client, books.people[name], at_ns))[0] for name in names]
                assert rows[kind][1] - rows[kind][0] == sum(balances)


async def test_what_was_posted_is_counted_once(books: Books) -> None:
    async with books.client() as client:
        rows = await trial(client, from_time_ns=START_NS + HOUR_NS)
        customers = rows[AccountKind.CUSTOMER]
        principal = 10_000 * (1 + 2 + 3 + 4 + 5) + 50_000
        assert customers[3] == principal
        fees = sum(rows[kind][3] for kind in (AccountKind.FEE_REVENUE, AccountKind.EXCISE_DUTY))
        assert customers[2] == principal + fees
        assert fees == 4 * 700 + 0 + 700


async def test_bad_questions_are_refused(books: Books) -> None:
    async with books.client() as client:
        with pytest.raises(InvalidRequestError, match="to_time_ns"):
            await client.statement(ledger_pb2.GetStatementRequest(account_number=1, from_time_ns=5, to_time_ns=5))
        with pytest.raises(InvalidRequestError, match="from_time_ns"):
            await client.trial_balance(ledger_pb2.GetTrialBalanceRequest(from_time_ns=-1))
        with pytest.raises(InvalidRequestError, match="time_ns"):
            await client.balance_at(ledger_pb2.GetBalanceAtRequest(account_number=1))
        with pytest.raises(InvalidRequestError, match="account_number"):
            await client.balance_at(ledger_pb2.GetBalanceAtRequest(account_number=10_000, time_ns=1))
        for token in ("x", "1", "0.5", "6.5", "1.999999", "1.2.3", "9" * 50):
            with pytest.raises(InvalidRequestError, match="page_token"):
                await client.trial_balance(ledger_pb2.GetTrialBalanceRequest(page_token=token))
        with pytest.raises(InvalidRequestError, match="page_token"):
            await client.balance_at(ledger_pb2.GetBalanceAtRequest(account_number=1, time_ns=1, page_token="77"))
