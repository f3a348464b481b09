"""The change feed: everything once, in order, from anywhere; what was held and how it ended; slow and many readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.feed.v1 import feed_pb2
from kibubu.payments.v1 import payments_pb2

from kibubu_client import Client, InvalidRequestError, id_bytes, pack_transfer
from node.consensus.contract import EngineStatus
from node.ledger.entry import decode_entry, encode_entry
from node.ledger.statuses import FraudDecision, PaymentStatus
from node.payments.plan import HOLD_TIMEOUT_S, pack_verdict
from node.service.feed_events import FeedReader, Page
from tests.service.books import Books, open_books
from tests.service.one_node import PIN, START_NS

pytestmark = pytest.mark.timeout(300)  # the first payment of a machine waits for the compiler

STATES = feed_pb2.PaymentState


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        yield made


async def stored(client: Client, position: int = 1, offset: int = 0, **wanted: bool) -> list[feed_pb2.Event]:
    return [event async for event in client.feed(position, offset, only_stored=True, **wanted)]


def transfers_of_the_log(books: Books) -> list[tuple[int, int, bytes]]:
    """(position, offset among its events, id) by the log itself."""
    found = []
    for batch in books.node.store.export(1, books.node.store.applied_position, 1 << 30):
        if batch.entry:
            entry = decode_entry(batch.entry)
            for offset, record in enumerate(entry.transfers):
                number = int(record["id_hi"]) << 64 | int(record["id_lo"])
                found.append((batch.position, len(entry.payments) + offset, number.to_bytes(16, "big")))
    return found


def place(event: feed_pb2.Event) -> tuple[int, int]:
    return event.position, event.offset


async def held(books: Books, number: int) -> None:
    payment = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn="254712000001", payee="254712000002",
        amount_minor=50_000, currency="KES",
    )  # fmt: skip
    draft = books.book.draft(number, payment)
    assert not isinstance(draft, PaymentStatus)
    draft.hold, draft.decision = True, FraudDecision.HOLD
    assert (await books.desk.decide(draft, PIN)).status_name == "held_for_review"


async def test_all_of_the_log_comes_once_and_from_anywhere(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.feed_events.FEED_EVENTS_IN_PAGE_MAX", 3)
    await asyncio.gather(*(books.pay(n, payee="0712000003" if n % 2 else "0712000002") for n in range(1, 8)))
    books.node.write(b"")
    books.node.store.checkpoint(wait=True)
    await books.pay(8)
    async with books.client("auditor") as client:
        everything = await stored(client)
        assert [(*place(event), event.transfer.transfer.id) for event in everything if event.HasField("transfer")] == (
            transfers_of_the_log(books)
        )
        assert [place(event) for event in everything] == sorted({place(event) for event in everything})
        assert [e.payment.payment.payment_id[-1] for e in everything if e.HasField("payment")] == list(range(1, 9))
        for at, event in enumerate(everything):
            following = await stored(client, event.position, event.offset + 1)
            assert following == everything[at + 1 :]
        assert await stored(client, payments=True) == everything  # both are the default
        only = await stored(client, transfers=False)
        assert only == [event for event in everything if event.HasField("payment")]
        assert not await stored(client, 10_000)


async def test_a_payment_says_who_what_and_what_is_left(books: Books) -> None:
    books.node.command(set_language={"account_number": books.people["otieno"], "language": "sw"})
    outcome = await books.pay(1)
    async with books.client("outbox") as client:
        (event,) = await stored(client, transfers=False)
        told = event.payment
        assert (told.state, told.payer_name, told.outcome.payee_name) == (
            STATES.PAYMENT_STATE_DONE,
            "Wanjiku",
            "Otieno",
        )
        assert (told.payment.payer_msisdn, told.payee_msisdn) == ("254712000001", "254712000002")
        assert (told.payer_language, told.payee_language) == ("", "sw")
        assert (told.payer_available_minor, told.payee_available_minor) == (949_300, 1_050_000)
        assert (told.payee_amount_minor, told.payee_currency) == (50_000, "KES")
        assert told.outcome.receipt == outcome.receipt != ""
        assert event.timestamp_ns == outcome.timestamp_ns


async def test_a_held_payment_is_told_twice(books: Books) -> None:
    for number in (1, 2, 3):
        await held(books, number)
    books.node.write(encode_entry(START_NS, transfers=pack_verdict(1, 3, b"amina", release=True)))
    books.node.write(encode_entry(START_NS, transfers=pack_verdict(2, 3, b"amina", release=False)))
    books.node.write(encode_entry(START_NS, transfers=pack_verdict(2, 3, b"amina", release=False)))  # says nothing new
    books.node.write(encode_entry(START_NS + (HOLD_TIMEOUT_S + 1) * 10**9))
    async with books.client() as client:
        events = [event.payment for event in await stored(client, transfers=False)]
        assert [(event.payment.payment_id[-1], STATES.Name(event.state)[14:]) for event in events] == [
            (1, "HELD"), (2, "HELD"), (3, "HELD"), (1, "RELEASED"), (2, "CANCELLED"), (3, "EXPIRED"),
        ]  # fmt: skip
        assert events[3].payer_available_minor == 1_000_000 - 3 * 50_700  # the two others are still reserved
        assert (events[3].payee_available_minor, events[4].payer_available_minor) == (1_050_000, 898_600)


async def test_vouchers_and_reversals_say_how_they_ended(books: Books) -> None:
    people = books.people | books.node.agents()
    sent = await books.pay(1, kind=payments_pb2.PAYMENT_KIND_SEND_TO_UNREGISTERED, payee="0712000077")
    redeem = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_REDEEM_VOUCHER, payer="20001", currency="KES", original_payment_id=id_bytes(1)
    )
    await books.decide(2, redeem, secret=sent.voucher_secret)
    await books.pay(3)
    back = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_REVERSAL, payer_msisdn="254712000001", currency="KES",
        original_payment_id=id_bytes(3),
    )  # fmt: skip
    await books.decide(4, back)
    agreed = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_REVERSAL, payer_msisdn="254712000002", currency="KES",
        original_payment_id=id_bytes(4),
    )  # fmt: skip
    assert (await books.decide(5, agreed)).status_name == "ok"
    async with books.client() as client:
        events = [event.payment for event in await stored(client, transfers=False)]
    told = [(event.payment.payment_id[-1], STATES.Name(event.state)[14:]) for event in events]
    assert told[:3] == [(1, "HELD"), (2, "DONE"), (1, "RELEASED")]
    assert told[3:] == [(3, "DONE"), (4, "HELD"), (5, "DECIDED"), (4, "RELEASED")]
    by_name = {(event.payment.payment_id[-1], STATES.Name(event.state)[14:]): event for event in events}
    collected = by_name[1, "RELEASED"]
    assert collected.payer_available_minor == 1_000_000 - 50_000 - sent.fee_minor
    assert (collected.payment.payee, collected.payee_msisdn) == ("254712000077", "")
    paid_out = by_name[2, "DONE"]
    assert paid_out.payee_account == people["agent"]
    assert paid_out.payee_available_minor >= 5_050_000


async def test_money_abroad_is_told_to_who_gets_it(books: Books) -> None:
    people = books.people | books.node.abroad()
    ask: dict[str, Any] = {
        "kind": payments_pb2.PAYMENT_KIND_REMITTANCE, "payee": "+256772000001", "payee_currency": "UGX",
        "payer_msisdn": "254712000001", "amount_minor": 100_000, "currency": "KES",
    }  # fmt: skip
    quote = books.book.quote(payments_pb2.Payment(**ask))
    await books.decide(1, payments_pb2.Payment(**ask, quote=quote.quote))
    async with books.client() as client:
        (told,) = [event.payment for event in await stored(client, transfers=False)]
    assert (told.payee_account, told.payee_msisdn) == (people["nakato"], "256772000001")
    assert (told.payee_amount_minor, told.payee_currency, told.payee_available_minor) == (28_450, "UGX", 28_450)
    assert (told.outcome.payee_name, told.payment.currency, told.payer_available_minor) == ("Nakato", "KES", 898_700)


async def test_a_payment_proposed_twice_is_told_once(books: Books) -> None:
    await books.pay(1)
    batch = books.node.store.export(books.node.store.applied_position, books.node.store.applied_position, 1)[0]
    books.node.write(batch.entry)  # as a leader that did not know of it would
    async with books.client() as client:
        first, second = [event.payment for event in await stored(client, transfers=False)]
        assert (first.outcome.duplicate, second.outcome.duplicate) == (False, True)


async def test_what_comes_later_arrives(books: Books) -> None:
    async with books.client() as client:
        feed = client.feed(books.node.store.applied_position + 1, transfers=False)
        for number in range(1, 6):
            waiting = asyncio.ensure_future(anext(feed))
            await asyncio.sleep(0)
            await books.pay(number)
            assert (await waiting).payment.payment.payment_id[-1] == number
        await feed.aclose()


async def test_a_silent_feed_says_that_it_is_there(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.feed_servicer.FEED_HEARTBEAT_S", 0.01)
    async with books.client() as client:
        page = await anext(aiter(client.pages(books.node.store.applied_position + 1)))
        assert not page.events
        assert page.applied_position == books.node.store.applied_position


async def test_a_node_without_a_leader_sends_its_readers_away(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.feed_servicer.FEED_LEADERLESS_S", 0.0)
    monkeypatch.setattr(type(books.node), "status", lambda self: _leaderless())
    async with books.client() as client:
        stub = client.pages()._stubs
        call = next(stub).Follow(feed_pb2.FollowRequest(from_position=10_000))
        with pytest.raises(grpc.aio.AioRpcError, match="knows no leader"):
            await call.read()


def _leaderless() -> EngineStatus:
    return EngineStatus("n1", "follower", 1, "", 0, 0, 0, 0, 0, {}, False)


async def test_a_reader_goes_on_where_a_node_left_it(books: Books) -> None:
    """The node ends the stream in the middle, and again; its reader meets it again, and nothing twice."""
    await asyncio.gather(*(books.pay(n) for n in range(1, 5)))
    async with books.client(also="127.0.0.1:1") as client:  # where nothing listens
        everything = await stored(client)
        feed, seen = client.feed(), []
        async for event in feed:
            seen.append(event)
            if len(seen) == len(everything):
                books.feed.close()
                books.feed._is_closed = False
                await books.pay(9)
            if len(seen) == len(everything) + 4:
                break
        assert seen[: len(everything)] == everything
        assert [place(event) for event in seen] == sorted({place(event) for event in seen})
        await feed.aclose()


async def test_a_slow_reader_is_served_at_its_own_rate(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not taken is not read: the node holds a page, gRPC its window, and no more."""
    issuance, wanjiku = books.people["issuance"], books.people["wanjiku"]
    for batch in range(16):
        packed = b"".join(
            pack_transfer(1 << 90 | batch << 20 | n, issuance, wanjiku, 1, ledger=404, code=1_001) for n in range(8_000)
        )
        books.node.write(encode_entry(START_NS, transfers=packed))
    pages = 0
    read = FeedReader.read

    def counted(self: FeedReader, *where: int, **wanted: bool) -> Page:
        nonlocal pages
        pages += 1
        return read(self, *where, **wanted)

    monkeypatch.setattr(FeedReader, "read", counted)
    async with books.client() as client:
        feed = client.pages(only_stored=True, payments=False)
        reading = aiter(feed)
        first = await anext(reading)
        before = -1
        while pages != before:  # until the node has stopped by itself
            before = pages
            await asyncio.sleep(0.3)
        assert pages < 16 * 8 // 2
        told = len(first.events) + sum([len(page.events) async for page in reading])
        assert told == len(transfers_of_the_log(books)) > 16 * 8_000
    assert pages >= 16 * 8


async def test_readers_are_counted(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.feed_servicer.FEED_FOLLOWERS_MAX", 1)
    async with books.client() as client:
        first = client.feed()
        await anext(first)
        call = next(client.pages()._stubs).Follow(feed_pb2.FollowRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.aclose()


@pytest.mark.parametrize("role", ["edge", "prometheus", "node"])
async def test_who_may_not_read(books: Books, role: str) -> None:
    async with books.client(role) as client:
        with pytest.raises(InvalidRequestError, match="permission_denied"):
            await stored(client)
