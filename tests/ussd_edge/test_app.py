"""The HTTP side, with real calls to a node that is scripted: what a gateway gets when things go wrong, what is counted,
and what is never written down."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from kibubu.payments.v1 import payments_pb2
from prometheus_client import CollectorRegistry, generate_latest

from cluster.certificates import ensure_certificates, tls_paths
from kibubu_client import Client, TlsFiles
from tests.kibubu_client.scripted import BREAKS, LATE, NOT_LEADER, OK, ScriptedNode
from ussd_edge.app import BODY_BYTES_MAX, UssdApp

CODE, SECRET, PIN, PAYER = "*384*100#", "s3cret", "2468", "254712000001"
URL = "/ussd/africastalking"


class Node(ScriptedNode):
    """Quotes every payment and checks every balance."""

    async def QuotePayment(  # noqa: N802
        self, request: payments_pb2.QuotePaymentRequest, context: object
    ) -> payments_pb2.QuotePaymentResponse:
        await self._follow(context)
        return payments_pb2.QuotePaymentResponse(status_name="ok", payee_name="Otieno", fee_minor=700)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    ensure_certificates(tmp_path, [("operator", "both")])
    node = Node()
    server: grpc.aio.Server = await node.start(tls_paths(tmp_path, "operator", "both"))
    yield node
    node.gate.set()
    await server.stop(None)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def app(node: Node, tmp_path: Path, registry: CollectorRegistry) -> AsyncIterator[UssdApp]:
    paths = tls_paths(tmp_path, "operator", "both")
    tls = TlsFiles(paths.ca, paths.cert, paths.key)
    app = UssdApp(
        lambda: Client([node.address], tls, deadline_s=0.5), currency="KES", service_code=CODE, gateway_secret=SECRET,
        registry=registry,
    )  # fmt: skip
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[object] = asyncio.Queue()
    living = asyncio.ensure_future(app({"type": "lifespan"}, inbox.get, outbox.put))  # type: ignore[arg-type]
    await inbox.put({"type": "lifespan.startup"})
    assert await outbox.get() == {"type": "lifespan.startup.complete"}
    yield app
    await inbox.put({"type": "lifespan.shutdown"})
    await living


@pytest.fixture
async def gateway(app: UssdApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    headers = {"x-kibubu-gateway-secret": SECRET}
    async with httpx.AsyncClient(transport=transport, base_url="http://edge", headers=headers) as client:
        yield client


def form(text: str) -> dict[str, str]:
    return {"sessionId": "s1", "serviceCode": CODE, "phoneNumber": f"+{PAYER}", "text": text}


def counted(registry: CollectorRegistry) -> dict[str, float]:
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("kibubu_ussd_steps_t")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


async def test_the_last_step_again_is_the_same_payment_and_not_a_second(gateway: httpx.AsyncClient, node: Node) -> None:
    first = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    again = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    assert first.text == again.text
    assert first.text.startswith("END Sent KES 500.00")
    assert node.batches[0] == node.batches[1]
    other_pin = await gateway.post(URL, data=form("1*0712000002*500*1357"))  # a mistyped retry is no second payment
    assert other_pin.text == first.text
    assert node.batches[2] == node.batches[0]
    await gateway.post(URL, data=form("1*0712000002*501*2468"))
    assert node.batches[3] != node.batches[0]


@pytest.mark.parametrize(
    ("word", "words", "outcome"),
    [
        (NOT_LEADER, "Nothing was paid. Please try again.", "not_applied"),
        (BREAKS, "Do NOT pay again now", "unknown"),
        (LATE, "Do NOT pay again now", "unknown"),
    ],
)
async def test_an_answer_that_does_not_come_is_an_honest_screen(
    gateway: httpx.AsyncClient, node: Node, registry: CollectorRegistry, word: str, words: str, outcome: str
) -> None:
    node.script = deque([word])
    answer = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    assert answer.status_code == 200
    assert answer.text.startswith("END ")
    assert words in answer.text
    assert counted(registry) == {outcome: 1.0}


async def test_before_the_pin_nothing_can_have_happened(gateway: httpx.AsyncClient, node: Node) -> None:
    node.script = deque([BREAKS])
    assert "Nothing was paid" in (await gateway.post(URL, data=form("1*0712000002*500"))).text


async def test_a_leader_that_dies_between_pin_and_answer_is_asked_again(gateway: httpx.AsyncClient, node: Node) -> None:
    node.script = deque([BREAKS, NOT_LEADER, OK])
    assert (await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))).text.startswith("END Sent KES 500.00")
    assert len(node.batches) == 3
    assert node.batches[0] == node.batches[1] == node.batches[2]


async def test_an_error_shows_a_screen_and_logs_no_content(
    gateway: httpx.AsyncClient, app: UssdApp, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry
) -> None:
    class BrokenError(Exception):
        pass

    async def pay(request: payments_pb2.MakePaymentRequest) -> None:
        raise BrokenError(f"cannot use {request.pin} of {request.payment.payer_msisdn}")

    app._client.pay = pay  # type: ignore[union-attr,method-assign,assignment]
    with caplog.at_level(logging.DEBUG):
        answer = await gateway.post(URL, data=form(f"1*0712000002*500*{PIN}"))
    assert "check your balance before you pay again" in answer.text
    assert counted(registry) == {"error": 1.0}
    mine = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("kibubu"))
    assert "BrokenError" in mine
    assert PIN not in caplog.text
    assert PAYER not in caplog.text


async def test_only_the_gateway_is_served(gateway: httpx.AsyncClient, node: Node, registry: CollectorRegistry) -> None:
    for headers in ({"x-kibubu-gateway-secret": "guess"}, {"x-kibubu-gateway-secret": ""}):
        assert (await gateway.post(URL, data=form(""), headers=headers)).status_code == 403
    assert counted(registry) == {"forbidden": 2.0}
    assert node.batches == []


async def test_bodies_have_a_limit(gateway: httpx.AsyncClient, registry: CollectorRegistry) -> None:
    assert (await gateway.post(URL, content=b"x" * BODY_BYTES_MAX)).status_code == 400
    assert (await gateway.post(URL, content=b"x" * (BODY_BYTES_MAX + 1))).status_code == 413
    assert counted(registry) == {"bad_request": 2.0}


async def test_steps_are_counted_by_gateway_and_outcome(
    gateway: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    for text in ("", "1", "0", f"1*0712000002*500*{PIN}", "9" * 5_000):
        await gateway.post(URL, data=form(text))
    await gateway.post(URL, data=form("") | {"serviceCode": "*999#"})
    assert counted(registry) == {"continue": 2.0, "exit": 1.0, "ok": 1.0, "too_long": 1.0, "unknown_service_code": 1.0}
    page = generate_latest(registry).decode()
    assert 'kibubu_ussd_step_seconds_count{gateway="africastalking"} 6.0' in page
    assert PIN not in page
    assert PAYER not in page
