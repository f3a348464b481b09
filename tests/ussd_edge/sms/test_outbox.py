"""The outbox on a real feed: every text once taken in, retried until it is sent, and what a crash between any two steps
leaves; the gateway is the only thing that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from kibubu_client import InvalidRequestError
from tests.service.books import Books, open_books
from tests.service.one_node import START_NS
from ussd_edge.catalogues import load_words
from ussd_edge.sms.book import Book, BookError
from ussd_edge.sms.outbox import Metrics, Outbox, OutboxSettings, pause_s
from ussd_edge.sms.seam import Sms, SmsFailedError, SmsRefusedError
from ussd_edge.sms.texts import Style

pytestmark = pytest.mark.timeout(300)  # the first payment of a machine waits for the compiler

WORDS_OF = load_words()


class Gateway:
    """Takes what it is told to take, and remembers every attempt."""

    def __init__(self) -> None:
        self.sent: list[Sms] = []
        self.attempts = 0
        self.failures: list[Exception] = []
        self.is_down = False
        self.enough = asyncio.Event()
        self.wanted = 0

    async def send(self, sms: Sms) -> None:
        self.attempts += 1
        if self.is_down:
            raise SmsFailedError("down")
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(sms)
        if len(self.sent) >= self.wanted:
            self.enough.set()

    async def close(self) -> None: ...

    async def until(self, count: int) -> list[Sms]:
        self.wanted = count
        if len(self.sent) < count:
            self.enough.clear()
            async with asyncio.timeout(30):
                await self.enough.wait()
        return self.sent


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ussd_edge.sms.outbox.RETRY_S_MIN", 0.001)
    monkeypatch.setattr("ussd_edge.sms.outbox.IDLE_S_MAX", 0.02)


@contextlib.asynccontextmanager
async def running(books: Books, book: Book, gateway: Gateway, **settings: object) -> AsyncIterator[CollectorRegistry]:
    registry = CollectorRegistry()
    chosen = OutboxSettings(Style(), **({"from_beginning": True} | settings))  # type: ignore[arg-type]
    async with books.client("outbox") as client:
        outbox = Outbox(client, book, gateway, WORDS_OF, chosen, Metrics(registry), clock_ns=lambda: books.now_ns)
        task = asyncio.create_task(outbox.run())
        try:
            yield registry
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def test_both_parties_get_a_text_with_names_and_balances(books: Books, tmp_path: Path) -> None:
    gateway, book = Gateway(), Book(tmp_path / "outbox.sqlite")
    async with running(books, book, gateway) as registry:
        outcome = await books.pay(1)
        first, second = sorted(await gateway.until(2), key=lambda sms: sms.id, reverse=True)
        assert first.text.startswith(f"{outcome.receipt} Confirmed. Ksh500.00 sent to Otieno 0712000002 on ")
        assert "New Kibubu balance is Ksh9,493.00. Transaction cost, Ksh7.00." in first.text
        assert "You have received Ksh500.00 from Wanjiku 0712000001" in second.text
        assert "New Kibubu balance is Ksh10,500.00." in second.text
        while book.waiting:
            await asyncio.sleep(0.005)
        assert value(registry, "kibubu_sms_texts_total", outcome="sent") == 2
    book.close()


async def test_what_fails_is_tried_again_and_what_is_refused_is_not(books: Books, tmp_path: Path) -> None:
    gateway, book = Gateway(), Book(tmp_path / "outbox.sqlite")
    busy, never, broken = SmsFailedError("busy"), SmsRefusedError("no such number"), RuntimeError("JOHN DOE")
    gateway.failures = [busy, never, broken, busy]
    books.now_ns = START_NS
    async with running(books, book, gateway) as registry:
        await books.pay(1)
        await books.pay(2)
        ticking = asyncio.create_task(tick(books))
        sent = await gateway.until(3)
        ticking.cancel()
        while book.waiting:
            await asyncio.sleep(0.005)
        assert len({sms.id for sms in sent}) == 3
        assert (gateway.attempts, value(registry, "kibubu_sms_texts_total", outcome="failed")) == (7, 3)
        assert value(registry, "kibubu_sms_texts_total", outcome="refused") == 1
    book.close()


async def tick(books: Books) -> None:
    while True:
        await asyncio.sleep(0.002)
        books.now_ns += 10**8


async def test_killed_at_any_moment_it_forgets_nothing(books: Books, tmp_path: Path) -> None:
    """A kill is: the process ends between two statements. What was taken in and not settled is sent by the next."""
    for number in range(1, 6):
        await books.pay(number)
    path = tmp_path / "outbox.sqlite"
    gateway = Gateway()
    book = Book(path)
    gateway.is_down = True
    async with running(books, book, gateway):
        while gateway.attempts < 10:
            await asyncio.sleep(0.005)
    assert book.waiting == 10
    cursor = book.cursor
    book.close()
    again = Book(path)
    assert again.cursor == cursor
    assert again.waiting == 10
    books.now_ns += 3_600 * 10**9
    gateway.is_down = False
    async with running(books, again, gateway):
        sent = await gateway.until(10)
        assert len({sms.id for sms in sent}) == len(sent) == 10
        await books.pay(6)
        assert len(await gateway.until(12)) == 12
    again.close()


async def test_a_new_outbox_begins_with_today_unless_told_otherwise(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.service.feed_servicer.FEED_HEARTBEAT_S", 0.02)
    await books.pay(1)
    gateway, book = Gateway(), Book(tmp_path / "outbox.sqlite")
    async with running(books, book, gateway, from_beginning=False):
        while book.cursor is None:
            await asyncio.sleep(0.005)
        await books.pay(2)
        sent = await gateway.until(2)
        assert {sms.id.partition(".")[0] for sms in sent} == {str(books.node.store.applied_position)}
    book.close()


async def test_old_news_is_not_told(books: Books, tmp_path: Path) -> None:
    await books.pay(1)
    books.now_ns += 2 * 86_400 * 10**9
    gateway, book = Gateway(), Book(tmp_path / "outbox.sqlite")
    async with running(books, book, gateway) as registry:
        await books.pay(2)
        assert {sms.made_ns for sms in await gateway.until(2)} == {books.node.store.last_timestamp_ns}
        while book.waiting:
            await asyncio.sleep(0.005)
        assert value(registry, "kibubu_sms_texts_total", outcome="too_old") == 2
    book.close()


async def test_no_more_is_read_than_can_wait(books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ussd_edge.sms.outbox.WAITING_MAX", 4)
    monkeypatch.setattr("node.service.feed_events.FEED_EVENTS_IN_PAGE_MAX", 1)
    for number in range(1, 9):
        await books.pay(number)
    gateway, book = Gateway(), Book(tmp_path / "outbox.sqlite")
    gateway.failures = [SmsFailedError("down")] * 40
    most = 0
    async with running(books, book, gateway):
        ticking = asyncio.create_task(tick(books))
        while gateway.failures:
            most = max(most, book.waiting)
            await asyncio.sleep(0.001)
        assert len({sms.id for sms in await gateway.until(16)}) == 16
        ticking.cancel()
    assert 4 <= most <= 5  # one page may begin below the maximum
    book.close()


def test_a_text_is_taken_in_once_and_a_file_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    book = Book(path)
    assert book.cursor is None
    for _ in range(2):
        book.take_in(8, 1, [Sms("7.0.payer", "254712000001", "hello", 5)])
    assert (book.cursor, book.waiting, book.oldest_ns) == ((8, 1), 1, 5)
    with pytest.raises(BookError, match="locked"):
        Book(path)
    book.settle(["7.0.payer"], [])
    assert (book.waiting, book.oldest_ns) == (0, 0)
    book.close()
    assert path.stat().st_mode & 0o077 == 0
    (tmp_path / "other").write_text("no database, but long enough to be looked at as one", encoding="utf-8")
    with pytest.raises(BookError, match="not a database"):
        Book(tmp_path / "other")


def test_pauses_grow_to_a_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ussd_edge.sms.outbox.RETRY_S_MIN", 1.0)
    for attempts in range(60):
        assert min(2.0**attempts, 300) / 2 <= pause_s(attempts) <= min(2.0**attempts, 300)


async def test_an_edge_s_certificate_reads_no_feed(books: Books, tmp_path: Path) -> None:
    book = Book(tmp_path / "outbox.sqlite")
    async with books.client("edge") as client:
        settings = OutboxSettings(Style(), from_beginning=True)
        outbox = Outbox(client, book, Gateway(), WORDS_OF, settings, Metrics(CollectorRegistry()))
        with pytest.raises(ExceptionGroup) as caught:
            await outbox.run()
        assert caught.group_contains(InvalidRequestError, match="permission_denied")
    book.close()
