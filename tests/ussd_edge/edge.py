"""The real edge as a gateway meets it: the application in this process, gRPC with mutual TLS to a small node that keeps
each payment under its id, as the ledger does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from kibubu.payments.v1 import payments_pb2
from prometheus_client import CollectorRegistry, generate_latest

from cluster.certificates import ensure_certificates, tls_paths
from kibubu_client import Client, TlsFiles
from tests.kibubu_client.scripted import NOT_LEADER, ScriptedNode
from tests.ussd_edge.wires import CODE
from ussd_edge.app import EdgeSettings, GatewaySettings, UssdApp
from ussd_edge.gateways import GATEWAYS
from ussd_edge.store import EmbeddedStore, SessionStore

PIN, PAYER, KEY = "2468", "254712000001", b"k" * 32
OPEN = {name: GatewaySettings() for name in GATEWAYS}


class Node(ScriptedNode):
    """Quotes every payment; the right PIN pays, once for each id."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[bytes, payments_pb2.Outcome] = {}
        self.paid: list[payments_pb2.Payment] = []
        self.wrong_tries = 0
        self.languages: dict[str, str] = {}
        self.leads = True
        self.lookups = 0

    async def LookupPayment(  # noqa: N802
        self, request: payments_pb2.LookupPaymentRequest, context: Any
    ) -> payments_pb2.LookupPaymentResponse:
        self.lookups += 1
        if not self.leads:
            self.script = deque([NOT_LEADER])
            await self._follow(context)
        return payments_pb2.LookupPaymentResponse()

    async def QuotePayments(  # noqa: N802
        self, request: payments_pb2.QuotePaymentsRequest, context: Any
    ) -> payments_pb2.QuotePaymentsResponse:
        await self._follow(context)
        quote = payments_pb2.QuotePaymentResponse(status_name="ok", payee_name="Otieno", fee_minor=700)
        return payments_pb2.QuotePaymentsResponse(quotes=[quote] * len(request.payments))

    async def MakePayments(  # noqa: N802
        self, request: payments_pb2.MakePaymentsRequest, context: Any
    ) -> payments_pb2.MakePaymentsResponse:
        self.batches.append([one.payment.payment_id for one in request.payments])
        await self._follow(context)
        items = [payments_pb2.MakePaymentsResponse.Item(outcome=self._decided(one)) for one in request.payments]
        return payments_pb2.MakePaymentsResponse(items=items)

    async def CheckBalance(  # noqa: N802
        self, request: payments_pb2.CheckBalanceRequest, context: Any
    ) -> payments_pb2.CheckBalanceResponse:
        await self._follow(context)
        ok = request.pin == PIN
        return payments_pb2.CheckBalanceResponse(
            status_name="ok" if ok else "pin_wrong", balance_minor=100_000, available_minor=100_000, pin_tries_left=2
        )

    async def SetLanguage(  # noqa: N802
        self, request: payments_pb2.SetLanguageRequest, context: Any
    ) -> payments_pb2.SetLanguageResponse:
        await self._follow(context)
        known = request.msisdn == PAYER
        if known:
            self.languages[request.msisdn] = request.language
        return payments_pb2.SetLanguageResponse(status_name="ok" if known else "payer_not_found")

    async def GetLanguages(  # noqa: N802
        self, request: payments_pb2.GetLanguagesRequest, context: Any
    ) -> payments_pb2.GetLanguagesResponse:
        chosen = (self.languages.get(customer.msisdn, "") for customer in request.customers)
        answers = [payments_pb2.GetLanguageResponse(language=language) for language in chosen]
        return payments_pb2.GetLanguagesResponse(languages=answers)

    def _decided(self, asked: payments_pb2.MakePaymentRequest) -> payments_pb2.Outcome:
        payment = asked.payment
        if payment.payment_id not in self.outcomes:
            if asked.pin == PIN:
                self.paid.append(payment)
                outcome = payments_pb2.Outcome(status_name="ok", amount_minor=payment.amount_minor, fee_minor=700)
            else:
                self.wrong_tries += 1
                outcome = payments_pb2.Outcome(status_name="pin_wrong", pin_tries_left=3 - self.wrong_tries)
            self.outcomes[payment.payment_id] = outcome
        return self.outcomes[payment.payment_id]


class Clock:
    """Each look at it is two seconds later than the one before: a person who reads."""

    def __init__(self, step_ms: int = 2_000) -> None:
        self.now_ms, self.step_ms = 1_790_000_000_000, step_ms

    def __call__(self) -> int:
        self.now_ms += self.step_ms
        return self.now_ms


@asynccontextmanager
async def running_node(folder: Path) -> AsyncIterator[Node]:
    ensure_certificates(folder, [("operator", "both")])
    node = Node()
    server = await node.start(tls_paths(folder, "operator", "both"))
    try:
        yield node
    finally:
        node.gate.set()
        await server.stop(None)


@asynccontextmanager
async def running_edge(
    folder: Path,
    node: Node,
    *,
    store: Callable[[], SessionStore] = EmbeddedStore,
    gateways: Mapping[str, GatewaySettings] = OPEN,
    clock_ms: Callable[[], int] | None = None,
    registry: CollectorRegistry | None = None,
    deadline_s: float = 5.0,
    address: str = "127.0.0.1",
    key: bytes = KEY,
    **settings: Any,
) -> AsyncIterator[tuple[UssdApp, httpx.AsyncClient]]:
    paths = tls_paths(folder, "operator", "both")
    tls = TlsFiles(paths.ca, paths.cert, paths.key)
    app = UssdApp(
        lambda: Client([node.address], tls, deadline_s=deadline_s), store,
        EdgeSettings("KES", CODE, gateways, key, **{"handset_steps_per_minute_max": 10_000, **settings}),
        registry or CollectorRegistry(), clock_ms=clock_ms or Clock(),
    )  # fmt: skip
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[object] = asyncio.Queue()
    living = asyncio.ensure_future(app({"type": "lifespan"}, inbox.get, outbox.put))  # type: ignore[arg-type]
    await inbox.put({"type": "lifespan.startup"})
    assert await outbox.get() == {"type": "lifespan.startup.complete"}
    transport = httpx.ASGITransport(app=app, client=(address, 1))  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            yield app, client
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await living


def counted(registry: CollectorRegistry) -> dict[str, float]:
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("kibubu_ussd_steps_t")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}
