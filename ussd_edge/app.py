"""The HTTP side of the edge: one ASGI application, no session kept, nothing of a request in any log."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from kibubu_client import Client
from ussd_edge.gateways import africastalking
from ussd_edge.ledger import LedgerAnswers
from ussd_edge.menu.asks import Screen
from ussd_edge.menu.session import converse

BODY_BYTES_MAX = 64 * 1_024
SECRET_HEADER = b"x-kibubu-gateway-secret"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_log = logging.getLogger("kibubu.ussd")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class UssdApp:
    """`make_client` is called once the event loop runs, and again never."""

    def __init__(
        self,
        make_client: Callable[[], Client],
        *,
        currency: str,
        service_code: str,
        gateway_secret: str,
        registry: CollectorRegistry,
    ) -> None:
        self._make_client = make_client
        self._client: Client | None = None
        self._currency = currency
        self._service_code = service_code
        self._secret = gateway_secret.encode()
        self._steps = Counter("kibubu_ussd_steps", "USSD steps answered", ["gateway", "outcome"], registry=registry)
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
                self._client = self._make_client()
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._client is not None:
                    await self._client.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path == "/healthz" and method == "GET":
            await _respond(send, 200, b"ok")
        elif path != africastalking.PATH:
            await _respond(send, 404, b"no such path")
        elif method != "POST":
            await _respond(send, 405, b"only POST", allow=b"POST")
        elif self._secret and not hmac.compare_digest(self._secret, _header(scope, SECRET_HEADER)):
            self._count("forbidden")
            await _respond(send, 403, b"wrong gateway secret")
        else:
            body = await _read(receive)
            if body is None:
                self._count("bad_request")
                await _respond(send, 413, f"body: at most {BODY_BYTES_MAX} bytes".encode())
            else:
                await self._step(body, send)

    async def _step(self, body: bytes, send: Send) -> None:
        started_at = time.perf_counter()
        try:
            request = africastalking.parse(body)
        except africastalking.BadFormError as error:
            self._count("bad_request")
            await _respond(send, 400, str(error).encode())
            return
        if request.service_code != self._service_code:
            screen = Screen("This service code is not in use.", ends=True, outcome="unknown_service_code")
        else:
            screen = await self._screen(request)
        await _respond(send, 200, africastalking.render(screen.fitted, ends=screen.ends))
        self._count(screen.outcome)
        self._seconds.labels(africastalking.NAME).observe(time.perf_counter() - started_at)

    async def _screen(self, request: africastalking.UssdRequest) -> Screen:
        client = self._client
        if client is None:
            raise RuntimeError("the server did not announce its start")
        answers = LedgerAnswers(client, africastalking.NAME, request.session_id, request.msisdn, self._currency)
        conversation = converse(request.inputs, request.msisdn)
        try:
            ask = next(conversation)
            while True:
                ask = conversation.send(await answers.answer(ask))
        except StopIteration as stop:
            screen: Screen = stop.value
            return screen
        except Exception as error:
            # The name of the error only: its text may hold what a person typed.
            _log.error("a step failed: %s", type(error).__name__)
            text = "The service has a problem. If you were paying, check your balance before you pay again."
            return Screen(text, ends=True, outcome="error")

    def _count(self, outcome: str) -> None:
        self._steps.labels(africastalking.NAME, outcome).inc()


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes:
    found: list[bytes] = [bytes(value) for key, value in scope["headers"] if key == name]
    return found[0] if found else b""


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


async def _respond(send: Send, status: int, body: bytes, *, allow: bytes = b"") -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if allow:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
