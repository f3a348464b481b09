"""From the link to the edge and back: each deliver_sm is one HTTP call, each answer one submit_sm."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Callable

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge
from smpplib import exceptions

from ussd_edge.gateways.seam import SECRET_HEADER
from ussd_edge.smpp.link import Answer, Delivered, LinkSettings, SmppLink

IN_FLIGHT_MAX = 500  # beyond it a step is dropped: its phone shows the network's own time-out
EDGE_TIMEOUT_S = 10.0
PAUSE_S_MIN, PAUSE_S_MAX = 0.5, 30.0  # between two times that we bind
_log = logging.getLogger("kibubu.smpp")


class BridgeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.bound = Gauge("kibubu_smpp_bound", "1 while bound to the message centre", registry=registry)
        self.steps = Counter("kibubu_smpp_steps", "Steps passed to the edge", ["outcome"], registry=registry)


class Bridge:
    def __init__(self, settings: LinkSettings, edge_url: str, secret: str, metrics: BridgeMetrics) -> None:
        self._settings = settings
        self._edge_url = edge_url
        self._metrics = metrics
        self._http = httpx.AsyncClient(
            headers={SECRET_HEADER.decode(): secret} if secret else {}, timeout=EDGE_TIMEOUT_S,
            limits=httpx.Limits(max_connections=IN_FLIGHT_MAX),
        )  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._link: SmppLink | None = None

    async def run(self) -> None:
        """Bound for ever, as far as the message centre allows it."""
        pause_s = PAUSE_S_MIN
        while True:
            gone = asyncio.Event()
            link = SmppLink(self._settings)
            take = self._from_thread(functools.partial(self._take, link))
            try:
                await asyncio.to_thread(link.bind, take, self._from_thread(gone.set))
            except (exceptions.PDUError, exceptions.ConnectionError, OSError) as error:
                _log.warning("not bound to the message centre: %s", type(error).__name__)
            else:
                self._link, pause_s = link, PAUSE_S_MIN
                self._metrics.bound.set(1)
                _log.info("bound to the message centre")
                await gone.wait()  # cancelled here, the link is left to `close`, for what is under way
                self._link = None
                self._metrics.bound.set(0)
                _log.warning("the message centre is gone")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def close(self) -> None:
        link, self._link = self._link, None
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=EDGE_TIMEOUT_S)
        if link is not None:
            await asyncio.to_thread(link.close)
        await self._http.aclose()

    def _from_thread(self, call: Callable[..., object]) -> Callable[..., None]:
        def hand_over(*arguments: object) -> None:
            self._loop.call_soon_threadsafe(call, *arguments)

        return hand_over

    def _take(self, link: SmppLink, delivered: Delivered) -> None:
        if not delivered.op:
            self._metrics.steps.labels("no_ussd").inc()  # an SMS, which is nobody's here
        elif len(self._tasks) >= IN_FLIGHT_MAX:
            self._metrics.steps.labels("too_many").inc()
        else:
            task = self._loop.create_task(self._pass_on(delivered, link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, delivered: Delivered, link: SmppLink) -> None:
        fields = {"msisdn": delivered.msisdn, "code": delivered.code, "op": delivered.op, "text": delivered.text}
        if delivered.session is not None:
            fields["session"] = delivered.session
        try:
            reply = await self._http.post(self._edge_url, content=json.dumps(fields))
            answer = reply.json() if reply.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError) as error:
            _log.warning("the edge does not answer: %s", type(error).__name__)
            self._metrics.steps.labels("edge_down").inc()
            return  # what was paid is paid, and told by SMS; the same step again is the same payment
        if answer is None:
            self._metrics.steps.labels("refused").inc()
        elif answer["silent"]:
            self._metrics.steps.labels("ended").inc()
        else:
            sent = link.send(Answer(delivered, answer["text"], bool(answer["ends"])))
            self._metrics.steps.labels("answered" if sent else "lost").inc()
