"""The HTTP side of the edge: one ASGI application for all gateways, nothing of a request in any log."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from kibubu_client import Client
from ussd_edge import browser
from ussd_edge.browser import BrowserPhone
from ussd_edge.catalogues import LedgerLanguages, load_words
from ussd_edge.gateways import GATEWAYS
from ussd_edge.gateways.seam import BadRequestError, Gateway, HttpCall, NoSuchPathError, Phase, Showing, Step
from ussd_edge.guard import Access, may_call
from ussd_edge.limits import BODY_BYTES_MAX, GATEWAY_STEPS_PER_SECOND_MAX, HANDSET_STEPS_PER_MINUTE_MAX, HANDSETS_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.asks import Screen
from ussd_edge.rates import RateLimit
from ussd_edge.readiness import Readiness
from ussd_edge.sessions import Sealer
from ussd_edge.steps import Steps
from ussd_edge.store import SessionStore

PREFIX = "/ussd/"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_log = logging.getLogger("kibubu.ussd")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    access: Access = field(default_factory=Access)
    steps_per_second_max: int = GATEWAY_STEPS_PER_SECOND_MAX


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """`gateways`: those that may call, by name; all others are not there."""

    currency: str
    service_code: str
    gateways: Mapping[str, GatewaySettings]
    session_key: bytes
    handset_steps_per_minute_max: int = HANDSET_STEPS_PER_MINUTE_MAX
    default_language: str = "en"
    browser_phone: bool = False
    sms_file: Path | None = None  # of the outbox, for the phone in the browser


class UssdApp:
    """`make_client` and `make_store` are called once the event loop runs, and again never."""

    def __init__(
        self,
        make_client: Callable[[], Client],
        make_store: Callable[[], SessionStore],
        settings: EdgeSettings,
        registry: CollectorRegistry,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._make_client, self._make_store, self._clock_ms = make_client, make_store, clock_ms
        self._settings = settings
        self._words_of = load_words()
        self._words = self._words_of[settings.default_language]
        phone = BrowserPhone(settings.service_code, settings.gateways, settings.sms_file)
        self._phone = phone if settings.browser_phone else None
        self._open: tuple[Client, SessionStore, Steps] | None = None
        self._readiness: Readiness | None = None
        self._gateway_rates = {
            name: RateLimit(one.steps_per_second_max, 1.0, keys_max=1) for name, one in settings.gateways.items()
        }
        self._handset_rate = RateLimit(settings.handset_steps_per_minute_max, 60.0, keys_max=HANDSETS_MAX)
        self._steps = Counter("kibubu_ussd_steps", "USSD steps answered", ["gateway", "outcome"], registry=registry)
        self._endings = Counter(
            "kibubu_ussd_sessions_ended", "Sessions that a gateway said are over", ["gateway", "ending"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "kibubu_ussd_step_seconds", "Time to answer a step", ["gateway"], buckets=_SECONDS, registry=registry
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                client, store = self._make_client(), self._make_store()
                steps = Steps(
                    client, store, Sealer(self._settings.session_key), self._words_of,
                    LedgerLanguages(client, store, self._settings.currency, self._settings.default_language),
                    currency=self._settings.currency, clock_ms=self._clock_ms,
                )  # fmt: skip
                self._open = client, store, steps
                self._readiness = Readiness(client)
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._open is not None:
                    await self._open[0].close()
                    await self._open[1].close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        name, slash, rest = path.removeprefix(PREFIX).partition("/")
        gateway = GATEWAYS.get(name) if path.startswith(PREFIX) and name in self._settings.gateways else None
        if path == "/livez" and method == "GET":
            await _respond(send, 200, b"ok")
        elif path == "/healthz" and method == "GET":
            reason = await self._readiness.reason() if self._readiness is not None else "starting"
            await _respond(send, 503 if reason else 200, (reason or "ok").encode())
        elif gateway is None:
            phone = self._phone if method == "GET" else None
            page = phone.answer(path, bytes(scope["query_string"])) if phone is not None else None
            if page is None:
                await _respond(send, 404, b"no such path")
            else:
                await _respond(send, 200, page[0], browser.HEADERS, page[1])
        elif method not in gateway.methods:
            allowed = ", ".join(sorted(gateway.methods))
            await _respond(send, 405, f"only {allowed}".encode(), ((b"allow", allowed.encode()),))
        else:
            body = await _read(receive)
            if body is None:
                self._count(gateway, "bad_request")
                await _respond(send, 413, f"body: at most {BODY_BYTES_MAX} bytes".encode())
            else:
                await self._call(gateway, _http_call(scope, slash + rest, body), send)

    async def _call(self, gateway: Gateway, call: HttpCall, send: Send) -> None:
        if not may_call(self._settings.gateways[gateway.name].access, gateway, call):
            self._count(gateway, "forbidden")
            await _respond(send, 403, b"wrong gateway secret, signature or address")
        elif not self._gateway_rates[gateway.name].allows("", time.monotonic()):
            self._count(gateway, "gateway_too_often")
            await _respond(send, 429, b"too many requests", ((b"retry-after", b"1"),))
        else:
            await self._step(gateway, call, send)

    async def _step(self, gateway: Gateway, call: HttpCall, send: Send) -> None:
        started_at = time.perf_counter()
        try:
            step = gateway.parse(call, self._settings.service_code)
        except NoSuchPathError:
            await _respond(send, 404, b"no such path")
            return
        except BadRequestError as error:
            self._count(gateway, "bad_request")
            await _respond(send, 400, str(error).encode())
            return
        if step.phase is Phase.END:
            self._endings.labels(gateway.name, step.ending).inc()
            screen, token = Screen("", ends=True, outcome="ended"), ""
        else:
            screen, token = await self._screen(gateway, step)
        reply = gateway.render(step, Showing(screen.fitted, screen.ends, token))
        await _respond(send, 200, reply.body, reply.headers, reply.content_type)
        self._count(gateway, screen.outcome)
        self._seconds.labels(gateway.name).observe(time.perf_counter() - started_at)

    async def _screen(self, gateway: Gateway, step: Step) -> tuple[Screen, str]:
        if self._open is None:
            raise RuntimeError("the server did not announce its start")
        if step.tail is None and step.phase in (Phase.PATH, Phase.BEGIN):
            return Screen(self._words(texts.NOT_IN_USE), ends=True, outcome="unknown_service_code"), ""
        if not self._handset_rate.allows(step.msisdn, time.monotonic()):
            return Screen(self._words(texts.TOO_OFTEN), ends=True, outcome="handset_too_often"), ""
        try:
            return await self._open[2].take(gateway, step)
        except Exception as error:
            # The name of the error only: its text may hold what a person typed.
            _log.error("a step failed: %s", type(error).__name__)
            return Screen(self._words(texts.BROKEN), ends=True, outcome="error"), ""

    def _count(self, gateway: Gateway, outcome: str) -> None:
        self._steps.labels(gateway.name, outcome).inc()


def _http_call(scope: MutableMapping[str, Any], path: str, body: bytes) -> HttpCall:
    client = scope.get("client")
    return HttpCall(
        scope["method"], path, bytes(scope["query_string"]), _first_of_each(scope["headers"]), body,
        str(client[0]) if client else "",
    )  # fmt: skip


def _first_of_each(headers: Any) -> dict[bytes, bytes]:
    return {bytes(name): bytes(value) for name, value in reversed(list(headers))}


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when it is larger than any gateway's."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _respond(
    send: Send,
    status: int,
    body: bytes,
    more: tuple[tuple[bytes, bytes], ...] = (),
    content_type: bytes = b"text/plain; charset=utf-8",
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
