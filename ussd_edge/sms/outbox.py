"""The outbox: follows the change feed, keeps what is to be sent, sends it, and tries again what failed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from kibubu_client import Client
from ussd_edge.menu.texts import Words
from ussd_edge.sms.book import Book, Waiting
from ussd_edge.sms.limits import AGE_S_DEFAULT, IDLE_S_MAX, IN_FLIGHT_MAX, RETRY_S_MAX, RETRY_S_MIN, WAITING_MAX
from ussd_edge.sms.seam import SmsFailedError, SmsGateway, SmsRefusedError
from ussd_edge.sms.texts import Style, texts_of

_log = logging.getLogger("kibubu.sms")
_END_OF_THE_LOG = 1 << 62  # a position that is never reached: the node only says how far it is
_SENT, _FAILED, _REFUSED, _TOO_OLD = "sent", "failed", "refused", "too_old"


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.texts = Counter("kibubu_sms_texts", "Texts by what became of an attempt", ["outcome"], registry=registry)
        self.waiting = Gauge("kibubu_sms_queue_length", "Texts that wait to be sent", registry=registry)
        self.oldest_s = Gauge("kibubu_sms_oldest_seconds", "How long the oldest of them has waited", registry=registry)
        self.lag = Gauge("kibubu_sms_feed_lag_entries", "Log entries that the feed was not read yet", registry=registry)


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    style: Style
    from_beginning: bool = False  # of the log, when there is no memory yet; else from the first start on
    age_s_max: int = AGE_S_DEFAULT


class Outbox:
    def __init__(
        self,
        client: Client,
        book: Book,
        gateway: SmsGateway,
        words_of: Mapping[str, Words],
        settings: OutboxSettings,
        metrics: Metrics,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client, self._book, self._gateway = client, book, gateway
        self._words_of, self._settings, self._metrics, self._clock_ns = words_of, settings, metrics, clock_ns
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._send_all())

    # --- in -------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        position, offset = self._book.cursor or await self._first_place()
        async for page in self._client.pages(position, offset, transfers=False):
            texts = [sms for event in page.events for sms in texts_of(event, self._words_of, self._settings.style)]
            while self._book.waiting >= WAITING_MAX:  # the nodes wait for us, not we for room
                await asyncio.sleep(IDLE_S_MAX)
            self._book.take_in(page.next_position, page.next_offset, texts)
            self._metrics.lag.set(max(page.applied_position + 1 - page.next_position, 0))
            if texts:
                self._changed.set()

    async def _first_place(self) -> tuple[int, int]:
        place = 1
        if not self._settings.from_beginning:
            page = await anext(aiter(self._client.pages(_END_OF_THE_LOG, transfers=False)))
            place = page.applied_position + 1
        self._book.take_in(place, 0, [])
        return place, 0

    # --- out ------------------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        while True:
            self._changed.clear()
            due = self._book.due(self._clock_ns() // 1_000_000, IN_FLIGHT_MAX)
            if due:
                await self._send_some(due)
            else:
                self._tell()
                try:
                    async with asyncio.timeout(IDLE_S_MAX):
                        await self._changed.wait()
                except TimeoutError:
                    pass  # something may be due by now

    async def _send_some(self, due: list[Waiting]) -> None:
        outcomes = await asyncio.gather(*(self._send(one) for one in due))
        now_ms = self._clock_ns() // 1_000_000
        done, again = [], []
        for one, outcome in zip(due, outcomes, strict=True):
            self._metrics.texts.labels(outcome).inc()
            if outcome == _FAILED:
                again.append((one.sms.id, now_ms + int(pause_s(one.attempts) * 1_000)))
            else:
                done.append(one.sms.id)
        self._book.settle(done, again)
        self._tell()

    async def _send(self, one: Waiting) -> str:
        if self._clock_ns() - one.sms.made_ns > self._settings.age_s_max * 1_000_000_000:
            return _TOO_OLD
        try:
            await self._gateway.send(one.sms)
        except SmsRefusedError as error:
            _log.warning("text %s was refused for good: %s", one.sms.id, error)
            return _REFUSED
        except SmsFailedError as error:
            _log.warning("text %s was not sent, attempt %d: %s", one.sms.id, one.attempts + 1, error)
            return _FAILED
        except Exception as error:
            # The name only: what it says may quote the text.
            _log.error("text %s was not sent, attempt %d: %s", one.sms.id, one.attempts + 1, type(error).__name__)
            return _FAILED
        return _SENT

    def _tell(self) -> None:
        oldest_ns = self._book.oldest_ns
        self._metrics.waiting.set(self._book.waiting)
        self._metrics.oldest_s.set(max(self._clock_ns() - oldest_ns, 0) / 1e9 if oldest_ns else 0)


def pause_s(attempts: int) -> float:
    """Longer from attempt to attempt, and never the same for all: a gateway that comes back is not met by everybody."""
    longest_s = min(RETRY_S_MIN * 2.0 ** min(attempts, 20), RETRY_S_MAX)
    return longest_s * random.uniform(0.5, 1.0)
